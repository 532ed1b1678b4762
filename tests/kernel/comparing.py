"""Holds what corefilt keeps of every mapping under every filter against what the kernel keeps, by kind of evidence."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from kernel.conventions import Counts, count, kept_of, true_kinds
from kernel.dumps import FILTERS, FULL, PAGE
from kernel.programs import ALL_FILTERS, SINGLE_BITS, Visit, load_sizes
from support.opening import open_file

import corefilt
from corefilt.classify.classifier import classifier_for
from corefilt.kinds import Classification, Kind, name_of, single
from corefilt.plan.layout import kept_bytes

PID, ANNOTATED, SMAPS, MAPS, CORE, PIPE = (
    "`--pid`",
    "`--annotate` from `--pid`",
    "`--maps` smaps",
    "`--maps` maps",
    "the core alone",
    "the core alone, pipe to pipe",
)
EVIDENCE = (PID, ANNOTATED, SMAPS, MAPS, CORE, PIPE)
DUMPED = (*FILTERS, FULL)


def findings(visited: Visit, evidence: str) -> list[Classification]:
    """Return what corefilt finds of every mapping by one kind of evidence."""
    options: dict[str, object] = {
        PID: {"pid": visited.pid},
        SMAPS: {"maps": str(visited.smaps)},
        MAPS: {"maps": str(visited.maps)},
    }.get(evidence, {})
    path = visited.full
    if evidence == ANNOTATED:
        path = visited.folder / "annotated"
        corefilt.filter(visited.full, path, filter=FULL, pid=visited.pid, annotate=True, sync=False)
    with open_file(path) as core:
        if evidence == PIPE:
            rules = classifier_for(core, with_payload=False)
            return [rules.decide(m) for m in range(len(core.maps))]
        return core.plan(FULL, **options).findings


def place(label: str) -> str:
    """Say what sort of mapping it is, by its line in maps; what the zoo made says so itself."""
    fields = label.split(maxsplit=3)
    if len(fields) < 3:
        return label
    path = fields[3] if len(fields) == 4 else "(anonymous)"
    access = "writable" if "w" in fields[1] else "unwritable"
    sorts = (
        (path.startswith("/memfd:"), "memfd"),
        (path.startswith("/SYSV"), "System V"),
        (path.startswith("/anon_hugepage"), "/anon_hugepage"),
        (path.startswith("/dev/shm/"), "file in /dev/shm"),
        (path.startswith("/dev/"), "/dev/zero"),
        ("hugetlbfs" in path, "file of hugetlbfs"),
        (path.startswith(("/usr/", "/lib")), "system file"),
        (path.startswith("/"), "other file"),
    )
    return f"{access} {next((name for yes, name in sorts if yes), 'no file')}"


def true_name(kernel: dict[int, int], present: int, finding: Classification) -> str:
    """Name the kind that the kernel's sizes show; where they fit several, one that corefilt left."""
    kinds = true_kinds(kernel, present)
    return name_of(single(kinds & finding.possible or kinds)[-1]) if kinds else "none that is known"


@dataclass(frozen=True)
class Disagreement:
    """One mapping of which corefilt keeps another number of bytes than the kernel, and under which filters.

    ``kernel`` is what the kernel keeps under no bit and under every single one. ``counted`` are the bytes of ``lost``
    that the summary counts as dropped on a convention; ``unreported`` the filters of ``extra`` under which corefilt
    did not say that anything was ambiguous. ``copies_gone`` says that the process could write to it (VmFlags with ac),
    and that none of its pages is its own now (Anonymous: 0, SwapPss: 0).
    """

    start: int
    label: str
    present: int
    kernel: dict[int, int]
    finding: Classification
    lost: dict[int, int]
    counted: dict[int, int]
    extra: dict[int, int]
    unreported: list[int]
    copies_gone: bool = False

    @property
    def most_lost(self) -> int:
        """The most bytes that are lost under any filter."""
        return max(self.lost.values(), default=0)

    @property
    def most_extra(self) -> int:
        """The most bytes that are extra under any filter."""
        return max(self.extra.values(), default=0)

    @property
    def truth(self) -> str:
        """The kind that the kernel's sizes show."""
        return true_name(self.kernel, self.present, self.finding)

    @property
    def beyond(self) -> str:
        """The kinds that corefilt left, and of which a filter keeps more."""
        more = [
            kind
            for kind in single(self.finding.possible)
            if any(kept_of(kind, bit, self.present) > size for bit, size in self.kernel.items())
        ]
        names = sorted({name_of(kind) for kind in more} - {self.truth})
        if any(kind & Kind.HEADED and name_of(kind) == self.truth for kind in more):
            names.append("with a header page")
        return ", ".join(names)

    def lines(self) -> Iterator[str]:
        """Give all that is known, for people."""
        kept = ", ".join(f"{bit:#x}: {size}" for bit, size in self.kernel.items() if size)
        yield self.label
        yield f"    kernel keeps {kept or 'nothing'} bytes"
        others = ", ".join(self.finding.others()) or "nothing else"
        yield f"    corefilt: {self.finding.certainty} {self.finding.kind} (or {others}): "
        yield f"        {'; '.join(self.finding.evidence)}"
        yield f"        conventions: {', '.join(each.name for each, _ in self.finding.conventions) or 'none'}"
        for what, sizes in (("lost", self.lost), ("lost, counted", self.counted), ("extra", self.extra)):
            if sizes:
                yield f"    {what} under {len(sizes)} filters: {' '.join(f'{value:#x}' for value in list(sizes)[:8])}"
        if self.unreported:
            yield f"    not reported as ambiguous under {len(self.unreported)} of them"


