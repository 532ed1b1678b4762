"""Puts what is overwritten into the steps by which a filter writes a core."""

from __future__ import annotations

from corefilt import __version__
from corefilt.errors import InputError
from corefilt.io.steps import Step
from corefilt.scrub.found import Fills
from corefilt.scrub.report import listed
from corefilt.scrub.rule import RULES_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.scrub.found import Match, Matches
    from corefilt.scrub.request import ScrubRequest


class Overwriting:
    """Steps in, steps out: copies are divided where bytes are overwritten. ``ranges`` is known when all went through.

    It has pairs of an offset in the output and the match, cut to what the output has of it.
    """

    def __init__(self, core: CoreFile, found: Matches, request: ScrubRequest) -> None:
        self._core, self._request = core, request
        self._fills = Fills(found)
        self.ranges: list[tuple[int, Match]] = []

    @property
    def told(self) -> bytes:
        """What the COREFILT note says."""
        count = len(self._fills.matches)
        return (
            f"scrubbed by corefilt {__version__}, level {self._request.level}, rules of version {RULES_VERSION}: "
            f"{count} matches, filled with X or zeros"
        ).encode()

    def listed(self) -> dict[str, object]:
        """What was overwritten, as JSON: the keys that ``verify --scrubbed`` reads, and totals."""
        return listed(self.ranges, self._request.level)

    def steps(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps of a layout with other bytes in them. Raises InputError."""
        self.ranges.clear()
        source = self._core.source
        for step in steps:
            if step.put is not None:
                yield step
                continue
            at, end, shift = step.source, step.source + step.length, step.target - step.source
            self.ranges += [(match.offset + shift, match) for match in self._fills.matches_within(at, end)]
            for low, high in self._fills.within(at, end):
                if at < low:
                    yield Step(at, low - at, at + shift)
                raw = source.peek(low, high - low)
                if len(raw) < high - low:
                    raise InputError(f"{source.name}: became shorter while it was read")
                yield Step(low, high - low, low + shift, self._fills.filled(raw, low))
                at = high
            if at < end:
                yield Step(at, end - at, at + shift)
