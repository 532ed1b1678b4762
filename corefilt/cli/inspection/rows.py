"""The mappings of a plan as rows: which are shown, in which order, and what stands in each column.

A core can have a million mappings, so that nothing is made of a mapping before its row is written: what is shown is a
sequence of their numbers, and a column a function of some of these.
"""

from __future__ import annotations

import heapq
from array import array

from corefilt.corefile.mappings import NO_FILE
from corefilt.errors import UsageError
from corefilt.filterbits import NAMES as BITS
from corefilt.filtering.report import dropped_texts, evidence_texts
from corefilt.kinds import NAMES, NOTHING, ONE_PAGE
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from corefilt.kinds import Classification
    from corefilt.plan.plan import KeepPlan

    Key: TypeAlias = Callable[[int], object]
    Column: TypeAlias = Callable[[Sequence[int]], Iterable[object]]

# What --columns can name.
COLUMNS = (
    "address", "start", "end", "size", "present", "kept", "dropped", "inferred", "flags", "kind", "certainty", "bits",
    "offset", "file", "evidence",
)  # fmt: skip
NUMBERS = frozenset(("size", "present", "kept", "dropped", "inferred", "offset", "mappings"))
# Texts of so many different sizes or files are remembered.
MOST_REMEMBERED = 1 << 12


class Rows:
    """What is told of each mapping of a plan, by its number."""

    def __init__(self, plan: KeepPlan) -> None:
        """Take a plan."""
        self.plan = plan
        self.maps = plan.classifier.parts
        self._bits: dict[Classification, dict[str, str]] = {}

    def __len__(self) -> int:
        """How many mappings there are."""
        return len(self.maps)

    def bits(self, finding: Classification) -> dict[str, str]:
        """What each bit of a filter alone keeps of a mapping: W whole, h one page, - nothing, ? maybe less."""
        if finding not in self._bits:
            self._bits[finding] = {name: letter(finding, bit) for name, bit in BITS.items()}
        return self._bits[finding]

    def reasons(self, m: int) -> str:
        """The evidence for mapping ``m`` in one text."""
        texts = evidence_texts(self.plan.findings[m]) + dropped_texts(self.plan, m)
        return printable("; ".join(texts))

    def _evidence(self, *, ambiguous: bool) -> Column:
        """Make the evidence for mappings, or only for those that are ``ambiguous``; equal texts are made once."""
        findings, inferred = self.plan.findings, self.plan.inferred
        classes, of_class = findings.numbers, findings.of_class
        texts: dict[int, str] = {}

        def column(numbers: Sequence[int]) -> Iterable[str]:
            # By class, and whether bytes are dropped on a convention.
            keys, dropped = _picked(classes, numbers), _picked(inferred, numbers)
            if any(dropped):
                keys = [~number if size else number for number, size in zip(keys, dropped, strict=True)]
            if len(texts) >= MOST_REMEMBERED:
                texts.clear()
            for key in set(keys).difference(texts):
                shown = not ambiguous or of_class[max(key, ~key)].uncertain
                texts[key] = self.reasons(numbers[keys.index(key)]) if shown else ""
            return map(texts.__getitem__, keys)

        return column

    def chosen(self, *, kinds: Sequence[str] = (), sort: str | None = None, top: int | None = None) -> Sequence[int]:
        """The numbers of the mappings of these kinds (none named: all), sorted, at most ``top``.

        Without ``sort`` they come in the order of the program headers. ``size`` begins with the most bytes in the core,
        of equals with the largest memory; the others ascend.
        """
        numbers: Sequence[int] = range(len(self))
        if kinds:
            findings, wanted = self.plan.findings, set(kinds)
            numbers = [m for m in numbers if findings[m].kind in wanted]
        if sort is None:
            return numbers if top is None else numbers[:top]
        key = self._key(sort)
        if top is not None and top < len(numbers):
            return heapq.nsmallest(top, numbers, key=key)  # type: ignore[arg-type]
        return sorted(numbers, key=key)  # type: ignore[arg-type]

    def _key(self, sort: str) -> Key:
        phdr, table, findings = self.maps.phdr, self.maps.table, self.plan.findings
        present, memsz, vaddr = self.plan.core.present, table.p_memsz, table.p_vaddr
        if sort == "size":
            # One number: most present bytes first, then the largest memory.
            return lambda m: -(present[phdr[m]] << 64 | memsz[phdr[m]])
        if sort == "kind":
            return lambda m: findings[m].kind
        if sort == "file":
            path = self.maps.path
            return lambda m: path(m) or b"\xff"
        return lambda m: vaddr[phdr[m]]

    def columns(self, *, raw: bool = False, ambiguous: bool = False) -> dict[str, Column]:
        """What makes each column; ``raw`` for programs: sizes in bytes, addresses with 0x.

        Evidence is shown only of what is ``ambiguous``, or of all. A column is made for many mappings at once: a call
        for each cell takes three times as long.
        """
        phdr, table, plan, maps = self.maps.phdr, self.maps.table, self.plan, self.maps
        vaddr, memsz, flags = table.p_vaddr, table.p_memsz, table.p_flags
        present, sizes, findings, inferred = plan.core.present, plan.sizes, plan.findings, plan.inferred
        letters = ["".join(a if f & b else "-" for a, b in (("r", 4), ("w", 2), ("x", 1))) for f in range(8)]
        shown: Callable[[int], object] = int if raw else Remembered(show_size).__getitem__
        names = maps.names
        named = Remembered(lambda number: "" if number == NO_FILE else printable(names[number]))
        prefix = "0x" if raw else ""
        # Half the time of an f-string.
        one, two = f"{prefix}%x", f"{prefix}%x-{prefix}%x"
        # By class, of which there are few.
        classes, of_class = findings.numbers, findings.of_class
        kinds = [finding.kind + ("?" if finding.uncertain and not raw else "") for finding in of_class]
        certainties = [finding.certainty for finding in of_class]
        bits = Remembered(
            lambda number: "".join(text.ljust(2) for text in self.bits(of_class[number]).values()).rstrip()
        )

        def of_phdr(values: array[int]) -> Callable[[Sequence[int]], Iterable[int]]:
            return lambda numbers: _picked(values, _picked(phdr, numbers))

        def by_class(texts: Sequence[str] | Remembered) -> Column:
            return lambda numbers: map(texts.__getitem__, _picked(classes, numbers))

        starts, lengths, held, kept = of_phdr(vaddr), of_phdr(memsz), of_phdr(present), of_phdr(sizes)
        return {
            "address": lambda numbers: [
                two % (start, start + size) for start, size in zip(starts(numbers), lengths(numbers), strict=True)
            ],
            "start": lambda numbers: [one % start for start in starts(numbers)],
            "end": lambda numbers: map(one.__mod__, map(int.__add__, starts(numbers), lengths(numbers))),
            "size": lambda numbers: map(shown, lengths(numbers)),
            "present": lambda numbers: map(shown, held(numbers)),
            "kept": lambda numbers: map(shown, kept(numbers)),
            "dropped": lambda numbers: map(shown, map(int.__sub__, held(numbers), kept(numbers))),
            "inferred": lambda numbers: map(shown, _picked(inferred, numbers)),
            "flags": lambda numbers: [letters[value & 7] for value in of_phdr(flags)(numbers)],
            "kind": by_class(kinds),
            "certainty": by_class(certainties),
            "bits": by_class(bits),
            "offset": lambda numbers: ["" if (at := maps.file_offset(m)) is None else f"{at:#x}" for m in numbers],
            "file": lambda numbers: map(named.__getitem__, _picked(maps.name, numbers)),
            "evidence": self._evidence(ambiguous=ambiguous),
        }


