"""How often corefilt keeps what the kernel keeps: every mapping, every filter, every kind of evidence.

    COREFILT_TEST_SYSTEM=1 PYTHONSAFEPATH=1 PYTHONPATH=tests python -m kernel.agreement [-v] [PROGRAM...]

prints the tables of docs/evidence.md. As root, it starts servers, reserves huge pages and asks a package index for one
wheel; it names what it cannot start. Exits 1 if a program misses one of the bars: no byte lost, and with smaps or
--pid every mapping as the kernel has it, but for what no such evidence holds.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

from kernel.catalogue import PROGRAMS, visits
from kernel.comparing import ANNOTATED, PID, SMAPS, Agreement, Disagreement, study
from kernel.dumps import compile_zoo, dumping
from kernel.programs import ALL_FILTERS, CannotStartError, HarmedError, compile_forker, open_folder, visit_zoo
from kernel.tables import causes, conventions, details, guesses, losses, size, summary, table

ZOO = "zoo"
POLICIES = ("guess", "keep")


def all_results(wanted: list[str], missed: dict[str, str], harmed: list[str]) -> Iterator[Agreement]:
    """Visit every program and the zoo; note what cannot be started, and what did not survive its visit."""
    with open_folder() as folder:
        forker = compile_forker(folder)
        for name in wanted:
            print(f"visiting {name}", file=sys.stderr, flush=True)
            try:
                if name == ZOO:
                    with visit_zoo(compile_zoo(folder), forker, folder / "zoo-dumps") as visited:
                        yield from study(visited, POLICIES)
                    continue
                with visits(name, forker, folder) as each:
                    for visited in each:
                        yield from study(visited, POLICIES)
                        visited.clear()
            except CannotStartError as error:
                missed[name] = str(error)
            except HarmedError as error:
                harmed.append(f"{name}: {error}")


def below_the_bars(results: list[Agreement]) -> Iterator[str]:
    """Name what a program must not show: lost bytes, and with the process's own evidence anything but the kernel's."""
    open_with_pid = {
        (result.name, case.start) for result in results if result.evidence == PID for case in result.disagreements
    }
    for result in results:
        if result.lost:
            yield f"{result.name}, {result.evidence}: lost {size(result.lost)}, of it counted {size(result.counted)}"
        for case in result.disagreements if result.evidence in (PID, ANNOTATED, SMAPS) else ():
            unsettled = (result.name, case.start) in open_with_pid
            if case.unreported or not cause_of(result.evidence, case, unsettled=unsettled):
                yield f"{result.name}, {result.evidence}: {case.label}: {case.truth}, kept as {case.beyond or 'less'}"


def cause_of(evidence: str, case: Disagreement, *, unsettled: bool) -> str:
    """Say what the evidence does not hold that would settle a mapping; nothing where it could have.

    Nothing outside the kernel shows whether a page was copied whose copies are gone (MADV_DONTNEED, splits). A saved
    smaps has neither the mode of a file nor the number of its links, which ``--pid`` asks for: what that leaves
    ``unsettled`` has another cause.
    """
    if case.beyond == "private-file-written":
        return "whether its copies are gone" if case.copies_gone else ""
    if evidence != SMAPS or unsettled:
        return ""
    if case.beyond == "with a header page":
        return "the mode of its file"
    return "other links of its file" if case.beyond == "shared-file-backed" and "(deleted)" in case.label else ""


def left_open(results: list[Agreement]) -> list[str]:
    """One row per cause for which smaps or --pid leave a mapping open, and bytes of it are kept beyond the kernel's."""
    groups: dict[tuple[str, str], list[tuple[str, Disagreement]]] = {}
    for result in results:
        for case in result.disagreements if result.evidence in (PID, SMAPS) else ():
            # What names a cause here and is open with --pid too, is named by below_the_bars.
            cause = cause_of(result.evidence, case, unsettled=False) or "none of these"
            groups.setdefault((result.evidence, cause), []).append((result.name, case))
    rows = [["evidence", "missing fact", "mappings", "bytes at most", "processes"]]
    for (evidence, cause), cases in groups.items():
        names = list(dict.fromkeys(name for name, _ in cases))
        most = size(sum(case.most_extra for _, case in cases))
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        rows.append([evidence, cause, str(len(cases)), most, f"{len(names)}: {shown}"])
    return table(rows)


def print_tables(results: list[Agreement], *, verbose: bool) -> None:
    """Print all tables, and where asked to every mapping that disagrees."""
    kept = [result for result in results if result.unknown == "keep"]
    programs = [result for result in kept if result.name != ZOO]
    guessed = [result for result in results if result.unknown == "guess" and result.name != ZOO]
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {len(ALL_FILTERS)} filters.", end="\n\n")
    for title, lines in (
        ("Agreement", summary(results)),
        ("Where they differ, with --unknown keep", details(kept)),
        ("Bytes lost by programs", losses(programs)),
        (
            "What programs keep beyond the kernel's with their own evidence, by what it does not hold",
            left_open(programs),
        ),
        ("Bytes that programs keep beyond the kernel's, with the core alone, by cause", causes(programs)),
        (
            "Ambiguous mappings of programs, with the core alone: what --unknown guess takes them for",
            guesses(guessed),
        ),
        ("Conventions over the programs: mappings that agree / that break it", conventions(programs)),
    ):
        print(f"{title}:\n", *lines, "", sep="\n")
    if verbose:
        for result in kept:
            for (name, _), each in result.conventions.items():
                for label, _ in each.broken:
                    print(f"breaks {name}, {result.evidence}: {label}")
            if result.disagreements:
                print(f"\n== {result.name}, {result.evidence}, --unknown {result.unknown}\n{result.describe()}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kernel.agreement", description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="name every mapping that disagrees")
    parser.add_argument("program", nargs="*", help=f"some of {', '.join([*PROGRAMS, ZOO])}; all of them otherwise")
    options = parser.parse_args()
    with dumping() as reason:
        pass
    if reason:
        print(reason, file=sys.stderr)
        return 1
    missed: dict[str, str] = {}
    harmed: list[str] = []
    results = list(all_results(options.program or [*PROGRAMS, ZOO], missed, harmed))
    print_tables(results, verbose=options.verbose)
    for name, why in missed.items():
        print(f"not visited: {name}: {why}", file=sys.stderr)
    broken = list(below_the_bars([result for result in results if result.name != ZOO and result.unknown == "keep"]))
    for line in harmed:
        print(f"did not survive: {line}", file=sys.stderr)
    for line in broken:
        print(f"below the bar: {line}", file=sys.stderr)
    return 1 if broken or harmed else 0


if __name__ == "__main__":
    sys.exit(main())
