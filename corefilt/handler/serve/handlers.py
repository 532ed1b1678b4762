"""The handlers of a server: some that wait with all modules loaded, and others where more cores come than these.

Each is a program of its own from its start on, takes one core, and ends with it. So nothing of the server or of another
crash is in its memory, and the places of things in its memory are not those of another's.
"""

from __future__ import annotations

import socket
import subprocess
import sys

from corefilt.handler.pattern import MODULE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.crash_info import CrashInfo

WAITING = "corefilt.handler.serve.waiting"


class Handlers:
    """Keeps ``ready`` handlers waiting; ``config`` is the path of their settings, or None."""

    def __init__(self, ready: int, config: str | None = None) -> None:
        self._ready, self._config = ready, config
        self._waiting: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []

    def fill(self) -> None:
        """Start as many as are missing. Raises OSError."""
        while len(self._waiting) < self._ready:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    self._waiting.append((ours, _start(WAITING, self._config, theirs)))
                except BaseException:
                    ours.close()
                    raise

    def start(self, crash: CrashInfo, connection: socket.socket) -> subprocess.Popen[bytes]:
        """Have a crash handled whose core comes by a connection: the one that waits longest does it, or a new one."""
        while self._waiting:
            ours, process = self._waiting.pop(0)
            with ours:
                if given(ours, crash, connection):
                    return process
            process.wait()
        return start_handler(crash, connection, self._config)

    def close(self) -> None:
        """End those that wait."""
        for ours, _ in self._waiting:
            ours.close()
        for _, process in self._waiting:
            process.wait()
        self._waiting.clear()


def given(to: socket.socket, crash: CrashInfo, connection: socket.socket) -> bool:
    """Whether a handler that waits could be given a crash."""
    fds = [connection.fileno(), *([crash.pidfd] if crash.pidfd is not None else [])]
    try:
        socket.send_fds(to, [" ".join(numbers(crash)).encode()], fds)
    except OSError:
        # It has ended: killed, or the installation is being replaced. Or the kernel has no memory for the message.
        return False
    return True


def numbers(crash: CrashInfo) -> list[str]:
    """What core_pattern carries, but for the pidfd, whose number is another in each process."""
    each = (crash.pid, crash.uid, crash.gid, crash.signal, crash.time, crash.limit, crash.dumpable)
    return [str(number) for number in each]


def start_handler(crash: CrashInfo, connection: socket.socket, config: str | None = None) -> subprocess.Popen[bytes]:
    """Start the program behind core_pattern as the kernel would: numbers, the core as input, and nothing else."""
    pidfds = [crash.pidfd] if crash.pidfd is not None else []
    return _start(MODULE, config, connection, [*numbers(crash), *map(str, pidfds)], pidfds)


def _start(
    module: str, config: str | None, stdin: socket.socket, words: list[str] | None = None, fds: list[int] | None = None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-m", module, *(["--config", config] if config else []), *(words or [])],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if sys.stderr is None else None,
        env={},
        cwd="/",
        pass_fds=fds or [],
        # What a terminal sends the server is not meant for the cores that it has begun.
        process_group=0,
    )
