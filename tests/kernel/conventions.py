"""Counts, for each convention, the mappings of real programs whose dumps agree with it, and those that break it.

What the kernel keeps of a mapping under no bit and under every single one says which kinds it can be. A convention took
kinds away that nothing disproves: it agrees with a mapping if one of its true kinds is left, and breaks if none is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from kernel.dumps import PAGE

from corefilt.classify import conventions
from corefilt.kinds import Classification, Convention, Kind, level, single
from corefilt.plan.layout import kept_bytes

CONVENTIONS = [each for each in vars(conventions).values() if isinstance(each, Convention)]


def kept_of(kind: int, bit: int, present: int) -> int:
    """Return what one bit keeps of a mapping of one kind, in bytes."""
    return kept_bytes(level(kind, bit), present, PAGE)


def true_kinds(kernel: dict[int, int], present: int) -> int:
    """Return the kinds of which the kernel keeps what it kept of a mapping under each of these filters."""
    return sum(
        kind for kind in single(Kind.ALL) if all(kept_of(kind, bit, present) == size for bit, size in kernel.items())
    )


@dataclass
class Count:
    """How many mappings agreed with a convention; of those that broke it, the name and the bytes that it cost."""

    agree: int = 0
    broken: list[tuple[str, int]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """The most bytes that a filter of one bit lost by it."""
        return sum(size for _, size in self.broken)


Counts = dict[tuple[str, str], Count]


def count(
    counts: Counts, evidence: str, label: str, finding: Classification, kernel: dict[int, int], present: int
) -> None:
    """Add what one finding says of the conventions that it rests on; a mapping without bytes shows nothing."""
    if not present:
        return
    truth = true_kinds(kernel, present)
    for convention, taken in finding.conventions:
        entry = counts.setdefault((convention.name, evidence), Count())
        if truth & finding.possible or not truth & taken:
            entry.agree += 1
        else:
            most = {bit: max(kept_of(kind, bit, present) for kind in single(finding.possible)) for bit in kernel}
            entry.broken.append((label, max(0, *(size - most[bit] for bit, size in kernel.items()))))


def merge(all_counts: Iterable[Counts]) -> Counts:
    """Add the counts of several processes up."""
    merged: Counts = {}
    for counts in all_counts:
        for key, each in counts.items():
            entry = merged.setdefault(key, Count())
            entry.agree += each.agree
            entry.broken += each.broken
    return merged
