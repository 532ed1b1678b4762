"""What was overwritten, for a person and as JSON: where, how many bytes and by which rule; never what it was."""

from __future__ import annotations

from corefilt import __version__
from corefilt.scrub.again import BY_OPTION
from corefilt.scrub.found import overwritten, totals
from corefilt.scrub.rule import RULES_VERSION
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.filtering.report import Report
    from corefilt.scrub.found import Match, Matches
    from corefilt.scrub.request import ScrubRequest

NOT_CLEAN = "a scrubbed core is not a clean core: docs/scrub.md lists what cannot be found"


def listed(ranges: list[tuple[int, Match]], level: str) -> dict[str, object]:
    """What was overwritten, as JSON: pairs of an offset in the output and a match, and their sums by rule."""
    return {
        "schema": 1,
        "version": __version__,
        "rules_version": RULES_VERSION,
        "level": level,
        "overwritten_bytes": overwritten(ranges),
        "totals": {
            rule: {"matches": count, "copies": copies, "bytes": length}
            for rule, (count, copies, length) in totals(match for _, match in ranges).items()
        },
        "ranges": [_range(offset, match) for offset, match in ranges],
    }


class ScrubReport:
    """The outcome: ``filtered`` is the filter's report, ``ranges`` pairs of an offset in the output and a match."""

    def __init__(
        self, found: Matches, ranges: list[tuple[int, Match]], request: ScrubRequest, filtered: Report
    ) -> None:
        self.filtered, self.request, self.ranges = filtered, request, ranges
        self.totals = totals(match for _, match in ranges)
        self.notices = found.notices

    def as_dict(self) -> dict[str, object]:
        """The report with the stable keys of schema 1; addresses are hex strings, sizes in bytes."""
        report = self.filtered
        return {
            "input": report.input,
            "output": report.output,
            "filter": f"{int(report.filter):#x}",
            "output_bytes": report.output_bytes,
            "warnings": report.warnings + report.notices + self.notices,
            "changes": report.changes,
            **listed(self.ranges, self.request.level),
        }

    def summary(self, *, verbose: bool = False) -> str:
        """A few lines for a person; ``verbose`` lists every match."""
        report = self.filtered
        verb = "would be overwritten" if report.output is None else "overwritten"
        lines = [
            f"{report.headline()}, level {self.request.level}, rules of version {RULES_VERSION}",
            f"  {counted(len(self.ranges), 'range')} {verb} ({show_size(overwritten(self.ranges))})",
        ]
        width = max((len(rule) for rule in self.totals), default=0)
        lines += [
            f"  {rule:{width}}  {some:>6}  {show_size(size):>10}"
            + (f"  ({counted(copies, 'copy', 'copies')})" if copies else "")
            for rule, (some, copies, size) in self.totals.items()
        ]
        if verbose:
            lines += [f"  {_line(match)}" for _, match in self.ranges]
        lines += [f"  changed: {change}" for change in report.changes]
        lines += [f"  note: {printable(notice)}" for notice in (*report.notices, *self.notices, NOT_CLEAN)]
        lines += [f"  warning: {printable(warning)}" for warning in report.warnings]
        return "\n".join(lines)


def _origin(match: Match) -> str | None:
    if match.copy_of is None:
        return None
    return "option or note" if match.copy_of == BY_OPTION else f"{match.copy_of:#x}"


def _range(offset: int, match: Match) -> dict[str, object]:
    return {
        "address": None if match.address is None else f"{match.address:#x}",
        "offset": offset,
        "length": match.length,
        "rule": match.rule,
        "fill": match.fill,
        "copy_of": _origin(match),
    }


def _line(match: Match) -> str:
    where = "in the notes" if match.address is None else f"{match.address:#x}"
    copy = f", copy of {_origin(match)}" if match.copy_of is not None else ""
    return f"{where}: {counted(match.length, 'byte')}, {match.rule}{copy}"
