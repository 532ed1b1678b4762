"""What of a core is looked through: memory whose mappings touch as one, and the notes; in pieces with an overlap."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from corefilt import _fast
from corefilt.corefile.elf import PF_W, PT_NOTE
from corefilt.errors import InputError
from corefilt.scrub.rule import MOST_BEHIND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile

# Read at a time: as much as stays in a second-level cache with what goes before and comes behind.
CHUNK = 1 << 20
# Bytes before what is looked at that are in the buffer, and behind it; whole pages, so that those of zeros stay apart.
BEFORE, BEHIND = 4096, MOST_BEHIND
# What is looked up reads as many bytes at a time.
_UNIT = 64


class Piece(NamedTuple):
    """Bytes of the core: its offset in the file, the address (None: notes), the length, and where in its run it is."""

    offset: int
    address: int | None
    length: int
    at: int


class MemoryRun:
    """Pieces that follow each other in memory."""

    __slots__ = ("length", "pieces")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.length = 0

    def add(self, offset: int, address: int | None, length: int) -> None:
        """Add a piece at the end; what goes on in the file too becomes one with the one before."""
        last = self.pieces[-1] if self.pieces else None
        if last is not None and last.offset + last.length == offset:
            self.pieces[-1] = last._replace(length=last.length + length)
        else:
            self.pieces.append(Piece(offset, address, length, self.length))
        self.length += length

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int | None, int]]:
        """Where a range of the run stands in the core: (offset, address, length)."""
        i = bisect_right(self.pieces, start, key=lambda piece: piece.at) - 1
        while start < end:
            piece = self.pieces[i]
            skip = start - piece.at
            length = min(end - start, piece.length - skip)
            yield piece.offset + skip, None if piece.address is None else piece.address + skip, length
            start, i = start + length, i + 1

    def address(self, at: int) -> int | None:
        """The address of a place in the run."""
        return next(self.parts(at, at + 1))[1]


def runs(core: CoreFile, *, files: bool) -> list[MemoryRun]:
    """What is looked through, each byte of the file once; mappings of files that cannot be written to with ``files``.

    Those hold what others can read in the file; in nine cores of seven programs every match in them was a false one.
    """
    table, maps = core.table, core.maps
    pieces: list[tuple[int, int, int | None]] = []
    for m, i in enumerate(maps.phdr):
        there = core.present[i]
        if there and (files or maps.flags(m) & PF_W or maps.path(m) is None):
            pieces.append((table.p_offset[i], there, table.p_vaddr[i]))
    for i, p_type in enumerate(table.p_type):
        if p_type == PT_NOTE and core.present[i]:
            pieces.append((table.p_offset[i], core.present[i], None))
    reached = 0
    apart: list[tuple[int | None, int, int]] = []
    for offset, length, address in sorted(pieces, key=lambda piece: piece[:2]):
        start = max(offset, reached)
        if start < offset + length:
            apart.append((None if address is None else address + start - offset, start, offset + length - start))
            reached = offset + length
    apart.sort(key=lambda piece: (piece[0] is None, piece[0] or 0, piece[1]))
    found: list[MemoryRun] = []
    follows: int | None = None
    for address, offset, length in apart:
        for low, high in core.data(offset, offset + length):
            begins = None if address is None else address + low - offset
            if follows is None or begins != follows:
                found.append(MemoryRun())
            found[-1].add(low, begins, high - low)
            follows = None if begins is None else begins + high - low
    return found


class RunReader:
    """Reads runs through one buffer."""

    def __init__(self, core: CoreFile) -> None:
        self._source = core.source
        self.buffer = bytearray(BEFORE + CHUNK + BEHIND + _UNIT)
        self._view = memoryview(self.buffer)
        self.bytes = 0

    def chunks(self, run: MemoryRun) -> Iterator[tuple[int, int, int, int]]:
        """The run piece by piece: (start, stop, limit, shift).

        What is looked up lies in ``[start, stop)`` of the buffer, both multiples of eight; nothing is behind
        ``limit``. ``shift`` is added to a place in the buffer to have the one in the run.
        """
        self.buffer[:BEFORE] = bytes(BEFORE)
        done = have = 0
        while done < run.length:
            if done:
                self.buffer[: BEFORE + BEHIND] = self.buffer[CHUNK : CHUNK + BEFORE + BEHIND]
            wanted = min(run.length, done + CHUNK + BEHIND)
            self._read(run, have, wanted, BEFORE + have - done)
            have = wanted
            limit = BEFORE + have - done
            self.buffer[limit : limit + _UNIT] = bytes(_UNIT)
            stop = min(BEFORE + CHUNK, -(-limit // 8) * 8)
            yield BEFORE, stop, limit, done - BEFORE
            self.bytes += min(CHUNK, run.length - done)
            done += CHUNK

    def _read(self, run: MemoryRun, start: int, end: int, at: int) -> None:
        for offset, _, length in run.parts(start, end):
            read = _fast.read_into(self._source.fd, self._source.base + offset, self._view[at : at + length])
            if read < length:
                raise InputError(f"{self._source.name}: became shorter while it was read")
            at += length
