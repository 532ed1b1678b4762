"""Runs programs side by side, in turn or one at a time, and takes their time and the memory that one holds."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench import memory
from bench.figures import SAME, Memory, Taken

PIPE_BYTES = 1 << 20
PATIENCE = 900.0
"""Seconds after which a run counts as hung."""

_POLL = 0.001
_COMPARE = 1 << 20


class BenchError(Exception):
    """Something that makes a measurement impossible or void."""


@dataclass(frozen=True)
class Pipeline:
    """Programs joined by pipes of 1 MiB, read from ``source`` and written to ``sink``.

    Without a source the first one reads /dev/null; without a sink what the last one says is kept as text.
    """

    stages: tuple[Sequence[str], ...]
    source: Path | None = None
    sink: Path | None = None


@dataclass(frozen=True)
class Contestant:
    """One way to do a piece of work: steps that run one after the other, and what they leave.

    ``output`` is the file that they make; without it, a last stage that counts bytes says how many came.
    ``expected`` is the number of bytes that must come out, None where the work makes none.
    """

    name: str
    steps: tuple[Pipeline, ...]
    output: Path | None = None
    expected: int | None = None


def interleave(
    contestants: Sequence[Contestant], runs: int, inputs: Sequence[Path], *, cold: bool = False
) -> tuple[list[list[float]], list[int | None]]:
    """Run all in turn, in another order each round; return the seconds and the last output size of each.

    The inputs are read before every run, as a kernel may be set to reclaim what lies idle; or, for ``cold``
    ones, they are put out of the page cache.
    """
    seconds: list[list[float]] = [[] for _ in contestants]
    sizes: list[int | None] = [None] * len(contestants)
    order = list(range(len(contestants)))
    for _ in range(runs):
        for index in order:
            for path in inputs:
                (cool if cold else warm)(path)
            taken, sizes[index] = run(contestants[index])
            seconds[index].append(taken)
        order = order[1:] + order[:1]
    return seconds, sizes


def run(contestant: Contestant) -> tuple[Taken, int | None]:
    """Run all steps once; return the seconds that they took together, and the size of the output."""
    with _removed(contestant.output):
        if contestant.output is not None and contestant.expected is not None:
            memory.settle(contestant.expected)
        before = _cpu_of_children()
        done = [_run_pipeline(step) for step in contestant.steps]
        taken = Taken(sum(seconds for seconds, _ in done), _cpu_of_children() - before)
        if contestant.output is not None:
            return taken, contestant.output.stat().st_size
        return taken, int(done[-1][1]) if contestant.expected is not None else None


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check(contestant: Contestant, expected: Path) -> str:
    """Run it once and compare its output file with the expected one; return SAME or what differs."""
    if contestant.output is None:
        raise ValueError("nothing to compare")
    with _removed(contestant.output):
        for step in contestant.steps:
            _run_pipeline(step)
        return _compare(contestant.output, expected)


def peak_memory(contestant: Contestant, stage: int, runs: int = 2) -> Memory:
    """Run it while watching one stage of its last step; return the highest of all samples of all runs."""
    peak = Memory(0, 0)
    for _ in range(runs):
        watch = _Watch(stage)
        with _removed(contestant.output):
            for step in contestant.steps[:-1]:
                _run_pipeline(step)
            _run_pipeline(contestant.steps[-1], watch)
        peak = Memory(max(peak.rss_anon, watch.rss_anon), max(peak.vm_hwm, watch.vm_hwm))
    return peak


def warm(path: Path) -> None:
    """Read a file once, so that it is in the page cache."""
    buffer = bytearray(_COMPARE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def cool(path: Path) -> None:
    """Put a file out of the page cache, as far as it is on the disk."""
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def bytecode_in(folder: Path) -> Iterator[None]:
    """Let every Python that we start keep its bytecode in ``folder``.

    So a source tree starts as fast as an installed package, whose bytecode pip has written, and nothing is
    written into either.
    """
    names = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Watch:
    """Samples /proc/PID/status of one process until the whole pipeline has ended.

    ru_maxrss is of no use here: a child begins with its parent's high-water mark.
    """

    def __init__(self, stage: int) -> None:
        self.stage = stage
        self.rss_anon = 0
        self.vm_hwm = 0

    def until_done(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        status = Path(f"/proc/{processes[self.stage].pid}/status")
        while processes[self.stage].poll() is None:
            with contextlib.suppress(OSError):
                self._sample(status.read_text())
            time.sleep(_POLL)

    def _sample(self, status: str) -> None:
        for line in status.splitlines():
            if line.startswith("RssAnon:"):
                self.rss_anon = max(self.rss_anon, int(line.split()[1]) << 10)
            elif line.startswith("VmHWM:"):
                self.vm_hwm = max(self.vm_hwm, int(line.split()[1]) << 10)


def _run_pipeline(pipeline: Pipeline, watch: _Watch | None = None) -> tuple[float, str]:
    """Run it to the end; return the seconds and what the last stage said. Any failure voids the run."""
    with contextlib.ExitStack() as stack:
        said = stack.enter_context(_scratch("said"))
        complaints = stack.enter_context(_scratch("complaints"))
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_kill, processes)
        timer = threading.Timer(PATIENCE, _kill, (processes,))
        stack.callback(timer.cancel)
        timer.start()
        started = time.perf_counter()
        with _ends(pipeline, said) as ends:
            for argv, (stdin, stdout) in zip(pipeline.stages, ends, strict=True):
                processes.append(
                    subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=complaints, cwd="/", env=_environment())
                )
        if watch is not None:
            watch.until_done(processes)
        codes = [process.wait() for process in processes]
        taken = time.perf_counter() - started
        if any(codes):
            complaints.seek(0)
            told = complaints.read(1 << 16).decode(errors="replace").strip().rpartition("\n")[2]
            names = " | ".join(" ".join(stage[:6]) for stage in pipeline.stages)
            raise BenchError(f"exit codes {codes} from: {names}: {told}")
        said.seek(0)
        return taken, said.read(1 << 16).decode(errors="replace")


def _scratch(name: str) -> IO[bytes]:
    """Open a file in memory: making one on a disk would be part of what is measured."""
    return os.fdopen(os.memfd_create(name), "r+b")


def _environment() -> dict[str, str]:
    """Return ours without what would change how corefilt works."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COREFILT_")}
    return kept | {"LC_ALL": "C"}


