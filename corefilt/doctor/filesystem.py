"""What the file system of a folder can do: tried on a file without a name there."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from contextlib import contextmanager

from corefilt import _fast
from corefilt.doctor.fact import Fact
from corefilt.io.page_cache import dontcache
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = "file system"
FICLONE = 0x40049409
# So large that no file system keeps it beside its inode, and a multiple of any block.
PIECE = 1 << 18


def filesystem_facts(folder: str = ".") -> list[Fact]:
    """What can be told of the file system that a folder is on, and what can be tried there."""
    there = os.statvfs(folder)
    facts = [
        Fact(GROUP, "type", type_of(folder), os.path.realpath(folder)),
        Fact(GROUP, "block size", str(there.f_bsize), "holes are no smaller"),
        Fact(GROUP, "free", show_size(there.f_bavail * there.f_frsize)),
    ]
    try:
        with _unnamed(folder) as (first, by_o_tmpfile), _unnamed(folder) as (second, _):
            facts.append(
                _fact(
                    "O_TMPFILE",
                    by_o_tmpfile,
                    "an output has no name until it is complete",
                    "an output has a temporary name until it is complete",
                )
            )
            os.pwrite(first, b"x" * PIECE, PIECE)
            os.fsync(first)
            for name, works, yes, no in (
                ("SEEK_DATA", _finds_data, "holes of a core are skipped", "holes are read as zeros"),
                (
                    "reflink",
                    lambda fd: _shares(fd, second),
                    "a filtered core shares the input's blocks",
                    "a filtered core is a copy with blocks of its own",
                ),
                ("hole punching", _punches, "-i can filter a core in place", "-i cannot work here"),
                (
                    "RWF_DONTCACHE",
                    _dontcache,
                    "large copies bypass the page cache",
                    "pages are dropped from the cache afterwards",
                ),
            ):
                facts.append(_fact(name, works(first), yes, no))
    except OSError as error:
        facts.append(Fact(GROUP, "trials", "cannot tell", f"no file can be made here: {error.strerror}"))
    return facts


def _fact(name: str, works: bool, yes: str, no: str) -> Fact:
    return Fact(GROUP, name, "yes" if works else "no", yes if works else no)


@contextmanager
def _unnamed(folder: str) -> Iterator[tuple[int, bool]]:
    """A file without a name, and whether it never had one. Raises OSError."""
    try:
        fd, never = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), True
    except OSError:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            fd, never = os.dup(file.fileno()), False
    try:
        yield fd, never
    finally:
        os.close(fd)


def _finds_data(fd: int) -> bool:
    extent = _fast.data_extent(fd, 0)
    return extent is not None and 0 < extent[0] <= PIECE


def _shares(fd: int, other: int) -> bool:
    return _works(lambda: fcntl.ioctl(other, FICLONE, fd))


def _punches(fd: int) -> bool:
    return _works(lambda: _fast.punch(fd, PIECE, PIECE // 2))


def _dontcache(fd: int) -> bool:
    return bool(dontcache(fd))


def _works(what: Callable[[], object]) -> bool:
    try:
        what()
    except OSError:
        return False
    return True


def type_of(folder: str) -> str:
    """The name of a folder's file system: that of the last mount on the longest way to it; empty if not told."""
    path, found = os.fsencode(os.path.realpath(folder)), (0, "")
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, rest = line.partition(b" - ")
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), mount.split(b" ")[4])
        if (path + b"/").startswith(point.rstrip(b"/") + b"/") and len(point) >= found[0]:
            found = len(point), rest.split(b" ")[0].decode("ascii", "backslashreplace")
    return found[1]
