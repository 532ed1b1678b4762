"""Answers: how long does a crashed process wait for the handler, beside ``cat > file`` as handler.

One process after the other, of 4 and 64 MiB and of the size that was asked for, crashes into ``corefilt-handle``, which
keeps all of it or half, and into a shell that runs ``cat > file``, in turn. What is measured is the time from the
signal to the end of the process: with core_pipe_limit 0 the kernel lets it go when the last byte is in the pipe. What
reading its smaps takes is measured on the same process before, and taken off ours.

It sets kernel.core_pattern and core_pipe_limit while it runs and puts them back: only as root, and only with
COREFILT_TEST_SYSTEM=1. It writes only into a folder of its own under ``--dir``.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import memory
from bench.measure import SAME, BenchError, Comparison
from bench.options import Options
from bench.places import temporary_place
from bench.process import ALL_BITS, Process, build, running
from bench.report import Results, size_text

QUESTION = "How long does a crashed process wait for the handler, beside cat > file?"

BAR = 1.1
"""Of cat's time, from 1 GiB up."""
_LARGE = 1 << 30
_MORE = 0.1
"""Seconds that a smaller process may wait longer."""
_SMALL = (4 << 20, 64 << 20)
_PATIENCE = 300.0
_KEPT = {100: "all", 50: "default,-shared-anonymous"}
_ACCOUNT = 61999
_SHIM = """#!{python} -I
import os, sys
from corefilt.handler.entry import main
os._exit(main(["--config", {config!r}, *sys.argv[1:]]))
"""
_CAT = '#!/bin/sh\nexec cat > "{cores}/cat"\n'
_CONFIG = 'directory = "{cores}"\nuser = "{account}"\nname = "ours"\nfilter = "{filter}"\nfree-space = 0\n'


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows; ``tell`` hears what is going on."""
    results = Results()
    if os.environ.get("COREFILT_TEST_SYSTEM") != "1" or os.geteuid():
        results.missing.append("handler: it sets kernel.core_pattern: as root, with COREFILT_TEST_SYSTEM=1")
        return results
    with temporary_place(options.folder, options.size) as place:
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
                handlers = {
                    "ours": _program(place.folder / "o", _SHIM.format(python=sys.executable, config=str(config))),
                    "cat": _program(place.folder / "c", _CAT.format(cores=cores)),
                }
                _compare(results, options, place.file_system, program, place.folder, handlers, size, kept)
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
    handlers: dict[str, Path],
    size: int,
    kept: int,
) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in handlers}
    sizes: dict[str, set[int]] = {name: set() for name in handlers}
    looks = []
    for turn in range(options.runs):
        for name in sorted(handlers, reverse=bool(turn % 2)):
            memory.settle(2 * size)
            with running(program, program, size, folder / "crash") as process:
                look = _time_to_look(process)
                with _core_pattern(f"|{handlers[name]} %P %u %g %s %t %c %d %F"):
                    taken = _time_to_die(process)
                    left = _wait_for(folder / "cores" / name, name)
            (folder / "crash").rmdir()
            sizes[name].add(left.stat().st_size >> 20)
            left.unlink()
            seconds[name].append(max(taken - look, 0.001) if name == "ours" else taken)
            looks.append(look)
    outcome = SAME if kept < 100 or sizes["ours"] == sizes["cat"] else f"{sizes['ours']} and {sizes['cat']} MiB"
    times = tuple(seconds["ours"]), tuple(seconds["cat"])
    bar = BAR if size >= _LARGE else None
    row = Comparison(f"crash of {size_text(size)}", kept, on, "cat > file", *times, size, bar, outcome)
    results.comparisons.append(row)
    results.remarks.append(
        f"{size_text(size)}, {kept} % kept: waits {(row.ours - row.theirs) * 1000:+.0f} ms"
        + (f" (at most {_MORE * 1000:.0f} more)" if size < _LARGE else "")
        + f"; smaps took {sorted(looks)[len(looks) // 2] * 1000:.1f} ms"
    )


def _time_to_look(process: Process) -> float:
    began = time.perf_counter()
    Path(f"/proc/{process.popen.pid}/smaps").read_bytes()
    return time.perf_counter() - began


def _time_to_die(process: Process) -> float:
    process.set_filter(ALL_BITS)
    # Popen.wait looks every 50 ms only.
    pidfd = os.pidfd_open(process.popen.pid)
    try:
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


def _wait_for(path: Path, name: str) -> Path:
    """Wait until a handler has done its work: ours gives the name at the end, cat holds the file open until then."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if path.exists() and (name == "ours" or not _is_open(path)):
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
    before = {file: file.read_text() for file in files}
    try:
        for file, text in files.items():
            file.write_text(text)
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)
