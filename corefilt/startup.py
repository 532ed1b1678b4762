"""What a program of this package does before and after it loads its modules, so that loading them takes less.

A library leaves the interpreter as it is: only the command line and the handler, which are programs, ask for this.
"""

from __future__ import annotations

import _collections_abc
import gc
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
from marshal import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

# The largest bytecode of a module that is loaded at the start has 30 KiB; more is left to Python's finder.
_MOST_BYTECODE = 64 << 10


def before_loading() -> None:
    """Have no garbage looked for, as what loading makes stays, and modules found in less time (``OwnModules``).

    The search took 4 of the 89 million instructions of a run on a small core (docs/performance.md, Start-up).
    """
    gc.disable()
    if not sys.flags.optimize and OwnModules not in sys.meta_path:
        sys.meta_path.insert(0, OwnModules)
    _load_array()


def after_loading() -> None:
    """Have it looked for again, if it is not, and never among what is there already."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _load_array() -> None:
    """Load the module array alone: it asks collections.abc for one class, which the module os has loaded already.

    Loading collections for that took 5 of the 85 million instructions of a run on a small core.
    """
    asked = ("array", "collections", "collections.abc")
    if any(name in sys.modules for name in asked):
        return
    sys.modules.update(dict.fromkeys(asked[1:], _collections_abc))
    try:
        __import__("array")
    except Exception:
        # An array that asks them for more is loaded as always, by whoever needs it.
        sys.modules.pop("array", None)
    finally:
        for name in asked[1:]:
            del sys.modules[name]


class OwnModules:
    """Finds this package's modules whose bytecode is there and up to date; Python's finders find all others.

    Python's take 45 microseconds more for a module: they list its directory, and make each path several times.
    """

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /) -> ModuleSpec | None:
        """The module, if its bytecode was made of its source as that is now (PEP 552, with the time of change)."""
        package, _, leaf = fullname.rpartition(".")
        if not path or package.partition(".")[0] != __package__:
            return None
        folder, is_package = path[0], False
        try:
            try:
                status = os.stat(source := f"{folder}/{leaf}.py")
            except FileNotFoundError:
                folder, leaf, is_package = f"{folder}/{leaf}", "__init__", True
                status = os.stat(source := f"{folder}/{leaf}.py")
            name = f"{leaf}.{sys.implementation.cache_tag}.pyc"
            cached = (
                f"{folder}/__pycache__/{name}" if sys.pycache_prefix is None else f"{sys.pycache_prefix}{folder}/{name}"
            )
            bytecode = _read(cached)
        except OSError:
            return None
        times = (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        header = MAGIC_NUMBER + bytes(4) + times + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if not bytecode.startswith(header) or len(bytecode) == _MOST_BYTECODE:
            return None
        loader = _Loaded(fullname, source)
        loader.bytecode = memoryview(bytecode)[len(header) :]
        spec = ModuleSpec(fullname, loader, origin=source, is_package=is_package)
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(folder)
        spec.has_location, spec.cached = True, cached
        return spec


class _Loaded(SourceFileLoader):
    """Python's loader of a module, whose bytecode has been read."""

    bytecode: memoryview | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        bytecode, self.bytecode = self.bytecode, None
        if bytecode is not None:
            try:
                code: CodeType = loads(bytecode)
            except (EOFError, TypeError, ValueError):
                # Damaged: Python's loader says so.
                pass
            else:
                return code
        return super().get_code(fullname)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTECODE)
    finally:
        os.close(fd)
