"""How often corefilt keeps what the kernel keeps: every mapping, every filter, every kind of evidence.

    PYTHONPATH=tests python -m kernel.agreement [-v] [PROGRAM...]

prints a table for the documentation. With COREFILT_TEST_SYSTEM=1, and as root, it starts servers and reserves
huge pages; what it cannot start, it names.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from kernel.catalogue import PROGRAMS, visits
from kernel.dumps import FILTERS, FULL, PAGE, compile_zoo, why_no_cores
from kernel.programs import (
    ALL_FILTERS,
    SINGLE_BITS,
    CannotStartError,
    Visit,
    compile_forker,
    load_sizes,
    open_folder,
    visit_zoo,
)

import corefilt
from corefilt.kinds import Finding
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


def findings(visited: Visit, evidence: str) -> list[Finding]:
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
    with corefilt.open(path) as core:
        if evidence == PIPE:
            rules = core.rules(with_payload=False)
            return [rules.decide(m) for m in range(len(core.maps))]
        return core.plan(FULL, **options).findings


@dataclass(frozen=True)
class Disagreement:
    """One mapping of which corefilt keeps another number of bytes than the kernel, and under which filters.

    ``unreported`` are the filters of ``extra`` under which corefilt did not say that it was undecided.
    """

    start: int
    label: str
    kernel: dict[int, int]
    finding: Finding
    lost: dict[int, int]
    extra: dict[int, int]
    unreported: list[int]

    @property
    def most_lost(self) -> int:
        """The most bytes that are lost under any filter."""
        return max(self.lost.values(), default=0)

    def lines(self) -> Iterator[str]:
        """Give all that is known, for people."""
        kept = ", ".join(f"{bit:#x}: {size}" for bit, size in self.kernel.items() if size)
        yield self.label
        yield f"    kernel keeps {kept or 'nothing'} bytes"
        others = ", ".join(self.finding.others()) or "nothing else"
        yield f"    corefilt: {self.finding.certainty} {self.finding.kind} (or {others}): "
        yield f"        {'; '.join(self.finding.evidence)}"
        for what, sizes in (("lost", self.lost), ("extra", self.extra)):
            if sizes:
                yield f"    {what} under {len(sizes)} filters: {' '.join(f'{value:#x}' for value in list(sizes)[:8])}"
        if self.unreported:
            yield f"    not reported as undecided under {len(self.unreported)} of them"


@dataclass
class Agreement:
    """How corefilt's sizes compare with the kernel's for one process, one kind of evidence and one policy."""

    name: str
    evidence: str
    unknown: str
    mappings: int
    disagreements: list[Disagreement] = field(default_factory=list)

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
    def extra(self) -> int:
        """Bytes that corefilt keeps and the kernel does not, over all predictions."""
        return sum(sum(case.extra.values()) for case in self.disagreements)

    def describe(self) -> str:
        """Name every disagreement."""
        return "\n".join(line for case in self.disagreements for line in case.lines())


def compare(visited: Visit, evidence: str, found: list[Finding], unknown: str = "keep") -> Agreement:
    """Hold corefilt's sizes under all filters against the kernel's."""
    present = load_sizes(visited.twins[FULL])
    starts = [phdr.p_vaddr for phdr in visited.twins[FULL].phdrs if phdr.p_type == 1]
    by_bit = {bit: load_sizes(visited.twins[bit]) for bit in (0, *SINGLE_BITS)}
    assert len(found) == len(starts) == len(present)
    result = Agreement(visited.name, evidence, unknown, len(found))
    for m, finding in enumerate(found):
        kernel = {bit: sizes[m] for bit, sizes in by_bit.items()}
        case = finding.possible, finding.likely, unknown, present[m], tuple(kernel.values())
        lost, extra, unreported = differences(*case)
        if lost or extra:
            label = visited.labels.get(starts[m], f"{starts[m]:#x}")
            result.disagreements.append(Disagreement(starts[m], label, kernel, finding, lost, extra, unreported))
    return result


@cache
def differences(
    possible: int, likely: int, unknown: str, present: int, kernel: tuple[int, ...]
) -> tuple[dict[int, int], dict[int, int], list[int]]:
    """Return bytes lost and bytes extra by filter, and the filters whose extra bytes no assumption decided.

    ``kernel`` is what the kernel keeps without any bit, and under every single one; of several, it keeps the most.
    """
    lost: dict[int, int] = {}
    extra: dict[int, int] = {}
    unreported: list[int] = []
    for value, levels in zip(ALL_FILTERS, all_levels(possible, likely), strict=True):
        theirs = max(size for bit, size in zip((0, *SINGLE_BITS), kernel, strict=True) if bit & value == bit)
        least, guess, most = (kept_bytes(level, present, PAGE) for level in levels)
        mine = {"keep": most, "guess": guess}[unknown]
        if mine < theirs:
            lost[value] = theirs - mine
        elif mine > theirs:
            extra[value] = mine - theirs
            if least > theirs:
                unreported.append(value)
    return lost, extra, unreported


@cache
def all_levels(possible: int, likely: int) -> list[tuple[int, int, int]]:
    """Return what each of the 512 filters keeps at least, likely and at most."""
    finding = Finding(possible, possible, likely, "", (), 0)
    return [finding.levels(corefilt.CoredumpFilter(value)) for value in ALL_FILTERS]


def study(visited: Visit, policies: tuple[str, ...] = ("keep",)) -> list[Agreement]:
    """Compare all kinds of evidence; the template must be alive."""
    found = {evidence: findings(visited, evidence) for evidence in EVIDENCE}
    return [compare(visited, evidence, found[evidence], unknown) for unknown in policies for evidence in EVIDENCE]


# ---- the table -------------------------------------------------------------------------------------------


def all_results(wanted: list[str], missed: dict[str, str]) -> Iterator[Agreement]:
    """Visit every program and the zoo; what cannot be started is missed, with its reason."""
    with open_folder() as folder:
        forker = compile_forker(folder)
        for name in wanted:
            if name == "zoo":
                with visit_zoo(compile_zoo(folder), forker, folder / "zoo-dumps") as visited:
                    yield from study(visited, ("guess", "keep"))
                continue
            try:
                with visits(name, forker, folder) as each:
                    for visited in each:
                        yield from study(visited)
            except CannotStartError as error:
                missed[name] = str(error)


def percent(share: float) -> str:
    """Round towards less, so that 100 means all."""
    return f"{int(share * 10000) / 100:.2f} %"


def size(count: int) -> str:
    """Give bytes in the largest unit that leaves a whole part."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}"


