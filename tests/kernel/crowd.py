"""Many whole handlers at once, some of which are killed: what their directory showed at every instant.

A handler is started as the kernel starts it: a program with the kernel's numbers, a core on standard input, and no
standard output or error. inotify tells each core that came and went, in their order; the log tells its size, and with
both the directory is replayed afterwards.
"""

import ctypes
import fcntl
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kernel.handling import RECORDS, Place, numbers
from support.builds import PATIENCE

from corefilt.sizes import parse_size
from corefilt.store.directory import core_of, kept_cores
from corefilt.store.ledger import NAME, Ledger
from corefilt.store.retention import KeptCore

PROGRAM = """#!{python} -I
import os, sys
{patch}
from corefilt.handler.entry import main
os._exit(main(["--config", {config!r}, *sys.argv[1:]]))
"""
# A FIFO stands for the kernel's log, where a line comes in one piece.
LOG = """
from corefilt.handler.log import Messages
Messages.__init__.__kwdefaults__.update(socket="/none", syslog="/none", kmsg={fifo!r})
"""
# No process has such a number (PID_MAX_LIMIT is 1 << 22).
FIRST = 2_000_000_000
# sys/inotify.h
IN_CREATE, IN_DELETE, IN_MOVED = 0x100, 0x200, 0xC0
_EVENT = struct.Struct("iIII")
F_SETPIPE_SZ = 1031


@dataclass
class History:
    """What came (True) and went (False), in its order; what each was, the lines of the log, and whose handler died."""

    events: list[tuple[bool, str]] = field(default_factory=list)
    cores: dict[str, KeptCore] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)

    def removals(self) -> dict[str, list[str]]:
        """What the log says of every core that went, by its name."""
        found: dict[str, list[str]] = {}
        for line in self.lines:
            words = line.partition("corefilt: removed ")[2]
            if words:
                path, _, about = words.partition(": ")
                found.setdefault(path.rpartition("/")[2], []).append(about)
        return found

    def check(self, most: int, kept: int) -> int:
        """Hold every instant against ``max-use`` and ``keep-per-signature``; return the largest use in bytes.

        They may be exceeded only from a core's link to its handler's last removal, and on, where that was killed.
        """
        told = self.removals()
        here: dict[str, int] = {}
        largest, last = 0, None
        for came, name in self.events:
            if not came:
                assert name in told, f"{name} went, and the log does not say so"
                del here[name]
                continue
            settled = last is None or last in self.killed
            assert settled or sum(here.values()) <= most, f"{sum(here.values())} bytes after {last}"
            crowded = self._crowded(here, kept)
            assert settled or not crowded, f"{crowded} after {last}"
            here[name] = self._size(name, told)
            largest, last = max(largest, sum(here.values())), name
        return largest

    def _size(self, name: str, told: dict[str, list[str]]) -> int:
        if name in self.cores:
            return self.cores[name].size
        # It went before anybody looked.
        return parse_size(told[name][0].split(" of user ")[0].replace(" ", ""))

    def _crowded(self, here: dict[str, int], kept: int) -> list[object]:
        """The crashes of which there are too many full cores, as far as they were looked at."""
        full = Counter(
            (core.uid, core.crash)
            for core in map(self.cores.get, here)
            if core is not None and core.crash is not None and not core.small
        )
        return [crash for crash, count in full.items() if count > kept]


