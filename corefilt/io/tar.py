"""Tar archives that others made, read once from their beginning: their headers can be long, but not endless."""

from __future__ import annotations

import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from _typeshed import ReadableBuffer

# What comes before a member is held in memory, and so is the map of a sparse one: a line of some 12 bytes a number.
MOST_OF_HEADER = 1 << 20
MOST_OF_MAP = 8 << 20
# Long names and other headers of the member that follows.
_HELD = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class _Bounded:
    """A stream of which so many bytes are read, and no more."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._left = file, most

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"the map of a sparse member has more than {MOST_OF_MAP} bytes")
        piece: bytes = self._file.read(size)
        if not piece:
            raise tarfile.ReadError("the map of a sparse member is cut off")
        return piece

    def tell(self) -> int:
        at: int = self._file.tell()
        return at


class _TarInfo(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: ReadableBuffer, encoding: str, errors: str) -> _TarInfo:
        made = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if made.type in _HELD and not 0 <= made.size <= MOST_OF_HEADER:
            raise tarfile.ReadError(f"the header of a member claims {made.size} bytes")
        return made

    def _proc_gnusparse_10(self, next: Any, pax_headers: Any, tar: Any) -> None:
        """Read the map in front of a sparse member's bytes, as the standard library does, with an end to it."""
        file, tar.fileobj = tar.fileobj, _Bounded(tar.fileobj, MOST_OF_MAP)
        try:
            super()._proc_gnusparse_10(next, pax_headers, tar)  # type: ignore[misc]
        finally:
            tar.fileobj = file


def open_tar(stream: BinaryIO) -> tarfile.TarFile:
    """A tar that comes as a stream. Raises TarError."""
    try:
        return tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarInfo, errorlevel=2)
    except ValueError as error:
        raise _damaged(error) from None


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member, none of which is remembered. Raises TarError."""
    while True:
        try:
            info = tar.next()
        except ValueError as error:
            raise _damaged(error) from None
        if info is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]
        yield info


def _damaged(error: ValueError) -> tarfile.ReadError:
    """What the standard library makes of numbers in extended headers that are none."""
    return tarfile.ReadError(f"a header is damaged: {error}")
