"""Answers: what do the identity and the signature of a core cost.

The core is one that the kernel writes of a Python that aborts, with its default filter, so that call frame information
comes from the files. It is measured in one process, warm, as in a batch. The targets are CPU times.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import BenchError
from bench.options import Options
from bench.report import Results

QUESTION = "What do the identity of a core and the signature of its crash cost?"

TARGET_MEDIAN, TARGET_WORST, TARGET_CPU = 0.005, 0.050, 15.0
_ROUNDS = 200
# Cores of an archive, 6 MiB each, and runs with and without.
_CORES, _PAIRS = 100, 3


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Tell median and worst, and the CPU time that 1,000 cores would take."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        core = crash_of_python(Path(name), "import os; os.abort()")
        tell(f"{_ROUNDS} signatures of one core")
        seconds, used = _measured(core)
        tell(f"a batch of {_CORES} cores, with and without signatures, {_PAIRS} times each")
        more = _more_of_a_batch(core, Path(name) / "archive")
    median, worst = statistics.median(seconds), max(seconds)
    results.remarks += [
        f"identity and signature of a core, CPU: {median * 1000:.1f} ms ({min(seconds) * 1000:.1f}-{worst * 1000:.1f})"
        f", target {TARGET_MEDIAN * 1000:.0f} ms: {told(median <= TARGET_MEDIAN)}, worst {TARGET_WORST * 1000:.0f} ms: "
        f"{told(worst <= TARGET_WORST)}",
        f"CPU time for 1,000 cores: {used * 1000:.1f} s, target {TARGET_CPU:.0f} s: {told(used * 1000 <= TARGET_CPU)}",
        f"CPU time that --by-signature adds to 1,000 cores of a batch: {more * 1000:.1f} s (median of {_PAIRS} pairs "
        f"with {_CORES}), target {TARGET_CPU:.0f} s: {told(more * 1000 <= TARGET_CPU)}",
    ]
    return results


def told(met: bool) -> str:
    """The word for a target."""
    return "met" if met else "not met"


def crash_of_python(folder: Path, code: str) -> Path:
    """The core of a Python that runs some code and aborts. Raises BenchError."""

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    subprocess.run([sys.executable, "-c", code], cwd=folder, preexec_fn=unlimited, check=False, timeout=120)
    found = [folder / name for name in os.listdir(folder) if name.startswith("core")]
    if not found:
        raise BenchError("a process that aborted left no core here (ulimit -c, kernel.core_pattern)")
    return found[0]


def _measured(core: Path) -> tuple[list[float], float]:
    """The CPU time of every round in seconds, and the mean."""
    rounds = Path(__file__).with_name("withsignatures.py")
    # Elsewhere, and without this folder in the path: the package that is installed, not its sources.
    done = subprocess.run(
        [sys.executable, "-P", rounds, core, str(_ROUNDS)], cwd=core.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"the signatures failed: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout)
    return found["seconds"], found["cpu"]


def _more_of_a_batch(core: Path, archive: Path) -> float:
    """The CPU time that a core adds, in seconds."""
    archive.mkdir()
    for n in range(_CORES):
        shutil.copy(core, archive / f"core.{n}")
    differences = []
    for _ in range(_PAIRS):
        without, with_them = _batch(archive), _batch(archive, "--by-signature")
        differences.append((with_them - without) / _CORES)
    return statistics.median(differences)


def _batch(archive: Path, *options: str) -> float:
    """The CPU time of a dry run, in seconds."""
    command = [sys.executable, "-P", "-m", "corefilt", "batch", "default", archive, "-n", "-q", "--jobs", "1", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=archive.parent, capture_output=True, check=False)
    if done.returncode:
        raise BenchError(f"the batch failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
