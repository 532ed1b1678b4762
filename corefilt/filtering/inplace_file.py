"""A core that is changed where it lies: which blocks can become holes, and writes that a torn disk does not mix."""

from __future__ import annotations

import os
from bisect import bisect_right

from corefilt import _fast
from corefilt.io.sinks import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from corefilt.corefile.elf import Ehdr
    from corefilt.corefile.ranges import Cuts

    Bytes: TypeAlias = bytes | bytearray

# What is compared and written back at a time when headers could not be written: a page, which one block holds.
PAGE = 4096
# The least that a disk writes as one.
SECTOR = 512
# What pwritev2(2) takes for a write that is on the disk when it returns; musl knows it from 1.2.5 on.
_THROUGH: int = getattr(os, "RWF_DSYNC", 0)


def whole_blocks(cuts: Cuts, kept: Sequence[tuple[int, int]], block: int, end: int) -> Iterator[tuple[int, int]]:
    """What of the cuts can become a hole: every block of them that holds no kept byte.

    ``kept`` are disjoint and ascending, ``block`` is the file system's in bytes, ``end`` the file's. Where a cut
    ends within a block that has no kept byte but bytes that nobody claims, it is not rounded, and the file system
    zeroes the cut's part of that block.
    """
    starts = [start for start, _ in kept]

    def has_kept(at: int) -> bool:
        i = bisect_right(starts, at + block - 1) - 1
        return i >= 0 and kept[i][1] > at

    for start, stop in cuts:
        low, high = start - start % block, stop - stop % block
        if low < start and has_kept(low):
            start = low + block
        if stop == end:
            stop = high + block if high < stop else stop
        elif high < stop and has_kept(high):
            stop = high
        if start < stop:
            yield start, stop


def high_halves(before: Bytes, after: Bytes, ehdr: Ehdr) -> Bytes:
    """A table on the way from one to another whose numbers are smaller: what a torn write must not mix stands first.

    Where the table does not begin at a multiple of a number's size, as behind delve's notes, a number can cross from
    one sector into the next. Its more significant bytes go first: with the old ones behind them, or the new ones, it
    is no larger than it was.
    """
    word = 8 if ehdr.wide else 4
    if not ehdr.e_phoff % word:
        return before
    between = bytearray(before)
    for border in range(SECTOR - ehdr.e_phoff % SECTOR, len(before), SECTOR):
        start = border - border % word
        high = slice(start, border) if ehdr.big else slice(border, start + word)
        between[high] = after[high]
    return between


class InPlaceFile(Sink):
    """The core as an output; what is done to it is done at once."""

    seekable = True

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset, as far as the file goes."""
        return os.pread(self.fd, length, offset)

    def write_through(self, offset: int, data: Bytes) -> None:
        """Write, and wait until the disk has these bytes, and these only. Raises OSError."""
        view = memoryview(data)
        while view:
            done = os.pwritev(self.fd, [view], offset, _THROUGH)
            view, offset = view[done:], offset + done
        if not _THROUGH:
            os.fdatasync(self.fd)

    def put_back(self, offset: int, data: Bytes) -> bool:
        """Undo a write that failed; tells whether the bytes are there again."""
        try:
            for at in range(-(offset % PAGE), len(data), PAGE):
                first = max(at, 0)
                piece = bytes(data[first : at + PAGE])
                if self.read(offset + first, len(piece)) != piece:
                    _fast.write_at(self.fd, offset + first, piece)
        except OSError:
            return False
        return True

    def cut_back(self, size: int) -> bool:
        """Take away what was written behind the end; tells whether the file is as long as it was."""
        try:
            if os.fstat(self.fd).st_size > size:
                os.ftruncate(self.fd, size)
        except OSError:
            return False
        return True

    def allocation(self) -> int:
        """How many bytes of the disk the file takes."""
        return os.fstat(self.fd).st_blocks * 512


def block_of(fd: int) -> int:
    """The file system's block in bytes; an odd answer counts as a page."""
    size = os.fstatvfs(fd).f_frsize
    return size if 512 <= size <= 1 << 24 and size & size - 1 == 0 else PAGE
