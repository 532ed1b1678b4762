"""What all outcomes of a batch come to: sums by status, executable, kind and rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from corefilt.batching.outcome import STATUSES
from corefilt.crash.recorded import UNWOUND
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.batching.outcome import Outcome
    from corefilt.crash.repeats import CrashSummary

# What tables and pictures call what has no name.
NO_EXECUTABLE = "(not known)"
NO_RULE = "(no rule)"


@dataclass(slots=True)
class Sum:
    """How many cores, and their bytes before and after."""

    count: int = 0
    before: int = 0
    after: int = 0

    def add(self, before: int, after: int) -> None:
        """Count one more."""
        self.count += 1
        self.before += before
        self.after += after

    @property
    def shown_before(self) -> str:
        """The bytes before, for people; ``-`` where no core's are known, as of one that an earlier run filtered."""
        return show_size(self.before) if self.before else "-"

    @property
    def shown_after(self) -> str:
        """The bytes after, in the same way."""
        return show_size(self.after) if self.before else "-"

    @property
    def saved(self) -> int:
        """The bytes that are gone."""
        return self.before - self.after

    @property
    def shown_change(self) -> str:
        """By how much of the bytes before there are less now, for people, or more."""
        percent = 100 * self.saved / self.before if self.before else 0.0
        return f"{abs(percent):.0f} % {'less' if percent >= 0 else 'more'}"


@dataclass(slots=True)
class CrashSum:
    """The cores of one signature: their lengths, the first and last crash (seconds since the epoch), and one's frames.

    ``signature`` is None for cores of which it is not known; ``certain`` tells that the same one is the same crash.
    """

    signature: str | None
    kind: str = ""
    frames: tuple[str, ...] = ()
    certain: bool = False
    first: float | None = None
    last: float | None = None
    sum: Sum = field(default_factory=Sum)
    executables: set[str] = field(default_factory=set)

    def add(self, outcome: Outcome, crash: CrashSummary | None) -> None:
        """Count one more."""
        self.sum.add(*(lengths(outcome) or (0, 0)))
        if outcome.executable is not None:
            self.executables.add(outcome.executable)
        if crash is None or crash.time is None:
            return
        self.first = crash.time if self.first is None else min(self.first, crash.time)
        self.last = crash.time if self.last is None else max(self.last, crash.time)


def by_signature(outcomes: Iterable[Outcome]) -> list[CrashSum]:
    """Sums of the cores by their signatures, the most frequent first; those without one last."""
    sums: dict[tuple[str | None, bool], CrashSum] = {}
    for outcome in outcomes:
        if outcome.status == "skipped" or (outcome.crash is None and outcome.input_bytes is None):
            continue
        crash = outcome.crash
        signature, certain = (crash.signature, crash.quality == UNWOUND) if crash is not None else (None, False)
        part = sums.setdefault((signature, certain), CrashSum(signature, certain=certain))
        if crash is not None and signature is not None:
            part.kind, part.frames = crash.kind, part.frames or crash.frames
        part.add(outcome, crash)
    return sorted(
        sums.values(), key=lambda part: (part.signature is None, -part.sum.count, part.signature or "", part.certain)
    )


@dataclass(slots=True)
class Totals:
    """Sums over outcomes.

    ``cores`` are the lengths of cores without compression, ``stored`` what their files take, over those of which both
    sizes are known. ``statuses`` counts each of STATUSES. ``executables``, ``kinds`` and ``rules`` are sums by name, of
    lengths; a kind's are of its payload. ``undecided`` bytes hang on assumptions.
    """

    statuses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    cores: Sum = field(default_factory=Sum)
    stored: Sum = field(default_factory=Sum)
    executables: dict[str, Sum] = field(default_factory=dict)
    kinds: dict[str, Sum] = field(default_factory=dict)
    rules: dict[str, Sum] = field(default_factory=dict)
    undecided: int = 0


def total(outcomes: Iterable[Outcome]) -> Totals:
    """Add them up."""
    totals = Totals()
    for outcome in outcomes:
        totals.statuses[outcome.status] += 1
        totals.undecided += outcome.undecided_bytes
        for name, (before, after) in outcome.kinds.items():
            totals.kinds.setdefault(name, Sum()).add(before, 0 if outcome.status == "deleted" else after)
        stored = outcome.allocated_before, 0 if outcome.status == "deleted" else outcome.allocated_after
        if stored[0] is not None and stored[1] is not None:
            totals.stored.add(stored[0], stored[1])
        sizes = lengths(outcome)
        if sizes is None:
            continue
        totals.cores.add(*sizes)
        totals.executables.setdefault(outcome.executable or NO_EXECUTABLE, Sum()).add(*sizes)
        totals.rules.setdefault(outcome.rule or NO_RULE, Sum()).add(*sizes)
    return totals


def lengths(outcome: Outcome) -> tuple[int, int] | None:
    """The core's length before and after; None of what is not a core, or of unknown length.

    What was not written is as long as it was, what was deleted has none.
    """
    before = outcome.input_bytes
    if before is None or outcome.status == "skipped":
        return None
    if outcome.status == "deleted":
        return before, 0
    written = outcome.output_bytes if outcome.status in ("filtered", "unchanged") else None
    return before, before if written is None else written


def largest(sums: dict[str, Sum], most: int) -> list[tuple[str, Sum]]:
    """The sums with the most bytes before, largest first; those behind the first ``most`` - 1 become one."""
    ranked = sorted(sums.items(), key=lambda entry: (-entry[1].before, entry[0]))
    if len(ranked) <= most:
        return ranked
    rest = Sum()
    for _, part in ranked[most - 1 :]:
        rest = Sum(rest.count + part.count, rest.before + part.before, rest.after + part.after)
    return [*ranked[: most - 1], (counted(len(ranked) - most + 1, "other"), rest)]