@dataclass
class Agreement:
    """How corefilt's sizes compare with the kernel's for one process, one kind of evidence and one policy.

    ``guesses`` are the ambiguous mappings: what sort each is, what it is taken for, and what it is.
    """

    name: str
    evidence: str
    unknown: str
    mappings: int
    disagreements: list[Disagreement] = field(default_factory=list)
    conventions: Counts = field(default_factory=dict)
    guesses: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def predictions(self) -> int:
        """Mappings times filters."""
        return self.mappings * len(ALL_FILTERS)

    @property
    def wrong(self) -> int:
        """Predictions that are not the kernel's size."""
        return sum(len(case.lost) + len(case.extra) for case in self.disagreements)

    @property
    def share(self) -> float:
        """The share of all predictions that are the kernel's size."""
        return 1 - self.wrong / self.predictions

    @property
    def share_of_dumped(self) -> float:
        """The same over those filters only that the kernel dumped under."""
        wrong = sum(value in case.lost or value in case.extra for case in self.disagreements for value in DUMPED)
        return 1 - wrong / (self.mappings * len(DUMPED))

    @property
    def lost(self) -> int:
        """Bytes that the kernel keeps and corefilt does not, over all predictions."""
        return sum(sum(case.lost.values()) for case in self.disagreements)

    @property
    def counted(self) -> int:
        """Those of the lost bytes that the summaries count as dropped on a convention."""
        return sum(sum(case.counted.values()) for case in self.disagreements)

    @property
    def extra(self) -> int:
        """Bytes that corefilt keeps and the kernel does not, over all predictions."""
        return sum(sum(case.extra.values()) for case in self.disagreements)

    def describe(self) -> str:
        """Name every disagreement."""
        return "\n".join(line for case in self.disagreements for line in case.lines())


def without_copies(smaps: str) -> set[int]:
    """Return where the mappings begin that could be written to once (ac), and of which no page is a copy now."""
    found: set[int] = set()
    start, copies = 0, 0
    for line in smaps.splitlines():
        name, _, rest = line.partition(":")
        if name in ("Anonymous", "SwapPss"):
            copies += int(rest.split()[0])
        elif name == "VmFlags":
            if not copies and "ac" in rest.split():
                found.add(start)
        elif "-" in name.split(" ")[0]:
            start, copies = int(name.split("-")[0], 16), 0
    return found


def compare(visited: Visit, evidence: str, found: list[Classification], unknown: str = "keep") -> Agreement:
    """Hold corefilt's sizes under all filters against the kernel's, and count the conventions."""
    sizes = load_sizes(visited.twins[FULL])
    starts = [phdr.p_vaddr for phdr in visited.twins[FULL].phdrs if phdr.p_type == 1]
    by_bit = {bit: load_sizes(visited.twins[bit]) for bit in (0, *SINGLE_BITS)}
    gone = without_copies(visited.smaps.read_text(errors="surrogateescape"))
    assert len(found) == len(starts) == len(sizes)
    result = Agreement(visited.name, evidence, unknown, len(found))
    for start, present, finding, *kept in zip(starts, sizes, found, *by_bit.values(), strict=True):
        kernel = dict(zip(by_bit, kept, strict=True))
        label = visited.labels.get(start, f"{start:#x}")
        count(result.conventions, evidence, f"{visited.name}: {label}", finding, kernel, present)
        if finding.certainty == "assumed" and present:
            result.guesses.append((place(label), finding.kind, true_name(kernel, present, finding)))
        case = finding.possible, finding.proven, finding.likely, unknown, present, tuple(kept)
        lost, counted, extra, unreported = differences(*case)
        if lost or extra:
            result.disagreements.append(
                Disagreement(
                    start, label, present, kernel, finding, lost, counted, extra, unreported, copies_gone=start in gone
                )
            )
    return result


@cache
def differences(
    possible: int, proven: int, likely: int, unknown: str, present: int, kernel: tuple[int, ...]
) -> tuple[dict[int, int], dict[int, int], dict[int, int], list[int]]:
    """Return by filter the bytes lost, those of them counted, and the bytes extra, and filters of unreported extra.

    ``kernel`` is what the kernel keeps without any bit, and under every single one; of several, it keeps the most.
    What no assumption decided is not reported as ambiguous.
    """
    lost: dict[int, int] = {}
    counted: dict[int, int] = {}
    extra: dict[int, int] = {}
    unreported: list[int] = []
    for value, levels in zip(ALL_FILTERS, all_levels(possible, proven, likely), strict=True):
        theirs = max(size for bit, size in zip((0, *SINGLE_BITS), kernel, strict=True) if bit & value == bit)
        least, guess, most, undisproved = (kept_bytes(level, present, PAGE) for level in levels)
        mine = {"keep": most, "guess": guess}[unknown]
        if mine < theirs:
            lost[value] = theirs - mine
            if undisproved > most:
                counted[value] = min(undisproved, theirs) - most
        elif mine > theirs:
            extra[value] = mine - theirs
            if least > theirs:
                unreported.append(value)
    return lost, counted, extra, unreported


@cache
def all_levels(possible: int, proven: int, likely: int) -> list[tuple[int, int, int, int]]:
    """Return what each of the 512 filters keeps at least, likely, at most, and if no convention holds."""
    finding = Classification(possible, proven, likely, "", (), 0)
    wanted = [corefilt.CoredumpFilter(value) for value in ALL_FILTERS]
    return [(*finding.levels(each), finding.undisproved(each)) for each in wanted]


def study(visited: Visit, policies: tuple[str, ...] = ("keep",)) -> list[Agreement]:
    """Compare all kinds of evidence; the template must be alive."""
    found = {evidence: findings(visited, evidence) for evidence in EVIDENCE}
    return [compare(visited, evidence, found[evidence], unknown) for unknown in policies for evidence in EVIDENCE]
