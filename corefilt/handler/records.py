"""A record of every core that is being saved, below /run: what a handler leaves that was killed, or could not free.

A record is written before the first byte of the core is read, locked as long as its handler lives, and removed at the
end. One that nobody holds tells of a core that was lost, or of a process that still stands in its dump.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from corefilt.errors import ConfigError
from corefilt.handler.secure_open import open_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim

FOLDER = "/run/corefilt"
# What the record says of its core: it is being saved; nothing was saved, and its process cannot be ended.
BEGUN, STUCK = "begun", "stuck"
_FORM = "corefilt-1"
_MOST = 512
# Records that are looked at: more than there are handlers at a time.
_MOST_RECORDS = 10000


class Lost:
    """A crash whose handler is gone: ``started`` is in clock ticks since boot, ``time`` in seconds since 1970."""

    __slots__ = ("comm", "pid", "signal", "started", "state", "time", "uid")

    def __init__(self, state: str, pid: int, started: int, uid: int, signal: int, when: int, comm: bytes) -> None:
        self.state, self.pid, self.started, self.uid = state, pid, started, uid
        self.signal, self.time, self.comm = signal, when, comm

    def __str__(self) -> str:
        comm = self.comm.decode("utf-8", "backslashreplace") or "?"
        return f"process {self.pid} ({comm}) of user {self.uid}, signal {self.signal}"


class StoreRecord:
    """The record of one crash; it does nothing where its folder cannot be used, and ``why_not`` says so."""

    def __init__(self, crash: CrashInfo, victim: Victim, folder: str | None = None) -> None:
        self._folder = self._fd = -1
        self.why_not = ""
        self._name = f"{crash.pid}.{os.getpid()}.{time.monotonic_ns()}"
        comm = (victim.comm or b"").hex() or "-"
        self._rest = f"{crash.pid} {victim.started or 0} {crash.uid} {crash.signal} {crash.time} {comm}\n"
        try:
            self._folder = _open_own(folder or FOLDER)
            self._fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
            # Not flock: a child would hold it too.
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(BEGUN)
            os.link(f"/proc/self/fd/{self._fd}", self._name, dst_dir_fd=self._folder, follow_symlinks=True)
        except (ConfigError, OSError) as error:
            self.why_not = str(error)
            self._close()

    def _write(self, state: str) -> None:
        # In one call, and each state has five letters: nobody reads half of it.
        os.pwrite(self._fd, f"{_FORM} {state} {self._rest}".encode(), 0)

    def leave_stuck(self) -> None:
        """Let it stay, for ``status`` to name the process."""
        if self._fd >= 0:
            self._write(STUCK)
            self._close()

    def remove(self) -> None:
        """The core was saved, or its loss was said."""
        if self._fd >= 0:
            os.unlink(self._name, dir_fd=self._folder)
            self._close()

    def _close(self) -> None:
        for fd in (self._fd, self._folder):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder = -1


def left_behind(folder: str | None = None, *, clear: bool = False) -> list[Lost]:
    """The records that no handler holds. Raises ConfigError or OSError where they cannot be looked at.

    ``clear`` removes them, so that each is told once; what is left is STUCK, of processes that still stand there.
    """
    try:
        where = _open_own(folder or FOLDER, make=False)
    except FileNotFoundError:
        return []
    try:
        return list(_left_in(where, clear=clear))
    finally:
        os.close(where)


def stands_still(lost: Lost) -> bool:
    """Whether the process of a record is still there, in its dump: the same one, not the next of its number."""
    from corefilt.handler.crashed_process import is_dumping
    from corefilt.procfs.pidfd import start_time

    try:
        folder = os.open(f"/proc/{lost.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return lost.started > 0 and start_time(folder) == lost.started and is_dumping(folder)
    finally:
        os.close(folder)


def _left_in(where: int, *, clear: bool) -> Iterator[Lost]:
    for name in os.listdir(where)[:_MOST_RECORDS]:
        try:
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=where)
        except OSError:
            continue
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who had it may have removed it meanwhile.
            if not os.fstat(fd).st_nlink:
                continue
            raw = os.pread(fd, _MOST, 0)
            lost = _parse(raw)
            stands = lost is not None and stands_still(lost)
            if clear and stands:
                os.pwrite(fd, raw.replace(BEGUN.encode(), STUCK.encode(), 1), 0)
            elif clear:
                os.unlink(name, dir_fd=where)
            if lost is not None and (lost.state == BEGUN or stands):
                yield lost
        except OSError:
            continue
        finally:
            os.close(fd)


def _parse(raw: bytes) -> Lost | None:
    """A record; only root can have written it, but not only this version."""
    words = raw.decode("ascii", "replace").split()
    try:
        form, state, *numbers, comm = words
        pid, started, uid, signal, when = map(int, numbers)
        name = b"" if comm == "-" else bytes.fromhex(comm)
    except ValueError:
        return None
    return Lost(state, pid, started, uid, signal, when, name) if form == _FORM and state in (BEGUN, STUCK) else None


def _open_own(path: str, *, make: bool = True) -> int:
    """The folder, which must belong to root and be private; no link is followed. Raises ConfigError or OSError."""
    if make:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
    elif not os.path.lexists(path):
        raise FileNotFoundError(path)
    fd = open_folder(path)
    status = os.fstat(fd)
    if status.st_uid or status.st_mode & 0o077:
        os.close(fd)
        raise ConfigError(
            f"{path}: must belong to root and be private (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o})"
        )
    return fd