@contextlib.contextmanager
def _ends(pipeline: Pipeline, said: IO[bytes]) -> Iterator[list[tuple[int, int]]]:
    """Open standard input and output of every stage; our copies are closed on the way out."""
    opened: list[int] = []
    try:
        opened.append(os.open(pipeline.source or "/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        stdin = opened[0]
        ends = []
        for _ in pipeline.stages[1:]:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            opened += [reader, writer]
            _enlarge(writer)
            ends.append((stdin, writer))
            stdin = reader
        if pipeline.sink is None:
            ends.append((stdin, said.fileno()))
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            opened.append(os.open(pipeline.sink, flags, 0o600))
            ends.append((stdin, opened[-1]))
        yield ends
    finally:
        for fd in opened:
            os.close(fd)


def _enlarge(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError as error:
        raise BenchError(f"no pipe of 1 MiB ({error.strerror}): see fs.pipe-max-size") from error


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _removed(output: Path | None) -> Iterator[None]:
    """Begin and end without this file."""
    if output is not None:
        output.unlink(missing_ok=True)
    try:
        yield
    finally:
        if output is not None:
            output.unlink(missing_ok=True)


def _compare(found: Path, expected: Path) -> str:
    sizes = found.stat().st_size, expected.stat().st_size
    if sizes[0] != sizes[1]:
        return f"{sizes[0]:,} bytes, not {sizes[1]:,}"
    place = 0
    with found.open("rb", buffering=0) as left, expected.open("rb", buffering=0) as right:
        while piece := left.read(_COMPARE):
            if piece != right.read(_COMPARE):
                return f"differs in the MiB at {place:#x}"
            place += len(piece)
    return SAME
