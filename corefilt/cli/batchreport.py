"""What a batch tells while it runs and when it is done: a bar, a table, and JSON, one line for each outcome."""

from __future__ import annotations

import os
import stat

from corefilt.batching.outcome import STATUSES
from corefilt.batching.report.totals import NO_RULE, largest, total
from corefilt.batching.report.totals import by_signature as signature_sums
from corefilt.cli.reportfile import STDOUT, status_of, write_all
from corefilt.cli.streams import need_standard_output, tell
from corefilt.documents.strict_json import as_json
from corefilt.errors import ReportPlaceError
from corefilt.io.sinks import NewFileSink, open_text, reported
from corefilt.sizes import show_size
from corefilt.text import counted, day, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task
    from corefilt.cli.progress import Bar
    from corefilt.io.sinks import Sink

# Failures that are told one by one where -v does not ask for all.
MOST_SHOWN = 20
# Reasons for which files are skipped, and damaged cores, that are told one by one.
MOST_REASONS = 5


class JsonLines:
    """Where the outcomes go as JSON, as they come; a context manager.

    The file is made like a core is, new and 0600; it has its name from the start, so that what was done can be read
    in it however the batch ends.
    """

    def __init__(self, target: str | None, *, force: bool = False) -> None:
        """Open the file; ``force`` puts it in the place of another. Raises OutputError."""
        self._target, self._fd = target, -1
        self._stream: Sink | None = None
        if target == STDOUT:
            need_standard_output()
        elif target is not None:
            sink = open_text(target, force=force)
            if isinstance(sink, NewFileSink):
                fd = os.dup(sink.fd)
                try:
                    sink.commit(0, sync=False)
                except BaseException:
                    os.close(fd)
                    raise
                self._fd = fd
            else:
                self._fd, self._stream = sink.fd, sink

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *about: object) -> None:
        if self._stream is not None:
            self._stream.close()
        elif self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def add(self, outcome: Outcome) -> None:
        """Write one line. Raises OutputError."""
        if self._target is None:
            return
        line = as_json(outcome.as_line()) + "\n"
        if self._fd < 0:
            tell(line)
            return
        with reported(self._target):
            write_all(self._fd, line.encode())


def refuse_report_over_sources(option: str, target: str | None, tasks: Iterable[Task], sources: Iterable[str]) -> None:
    """Raise ReportPlaceError where a report would be written over one of the cores, or what was named as a source."""
    status = status_of(target) if target is not None and target != STDOUT else None
    if status is None or not stat.S_ISREG(status.st_mode):
        return
    for path in {*sources, *(task.source for task in tasks)}:
        other = status_of(path)
        if other is not None and os.path.samestat(status, other):
            raise ReportPlaceError(f"{option} {target} is a source of this job", "name another file for the report")


class Progress:
    """Counts found and left cores, and bytes, for a bar; a context manager."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._told: dict[str, int] = {}
        self._left = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it down."""
        self._bar.stop()

    def found(self, count: int) -> None:
        """Tell how many cores have been found."""
        if count % 50 == 0:
            self._bar.describe(f"{counted(count, 'core')} found: ")

    def begin(self, size: int, count: int) -> None:
        """Tell how much there is to do, in bytes and cores."""
        self._left = count
        self._bar.describe(f"{counted(count, 'core')} left: ")
        self._bar.reach(0, size)

    def passed(self, task: Task, count: int) -> None:
        """Count bytes of a task that went by, up to the size of its file: what is inside can be larger."""
        before = self._told.get(task.name, 0)
        self._told[task.name] = min(before + count, task.size)
        self._bar.add(self._told[task.name] - before)

    def done(self, task: Task) -> None:
        """Count a task as done."""
        self._left -= 1
        self._bar.describe(f"{counted(self._left, 'core')} left: ")
        self._bar.add(task.size - self._told.pop(task.name, 0))


