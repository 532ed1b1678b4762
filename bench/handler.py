"""Answers: how long does a crashed process wait for the handler, beside ``cat > file`` as handler.

One process after the other, of 4 and 64 MiB and of the size that was asked for, crashes into ``corefilt-handle``, which
keeps all of it or half, into ``corefilt serve``, whose handlers have loaded everything, and into a shell that runs
``cat > file``, in turn. What is measured is the time from the signal to the end of the process: with core_pipe_limit 0
the kernel lets it go when the last byte is in the pipe, and a socket when its other end is closed. What reading its
smaps takes is measured on the same process before, and taken off ours. All of them run with real-time priority
(SCHED_FIFO), so that other programs on the machine disturb little.

It sets kernel.core_pattern and core_pipe_limit while it runs and puts them back: only as root, and only with
COREFILT_TEST_SYSTEM=1. It writes only into a folder of its own under ``--dir``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import memory
from bench.figures import SAME, Comparison
from bench.measure import BenchError
from bench.options import Options
from bench.places import temporary_place
from bench.process import ALL_BITS, Process, build, running
from bench.report import Results, size_text

QUESTION = "How long does a crashed process wait for the handler, beside cat > file?"

TARGET = 1.1
"""Of cat's time, from 1 GiB up."""
_LARGE = 1 << 30
_MORE = 0.1
"""Seconds that a smaller process may wait longer."""
_MORE_THAN_CAT = {"ours": 0.04, "socket": 0.01}
"""The same for the smallest."""
_SMALL = (4 << 20, 64 << 20)
_LEAST_RUNS = 11
"""Of the small ones: one run in eight takes 30 to 100 ms more, on either side."""
_PATIENCE = 300.0
_KEPT = {100: "all", 50: "default,-shared-anonymous"}
_ACCOUNT = 61999
_AHEAD = ("chrt", "-f", "1")
_SHIM = """#!/bin/sh
exec {ahead} {python} -I -m corefilt.handler --config {config} "$@"
"""
_NUMBERS = "%P %u %g %s %t %c %d %F"
_CAT = '#!/bin/sh\nexec {ahead} cat > "{cores}/cat"\n'
_CONFIG = 'directory = "{cores}"\nuser = "{account}"\nname = "ours"\nfilter = "{filter}"\nfree-space = 0\n'


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows; ``tell`` hears what is going on."""
    results = Results()
    if os.environ.get("COREFILT_TEST_SYSTEM") != "1" or os.geteuid():
        results.missing.append("handler: it sets kernel.core_pattern: as root, with COREFILT_TEST_SYSTEM=1")
        return results
    if shutil.which(_AHEAD[0]) is None:
        results.missing.append("handler: chrt is not installed")
        return results
    ahead = " ".join(_AHEAD)
    with temporary_place(options.folder, options.size) as place, _real_time(0):
        place.folder.chmod(0o755)
        cores = place.folder / "cores"
        cores.mkdir()
        results.file_systems.append(place.file_system)
        program = build(place.folder)
        for size in sorted({*_SMALL, options.size}):
            for kept, wanted in _KEPT.items():
                tell(f"{size_text(size)}, {kept} % kept")
                config = place.folder / "conf"
                config.write_text(_CONFIG.format(cores=cores, account=_ACCOUNT, filter=wanted))
                ours = _program(place.folder / "o", _SHIM.format(ahead=ahead, python=sys.executable, config=config))
                cat = _program(place.folder / "c", _CAT.format(ahead=ahead, cores=cores))
                patterns = {"ours": f"|{ours} {_NUMBERS}", "cat": f"|{cat} {_NUMBERS}"}
                with _serving(config, place.folder / "log") as path:
                    if path is None:
                        results.missing.append("handler by the socket: this kernel has none (Linux 6.17)")
                    else:
                        patterns["socket"] = f"@@{path}"
                    _compare(results, options, place.file_system, program, place.folder, patterns, size, kept)
    return results


def _program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _compare(
    results: Results,
    options: Options,
    on: str,
    program: Path,
    folder: Path,
    patterns: dict[str, str],
    size: int,
    kept: int,
) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in patterns}
    sizes: dict[str, set[int]] = {name: set() for name in patterns}
    looks = []
    # What other benchmarks have left in the page cache is not to be written meanwhile.
    os.sync()
    for turn in range(options.runs if size not in _SMALL else max(options.runs, _LEAST_RUNS)):
        for name in sorted(patterns, reverse=bool(turn % 2)):
            memory.settle(2 * size)
            with running(program, program, size, folder / "crash") as process:
                look = _time_to_look(process)
                if name == "socket":
                    _wait_until_ready()
                with _core_pattern(patterns[name]):
                    taken = _time_to_die(process)
                    left = _wait_for(folder / "cores" / ("cat" if name == "cat" else "ours"), name)
            (folder / "crash").rmdir()
            sizes[name].add(left.stat().st_size >> 20)
            left.unlink()
            seconds[name].append(taken if name == "cat" else max(taken - look, 0.001))
            looks.append(look)
    for name, way in (("ours", ""), ("socket", ", by the socket")):
        if name not in patterns:
            continue
        outcome = SAME if kept < 100 or sizes[name] == sizes["cat"] else f"{sizes[name]} and {sizes['cat']} MiB"
        times = tuple(seconds[name]), tuple(seconds["cat"])
        target = TARGET if size >= _LARGE else None
        row = Comparison(f"crash of {size_text(size)}{way}", kept, on, "cat > file", *times, size, target, outcome)
        results.comparisons.append(row)
        more = _MORE_THAN_CAT[name] if size == _SMALL[0] else _MORE
        results.remarks.append(
            f"{size_text(size)}{way}, {kept} % kept: waits {(row.ours - row.theirs) * 1000:+.0f} ms"
            + (f" (at most {more * 1000:.0f} more)" if size < _LARGE else "")
            + f"; smaps took {sorted(looks)[len(looks) // 2] * 1000:.1f} ms"
        )


@contextlib.contextmanager
def _serving(config: Path, log: Path) -> Iterator[Path | None]:
    """A server of coredump sockets; the path of its socket, None where the kernel knows none."""
    modes = Path("/proc/sys/kernel/core_modes")
    if not modes.exists() or "socket" not in modes.read_text().split():
        yield None
        return
    path = Path(f"/run/corefilt-bench-{os.getpid()}.sock")
    command = [*_AHEAD, sys.executable, "-I", "-m", "corefilt", "serve", str(path), "--config", str(config)]
    with log.open("wb") as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/")
    try:
        until = time.monotonic() + _PATIENCE
        while b"takes cores at" not in log.read_bytes():
            if server.poll() is not None or time.monotonic() > until:
                raise BenchError(f"corefilt serve does not serve: {log.read_text().strip()}")
            time.sleep(0.01)
        yield path
    finally:
        server.terminate()
        server.wait()
        path.unlink(missing_ok=True)


def _wait_until_ready() -> None:
    """Wait until a handler of the server has loaded everything."""
    from corefilt.handler.serve.waiting import WAITS

    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        for comm in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if comm.read_text().rstrip() == WAITS:
                    return
        time.sleep(0.01)
    raise BenchError("no handler of the server gets ready")


def _time_to_look(process: Process) -> float:
    began = time.perf_counter()
    Path(f"/proc/{process.popen.pid}/smaps").read_bytes()
    return time.perf_counter() - began


def _time_to_die(process: Process) -> float:
    process.set_filter(ALL_BITS)
    # Popen.wait looks every 50 ms only.
    pidfd = os.pidfd_open(process.popen.pid)
    try:
        with _real_time(process.popen.pid):
            began = time.perf_counter()
            process.popen.send_signal(6)
            ended = select.select([pidfd], [], [], _PATIENCE)[0]
            taken = time.perf_counter() - began
    finally:
        os.close(pidfd)
    if not ended:
        raise BenchError(f"the process did not end in {_PATIENCE:.0f} s")
    process.popen.wait()
    return taken


@contextlib.contextmanager
def _real_time(pid: int) -> Iterator[None]:
    """Let a process (0: this one) go before all others for a while, or to its end; its new children are as usual."""
    os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _wait_for(path: Path, name: str) -> Path:
    """Wait until a handler has done its work: ours give the name at the end, cat holds the file open until then."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if path.exists() and (name != "cat" or not _is_open(path)):
            return path
        time.sleep(0.01)
    raise BenchError(f"the handler {name} left no core in {_PATIENCE:.0f} s")


def _is_open(path: Path) -> bool:
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):
            if link.readlink() == path:
                return True
    return False


@contextlib.contextmanager
def _core_pattern(line: str) -> Iterator[None]:
    files = {Path("/proc/sys/kernel/core_pipe_limit"): "0", Path("/proc/sys/kernel/core_pattern"): line}
    # The lock is the one that tests of corefilt take while they change the same.
    with open("/proc/sys/kernel/core_pattern", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {file: file.read_text() for file in files}
        try:
            for file, text in files.items():
                file.write_text(text)
            yield
        finally:
            for file, text in before.items():
                file.write_text(text)