def summary(results: list[Agreement]) -> list[str]:
    """One row per kind of evidence, one column per process."""
    columns = list(dict.fromkeys(result.name for result in results if result.name != "zoo"))
    cells = {(result.name, result.evidence, result.unknown): percent(result.share) for result in results}
    rows = [["", *columns]]
    rows += [[evidence, *(cells[column, evidence, "keep"] for column in columns)] for evidence in EVIDENCE]
    if any(result.name == "zoo" for result in results):
        rows[0] += ["zoo, guess", "zoo, keep"]
        for row in rows[1:]:
            row += [cells["zoo", row[0], unknown] for unknown in ("guess", "keep")]
    return table(rows)


def details(results: list[Agreement]) -> list[str]:
    """One row per process and kind of evidence that does not agree everywhere."""
    rows = [
        ["process", "evidence", "mappings", "agree", "of those dumped", "lost", "extra", "not reported", "most wrong"]
    ]
    for result in results:
        if not result.disagreements:
            continue
        worst = Counter({case.label.split("/")[-1]: len(case.lost) + len(case.extra) for case in result.disagreements})
        rows.append(
            [
                f"{result.name}, {result.unknown}",
                result.evidence,
                str(result.mappings),
                percent(result.share),
                percent(result.share_of_dumped),
                size(result.lost),
                size(result.extra),
                str(sum(len(case.unreported) for case in result.disagreements)),
                f"{len(worst)}: " + ", ".join(f"{label} ({count})" for label, count in worst.most_common(2)),
            ]
        )
    return table(rows)


def table(rows: list[list[str]]) -> list[str]:
    """Give a table as Markdown."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{'---|' * len(rows[0])}", *body]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kernel.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="name every mapping that disagrees")
    parser.add_argument("program", nargs="*", help=f"some of {', '.join([*PROGRAMS, 'zoo'])}; all of them otherwise")
    options = parser.parse_args()
    reason = why_no_cores()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    missed: dict[str, str] = {}
    results = list(all_results(options.program or [*PROGRAMS, "zoo"], missed))
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {len(ALL_FILTERS)} filters.", end="\n\n")
    print("\n".join(summary(results)), "\n".join(details(results)), sep="\n\n")
    for name, why in missed.items():
        print(f"not visited: {name}: {why}", file=sys.stderr)
    if options.verbose:
        for result in results:
            if result.disagreements:
                print(f"\n== {result.name}, {result.evidence}, --unknown {result.unknown}\n{result.describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
