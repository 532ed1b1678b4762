"""The mappings of a plan as rows: which are shown, in which order, and what stands in each column.

A core can have a million mappings, so that nothing is made of a mapping before its row is written: what is shown is a
sequence of their numbers, and a column a function of such a number.
"""

from __future__ import annotations

import heapq

from corefilt.errors import UsageError
from corefilt.filterbits import NAMES as BITS
from corefilt.filtering.report import dropped_texts, evidence_texts
from corefilt.kinds import NAMES, NOTHING, ONE_PAGE
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corefilt.filterbits import CoredumpFilter
    from corefilt.kinds import Classification
    from corefilt.plan.plan import KeepPlan

    Key = Callable[[int], object]

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
        self._tails: dict[tuple[Classification, bool], str] = {}
        self._ambiguous = [finding.certainty == "assumed" for finding in plan.findings.of_class]
        self._bits: dict[Classification, dict[str, str]] = {}

    def __len__(self) -> int:
        """How many mappings there are."""
        return len(self.maps)

    def present(self, m: int) -> int:
        """The bytes of mapping ``m`` that the core holds."""
        return self.plan.core.present[self.maps.phdr[m]]

    def is_ambiguous(self, m: int) -> bool:
        """Whether mapping ``m`` could be of another kind."""
        return self._ambiguous[self.plan.findings.numbers[m]]

    def bits(self, finding: Classification) -> dict[str, str]:
        """What each bit of a filter alone keeps of a mapping: W whole, h one page, - nothing, ? maybe less."""
        if finding not in self._bits:
            self._bits[finding] = {name: letter(finding, bit) for name, bit in BITS.items()}
        return self._bits[finding]

    def reasons(self, m: int) -> str:
        """The evidence for mapping ``m`` in one text; equal texts are made once."""
        finding, dropped = self.plan.findings[m], bool(self.plan.inferred[m])
        if (finding, dropped) not in self._tails:
            texts = evidence_texts(finding) + dropped_texts(self.plan, m)
            self._tails[finding, dropped] = printable("; ".join(texts))
        return self._tails[finding, dropped]

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

    def cells(self, *, raw: bool = False) -> dict[str, Callable[[int], object]]:
        """What a row has in each column; ``raw`` for programs: sizes in bytes, addresses with 0x."""
        phdr, table, plan = self.maps.phdr, self.maps.table, self.plan
        vaddr, memsz, flags = table.p_vaddr, table.p_memsz, table.p_flags
        present, sizes, findings, inferred = plan.core.present, plan.sizes, plan.findings, plan.inferred
        letters = ["".join(a if f & b else "-" for a, b in (("r", 4), ("w", 2), ("x", 1))) for f in range(8)]
        shown: Callable[[int], object] = int if raw else remembered(show_size)
        named = remembered(lambda path: "" if path is None else printable(path))
        file = self.maps.path if self.maps.notes.files is not None else lambda m: None
        prefix = "0x" if raw else ""
        marks = {} if raw else {"assumed": "?"}

        def start(m: int) -> str:
            return f"{prefix}{vaddr[phdr[m]]:x}"

        def end(m: int) -> str:
            return f"{prefix}{vaddr[phdr[m]] + memsz[phdr[m]]:x}"

        def address(m: int) -> str:
            i = phdr[m]
            first = vaddr[i]
            return f"{prefix}{first:x}-{prefix}{first + memsz[i]:x}"

        # By class, of which there are few.
        classes, kinds = findings.numbers, [f.kind + marks.get(f.certainty, "") for f in findings.of_class]

        return {
            "address": address,
            "start": start,
            "end": end,
            "size": lambda m: shown(memsz[phdr[m]]),
            "present": lambda m: shown(present[phdr[m]]),
            "kept": lambda m: shown(sizes[phdr[m]]),
            "dropped": lambda m: shown(present[phdr[m]] - sizes[phdr[m]]),
            "inferred": lambda m: shown(inferred[m]),
            "flags": lambda m: letters[flags[phdr[m]] & 7],
            "kind": lambda m: kinds[classes[m]],
            "certainty": lambda m: findings[m].certainty,
            "bits": lambda m: "".join(text.ljust(2) for text in self.bits(findings[m]).values()).rstrip(),
            "offset": lambda m: "" if (at := self.maps.file_offset(m)) is None else f"{at:#x}",
            "file": lambda m: named(file(m)),
            "evidence": self.reasons,
        }


def letter(finding: Classification, bit: CoredumpFilter) -> str:
    """What one bit alone keeps of a mapping, as a letter."""
    least, _, most = finding.levels(bit)
    return ("-" if most == NOTHING else "h" if most == ONE_PAGE else "W") + ("?" if least != most else "")


def remembered(make: Callable[..., str]) -> Callable[..., str]:
    """The function with its last answers at hand: most mappings have sizes and files that others have too."""
    known: dict[object, str] = {}

    def ask(value: object) -> str:
        found = known.get(value)
        if found is None:
            if len(known) >= MOST_REMEMBERED:
                known.clear()
            found = known[value] = make(value)
        return found

    return ask


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
