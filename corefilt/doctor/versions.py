"""What --version tells beside the version: what this build is made of, and what this machine lets it use."""

from __future__ import annotations

import errno
import os
import platform
import re
from importlib import metadata

from corefilt import _fast
from corefilt.io.movers import MOVERS

# Extras that only those need who work on corefilt itself.
DEVELOPMENT = {"test", "test-cloud", "checked", "fuzz", "lint"}


def lines() -> list[str]:
    """Engines, compiler, Python, kernel and libraries, a line each; no library is imported for it."""
    system = os.uname()
    abi = "the stable ABI" if ".abi3." in _fast.__file__ else f"Python {platform.python_version()} alone"
    return [
        f"engines: {', '.join(f'{name} (not in this kernel)' if lacking(name) else name for name in MOVERS)}",
        f"compiled by Cython {_fast.CYTHON} for {abi}",
        f"Python {platform.python_version()}, {' '.join(platform.libc_ver()) or 'another C library'}, "
        f"{system.sysname} {system.release} {system.machine}",
        f"libraries: {', '.join(f'{name} {version_of(name)}' for name in libraries())}",
    ]


def lacking(engine: str) -> bool:
    """Whether the kernel does not know the call that an engine is made of; a call upon no files tells."""
    try:
        _fast.move(MOVERS[engine], -1, 0, -1, 0, 1, bytearray(1))
    except OSError as error:
        return error.errno == errno.ENOSYS
    return False


def libraries() -> list[str]:
    """The distributions that corefilt can use, as it was installed with their names; what it needs comes first."""
    found: dict[str, None] = {}
    for requirement in metadata.requires("corefilt") or []:
        name, extra = re.findall(r"^[\w.-]+", requirement), re.findall(r"extra == ['\"]([\w-]+)", requirement)
        if not DEVELOPMENT & set(extra):
            found[name[0]] = None
    return list(found)


def version_of(distribution: str) -> str:
    """The version of a distribution, or that there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