class Watcher:
    """A thread that reads the log and what comes and goes; ``linked`` is called with each name that came."""

    def __init__(self, place: Place, fifo: int) -> None:
        self.history = History()
        self.linked: Callable[[str], None] = lambda name: None
        self._folder = os.open(place.out, os.O_RDONLY | os.O_DIRECTORY)
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._inotify >= 0
        assert libc.inotify_add_watch(self._inotify, os.fsencode(place.out), IN_CREATE | IN_DELETE | IN_MOVED) >= 0
        self._fifo, self._rest = fifo, b""
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Read what there is, and end."""
        os.close(self._wake)
        self._thread.join()
        for fd in (self._folder, self._inotify, self._stop):
            os.close(fd)

    def _run(self) -> None:
        poll = select.poll()
        for fd in (self._fifo, self._inotify, self._stop):
            poll.register(fd, select.POLLIN)
        ended = False
        while not ended:
            ended = any(fd == self._stop for fd, _ in poll.poll())
            with suppress(BlockingIOError):
                while True:
                    self._events(os.read(self._inotify, 1 << 16))
            with suppress(BlockingIOError):
                while raw := os.read(self._fifo, 1 << 16):
                    *lines, self._rest = (self._rest + raw).split(b"\n")
                    self.history.lines += [line.decode() for line in lines]

    def _events(self, raw: bytes) -> None:
        while raw:
            _, mask, _, length = _EVENT.unpack_from(raw)
            name = raw[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
            raw = raw[_EVENT.size + length :]
            assert name and not mask & IN_MOVED, f"{mask:#x} of {name!r}"
            if name == NAME:
                continue
            self.history.events.append((bool(mask & IN_CREATE), name))
            if mask & IN_CREATE:
                self.linked(name)
                self._look(name)

    def _look(self, name: str) -> None:
        try:
            fd = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        except FileNotFoundError:
            return
        try:
            core = core_of(fd, name)
            if core is not None:
                self.history.cores[name] = core
        finally:
            os.close(fd)


class Crowd:
    """Handlers of one place; ``seed`` decides which are killed, and when."""

    def __init__(self, place: Place, seed: int, program: Path, watcher: Watcher) -> None:
        self.place, self.chance, self._program, self._watcher = place, random.Random(seed), program, watcher
        self._running: dict[int, tuple[str, float, float]] = {}
        self._doomed: dict[str, int] = {}
        self._crashed: dict[subprocess.Popen[bytes], float] = {}
        self._took, self._lock = [1.0], threading.Lock()
        self.ends: Counter[int] = Counter()
        watcher.linked = self._kill_at_its_name

    @property
    def history(self) -> History:
        """What was seen so far."""
        return self._watcher.history

    def start(self, number: int, core: bytes, uid: int, *, killed: bool) -> None:
        """Start the handler of one crash; who is ``killed`` dies at some instant, or when its core has its name."""
        name = str(FIRST + number)
        reader, writer = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_CLOSE, 1), (os.POSIX_SPAWN_CLOSE, 2)]
        words = numbers(pid=FIRST + number, uid=uid, gid=uid, time=1_700_000_000 + number)
        at_its_name = killed and self.chance.random() < 0.5
        until = float("inf")
        if killed and not at_its_name:
            until = time.monotonic() + self.chance.random() * 1.1 * max(self._took[-20:])
        with self._lock:
            pid = os.posix_spawn(self._program, [self._program, *words], {}, file_actions=actions, setsid=True)
            if at_its_name:
                self._doomed[name] = pid
        self._running[pid] = (name, time.monotonic(), until)
        os.close(reader)
        threading.Thread(target=feed, args=(writer, core), daemon=True).start()

    def _kill_at_its_name(self, name: str) -> None:
        # Nobody else has its number until it was waited for.
        with self._lock:
            pid = self._doomed.pop(name, 0)
            if pid:
                self._kill(pid, name)

    def _kill(self, pid: int, name: str) -> None:
        self.history.killed.add(name)
        os.kill(pid, signal.SIGKILL)

    @property
    def count(self) -> int:
        """How many there are at the moment."""
        return len(self._running) + len(self._crashed)

    def step(self) -> None:
        """Kill whose time has come, and see who has ended."""
        self._step_of_crashes()
        now = time.monotonic()
        for pid, (name, began, until) in list(self._running.items()):
            if now >= until:
                self._running[pid] = (name, began, float("inf"))
                self._kill(pid, name)
        for pid, (name, began, _) in list(self._running.items()):
            with self._lock:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended:
                    continue
                self._doomed.pop(name, None)
            del self._running[pid]
            self.ends[os.waitstatus_to_exitcode(status)] += 1
            if not status:
                self._took.append(time.monotonic() - began)

    def crash(self, program: Path, which: int, uid: int, *, killed: bool) -> None:
        """Crash a program of C, whose handler the kernel starts; one that is ``killed`` dies at some instant."""
        process = subprocess.Popen([program, str(which)], preexec_fn=as_user(uid), cwd="/")
        took = 1.1 * max(self._took[-20:])
        self._crashed[process] = time.monotonic() + self.chance.random() * took if killed else float("inf")

    def _step_of_crashes(self) -> None:
        now = time.monotonic()
        for process, until in list(self._crashed.items()):
            if now >= until:
                self._crashed[process] = float("inf")
                self._kill_handler(str(process.pid))
            if process.poll() is not None:
                del self._crashed[process]
                self.ends[process.returncode] += 1

    def _kill_handler(self, name: str) -> None:
        for pid in [pid for pid, crashed in handlers(self.place).items() if crashed == name][:1]:
            with suppress(ProcessLookupError), ExitStack() as undo:
                fd = os.pidfd_open(pid)
                undo.callback(os.close, fd)
                # Its number can have become somebody else's before it was opened.
                if handlers(self.place).get(pid) == name:
                    self.history.killed.add(name)
                    signal.pidfd_send_signal(fd, signal.SIGKILL)

    def watch_reservations(self, most: int) -> None:
        """None outlives its process: what is reserved is at most ``most`` bytes for each that runs."""
        with opened(self.place) as (_, ledger), ledger.held():
            reserved = ledger.reserved()
        assert reserved <= most * self.count, f"{reserved} bytes of {self.count} handlers"

    def end(self) -> None:
        """End those that a failed test has left."""
        for pid, (name, _, _) in self._running.items():
            self._kill(pid, name)
        self.wait()

    def wait(self) -> None:
        """Wait for the end of all."""
        until = time.monotonic() + PATIENCE
        while self.count:
            self.step()
            assert time.monotonic() < until, "a handler does not end"
            time.sleep(0.01)


def handlers(place: Place) -> dict[int, str]:
    """The handlers of a place, each with the number of the crash; the parent before its child."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if len(words) > 3 and words[2].startswith(os.fsencode(place.root) + b"/"):
                found[pid] = words[3].decode()
    return dict(sorted(found.items()))


