"""Bytes that no header claims: they must be zeros, or stand so in the full core.

A run in place leaves them where they were; a copy moves them up behind what was cut out before them. So what is not
zero must be found at the same offset of the full core, or, zeros apart, as its next unclaimed bytes.
"""

from __future__ import annotations

from xxhash import xxh3_128

from corefilt.sizes import show_size
from corefilt.verify.pairs import unclaimed
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

# Bytes that nobody claims, of either core, that are held in memory to find the one's in the other's.
MOST_LOOKED_THROUGH = 16 << 20
_ONES = b"\0" + b"\xff" * 255


def check_unclaimed(files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], verdict: Verdict) -> None:
    """Find unclaimed bytes of the filtered core that are none of the full one's; the first are told."""
    moved = [(start, end) for start, end in unclaimed(cores[1]) if not _in_place(files, start, end)]
    if not moved:
        return
    # What was in sections may be there still, when the headers of these are cut off.
    theirs = _ranges(files[0], unclaimed(cores[0], sections=not cores[1].sections_lost))
    at = 0
    for start, end in moved:
        found = _find(files, start, end, theirs, at)
        anything = unclaimed(cores[0], sections=False, cut_notes=False) if found is None else iter(())
        if found is None and _is_among(files, start, end, _ranges(files[0], anything)):
            continue
        if found is None:
            count = _count(files[1], start, end)
            where = f"{show_size(count)} at {start:#x} of the file"
            text = f"{where} are in no segment, and the full core does not have them"
            verdict.findings.append(Finding("unclaimed", text, bytes=count))
            return
        at = found


def _ranges(file: MappedCore, ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Those of some ranges that are not all zeros: (start, end, how many bytes are not)."""
    counted = ((start, end, _count(file, start, end)) for start, end in ranges)
    return [there for there in counted if there[2]]


def _is_among(files: tuple[MappedCore, MappedCore], start: int, end: int, theirs: list[tuple[int, int, int]]) -> bool:
    """Whether a range holds a part of what the full core has unclaimed, zeros apart.

    In a damaged core headers that were repaired claim a part of what nobody had claimed. Much is not looked through.
    """
    if sum(count for *_, count in theirs) > MOST_LOOKED_THROUGH or _count(files[1], start, end) > MOST_LOOKED_THROUGH:
        return False
    whole = b"".join(piece for low, high, _ in theirs for piece in _content(files[0], low, high))
    return b"".join(_content(files[1], start, end)) in whole


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


def _count(file: MappedCore, start: int, end: int) -> int:
    return sum(map(len, _content(file, start, end)))


def _find(
    files: tuple[MappedCore, MappedCore], start: int, end: int, theirs: list[tuple[int, int, int]], at: int
) -> int | None:
    """Behind which of the full core's ranges, from ``at`` on, those end that together hold what a range holds."""
    wanted, count = xxh3_128(), 0
    for piece in _content(files[1], start, end):
        wanted.update(piece)
        count += len(piece)
    for first in range(at, len(theirs)):
        total, last = 0, first
        while total < count and last < len(theirs):
            total, last = total + theirs[last][2], last + 1
        if total != count:
            continue
        there = xxh3_128()
        for low, high, _ in theirs[first:last]:
            for piece in _content(files[0], low, high):
                there.update(piece)
        if there.digest() == wanted.digest():
            return last
    return None
