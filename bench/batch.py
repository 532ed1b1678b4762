"""Answers: what does a batch over an archive cost, and what memory does each of its jobs take.

Raw cores are beside ``dd`` of the same files to the same device, one after the other, each on the disk before the
next; cores of zstd beside a shell loop of ``zstd -dc | corefilt | zstd``; small cores beside one process that filters
them one by one. Both sides begin with an empty folder.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import before, rivals, small
from bench.cores import KEPT, plan_core
from bench.figures import SAME, Comparison, Memory, Peak
from bench.measure import BenchError, bytecode_in, warm
from bench.options import Options
from bench.places import file_system
from bench.report import Results
from bench.rivals import Programs

QUESTION = "What does a batch over an archive cost, and what memory does each of its jobs take?"

# A rate of at least 0.9 of dd's.
TARGET_RAW = 1 / 0.9
COUNT = 8
# What one job is reckoned with, in bytes (JOB_MEMORY of corefilt.batching.pool).
ALLOWED = 256 << 20
_POLL = 0.002
# Small cores, and what one of them may take, in CPU seconds.
SMALL, SMALL_QUICK = 2240, 560
TARGET_SMALL = 0.004
_ONE_BY_ONE = """
import os, sys, corefilt
source, out = sys.argv[1:]
for name in sorted(os.listdir(source)):
    corefilt.filter(os.path.join(source, name), os.path.join(out, name), filter=0x31, maps="auto", threads=1)