def summary(
    outcomes: Sequence[Outcome], filter: str, *, seconds: float, unfinished: int, quiet: bool, verbose: bool,
    by_signature: bool = False,
) -> Iterator[str]:  # fmt: skip
    """The lines that a person reads."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if quiet:
        yield from (_line(outcome) for outcome in failed)
        return
    totals = total(outcomes)
    yield f"corefilt: {len(outcomes)} found, filter {filter}, {seconds:.1f} s"
    yield f"  {'':10} {'count':>7} {'before':>10} {'after':>10}"
    for status in STATUSES:
        of = [outcome for outcome in outcomes if outcome.status == status]
        if of:
            yield f"  {status:10} {len(of):>7} {_sizes(of) if status == 'filtered' else ''}".rstrip()
            if status in ("skipped", "kept"):
                yield from _grouped(outcome.reason for outcome in of)
    yield from _damaged(outcomes, everything=verbose)
    if set(totals.rules) - {NO_RULE}:
        yield f"  {'rule':24} {'count':>7} {'before':>10} {'after':>10} {'saved':>10}"
        for name, part in largest(totals.rules, len(totals.rules)):
            sizes = f"{show_size(part.before):>10} {show_size(part.after):>10} {show_size(part.saved):>10}"
            yield f"  {printable(name):24} {part.count:>7} {sizes}"
    if by_signature:
        yield from _crashes(outcomes)
    if totals.undecided:
        yield f"  ambiguous: {show_size(totals.undecided)} depend on an assumption; corefilt inspect shows which"
    if unfinished > 0:
        yield f"  {unfinished} not done yet: run the same command again to continue"
    shown = list(outcomes) if verbose else failed[:MOST_SHOWN]
    yield from (_line(outcome) for outcome in shown)
    if len(failed) > MOST_SHOWN and not verbose:
        yield f"  {len(failed) - MOST_SHOWN} more failed: -v or --json has all"


def _sizes(of: Sequence[Outcome]) -> str:
    """Before and after, on the disk; of a dry run, which writes nothing, the lengths without compression."""
    planned = all(outcome.allocated_after is None for outcome in of)
    before = sum((outcome.input_bytes if planned else outcome.allocated_before) or 0 for outcome in of)
    after = sum((outcome.output_bytes if planned else outcome.allocated_after) or 0 for outcome in of)
    what = "planned, without compression" if planned else "on disk"
    return f"{show_size(before):>10} {show_size(after):>10}  ({what})"


def _crashes(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Which crashes there are; signatures that are not certain are marked, as other crashes can have the same."""
    yield f"  {'signature':17} {'count':>7} {'before':>10} {'after':>10}  {'first':10} {'last':10} crash"
    for part in signature_sums(outcomes):
        name = part.signature or "(not known)"
        if part.signature is not None and not part.certain:
            name += "?"
        sizes = f"{part.sum.shown_before:>10} {part.sum.shown_after:>10}"
        where = ", ".join(map(printable, (part.kind, *part.frames))) if part.signature is not None else ""
        line = f"  {name:17} {part.sum.count:>7} {sizes}  {day(part.first):10} {day(part.last):10} {where}"
        yield line.rstrip()


def _grouped(reasons: Iterable[str]) -> Iterator[str]:
    """Reasons with the number of times that each is given, the most frequent first."""
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for reason, count in ranked[:MOST_REASONS]:
        yield f"    {count:>15} {printable(reason)}"
    if len(ranked) > MOST_REASONS:
        rest = sum(count for _, count in ranked[MOST_REASONS:])
        yield f"    {rest:>15} for {counted(len(ranked) - MOST_REASONS, 'other reason')} (-v lists them)"


def _damaged(outcomes: Sequence[Outcome], *, everything: bool) -> Iterator[str]:
    """The cores that are truncated or damaged otherwise, and were filtered."""
    found = [outcome for outcome in outcomes if outcome.damage and outcome.status != "kept"]
    if not found:
        return
    yield f"  damaged    {len(found):>7} (filtered anyway; what was missing is missing in the output too)"
    for outcome in found if everything else found[:MOST_REASONS]:
        yield f"    {printable(os.fsencode(outcome.source))}: {printable(outcome.damage)}"
    if len(found) > MOST_REASONS and not everything:
        yield f"    and {len(found) - MOST_REASONS} more (-v lists them)"


def _line(outcome: Outcome) -> str:
    sizes = ""
    if outcome.status == "filtered" and outcome.allocated_before is not None and outcome.allocated_after is not None:
        sizes = f", {show_size(outcome.allocated_before)} -> {show_size(outcome.allocated_after)}"
    why = f": {printable(outcome.reason)}" if outcome.reason else ""
    if outcome.status == "kept" and outcome.damage:
        why += f" ({printable(outcome.damage)})"
    wrapping = f" ({outcome.wrapping})" if outcome.wrapping != "raw" else ""
    return f"  {outcome.status}: {printable(os.fsencode(outcome.source))}{wrapping}{sizes}{why}"
