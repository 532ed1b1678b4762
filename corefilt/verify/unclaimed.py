"""Bytes that no header claims: they must be zeros, or stand so in the full core.

A run in place leaves them where they were, and with them what it drops of a block that has other bytes too; a copy
moves them up behind what was cut out before them. So what is not zero must be found at the same offset of the full
core, or, zeros apart, among its unclaimed bytes, each of them once and in their order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise

from xxhash import xxh3_128

from corefilt.sizes import show_size
from corefilt.verify.pairs import unclaimed
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

# Bytes of the full core that nobody claims and that are held in memory to find the other's in them.
MOST_LOOKED_THROUGH = 16 << 20
_ONES = b"\0" + b"\xff" * 255


def check_unclaimed(files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], verdict: Verdict) -> None:
    """Find unclaimed bytes of the filtered core that are none of the full one's; the first are told."""
    ranges = [there for there in unclaimed(cores[1]) if _count(files[1], *there)]
    if not ranges:
        return
    row = _Row(files[0], cores[0])
    stayed = [there for there in ranges if _in_place(files, *there)]
    if len(stayed) < len(ranges):
        in_place, stayed, reached = set(stayed), [], 0
        for start, end in ranges:
            found = row.find(files[1], start, end, reached)
            if found is None and (start, end) in in_place and row.place(start) >= reached:
                stayed.append((start, end))
                found = row.place(end)
            if found is None:
                count = _count(files[1], start, end)
                text = (
                    f"{show_size(count)} at {start:#x} of the file are in no segment, and the full core does not have "
                    "them outside its segments, each once and in this order"
                )
                verdict.findings.append(Finding("unclaimed", text, bytes=count))
                return
            reached = found
    left = sum(_count(files[1], *there) for start, end in stayed for there in row.outside(start, end))
    if left:
        verdict.changes.append(
            f"{show_size(left)} that were dropped are still in the file where they were, outside its segments (-i)"
        )


class _Row:
    """The unclaimed bytes of the full core, but zeros, one after the other.

    Sections and notes that are not all there claim nothing here: when their headers are cut off, or repaired, what
    they claimed is unclaimed in the filtered core.
    """

    def __init__(self, file: MappedCore, core: Tables) -> None:
        self._file, self._core = file, core
        self._ranges = list(unclaimed(core, sections=False, cut_notes=False))
        self._counted: tuple[list[tuple[int, int]], list[int]] | None = None
        self._whole: bytes | None = None

    def outside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What headers of the full core claim of a range of offsets."""
        for k in range(bisect_right(self._ranges, start, key=_end_of), len(self._ranges)):
            low, high = self._ranges[k]
            if low >= end:
                break
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end

    def place(self, offset: int) -> int:
        """How many bytes of the row stand before an offset of the file."""
        pieces, starts = self._pieces()
        k = bisect_right(pieces, offset, key=_end_of)
        return starts[k] + (_count(self._file, pieces[k][0], offset) if k < len(pieces) else 0)

    def find(self, file: MappedCore, start: int, end: int, reached: int) -> int | None:
        """Behind which byte of the row, from ``reached`` on, all ends that a range of another file holds.

        Much is only found where it is some of the row's pieces as a whole.
        """
        count = _count(file, start, end)
        pieces, starts = self._pieces()
        if count > starts[-1]:
            return None
        if starts[-1] <= MOST_LOOKED_THROUGH:
            if self._whole is None:
                self._whole = b"".join(_contents(self._file, pieces))
            at = self._whole.find(b"".join(_content(file, start, end)), reached)
            return None if at < 0 else at + count
        wanted = _hash(_content(file, start, end))
        for first in range(bisect_left(starts, reached), len(pieces)):
            last = bisect_left(starts, starts[first] + count)
            whole = last < len(starts) and starts[last] == starts[first] + count
            if whole and _hash(_contents(self._file, pieces[first:last])) == wanted:
                return starts[last]
        return None

    def _pieces(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Ranges of the file that are not all zeros, and where each begins in the row; its end comes last."""
        if self._counted is None:
            # What sections and cut notes claim are pieces of their own.
            edges = sorted(edge for there in unclaimed(self._core) for edge in there)
            pieces, starts = [], [0]
            for start, end in self._ranges:
                inner = edges[bisect_right(edges, start) : bisect_left(edges, end)]
                for there in pairwise([start, *inner, end]):
                    count = _count(self._file, *there)
                    if count:
                        pieces.append(there)
                        starts.append(starts[-1] + count)
            self._counted = pieces, starts
        return self._counted


def _end_of(there: tuple[int, int]) -> int:
    return there[1]


def _in_place(files: tuple[MappedCore, MappedCore], start: int, end: int) -> bool:
    """Whether every byte of a range is zero, or the one that the full core has at the same offset."""
    for low, high in files[1].data(start, end):
        with files[1].window(low, high - low) as view:
            here = bytes(view)
        if here.strip(b"\0"):
            apart = int.from_bytes(here, "little") ^ int.from_bytes(files[0].read(low, high - low), "little")
            if _mask(here) & _mask(apart.to_bytes(len(here), "little")):
                return False
    return True


def _mask(raw: bytes) -> int:
    """A number of which every byte is all ones where ``raw`` has anything but zero."""
    return int.from_bytes(raw.translate(_ONES), "little")


def _content(file: MappedCore, start: int, end: int) -> Iterator[bytes]:
    """What a range holds but zeros."""
    for low, high in file.data(start, end):
        with file.window(low, high - low) as view:
            yield bytes(view).translate(None, b"\0")


def _contents(file: MappedCore, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    return (piece for start, end in ranges for piece in _content(file, start, end))


def _count(file: MappedCore, start: int, end: int) -> int:
    return sum(map(len, _content(file, start, end)))


def _hash(pieces: Iterable[bytes]) -> bytes:
    hasher = xxh3_128()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()