"""


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows."""
    results = Results()
    root = (options.folder or Path(tempfile.gettempdir())).absolute()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=root) as name:
        folder = Path(name)
        results.file_systems.append(file_system(folder))
        core = plan_core(options.size // COUNT)
        (folder / "raw").mkdir()
        (folder / "zstd").mkdir()
        tell(f"writing {COUNT} cores")
        paths = [folder / "raw" / f"core.{i}" for i in range(COUNT)]
        for path in paths:
            core.write(path, KEPT[100])
        with bytecode_in(folder / "bytecode"):
            programs = rivals.prepare(options.corefilt, "auto", folder)
            _raw(folder, paths, core.size(KEPT[100]), programs, options, results, tell)
            if shutil.which("zstd") is None:
                results.missing.append("batch of zstd: zstd is not installed")
            else:
                _packed(folder, paths, core.size(KEPT[50]), programs, options, results, tell)
            _small(folder, programs, options, results, tell)
    return results


def _small(folder: Path, programs: Programs, options: Options, results: Results, tell: Callable[[str], None]) -> None:
    """Tell the CPU seconds of a small core, with one job and in one process that keeps nothing of what it did."""
    count = SMALL_QUICK if options.quick else SMALL
    tell(f"writing {count} small cores")
    source, out = folder / "small", folder / "small-out"
    source.mkdir()
    small.write(source, count)
    sides = {
        "1 job": [*programs.command, "batch", "0x31", str(source), "--to", str(out), "--jobs=1", "-q"],
        "one process": [programs.python, "-P", "-c", _ONE_BY_ONE, str(source), str(out)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, argv in sides.items():
            tell(f"small cores, {name}")
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            seconds[name].append(before.cpu_seconds(argv, dict(os.environ)) / count)
            if len(list(out.iterdir())) != count:
                raise BenchError(f"small cores, {name}: not all were written")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        target = (
            f", target {TARGET_SMALL * 1e3:.1f} ms: {'met' if median <= TARGET_SMALL else 'not met'}"
            if name == "1 job"
            else ""
        )
        results.remarks.append(
            f"{count} small cores, {name}: {median * 1e3:.2f} ms of CPU a core "
            f"({min(taken) * 1e3:.2f}-{max(taken) * 1e3:.2f}){target}"
        )


def _raw(
    folder: Path, paths: Sequence[Path], size: int, programs: Programs, options: Options, results: Results,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Everything is kept, so that both sides write the same bytes."""
    tell("raw cores beside dd")
    ours = (*programs.command, "batch", "all", str(folder / "raw"), "--to", "OUT", "--jobs=2", "--writers=2", "-q")
    copies = (f"dd if={shlex.quote(str(path))} of=OUT/{path.name} bs=1M conv=fsync status=none" for path in paths)
    rival = ("sh", "-ec", "\n".join(copies))
    seconds = _in_turn(folder, [ours, rival], paths, options.runs)
    output = _same(folder / "out-0", folder / "out-1", paths)
    results.comparisons.append(
        Comparison(
            "batch, raw", 100, results.file_systems[0], "dd", tuple(seconds[0]), tuple(seconds[1]), COUNT * size,
            TARGET_RAW, output,
        )
    )  # fmt: skip
    results.peaks.append(_peak("a job, raw", ours, folder, size))


def _packed(
    folder: Path, paths: Sequence[Path], kept: int, programs: Programs, options: Options, results: Results,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    packed = [folder / "zstd" / f"{path.name}.zst" for path in paths]
    for path, target in zip(paths, packed, strict=True):
        subprocess.run(["zstd", "-q", "-3", path, "-o", target], check=True)
        path.unlink()
    one = shlex.join([*programs.command, hex(KEPT[50]), "-q"])
    step = "zstd -dc {} | {} | zstd -q -3 -o OUT/{}; sync OUT/{}"
    steps = (step.format(shlex.quote(str(path)), one, path.name, path.name) for path in packed)
    rival = ("sh", "-ec", "\n".join(steps))
    for jobs in (1, 2):
        tell(f"cores of zstd, {jobs} jobs")
        ours = (
            *programs.command, "batch", hex(KEPT[50]), str(folder / "zstd"), "--to", "OUT", f"--jobs={jobs}", "-q",
        )  # fmt: skip
        seconds = _in_turn(folder, [ours, rival], packed, options.runs)
        output = _same(folder / "out-0", folder / "out-1", packed, unpack=True)
        results.comparisons.append(
            Comparison(
                f"batch, zstd, {jobs} jobs", 50, results.file_systems[0], "zstd -dc | corefilt | zstd",
                tuple(seconds[0]), tuple(seconds[1]), COUNT * kept, None, output,
            )
        )  # fmt: skip
        if jobs == 1:
            results.peaks.append(_peak("a job, zstd", ours, folder, kept))


def _in_turn(folder: Path, sides: Sequence[Sequence[str]], inputs: Sequence[Path], runs: int) -> list[list[float]]:
    """Run both sides by turns, each into an empty folder that takes the place of OUT; the last results stay."""
    seconds: list[list[float]] = [[] for _ in sides]
    order = list(range(len(sides)))
    for _ in range(runs):
        for side in order:
            out = folder / f"out-{side}"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            for path in inputs:
                warm(path)
            seconds[side].append(_timed(_into(sides[side], out)))
        order.reverse()
    return seconds


def _into(argv: Sequence[str], out: Path) -> list[str]:
    return [word.replace("OUT", str(out)) for word in argv]


def _timed(argv: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    taken = time.perf_counter() - began
    if done.returncode:
        raise BenchError(f"exit code {done.returncode} from {' '.join(argv[:6])}: {done.stderr[-300:].decode()}")
    return taken


def _same(ours: Path, theirs: Path, inputs: Sequence[Path], *, unpack: bool = False) -> str:
    """Compare what both sides left; of compressed cores, what is in them."""
    for path in inputs:
        pair = [ours / path.name, theirs / path.name]
        command = "cmp <(zstd -dc $0) <(zstd -dc $1)" if unpack else "cmp $0 $1"
        done = subprocess.run(["bash", "-c", command, *map(str, pair)], capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stdout + done.stderr).strip()
    return SAME


def _peak(work: str, argv: Sequence[str], folder: Path, size: int) -> Peak:
    """Run a batch while looking at its workers; the most that one of them held, and the job itself as what is bare."""
    out = folder / "out-0"
    shutil.rmtree(out)
    out.mkdir()
    highest, own = Memory(0, 0), Memory(0, 0)
    with subprocess.Popen(_into(argv, out), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own = _most(own, process.pid)
            for pid in _children(process.pid):
                highest = _most(highest, pid)
            time.sleep(_POLL)
    return Peak(work, size, highest, own, ALLOWED)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _most(before: Memory, pid: int) -> Memory:
    values = {"RssAnon": before.rss_anon, "VmHWM": before.vm_hwm}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, text = line.partition(":")
            if name in values:
                values[name] = max(values[name], int(text.split()[0]) << 10)
    return Memory(values["RssAnon"], values["VmHWM"])