def _picked(values: array[int], numbers: Sequence[int]) -> Sequence[int]:
    """The values that have these numbers. Neighbours, which most are, are taken in one piece."""
    if not numbers:
        return []
    first, count = numbers[0], len(numbers)
    if isinstance(numbers, range | array) and numbers[-1] - first == count - 1:
        return values[first : first + count]
    return [values[number] for number in numbers]


class Remembered(dict[object, str]):
    """Texts by what they are made of, each made once: most mappings have sizes and files that others have too."""

    def __init__(self, make: Callable[[Any], str]) -> None:
        """Take what makes a text."""
        super().__init__()
        self._make = make

    def __missing__(self, key: object) -> str:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        found = self[key] = self._make(key)
        return found


def letter(finding: Classification, bit: int) -> str:
    """What one bit alone keeps of a mapping, as a letter."""
    least, _, most = finding.levels(bit)
    return ("-" if most == NOTHING else "h" if most == ONE_PAGE else "W") + ("?" if least != most else "")


def parse_names(text: str, known: Sequence[str], what: str) -> list[str]:
    """Names joined by commas, each one of ``known``. Raises UsageError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no {what} {name!r}", f"{what}s: {', '.join(known)}")
    return names


def parse_kinds(texts: Sequence[str]) -> list[str]:
    """The kinds that ``--kind`` names. Raises UsageError."""
    return [name for text in texts for name in parse_names(text, list(NAMES), "kind")]