def as_user(uid: int) -> Callable[[], None]:
    """Make the function for ``preexec_fn``: a user's process, of which all is dumped."""

    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path("/proc/self/coredump_filter").write_text("0x1ff\n")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    return setup


def feed(writer: int, core: bytes) -> None:
    """Write a core as the kernel does, as long as anybody reads it."""
    try:
        view = memoryview(core)
        while view:
            view = view[os.write(writer, view) :]
    except BrokenPipeError:
        pass
    finally:
        os.close(writer)


@contextmanager
def opened(place: Place) -> Iterator[tuple[int, Ledger]]:
    """The directory, and its ledger."""
    fd = os.open(place.out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Ledger(fd, str(place.out)) as ledger:
            yield fd, ledger
    finally:
        os.close(fd)


def kept(place: Place) -> list[KeptCore]:
    """The cores that are there."""
    with opened(place) as (fd, _):
        return kept_cores(fd)


@contextmanager
def crowd(place: Place, seed: int) -> Iterator[Crowd]:
    """Have handlers of a place, and nothing of them at the end."""
    fifo, program = place.root / "log", place.root / "handler"
    os.mkfifo(fifo)
    with ExitStack() as undo:
        log = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, log)
        fcntl.fcntl(log, F_SETPIPE_SZ, 1 << 20)
        program.write_text(PROGRAM.format(python=sys.executable, patch=patch_of(place), config=str(place.config)))
        program.chmod(0o755)
        watcher = Watcher(place, log)
        undo.callback(watcher.close)
        them = Crowd(place, seed, program, watcher)
        undo.callback(them.end)
        yield them


def patch_of(place: Place) -> str:
    """What a handler of this place runs before, whoever starts it."""
    return RECORDS.format(folder=str(place.records)) + "\n" + LOG.format(fifo=str(place.root / "log"))
