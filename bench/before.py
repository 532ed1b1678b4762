"""Answers: does this corefilt take more CPU time than another installed one, such as the commit before.

Both run in turn, in an order that changes with every pair, on a tiny core and on one of 200,000 segments, from a file
and from a pipe. CPU seconds are those of all processes of a run (wait4), which other programs on the machine disturb
less than wall time. The ratio is that of the sums over all pairs; its interval holds 95 % of 2,000 resamplings of the
pairs. A row is slower where the whole interval lies above the target.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import cores, segments
from bench.measure import BenchError, bytecode_in
from bench.options import Options
from bench.report import Results

QUESTION = "Does it take more CPU time than another installed corefilt (--before COMMAND)?"

TARGET = 1.03
LEAST_PAIRS = 31
SEGMENTS = 200_000
_FILTER, _TINY = "0x33", 1 << 20
_RESAMPLINGS = 2000
_INPUT_OF_PIPE = 'cat "$0" | "$@" >/dev/null'


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run every work in pairs and tell the ratios."""
    results = Results()
    if options.before is None:
        results.remarks.append("left out: needs --before COMMAND, another corefilt")
        return results
    pairs = max(options.runs, LEAST_PAIRS)
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        folder = Path(name)
        tiny, many, out = folder / "tiny", folder / "many", folder / "out"
        cores.plan_core(_TINY).write(tiny, 0x1FF)
        segments.write(many, SEGMENTS)
        for work, core in (("tiny core", tiny), (f"{SEGMENTS:,} segments", many)):
            for way in ("file to file", "pipe to pipe", "dry run"):
                tell(f"{work}, {way}")
                sides = []
                for number, command in enumerate((options.corefilt, options.before)):
                    with bytecode_in(folder / f"bytecode{number}"):
                        sides.append((command, {**os.environ, "LC_ALL": "C"}))
                found = paired([(_argv(command, way, core, out), env) for command, env in sides], pairs)
                results.remarks.append(f"{work}, {way}: {verdict(found)}")
    return results


def _argv(command: Sequence[str], way: str, core: Path, out: Path) -> list[str]:
    if way == "pipe to pipe":
        return ["sh", "-c", _INPUT_OF_PIPE, str(core), *command, _FILTER, "-q"]
    where = ["-n"] if way == "dry run" else ["-o", str(out), "-f", "--no-sync", "-q"]
    return [*command, _FILTER, str(core), *where]


def paired(sides: Sequence[tuple[list[str], dict[str, str]]], pairs: int) -> list[tuple[float, float]]:
    """Run both sides in turn, ``pairs`` times after one run that does not count; their CPU seconds."""
    found = []
    for number in range(-1, pairs):
        order = (0, 1) if number % 2 else (1, 0)
        seconds = {side: cpu_seconds(*sides[side]) for side in order}
        if number >= 0:
            found.append((seconds[0], seconds[1]))
    return found


def cpu_seconds(argv: list[str], env: dict[str, str]) -> float:
    """Run a command to its end; the CPU seconds of it and of all that it waited for. Raises BenchError."""
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process, process.stderr as told:  # type: ignore[union-attr]
        said = told.read(1 << 16)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"exit code {process.returncode} from {' '.join(argv)}: {said.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime


def interval(found: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The ratio of the sums, and the bounds of its 95 % interval by resampling the pairs."""
    chance = random.Random(1)
    ratios = sorted(_ratio(chance.choices(found, k=len(found))) for _ in range(_RESAMPLINGS))
    return _ratio(found), ratios[_RESAMPLINGS // 40], ratios[-_RESAMPLINGS // 40 - 1]


def _ratio(found: Sequence[tuple[float, float]]) -> float:
    return sum(ours for ours, _ in found) / sum(theirs for _, theirs in found)


def verdict(found: Sequence[tuple[float, float]]) -> str:
    """One line: the ratio, its interval, both medians, and whether it is slower."""
    ratio, low, high = interval(found)
    ours, theirs = (statistics.median(side) for side in zip(*found, strict=True))
    answer = "slower" if low > TARGET else "not slower"
    return f"{ratio:.3f} ({low:.3f}-{high:.3f}), {ours:.4f} s and {theirs:.4f} s of CPU, {len(found)} pairs: {answer}"
