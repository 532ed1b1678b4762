"""The tables of docs/evidence.md: agreement, what was lost, what is extra and why, and the conventions' counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from kernel.comparing import ANNOTATED, CORE, EVIDENCE, Agreement, Disagreement, place
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
    """One row per process, one column per kind of evidence, and one for guessing with the core alone."""
    cells = {(result.name, result.unknown, result.evidence): percent(result.share) for result in results}
    rows = [["process", *EVIDENCE, f"{CORE}, guess"]]
    for name in dict.fromkeys(result.name for result in results):
        guessed = cells.get((name, "guess", CORE), "-")
        rows.append([name, *(cells[name, "keep", evidence] for evidence in EVIDENCE), guessed])
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
                result.name,
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


def guesses(results: Iterable[Agreement], evidence: str = CORE) -> list[str]:
    """One row per sort of mapping that the core alone leaves ambiguous: what guessing takes it for, and what it is."""
    taken: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results:
        if (result.evidence, result.unknown) == (evidence, "guess"):
            for where, guess, truth in result.guesses:
                taken[where, guess][truth] += 1
    rows = [["mapping", "guessed", "right", "wrong"]]
    for (where, guess), truths in sorted(taken.items(), key=lambda each: (-each[1].total(), each[0])):
        wrong = ", ".join(f"{count} {truth}" for truth, count in truths.most_common() if truth != guess)
        rows.append([where, guess, str(truths[guess]), wrong or "0"])
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
