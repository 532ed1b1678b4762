"""Answers: how fast is a core filtered in place, beside punching the same ranges and nothing else.

Half of a core, in 1, 16 and 2,000 ranges, is dropped with ``-i`` beside a C program that punches the same ranges
in one process, and, where they are few, beside ``fallocate --punch-hole`` run once a range. What does not wait
for the disk stands beside what does not. Every run begins with a fresh copy of the core, on the disk and in the
page cache, and making that is not timed.

It changes nothing on the machine, and writes only into a folder of its own under ``--dir``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench import rivals
from bench.cores import KEPT, PAGE, Core, Segment, plan_core
from bench.figures import SAME, Comparison
from bench.measure import BenchError, Contestant, Pipeline, bytecode_in, run, warm
from bench.options import Options
from bench.places import temporary_place
from bench.report import Results

QUESTION = "How fast is a core filtered in place, beside bare fallocate --punch-hole?"

TARGET = 1.1
"""Of punching the same ranges."""
RANGES = (1, 16, 2000)
FEW = 16
_SOURCE = Path(__file__).with_name("punch.c")


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows; ``tell`` hears what is going on."""
    results = Results()
    with temporary_place(options.folder, options.size) as place, bytecode_in(place.folder / "bytecode"):
        programs = rivals.prepare(options.corefilt, options.engine, place.folder)
        results.file_systems.append(place.file_system)
        punch = _build(place.folder)
        for count in RANGES:
            tell(f"in place, {count} ranges")
            core, work, listed = (place.folder / name for name in ("core", "work", "ranges"))
            plan = _plan(options.size, count)
            plan.write(core, KEPT[100])
            dropped = _dropped(plan)
            listed.write_text("".join(f"{offset} {length}\n" for offset, length in dropped))
            ours = (*programs.command, hex(KEPT[50]), str(work), "-i", "-q")
            hasty = (*ours, "--no-sync")
            rows = [
                ("", ours, "punch && sync", (Pipeline(((str(punch), str(work), "sync"),), listed),)),
                (" --no-sync", hasty, "punch", (Pipeline(((str(punch), str(work)),), listed),)),
            ]
            if count <= FEW:
                rows.append((" --no-sync", hasty, "fallocate", _fallocate(work, dropped)))
            _compare(results, options, place.file_system, core, work, count, dropped, rows)
            core.unlink()
            work.unlink()
    return results


def _compare(
    results: Results,
    options: Options,
    on: str,
    core: Path,
    work: Path,
    count: int,
    dropped: list[tuple[int, int]],
    rows: list[tuple[str, tuple[str, ...], str, tuple[Pipeline, ...]]],
) -> None:
    for what, argv, rival, steps in rows:
        sides = (Contestant("corefilt", (Pipeline((argv,)),)), Contestant(rival, steps))
        seconds: tuple[list[float], list[float]] = ([], [])
        freed = []
        try:
            for turn in range(options.runs):
                for side in (0, 1) if turn % 2 else (1, 0):
                    _fresh(core, work)
                    seconds[side].append(run(sides[side])[0])
                    freed.append(work.stat().st_blocks)
        except BenchError as error:
            results.failures.append(f"in place{what}, {count} ranges beside {rival}: {error}")
            continue
        outcome = SAME if len(set(freed)) == 1 else f"{len(set(freed))} allocations"
        work_name = f"in place{what}, {count} range{'s' * (count > 1)}"
        times = tuple(seconds[0]), tuple(seconds[1])
        moved = sum(length for _, length in dropped)
        results.comparisons.append(Comparison(work_name, 50, on, rival, *times, moved, TARGET, outcome))


def _fresh(core: Path, work: Path) -> None:
    subprocess.run(["cp", "--reflink=never", core, work], check=True)
    with work.open("rb") as file:
        os.fsync(file.fileno())
    warm(work)


def _fallocate(work: Path, dropped: list[tuple[int, int]]) -> tuple[Pipeline, ...]:
    """Return fallocate(1) for one range after the other, in one shell."""
    calls = (f"fallocate --punch-hole --offset {at} --length {n} {shlex.quote(str(work))}" for at, n in dropped)
    return (Pipeline((("sh", "-ec", "\n".join(calls)),)),)


def _plan(size: int, count: int) -> Core:
    """Lay out a core of which every second mapping, ``count`` in all, is dropped."""
    length = max(size // (2 * count) // PAGE, 1) * PAGE
    first = plan_core(PAGE)
    start = first.segments[0].p_vaddr
    return Core(tuple(Segment(start + n * (length + PAGE), length, n % 2 == 1) for n in range(2 * count)), first.block)


def _dropped(plan: Core) -> list[tuple[int, int]]:
    found, at = [], plan.data_start
    for segment in plan.segments:
        if not segment.dumped(KEPT[50]):
            found.append((at, segment.p_memsz))
        at += segment.p_memsz
    return found


def _build(folder: Path) -> Path:
    built = folder / "punch"
    command = [*shlex.split(os.environ.get("CC", "cc")), "-O2", "-o", str(built), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the C program cannot be built (set CC): {done.stderr.strip()}")
    return built
