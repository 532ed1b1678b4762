"""Run as a program: tells in JSON what this interpreter loads for the handler, and what it looks for on the way."""

from __future__ import annotations

import json
import os
import pkgutil
import sys
from importlib import import_module
from typing import TypedDict

import corefilt
from corefilt import handler
from corefilt.handler.seccomp import find_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# What the handler uses where it is installed.
OPTIONAL = ("compression.zstd", "backports.zstd", "seccomp", "pyseccomp")
# Rooms that the handler uses nothing of; its own is looked at first.
NOT_THE_HANDLERS = (
    "corefilt.batching",
    "corefilt.cli",
    "corefilt.doctor",
    "corefilt.handler",
    "corefilt.io.remote",
    "corefilt.verify",
)
_DELETED = " (deleted)"


class Loaded(TypedDict):
    """What an interpreter loads; all paths are absolute.

    ``beside``: files that tell it where the standard library is; ``path``: sys.path; ``packages``: the folders of
    corefilt itself; ``pth``: folders named in .pth files, even missing ones, each with the file that names it;
    ``files``: of modules; ``mapped``: the program and its libraries.
    """

    beside: list[str]
    path: list[str]
    packages: list[str]
    pth: list[tuple[str, str]]
    files: list[str]
    mapped: list[str]


def loaded() -> Loaded:
    """Import all that the handler can come to need, and tell what that took."""
    import_all()
    path = [os.path.abspath(entry) for entry in sys.path]
    modules = list(sys.modules.values())
    files = {getattr(module, name, None) for module in modules for name in ("__file__", "__cached__")}
    return {
        "beside": beside(sys.executable),
        "path": path,
        "packages": list(corefilt.__path__),
        "pth": [pair for entry in path for pair in named_in_pth(entry)],
        "files": sorted(name for name in files if name is not None and os.path.isabs(name)),
        "mapped": mapped(),
    }


def import_all() -> None:
    """Import the handler's modules, those of the packages that it filters with, and what they use where it is there."""
    for name in _modules(handler):
        import_module(name)
    # As the child has it: pyseccomp by itself would ask ldconfig and a compiler where the library is.
    find_library()
    for name in (*_modules(corefilt), *OPTIONAL):
        try:
            import_module(name)
        except ImportError:
            # Of an extra that is not installed; the handler gets as far without it.
            continue


def _modules(package: ModuleType) -> Iterator[str]:
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.ispkg and module.name not in NOT_THE_HANDLERS:
            yield from _modules(import_module(module.name))
        elif not module.ispkg and not module.name.endswith(".__main__"):
            yield module.name


def beside(executable: str) -> list[str]:
    """The files by which an interpreter finds its standard library (Modules/getpath.py of CPython 3.11)."""
    folder = os.path.dirname(executable)
    return [
        os.path.join(folder, "pyvenv.cfg"),
        os.path.join(os.path.dirname(folder), "pyvenv.cfg"),
        os.path.join(os.path.dirname(os.path.realpath(executable)), "pybuilddir.txt"),
    ]


def named_in_pth(folder: str) -> list[tuple[str, str]]:
    """Each folder that a .pth file in ``folder`` names, with that file, as ``site.addpackage`` reads them.

    A folder that is missing now is not on sys.path; it is as soon as somebody makes it.
    """
    try:
        names = [name for name in sorted(os.listdir(folder)) if name.endswith(".pth")]
    except OSError:
        return []
    found: list[tuple[str, str]] = []
    for name in names:
        file = os.path.join(folder, name)
        with open(file, encoding="utf-8", errors="surrogateescape") as lines:
            places = [line.rstrip() for line in lines if not line.startswith(("#", "import ", "import\t"))]
        found += [(os.path.abspath(os.path.join(folder, place)), file) for place in places if place]
    return found


def mapped() -> list[str]:
    """The files that this process has mapped; one that was replaced meanwhile is gone, and not named."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        fields = [line.rstrip("\n").split(None, 5) for line in maps]
    names = {line[5] for line in fields if len(line) == 6 and line[5].startswith("/")}
    return sorted(name for name in names if not name.endswith(_DELETED))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(loaded()))
