"""What was measured: pairs of runs with their medians and ratios, peaks of memory, and whether a target was met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

SAME = "same"
"""What a comparison of two files says when there is no difference."""


class Taken(float):
    """The seconds that a run took, with the CPU seconds of its processes, which other programs disturb less."""

    cpu: float

    def __new__(cls, seconds: float, cpu: float) -> Taken:
        """Hold both."""
        taken = super().__new__(cls, seconds)
        taken.cpu = cpu
        return taken


@dataclass(frozen=True)
class Memory:
    """The most that a process held at one time, in bytes."""

    rss_anon: int
    vm_hwm: int


@dataclass(frozen=True)
class Comparison:
    """Paired runs of corefilt and of one rival; ``moved`` is the number of bytes that ours had to move."""

    work: str
    kept: int | None
    on: str
    rival: str
    ours_seconds: tuple[float, ...]
    rival_seconds: tuple[float, ...]
    moved: int
    target: float | None
    output: str

    @property
    def ours(self) -> float:
        """The median of our times, in seconds."""
        return statistics.median(self.ours_seconds)

    @property
    def theirs(self) -> float:
        """The median of the rival's times, in seconds."""
        return statistics.median(self.rival_seconds)

    @property
    def cpu(self) -> tuple[float, float] | None:
        """The medians of our and of the rival's CPU seconds, all processes of a run together."""
        sides = [
            [run.cpu for run in side if isinstance(run, Taken)] for side in (self.ours_seconds, self.rival_seconds)
        ]
        return (statistics.median(sides[0]), statistics.median(sides[1])) if all(sides) else None

    @property
    def ratios(self) -> list[float]:
        """Our time over the rival's, pair by pair."""
        return [ours / rival for ours, rival in zip(self.ours_seconds, self.rival_seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the paired ratios."""
        return statistics.median(self.ratios)

    @property
    def rate(self) -> float:
        """Bytes that corefilt moved in a second."""
        return self.moved / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the target was met, which takes the right output too; None where there is no target."""
        return None if self.target is None else self.ratio <= self.target and self.output == SAME


@dataclass(frozen=True)
class Peak:
    """The memory of one run beside a bare interpreter's, and how much more than that is allowed."""

    work: str
    core_bytes: int
    ours: Memory
    bare: Memory
    allowed: int

    @property
    def over(self) -> int:
        """Anonymous memory beyond the bare interpreter's."""
        return self.ours.rss_anon - self.bare.rss_anon

    @property
    def met(self) -> bool:
        """Whether it stayed within what is allowed."""
        return self.over <= self.allowed


@dataclass(frozen=True)
class Trial:
    """Runs of another tool in turn with corefilt's, what size came back, and what that is worth in words.

    ``work`` is what it works on: the core, or the live process. The sizes are in bytes, None if nothing came.
    """

    tool: str
    work: str
    ours_seconds: tuple[float, ...]
    seconds: tuple[float, ...]
    size: int | None
    allocated: int | None
    worth: str

    @property
    def theirs(self) -> float:
        """The median of its times, in seconds."""
        return statistics.median(self.seconds)

    @property
    def ratios(self) -> list[float]:
        """Our time over its, turn by turn."""
        return [ours / theirs for ours, theirs in zip(self.ours_seconds, self.seconds, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the paired ratios."""
        return statistics.median(self.ratios)
