"""What was found: which bytes are overwritten by what, and why."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from corefilt.corefile.ranges import joined
from corefilt.errors import ScrubError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A report of so many matches has 100 MB. No process was seen with a thousandth of it.
MOST_MATCHES = 1 << 20

# What comes to stand in a match: in text all but NULs, in numbers and stacks every byte; registers are zeroed.
TEXT, BYTES, ZEROS = FILLS = ("text", "bytes", "zeros")
FILL = 0x58
_AS_TEXT = bytes([0]) + bytes([FILL]) * 255


class Match(NamedTuple):
    """Bytes that are overwritten: where they are in the core, and in memory (None: in the notes), and by which rule.

    ``copy_of`` is the address at which the same value was found with its keyword, -1 where an option brought it, and
    None of what is no copy.
    """

    offset: int
    address: int | None
    length: int
    rule: str
    fill: str = TEXT
    copy_of: int | None = None


class Matches:
    """All matches of a core, and what could not be done (``notices``)."""

    def __init__(self, name: str) -> None:
        """Begin with none; ``name`` is the core's."""
        self._name = name
        self.matches: list[Match] = []
        self.notices: list[str] = []

    def add(self, match: Match) -> None:
        """Take a match. Raises ScrubError for more than can be told."""
        if len(self.matches) >= MOST_MATCHES:
            raise ScrubError(f"{self._name}: more than {MOST_MATCHES} places match the rules")
        self.matches.append(match)

    def ranges(self, fill: str | None = None) -> list[tuple[int, int]]:
        """The ranges of the core that are overwritten, ascending and apart; with one fill, or with any."""
        return joined([(m.offset, m.offset + m.length) for m in self.matches if fill in (None, m.fill)])

    def totals(self) -> dict[str, list[int]]:
        """By rule: matches, of them copies, and bytes."""
        return totals(self.matches)


def totals(matches: Iterable[Match]) -> dict[str, list[int]]:
    """By rule: matches, of them copies, and bytes."""
    sums: dict[str, list[int]] = {}
    for match in sorted(matches, key=lambda match: match.rule):
        entry = sums.setdefault(match.rule, [0, 0, 0])
        entry[0] += 1
        entry[1] += match.copy_of is not None
        entry[2] += match.length
    return sums


def overwritten(ranges: Iterable[tuple[int, Match]]) -> int:
    """How many bytes pairs of an offset and a match overwrite; what several matches have counts once."""
    return sum(end - start for start, end in joined([(offset, offset + match.length) for offset, match in ranges]))


class Ranges:
    """Ranges that ascend and lie apart, to ask which of them lie in another."""

    def __init__(self, ranges: list[tuple[int, int]]) -> None:
        self._ranges = ranges
        self._ends = [end for _, end in ranges]

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts that lie in a range."""
        at = bisect_right(self._ends, start)
        while at < len(self._ranges) and self._ranges[at][0] < end:
            yield max(start, self._ranges[at][0]), min(end, self._ranges[at][1])
            at += 1

    def hold(self, start: int, end: int) -> bool:
        """Whether one of them has a whole range."""
        at = bisect_right(self._ends, start)
        return at < len(self._ranges) and self._ranges[at][0] <= start and end <= self._ranges[at][1]


class Fills:
    """What becomes of the bytes of a core."""

    def __init__(self, found: Matches) -> None:
        self.matches = sorted(found.matches, key=lambda match: match.offset)
        self._starts = [match.offset for match in self.matches]
        self._longest = max((match.length for match in self.matches), default=0)
        self._all = Ranges(found.ranges())
        self._bytes, self._zeros = Ranges(found.ranges(BYTES)), Ranges(found.ranges(ZEROS))

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges that are overwritten in another, ascending."""
        return self._all.within(start, end)

    def filled(self, raw: bytes, at: int) -> bytes:
        """The bytes at an offset as they are written, all of which are overwritten."""
        out = bytearray(raw.translate(_AS_TEXT))
        for ranges, byte in ((self._bytes, FILL), (self._zeros, 0)):
            for low, high in ranges.within(at, at + len(raw)):
                out[low - at : high - at] = bytes([byte]) * (high - low)
        return bytes(out)

    def matches_within(self, start: int, end: int) -> Iterator[Match]:
        """The matches that have bytes in a range, cut to it."""
        at = bisect_left(self._starts, start - self._longest)
        while at < len(self.matches) and self.matches[at].offset < end:
            match = self.matches[at]
            low, high = max(start, match.offset), min(end, match.offset + match.length)
            if low < high:
                address = None if match.address is None else match.address + low - match.offset
                yield match._replace(offset=low, address=address, length=high - low)
            at += 1
