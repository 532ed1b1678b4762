"""Answers: how long does --minimal take of a large JVM, whose stacks it walks.

The core is one that the kernel writes of a JVM with some hundred threads that is killed. What is counted is the CPU
time of a whole command, without waiting for the disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import BenchError
from bench.options import Options
from bench.report import Results

QUESTION = "How long does --minimal take of a JVM with 100 threads and a heap of 1.5 GiB?"

TARGET = 1.0
_PROGRAM = Path(__file__).parents[1] / "tests/kernel/programs_src/Stacks.java"
# Threads, their depth, MiB of the heap; with --quick fewer MiB.
_THREADS, _DEPTH, _HEAP, _QUICK_HEAP = 95, 90, 1400, 200


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Tell the CPU time, and what became of the core."""
    results = Results()
    if not shutil.which("java"):
        results.remarks.append("no java in PATH: not measured")
        return results
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        tell("a JVM that is killed")
        core = _killed(Path(name), _QUICK_HEAP if options.quick else _HEAP)
        seconds, said = [], ""
        for _ in range(options.runs):
            used, said = _minimal(options.corefilt, core)
            seconds.append(used)
        median, size = statistics.median(seconds), core.stat().st_size
        small = core.with_name("small").stat().st_size
    results.remarks += [
        f"{said}; {size / (1 << 30):.2f} GiB became {small / (1 << 20):.1f} MiB",
        f"CPU time: {median:.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), target {TARGET:.0f} s: "
        f"{'met' if median <= TARGET else 'not met'}",
    ]
    return results


def _killed(folder: Path, heap: int) -> Path:
    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    command = ["java", "-Xmx2g", "-XX:-UsePerfData", f"-XX:ErrorFile={os.devnull}", str(_PROGRAM)]
    with subprocess.Popen(
        [*command, str(_THREADS), str(_DEPTH), str(heap), "wait"], cwd=folder, preexec_fn=unlimited,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            raise BenchError("the JVM did not become ready")
        process.send_signal(signal.SIGABRT)
        process.wait(120)
    found = [folder / name for name in os.listdir(folder) if name.startswith("core")]
    if not found:
        raise BenchError("a JVM that was killed left no core here (ulimit -c, kernel.core_pattern)")
    return found[0]


def _minimal(corefilt: tuple[str, ...], core: Path) -> tuple[float, str]:
    """The CPU time of one run in seconds, and what it says of the runtime."""
    command = [*corefilt, "all", str(core), "-o", str(core.with_name("small")), "-f", "--minimal", "--no-sync"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, "--sysroot", "/"], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = next((line.strip() for line in done.stderr.splitlines() if "runtime:" in line), None)
    if done.returncode or line is None:
        raise BenchError(f"corefilt --minimal failed: {done.stderr.strip().splitlines()[-1:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, line
