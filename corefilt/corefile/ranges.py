"""Ranges of a file: what segments take, and what is cut out of it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate, pairwise

from corefilt import _fast
from corefilt.corefile.elf import PT_NOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from corefilt.corefile.elf import Phdrs


class Cuts:
    """Disjoint ranges of the input that are left out, ascending; ``inserted`` bytes come in at offset ``at``.

    Where notes become shorter, ``inserted`` is negative.
    """

    __slots__ = ("_before", "at", "ends", "inserted", "starts")

    def __init__(self, ranges: Sequence[tuple[int, int]], *, at: int = 0, inserted: int = 0) -> None:
        """Take ``(start, end)`` pairs in order; neighbours are joined."""
        self.at, self.inserted = at, inserted
        self.starts, self.ends = array("Q"), array("Q")
        reached = -1
        for start, end in ranges:
            if start == reached:
                self.ends[-1] = reached = end
            elif end > start:
                self.starts.append(start)
                self.ends.append(end)
                reached = end
        lengths = (end - start for start, end in zip(self.starts, self.ends, strict=True))
        self._before = array("Q", accumulate(lengths, initial=0))

    @classmethod
    def of_columns(cls, starts: array[int], ends: array[int], before: array[int]) -> Self:
        """Take the columns as they are: disjoint, ascending, and the bytes cut before each range and in all."""
        cuts = cls(())
        cuts.starts, cuts.ends, cuts._before = starts, ends, before
        return cuts

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def shift(self, offset: int) -> int:
        """Where a byte of the input at ``offset`` stands in the output; one that is cut, where it would."""
        if self.inserted and offset >= self.at:
            return max(self.shift_ahead(offset) + self.inserted, self.shift_ahead(self.at))
        return self.shift_ahead(offset)

    def shift_ahead(self, offset: int) -> int:
        """As shift, of what stands ahead of the bytes that come in."""
        at = bisect_right(self.starts, offset) - 1
        if at < 0:
            return offset
        return offset - self._before[at] - min(offset, self.ends[at]) + self.starts[at]

    def shift_all(self, offsets: array[int], last: int) -> array[int]:
        """As shift, for a whole column; offsets behind ``last`` as far as that."""
        shifted = array("Q", bytes(8 * len(offsets)))
        _fast.shift(offsets, shifted, self.starts, self.ends, self._before, last)
        if self.inserted:
            least = self.shift_ahead(self.at)
            for i, offset in enumerate(offsets):
                if min(offset, last) >= self.at:
                    shifted[i] = max(shifted[i] + self.inserted, least)
        return shifted

    @property
    def total(self) -> int:
        """How many bytes are left out."""
        return self._before[-1]


def cut_out(drops: list[tuple[int, int]], keeps: list[tuple[int, int]]) -> Cuts:
    """The dropped ranges minus every kept one. Both may overlap among themselves and need no order."""
    cuts: list[tuple[int, int]] = []
    kept = joined(keeps)
    at = 0
    for start, end in joined(drops):
        while at < len(kept) and kept[at][1] <= start:
            at += 1
        i = at
        while start < end:
            if i == len(kept) or kept[i][0] >= end:
                cuts.append((start, end))
                break
            if kept[i][0] > start:
                cuts.append((start, kept[i][0]))
            start = max(start, kept[i][1])
            i += 1
    return Cuts(cuts)


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes as disjoint ranges, ascending."""
    whole: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if start == end:
            continue
        if whole and start <= whole[-1][1]:
            whole[-1] = whole[-1][0], max(whole[-1][1], end)
        else:
            whole.append((start, end))
    return whole


def end_of_segments(table: Phdrs, present: array[int]) -> int:
    """Where the last of the bytes that are ``present`` ends."""
    return _fast.last_end(table.p_offset, present)


def in_file_order(table: Phdrs) -> tuple[array[int], bool]:
    """The program headers that have bytes, by their offsets, and whether none of these lie over each other."""
    rows = array("I", bytes(4 * len(table)))
    count, ascending = _fast.filled(table.p_offset, table.p_filesz, rows)
    del rows[count:]
    if ascending:
        return rows, True
    offset, size = table.p_offset, table.p_filesz
    rows = array("I", sorted(rows, key=lambda i: (offset[i], size[i])))
    return rows, all(offset[i] + size[i] <= offset[k] for i, k in pairwise(rows))


def is_dense(table: Phdrs, end: int) -> bool:
    """Whether the segments behind a leading PT_NOTE follow each other to ``end`` without a byte between them."""
    begin = 1 if table.p_type[0] == PT_NOTE and len(table) > 1 else 0
    if table.p_offset[-1] + table.p_filesz[-1] < end:
        return False
    return _fast.follows(table.p_offset, table.p_filesz, begin)
