"""A server of coredump sockets that the kernel connects to, and clients that only say that they are the kernel."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from kernel.dumps import sysctl
from kernel.trusted import PATIENCE, Installation

from corefilt.handler.pattern import MODULE
from corefilt.handler.serve.handlers import WAITING
from corefilt.handler.serve.waiting import WAITS, WORKS

MODES = Path("/proc/sys/kernel/core_modes")


def need_sockets() -> None:
    """Skip where the kernel does not ask a socket."""
    if not MODES.exists() or "socket" not in MODES.read_text().split():
        pytest.skip("this kernel knows no sockets for cores (Linux 6.17)")


class Serving:
    """A running server, what it said so far, and how to end it."""

    def __init__(self, installed: Installation, path: Path, log: Path, process: "subprocess.Popen[bytes]") -> None:
        self.installed, self.path, self.log, self.process = installed, path, log, process

    def said(self, pattern: str, count: int = 1) -> list[str]:
        """Wait until so many lines have said something, and give all that did."""
        return wait_for(lambda: [line for line in self.lines() if re.search(pattern, line)], count, self.lines)

    def lines(self) -> list[str]:
        """All that was said."""
        return self.log.read_text().splitlines()

    def handlers(self) -> list[int]:
        """The handlers that run; a child that is not yet the handler's program holds up the server, so it is none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split() if is_handler(int(pid))]

    def ready(self) -> list[int]:
        """Those that wait for a core."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split() if name_of(int(pid)) == WAITS]

    def connect(self) -> socket.socket:
        """Connect as a client that is not the kernel."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(PATIENCE)
        client.connect(str(self.path))
        return client

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, and give its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def is_handler(pid: int) -> bool:
    """Whether it handles a core; one that waits for the next handles none."""
    return MODULE in command_line(pid) or (WAITING in command_line(pid) and name_of(pid) == WORKS)


def name_of(pid: int) -> str:
    """What ps calls it, or nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def command_line(pid: int) -> list[str]:
    """The arguments of a process, or nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_for(look: "object", count: int, told: "object" = list) -> list:
    """Look again and again until something has that many elements."""
    until = time.monotonic() + PATIENCE
    while len(found := look()) < count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(found) >= count, told()
    return found


@contextmanager
def serving(
    installed: Installation, rules: str = "", *, prefix: tuple[str, ...] = (), pattern: bool = True
) -> Iterator[Serving]:
    """Run a server that the kernel connects to; `rules` are lines under [serve]."""
    installed.configure(f"[serve]\n{rules}")
    path = Path(f"/run/corefilt-test-{os.getpid()}.sock")
    log = installed.folder / "log"
    words = () if prefix else (path,)
    command = [*prefix, str(installed.python), "-I", "-m", "corefilt", "serve", *map(str, words)]
    with ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        for core in installed.cores.iterdir():
            core.unlink()
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd="/")
        undo.callback(reap, process)
        it = Serving(installed, path, log, process)
        if not prefix:
            it.said("takes cores at")
        if pattern:
            undo.enter_context(sysctl("kernel/core_pattern", f"@@{path}".encode()))
        yield it


def reap(process: "subprocess.Popen[bytes]") -> None:
    """End a server, and all that it began, whatever a test left of them."""
    with suppress(ProcessLookupError, FileNotFoundError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), signal.SIGKILL)
    process.kill()
    process.wait()
