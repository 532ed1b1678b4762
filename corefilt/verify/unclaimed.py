"""Bytes that no header claims: they must be zeros, or stand so in the full core.

A run in place leaves them where they were; a copy moves them up behind what was cut out before them. So what is not
zero must be found at the same offset of the full core, or, zeros apart, as its next unclaimed bytes.
"""

from __future__ import annotations

from xxhash import xxh3_128

from corefilt.verify.pairs import unclaimed
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.files import CoreFile
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

_ONES = b"\0" + b"\xff" * 255


def check_unclaimed(files: tuple[CoreFile, CoreFile], cores: tuple[Tables, Tables], verdict: Verdict) -> None:
    """Find unclaimed bytes of the filtered core that are none of the full one's; the first are told."""
    moved = [(start, end) for start, end in unclaimed(cores[1]) if not _in_place(files, start, end)]
    if not moved:
        return
    # What was in sections may be there still, when the headers of these are cut off.
    ranges = unclaimed(cores[0], sections=not cores[1].sections_lost)
    theirs = [(start, end, _count(files[0], start, end)) for start, end in ranges]
    theirs = [there for there in theirs if there[2]]
    at = 0
    for start, end in moved:
        found = _find(files, start, end, theirs, at)
        if found is None:
            count = _count(files[1], start, end)
            text = f"{count} bytes at {start:#x} of the file belong to no segment, and are none that the full core had"
            verdict.findings.append(Finding("unclaimed", text, bytes=count))
            return
        at = found


def _in_place(files: tuple[CoreFile, CoreFile], start: int, end: int) -> bool:
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


def _content(file: CoreFile, start: int, end: int) -> Iterator[bytes]:
    """What a range holds but zeros."""
    for low, high in file.data(start, end):
        with file.window(low, high - low) as view:
            yield bytes(view).translate(None, b"\0")


def _count(file: CoreFile, start: int, end: int) -> int:
    return sum(map(len, _content(file, start, end)))


def _find(
    files: tuple[CoreFile, CoreFile], start: int, end: int, theirs: list[tuple[int, int, int]], at: int
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
