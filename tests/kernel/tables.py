"""The tables of docs/evidence.md: agreement, what was lost, what is extra and why, and the conventions' counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from kernel.comparing import ANNOTATED, CORE, EVIDENCE, Agreement, Disagreement
from kernel.conventions import CONVENTIONS, merge


def percent(share: float) -> str:
    """Round towards less, so that 100 means all."""
    return f"{int(share * 10000) / 100:.2f} %"


def size(count: float) -> str:
    """Give bytes in the largest unit that leaves a whole part."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}"


def table(rows: list[list[str]]) -> list[str]:
    """Give a table as Markdown."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{'---|' * len(rows[0])}", *body]


def summary(results: list[Agreement]) -> list[str]:
    """One row per process and policy, one column per kind of evidence."""
    cells = {(result.name, result.unknown, result.evidence): percent(result.share) for result in results}
    names = dict.fromkeys((result.name, result.unknown) for result in results)
    rows = [["process", *EVIDENCE]]
    for name, unknown in names:
        shown = f"{name}, {unknown}" if (name, "guess") in names else name
        rows.append([shown, *(cells[name, unknown, evidence] for evidence in EVIDENCE)])
    return table(rows)


def details(results: list[Agreement]) -> list[str]:
    """One row per process and kind of evidence that does not agree everywhere."""
    head = ["process", "evidence", "mappings", "agree", "of those dumped", "lost", "of it counted", "extra"]
    rows = [[*head, "not reported", "most wrong"]]
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
                size(result.counted),
                size(result.extra),
                str(sum(len(case.unreported) for case in result.disagreements)),
                f"{len(worst)}: " + ", ".join(f"{label} ({count})" for label, count in worst.most_common(2)),
            ]
        )
    return table(rows)


def losses(results: list[Agreement]) -> list[str]:
    """One row per mapping that loses bytes."""
    rows = [["process", "evidence", "mapping", "kernel's kind", "corefilt's", "lost", "counted as inferred"]]
    for result in results:
        for case in result.disagreements:
            if case.lost:
                worst = max(case.lost, key=case.lost.__getitem__)
                row = [result.name, result.evidence, f"`{case.label}`", case.truth, case.finding.kind]
                rows.append([*row, f"{size(case.lost[worst])} under {worst:#x}", size(case.counted.get(worst, 0))])
    return table(rows)


def place(label: str) -> str:
    """Say what sort of mapping it is, by its line in maps."""
    fields = label.split(maxsplit=3)
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


def causes(results: Iterable[Agreement], evidence: str = CORE) -> list[str]:
    """One row per cause of bytes that the core alone keeps beyond the kernel's."""
    groups: dict[tuple[str, str, str], list[tuple[str, Disagreement]]] = defaultdict(list)
    for result in results:
        if result.evidence == evidence:
            for case in result.disagreements:
                if case.extra:
                    groups[place(case.label), case.truth, case.beyond].append((result.name, case))
    rows = [["mapping", "is", "could also be", "mappings", "bytes at most", "of them reported", "processes"]]
    for (where, truth, beyond), cases in sorted(
        groups.items(), key=lambda each: -sum(c.most_extra for _, c in each[1])
    ):
        names = Counter(name for name, _ in cases)
        reported = sum(case.most_extra for _, case in cases if not case.unreported)
        most = sum(case.most_extra for _, case in cases)
        shown = ", ".join(name for name, _ in names.most_common(3)) + (", ..." if len(names) > 3 else "")
        rows.append([where, truth, beyond, str(len(cases)), size(most), size(reported), f"{len(names)}: {shown}"])
    return table(rows)


def conventions(results: Iterable[Agreement]) -> list[str]:
    """One row per convention: mappings that agree with it, and that break it, by the evidence that there is."""
    counts = merge(result.conventions for result in results)
    shown = [evidence for evidence in EVIDENCE if evidence != ANNOTATED]
    rows = [["convention", "means", *shown, "lost at most"]]
    unmet = []
    for convention in CONVENTIONS:
        by_evidence = [counts.get((convention.name, evidence)) for evidence in shown]
        if not any(by_evidence):
            unmet.append(convention.name)
            continue
        cells = [f"{each.agree} / {len(each.broken)}" if each else "-" for each in by_evidence]
        lost = max((each.lost for each in by_evidence if each), default=0)
        rows.append([f"`{convention.name}`", convention.words, *cells, size(lost)])
    return [*table(rows), "", f"No mapping depended on: {', '.join(unmet) or 'none'}."]
