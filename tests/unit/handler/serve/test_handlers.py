"""Handlers that wait: they are given one core, end with the server, and others are started where none waits."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builds import PATIENCE

from corefilt.handler.crash_info import CrashInfo
from corefilt.handler.serve import handlers, waiting
from corefilt.handler.serve.handlers import Handlers

CRASH = CrashInfo(42, 1000, 1001, 6, 1700000000, (1 << 64) - 1, 2)
# In the place of the program: it says what it was given, and the core.
STUB = """\
import os, sys
from corefilt.handler.serve import waiting
waiting.load = lambda config: None
waiting.main = lambda words: os.write(1, repr((words, os.read(0, 99))).encode()) and 7
os._exit(waiting.wait(sys.argv[1:]))
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Have a stub started instead; the modules that were asked for."""
    asked: list[str] = []

    def start(
        module: str, config: str | None, stdin: socket.socket, words: list[str] | None = None, fds: object = None
    ) -> subprocess.Popen[bytes]:
        asked.append(module)
        said = (tmp_path / str(len(asked))).open("wb")
        with said:
            return subprocess.Popen([sys.executable, "-c", STUB], stdin=stdin.fileno(), stdout=said)

    monkeypatch.setattr(handlers, "_start", start)
    yield asked


def name_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().rstrip()


def test_the_one_that_waits_longest_is_given_the_core(started: list[str], tmp_path: Path) -> None:
    made = Handlers(2)
    made.fill()
    made.fill()
    assert started == [handlers.WAITING] * 2
    first = made._waiting[0][1]
    until = time.monotonic() + PATIENCE
    while name_of(first) != waiting.WAITS and time.monotonic() < until:
        os.sched_yield()
    ours, theirs = socket.socketpair()
    pidfd = os.pidfd_open(os.getpid())
    with ours, theirs:
        crash = CrashInfo(42, 1000, 1001, 6, 1700000000, (1 << 64) - 1, 2, pidfd)
        assert made.start(crash, theirs) is first
        ours.sendall(b"core")
        assert first.wait(PATIENCE) == 7
    os.close(pidfd)
    words, core = eval((tmp_path / "1").read_text())
    assert (words[:7], core) == (["42", "1000", "1001", "6", "1700000000", str((1 << 64) - 1), "2"], b"core")
    assert len(words) == 8
    made.fill()
    assert len(started) == 3
    made.close()


def test_a_handler_that_fails_before_it_works_says_so(tmp_path: Path) -> None:
    """Whatever it is: no traceback, exit code 1."""
    script = (
        "from corefilt.handler.log import Messages\nfrom corefilt.handler.serve import waiting\n"
        f"waiting.Messages = lambda: Messages(journal=False, kmsg={str(tmp_path / 'kmsg')!r})\n"
        "waiting.load = lambda config: None\nwaiting.name_it = lambda name: None\nwaiting.entry()"
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        # Numbers, and no connection with them.
        ours.send(b"42 1000 1001 6")
        done = subprocess.run([sys.executable, "-c", script], stdin=theirs, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert b"a handler that waits for a core failed: ValueError: " in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


def test_those_that_wait_end_with_the_server(started: list[str]) -> None:
    made = Handlers(1)
    made.fill()
    ((ours, process),) = made._waiting
    ours.close()
    assert process.wait(PATIENCE) == 0


def test_what_has_ended_is_passed_over(started: list[str]) -> None:
    made = Handlers(1)
    made.fill()
    process = made._waiting[0][1]
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        new = made.start(CRASH, theirs)
        assert new is not process
        assert process.returncode == -signal.SIGKILL
    new.kill()
    new.wait()
    made.close()
    assert started == [handlers.WAITING, "corefilt.handler"]


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ENOBUFS, errno.ETOOMANYREFS], ids=errno.errorcode.get)
def test_what_cannot_be_given_a_core_is_passed_over(
    started: list[str], error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*about: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(handlers.socket, "send_fds", fails)
    made = Handlers(2)
    made.fill()
    processes = [process for _, process in made._waiting]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        new = made.start(CRASH, theirs)
    assert [process.returncode for process in processes] == [0, 0]
    new.kill()
    new.wait()
    assert started == [*[handlers.WAITING] * 2, "corefilt.handler"]


def test_without_any_each_core_has_a_new_one(started: list[str]) -> None:
    made = Handlers(0)
    made.fill()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        new = made.start(CRASH, theirs)
    new.kill()
    new.wait()
    made.close()
    assert started == ["corefilt.handler"]


def test_all_that_a_core_takes_is_loaded(tmp_path: Path) -> None:
    """What both processes of a handler load late, is there; settings that cannot be read are no reason to end."""
    config = tmp_path / "conf"
    for text in ("signature = true\n", "nothing = 1\n"):
        config.write_text(text)
        script = (
            "import sys\nfrom corefilt.handler.serve import waiting\n"
            f"waiting.load({str(config)!r})\nbefore = set(sys.modules)\n"
            "from corefilt.handler import entry, records, config, supervisor, sandbox, statement, worker\n"
            "worker.load()\nprint(sorted(set(sys.modules) - before), 'ctypes' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=PATIENCE)
        assert done.stdout == "[] True\n", done.stderr
