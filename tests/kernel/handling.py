"""Runs the handler as the kernel would, with settings of a test's own, and reads what it said and left."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kernel.dumps import sysctl
from support.builds import PATIENCE
from support.run import environment

from corefilt.handler.crash_info import PATTERN
from corefilt.store.attributes import OWNER

# Nobody's account: it owns nothing and needs no row in /etc/passwd.
ACCOUNT = 61999
JOURNAL = Path("/run/systemd/journal/socket")
# What is started by hand says it on standard error, and disturbs nobody who stands in for the journal.
SILENT = """
from corefilt.handler.log import Messages
Messages.__init__.__kwdefaults__.update(socket="/none", syslog="/none", kmsg="/dev/null")
"""
RECORDS = "from corefilt.handler import records; records.FOLDER = {folder!r}"
MAIN = "import sys; from corefilt.handler.entry import main; sys.exit(main(sys.argv[1:]))"
# Standard output and error stay closed, as the kernel has them.
SHIM = """#!{python} -I
import fcntl, os, sys
fd = os.open({fifo!r}, os.O_WRONLY)
fcntl.fcntl(fd, fcntl.F_DUPFD, 100)
os.close(fd)
try:
    # What crashes elsewhere on this machine meanwhile is not this test's.
    if os.getpgid(int(sys.argv[1])) != {group}:
        os._exit(0)
except ProcessLookupError:
    pass
config = {config!r}
{records}
{patch}
from corefilt.handler.entry import main
os._exit(main(["--config", config, *sys.argv[1:]]))
"""
RLIM_INFINITY = (1 << 64) - 1


def need_root() -> None:
    """Skip where the handler could not be what it is."""
    if os.geteuid() != 0:
        pytest.skip("the handler is started by the kernel, as root, and gives its rights up itself")


@dataclass
class Place:
    """A folder for cores, and settings that name it."""

    root: Path
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make both."""
        self.out.mkdir(mode=0o755)
        self.write()

    @property
    def out(self) -> Path:
        """Where the cores go."""
        return self.root / "cores"

    @property
    def config(self) -> Path:
        """The settings."""
        return self.root / "corefilt.conf"

    @property
    def records(self) -> Path:
        """Where its handlers record what they do."""
        return self.root / "run"

    def write(self, **settings: object) -> None:
        """Write the settings, with these besides."""
        known: dict[str, object] = {"directory": str(self.out), "user": str(ACCOUNT), "free-space": 0}
        rows = {**known, **self.settings, **{name.replace("_", "-"): value for name, value in settings.items()}}
        self.config.write_text("".join(f"{name} = {toml(value)}\n" for name, value in rows.items()))

    def cores(self) -> list[Path]:
        """Return all that was left, by name."""
        return sorted(self.out.iterdir())

    def core(self) -> Path:
        """Return the one core."""
        (core,) = self.cores()
        return core


def place_in(folder: Path) -> Place:
    """Make a place that other accounts reach and whose cores can have attributes, by which they count; or skip."""
    folder.chmod(0o755)
    place = Place(folder)
    try:
        os.setxattr(place.out, OWNER, b"0")
    except OSError:
        pytest.skip("no attributes here")
    return place


