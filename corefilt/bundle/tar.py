"""Writes a tar stream as POSIX.1-2001 has it (pax): the same members give the same bytes, and holes cost nothing.

The standard library writes the headers; it reads sparse members and cannot write them, so their map is written here,
as GNU tar's format 1.0 (``tar --sparse-version=1.0``, "Sparse Formats" of its manual).
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass

from corefilt.errors import BundleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    class Readable(Protocol):
        """What can be read at any place."""

        def read(self, offset: int, length: int) -> bytes:
            """Up to ``length`` bytes at an offset."""

        def close(self) -> None:
            """Close it."""


BLOCK = tarfile.BLOCKSIZE
# What is read at a time.
PIECE = 1 << 20
# A tar ends with two blocks of zeros; that it fills a record of 20 blocks is what tar(1) does.
_END = bytes(tarfile.RECORDSIZE)
# GNU tar calls its own like this, with the number of a process.
_SPARSE_NAME = "GNUSparseFile.0/"


@dataclass(frozen=True, slots=True)
class BundleMember:
    """A file of the archive: ``size`` in bytes, ``mtime`` in seconds since the epoch, ``open`` gives its bytes.

    ``extents`` are the pieces that are no holes, as (offset, length); None for a file without holes.
    """

    name: bytes
    size: int
    mtime: int
    open: Callable[[], Readable]
    mode: int = 0o644
    extents: Sequence[tuple[int, int]] | None = None


def folder(name: bytes, mtime: int = 0) -> bytes:
    """The header of a directory."""
    info = _info(name, mtime, 0o755)
    info.type = tarfile.DIRTYPE
    return _encoded(info)


def link(name: bytes, target: bytes, mtime: int = 0) -> bytes:
    """The header of a symbolic link."""
    info = _info(name, mtime, 0o777)
    info.type, info.linkname = tarfile.SYMTYPE, target.decode("utf-8", "surrogateescape")
    return _encoded(info)


def member(file: BundleMember) -> Iterator[bytes]:
    """A file's header and bytes. Raises BundleError where it is shorter than it was, and what reading raises."""
    info = _info(file.name, file.mtime, file.mode)
    extents = file.extents
    if extents is None:
        info.size, before = file.size, b""
        extents = [(0, file.size)] if file.size else []
    else:
        # A file that ends in a hole has an empty piece at its end.
        listed = [*extents, *([(file.size, 0)] if not extents or sum(extents[-1]) < file.size else [])]
        numbers = [len(listed), *(number for extent in listed for number in extent)]
        before = b"".join(b"%d\n" % number for number in numbers)
        before += bytes(-len(before) % BLOCK)
        info.size = len(before) + sum(length for _, length in extents)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": info.name,
            "GNU.sparse.realsize": str(file.size),
        }
        info.name = _SPARSE_NAME + info.name
    yield _encoded(info) + before
    readable = file.open()
    try:
        for offset, length in extents:
            yield from _pieces(file, readable, offset, length)
    finally:
        readable.close()
    yield bytes(-info.size % BLOCK)


def end() -> bytes:
    """What ends an archive."""
    return _END


def _pieces(file: BundleMember, readable: Readable, offset: int, length: int) -> Iterator[bytes]:
    while length:
        piece = readable.read(offset, min(length, PIECE))
        if not piece:
            name = file.name.decode(errors="backslashreplace")
            raise BundleError(f"{name}: ends at byte {offset}: it was truncated while it was read", "try again")
        yield piece
        offset, length = offset + len(piece), length - len(piece)


def _info(name: bytes, mtime: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
    info.mtime, info.mode = mtime, mode
    return info


def _encoded(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
