"""Answers: how much longer does a crashed process wait where a thousand cores are kept.

A handler is started as the kernel starts it, with a core of 4 MiB on a pipe, whose process waits until the handler's
child has closed it. In turn: no key of retention is set; all are, and the directory is empty; all are, and it holds
1,000 cores; all but keep-per-signature, for which the child loads what finds signatures out, and it holds 1,000 cores.
The CPU time is that of both processes of the handler until then.
"""

from __future__ import annotations

import os
import select
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench import cores
from bench.figures import SAME, Comparison, Taken
from bench.measure import BenchError
from bench.options import Options
from bench.places import find_tmpfs, temporary_place
from bench.report import Results

QUESTION = "How much longer does a crashed process wait where a thousand cores are kept?"

TARGET = 0.005
"""Seconds."""
_KEPT = 1000
_SIZE = 4 << 20
# For each run that was asked for: a run is short, and a busy machine makes their times differ by half.
_TIMES = 4
_PATIENCE = 60.0
_ACCOUNT, _UID, _TIME = 61999, 1000, 1_700_000_000
# A process that is gone: numbers above PID_MAX_LIMIT are nobody's.
_WORDS = ((1 << 31) - 1, _UID, _UID, 11, _TIME, (1 << 64) - 1, 1)
# What the parent has used when it has told the child what to do, and the child when it has read the core.
_SHIM = """#!{python} -I
import os, sys, time
from corefilt.handler import records, worker_process
from corefilt.handler.log import Messages
from corefilt.handler.entry import main
records.FOLDER = {records!r}
Messages.__init__.__kwdefaults__.update(socket="/none", syslog="/none", kmsg="/dev/null")
used = os.open({used!r}, os.O_WRONLY)
os.dup2(used, 100)
os.close(used)
def told(name, of, real):
    def wrapped(*args):
        os.write(100, b"%s %d\\n" % (name, time.process_time_ns()))
        return real(*args)
    return wrapped
worker_process.Forked.have_done = told(b"parent", None, worker_process.Forked.have_done)
begin = worker_process.Forked._be_the_child
def be_the_child(self, *args):
    from corefilt.handler import sandbox, worker
    worker.Work._allowance = told(b"child", None, worker.Work._allowance)
    close = sandbox.close_others
    sandbox.close_others = lambda kept: close([*kept, 100])
    begin(self, *args)
worker_process.Forked._be_the_child = be_the_child
os._exit(main(["--config", {config!r}, *sys.argv[1:]]))
"""
_CONFIG = 'directory = "{cores}"\nuser = "{account}"\nname = "new"\nfilter = "all"\nfree-space = 0\n'
_KEYS = """\
max-use = "100G"
keep-free = "1K"
max-age = "5000w"
max-per-executable = 100000
limit-interval = "10m"
limit-burst = 100000
"""
_SIGNATURES = 'keep-per-signature = 100\nrepeats = "minimal"\n'


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run the three in turn, on a disk and on a tmpfs."""
    results = Results()
    if os.geteuid():
        results.missing.append("retention: the handler gives its rights up itself: as root")
        return results
    tmpfs, why_not = find_tmpfs(options.tmpfs, _SIZE)
    if tmpfs is None:
        results.missing.append(f"retention on a tmpfs: {why_not}")
    for parent in (options.folder, tmpfs)[: 1 if tmpfs is None else 2]:
        with temporary_place(parent, _SIZE) as place:
            place.folder.chmod(0o755)
            results.file_systems.append(place.file_system)
            tell(f"{_KEPT} cores on {place.file_system}")
            _compare(results, place.folder, place.file_system, options.runs * _TIMES)
    return results


def _compare(results: Results, folder: Path, on: str, runs: int) -> None:
    cores.plan_core(_SIZE).write(folder / "core", 0x1FF)
    core = (folder / "core").read_bytes()
    none, empty, full, unsigned = "no key", "none kept", "1,000 kept", "1,000 kept, no signatures"
    ways = {
        none: _Way(folder / "none", ""),
        empty: _Way(folder / "empty", _KEYS + _SIGNATURES),
        full: _Way(folder / "full", _KEYS + _SIGNATURES),
        unsigned: _Way(folder / "unsigned", _KEYS),
    }
    _fill(ways[full].cores)
    _fill(ways[unsigned].cores)
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name in sorted(ways, reverse=bool(turn % 2)):
            took = ways[name].run(core)
            if turn:
                taken[name].append(took)
    for name, rival in ((full, empty), (unsigned, none), (full, none)):
        ours, theirs = tuple(taken[name]), tuple(taken[rival])
        row = Comparison(f"crash, {name}", None, on, rival, ours, theirs, len(core), None, SAME)
        results.comparisons.append(row)
        pairs = list(zip(ours, theirs, strict=True))
        wall = statistics.median(mine - other for mine, other in pairs)
        used = statistics.median(mine.cpu - other.cpu for mine, other in pairs)
        target = (
            f"; at most {TARGET * 1000:.0f} ms more CPU: {'met' if used <= TARGET else 'not met'}"
            if rival == empty
            else ""
        )
        results.remarks.append(
            f"{on}, {name} beside {rival}: waits {wall * 1000:+.1f} ms, CPU {used * 1000:+.1f} ms "
            f"(medians of {len(pairs)} pairs{target})"
        )


class _Way:
    """A directory and the settings for it."""

    def __init__(self, folder: Path, keys: str) -> None:
        self.cores, self._used, self._program = folder / "cores", folder / "used", folder / "handler"
        self.cores.mkdir(parents=True)
        config = folder / "conf"
        config.write_text(_CONFIG.format(cores=self.cores, account=_ACCOUNT) + keys)
        text = _SHIM.format(
            python=sys.executable, records=str(folder / "run"), used=str(self._used), config=str(config)
        )
        self._program.write_text(text)
        self._program.chmod(0o755)
        os.mkfifo(self._used)

    def run(self, core: bytes) -> Taken:
        """Have a core saved, and removed; returns how long its process waited. Raises BenchError."""
        reader, writer = os.pipe()
        used = os.open(self._used, os.O_RDWR)
        actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_CLOSE, 1), (os.POSIX_SPAWN_CLOSE, 2)]
        began = time.perf_counter()
        words = [str(self._program), *map(str, _WORDS)]
        pid = os.posix_spawn(words[0], words, {}, file_actions=actions)
        os.close(reader)
        threading.Thread(target=_write, args=(writer, core), daemon=True).start()
        told: dict[bytes, int] = {}
        with open(used, "rb", buffering=0) as lines:
            # The child's comes when it has closed the pipe.
            while b"child" not in told:
                if not select.select([lines], [], [], _PATIENCE)[0]:
                    raise BenchError(f"a handler still reads its core after {_PATIENCE:g} s")
                told |= {name: int(number) for name, number in map(bytes.split, lines.read(4096).splitlines())}
            seconds = time.perf_counter() - began
        _, status = os.waitpid(pid, 0)
        if status:
            raise BenchError(f"a handler ended with {os.waitstatus_to_exitcode(status)}")
        (self.cores / "new").unlink()
        return Taken(seconds, sum(told.values()) / 1e9)


def _write(fd: int, core: bytes) -> None:
    view = memoryview(core)
    while view:
        view = view[os.write(fd, view) :]
    os.close(fd)


def _fill(folder: Path) -> None:
    """Write cores as the handler leaves them: a hundred crashes of seven users."""
    for n in range(_KEPT):
        path = folder / f"core.{n}"
        path.write_bytes(b"c" * 4096)
        noted = {
            "user.corefilt.owner": "0",
            "user.corefilt.signature": f"1 unwound {n % 100:016x} abort",
            "user.coredump.uid": str(_UID + n % 7),
            "user.coredump.exe": f"/usr/bin/program-{n % 20}",
            "user.coredump.timestamp": str(_TIME + n),
        }
        for name, value in noted.items():
            os.setxattr(path, name, value.encode())
