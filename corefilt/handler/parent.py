"""The parent: root's part of the work. It opens, starts the child, waits, and gives the core its name and rights.

It reads no byte of the core and nothing of the evidence but what ``victim`` says, and it asks no name service.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import ExitStack

from ..errors import CorefiltError, NoCoreError, OutputError
from ..sizes import show_size
from . import readers
from .account import find_account
from .entries import attributes, fields
from .messages import CRITICAL, ERROR, Messages
from .places import open_folder
from .result import FAILED, MOST, WHOLE, Result, unpack
from .target import Target, name_of
from .victim import Victim, open_victim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .account import Account
    from .config import Config
    from .crash import Crash

# ELF_EXEC_PAGESIZE, under which the kernel writes no file (do_coredump).
LEAST_LIMIT = 4096


class _Stream:
    """The pipe that the core comes by, until it is closed."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def handle(crash: Crash, stream: int, config: Config, messages: Messages) -> str | None:
    """Save the core that comes by ``stream``, which is closed; returns its path, or None, and says which and why."""
    until = time.monotonic() + config.deadline
    victim, coming = Victim(), _Stream(stream)
    try:
        with ExitStack() as undo:
            undo.callback(coming.close)
            victim = open_victim(crash)
            undo.callback(victim.close)
            path, result, notices = _save(crash, victim, coming, config, until, undo)
    except (CorefiltError, OSError) as error:
        words = str(error) if isinstance(error, CorefiltError) else f"{error.filename or 'system'}: {error.strerror}"
        messages.say(f"{_who(crash, victim)}: no core was saved: {words}", ERROR, fields(crash, victim))
        return None
    how = "as it came" if result.status == WHOLE else f"filter {config.filter:#x}, {show_size(result.dropped)} dropped"
    if result.assumed:
        how += f", {show_size(result.assumed)} of it kept on an assumption"
    text = f"{_who(crash, victim)} dumped core: {path}, {show_size(result.output_bytes)}, {how}"
    words = "; ".join(word for word in (*notices, result.words) if word)
    told = fields(crash, victim, path, truncated=result.damaged)
    messages.say(f"{text}; {words}" if words else text, CRITICAL, told)
    return path


def _save(
    crash: Crash, victim: Victim, stream: _Stream, config: Config, until: float, undo: ExitStack
) -> tuple[str, Result, list[str]]:
    account = find_account(config.user)
    if account.uid == crash.uid:
        raise NoCoreError(f"it ran under the handler's own account ({config.user})", "nothing else should own it")
    if config.rlimit != "ignore" and crash.limit < LEAST_LIMIT:
        raise NoCoreError(f"RLIMIT_CORE is {crash.limit}", 'rlimit = "ignore" saves cores all the same')
    target = Target(open_folder(config.directory), config.directory)
    undo.callback(os.close, target.fd)
    if target.free < config.free_space:
        raise OutputError(f"{target.path}: less than {show_size(config.free_space)} are free (free-space)")
    files: list[int] = []
    for _ in range(2):
        files.append(target.new_file())
        undo.callback(os.close, files[-1])
    result = _have_done(crash, victim, stream, config, account, (files[0], files[1]), until)
    if result.status == FAILED:
        raise OutputError(result.words)
    fd = files[result.file]
    notices = _give_rights(fd, crash, victim)
    ending = b".zst" if result.compressed else b""
    return target.give_name(fd, name_of(config, crash, victim), ending), result, notices


def _have_done(
    crash: Crash,
    victim: Victim,
    stream: _Stream,
    config: Config,
    account: Account,
    files: tuple[int, int],
    until: float,
) -> Result:
    """Have a child do the work until the deadline; when this returns there is no child. Raises OutputError."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with ExitStack() as undo:
        undo.callback(os.close, reader)
        parent = os.getpid()
        child = os.fork()
        if not child:
            _be_the_child(crash, victim, stream.fd, config, account, files, writer, parent)
        undo.callback(_end, child)
        os.close(writer)
        # The child's end is then the end of all reading: the kernel stops to write and waits for nobody.
        stream.close()
        victim.close()
        waiting = select.poll()
        waiting.register(reader, select.POLLIN)
        if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
            raise OutputError(f"it took longer than {config.deadline:g} s (deadline)")
        raw = os.read(reader, MOST)
        result = unpack(raw)
    if result is None:
        raise OutputError(
            "the child that reads it ended before it was done" if not raw else "the child's report is bad"
        )
    return result


def _end(child: int) -> None:
    """Nothing writes to the file from here on."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _be_the_child(
    crash: Crash,
    victim: Victim,
    stream: int,
    config: Config,
    account: Account,
    files: tuple[int, int],
    report: int,
    parent: int,
) -> NoReturn:
    code = 1
    try:
        from .calls import allow_calls, find_library
        from .child import Work
        from .confine import close_others, confine

        seccomp = find_library()
        work = Work(crash, config, victim, stream, files)
        close_others([0, 1, 2, stream, *files, *victim.descriptors, report])
        confine(account, parent)
        if seccomp is not None:
            allow_calls(seccomp)
        os.write(report, work.carry_out().pack())
        code = 0
    except BaseException as error:
        os.write(report, Result(FAILED, f"{type(error).__name__}: {error}").pack())
    finally:
        os._exit(code)


def _give_rights(fd: int, crash: Crash, victim: Victim) -> list[str]:
    """Let its user read it where he may, and note on it what coredumpctl looks for; tells what did not work."""
    notices = []
    for name, value in attributes(crash, victim).items():
        try:
            os.setxattr(fd, name, value)
        except OSError:
            # The journal has it too.
            break
    uid = readers.reader_of(crash, victim)
    if uid is not None:
        try:
            os.setxattr(fd, readers.ACL, readers.acl(uid))
        except OSError as error:
            notices.append(f"user {uid} cannot be let read it: {error.strerror}")
    return notices


def _who(crash: Crash, victim: Victim) -> str:
    comm = victim.comm.decode("utf-8", "backslashreplace") if victim.comm is not None else "?"
    return f"process {crash.pid} ({comm}) of user {crash.uid}, signal {crash.signal}"