def toml(value: object) -> str:
    """Write a value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else f"'{value}'"


def numbers(
    pid: int = (1 << 31) - 1,
    uid: int = 1000,
    gid: int = 1000,
    signal: int = 11,
    time: int = 1_700_000_000,
    limit: int = RLIM_INFINITY,
    dumpable: int = 1,
    pidfd: str = "",
) -> list[str]:
    """The arguments that the kernel would give; by default of a process that is gone."""
    return [str(value) for value in (pid, uid, gid, signal, time, limit, dumpable, pidfd)]


def start(place: Place, *words: str, patch: str = "", **options: object) -> subprocess.Popen[bytes]:
    """Start a handler; `patch` is code that runs in it before."""
    records = RECORDS.format(folder=str(place.records))
    command = [
        sys.executable,
        "-I",
        "-c",
        f"{records}\n{SILENT}\n{patch}\n{MAIN}",
        "--config",
        str(place.config),
        *(words or numbers()),
    ]
    options.setdefault("stdin", subprocess.PIPE)
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment(), **options)


@dataclass(frozen=True)
class Handled:
    """What a handler said at its end."""

    code: int
    said: str


def handle(place: Place, core: bytes, *words: str, patch: str = "", **options: object) -> Handled:
    """Have one core saved."""
    with start(place, *words, patch=patch, **options) as process:
        return finish(process, core)


def finish(process: subprocess.Popen[bytes], core: bytes = b"") -> Handled:
    """Send the rest of a core, and wait for the end."""
    try:
        _, said = process.communicate(core or None, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    text = said.decode()
    assert "Traceback" not in text, text
    return Handled(process.returncode, text)


def child_of(process: subprocess.Popen[bytes]) -> int:
    """Wait until a handler has become two processes, the second of which has given its rights up; return its pid."""
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and f"\nUid:\t{ACCOUNT}\t" in status_of(int(children[0])):
            return int(children[0])
        os.sched_yield()
    raise AssertionError(f"the handler ended: {finish(process).said}")


def status_of(pid: int) -> str:
    """What /proc says of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def journal(path: Path) -> Iterator[socket.socket]:
    """Stand in for the journal at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        try:
            listener.settimeout(PATIENCE)
            yield listener
        finally:
            path.unlink()


@contextmanager
def in_core_pattern(place: Place, patch: str = "", pipe_limit: int = 256) -> Iterator[Installed]:
    """Have the kernel start the handler for every crash while the body runs; `patch` is code that runs in it before."""
    fifo, program = place.root / "fifo", place.root / "h"
    os.mkfifo(fifo)
    records = RECORDS.format(folder=str(place.records))
    program.write_text(
        SHIM.format(
            python=sys.executable,
            fifo=str(fifo),
            patch=patch,
            config=str(place.config),
            records=records,
            group=os.getpgrp(),
        )
    )
    program.chmod(0o755)
    line = f"|{program} {PATTERN}"
    assert len(line) <= 127
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with ExitStack() as undo:
        undo.callback(fifo.unlink)
        undo.callback(os.close, reader)
        # The lock first: whose turn it is, is nobody else's stand-in.
        undo.enter_context(sysctl("kernel/core_pipe_limit", pipe_limit))
        listener = undo.enter_context(journal_of_the_system())
        undo.enter_context(sysctl("kernel/core_pattern", line))
        yield Installed(reader, listener)


@contextmanager
def journal_of_the_system() -> Iterator[socket.socket]:
    """Stand in for the journal that this machine does not have."""
    if JOURNAL.exists():
        pytest.skip("there is a journal here, and the messages would go to it")
    made = not JOURNAL.parent.exists()
    JOURNAL.parent.mkdir(parents=True, exist_ok=True)
    try:
        with journal(JOURNAL) as listener:
            yield listener
    finally:
        if made:
            JOURNAL.parent.rmdir()


@dataclass
class Installed:
    """A handler that the kernel starts."""

    _fifo: int
    _listener: socket.socket

    def wait(self) -> None:
        """Wait until every handler that was started has ended; each holds the other end of the FIFO."""
        poll = select.poll()
        poll.register(self._fifo, 0)
        assert poll.poll(PATIENCE * 1000), "a handler does not end"

    def said(self) -> dict[str, bytes]:
        """Wait for the end, and return the fields of the next message."""
        self.wait()
        self._listener.settimeout(PATIENCE)
        while True:
            found = entry(self._listener.recv(1 << 18))
            # Of a handler that another test starts by hand meanwhile.
            if b"process 2147483647" not in found["MESSAGE"]:
                return found


def entry(raw: bytes) -> dict[str, bytes]:
    """Read an entry in the journal's native protocol."""
    found = {}
    while raw:
        line, _, rest = raw.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        assert name.decode() not in found
        found[name.decode()] = value
        raw = rest
    return found
