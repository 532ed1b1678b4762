"""Who writes into a directory at the moment, how much, and how often of late: one small file, held for milliseconds.

The file has locks of its own, so that nobody waits for a batch: one for what it says, so that a crash does not wait for
those who look at a thousand cores, and one for the directory's cores. A reservation is a locked range of it: the kernel
gives it back when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
from contextlib import contextmanager

from corefilt.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = ".corefilt.lock"
# struct flock of include/uapi/asm-generic/fcntl.h, with offsets of 64 bits. The locks are the open file's (Linux 3.15):
# those of a process are lost when it closes any descriptor of the file, as whoever lists the directory does.
_FLOCK = struct.Struct("hhqqi4x")
# The bytes that are locked: for what this file says, and for which cores come and go.
ENTRIES, CORES = range(2)
# How many reservations there ever were at a time, as a decimal number.
_COUNT = 16
# Their table: so many bytes each, as a decimal number; each is locked by its first byte.
_TABLE, _SLOT, MOST_SLOTS = 64, 32, 4096
# Behind them what was saved of late: a line with the boot, and one for each executable of a user.
_RECENT = _TABLE + _SLOT * MOST_SLOTS
_MOST_RECENT = 1 << 20
# Crashes that are remembered for one user: what is more is forgotten, his oldest first.
MOST_OF_A_USER = 1000
# Seconds that a lock is waited for. With 1,000 cores a handler holds that of the cores for 10 ms of CPU time in all.
# While it was 55 ms, one of 32 at once on two busy CPUs waited for more than 10 s.
PATIENCE = 60.0
_PAUSE = 0.005
_BOOT = "/proc/sys/kernel/random/boot_id"


class Ledger:
    """The file in an open directory; a context manager. Raises OutputError where it cannot be used."""

    def __init__(self, folder: int, path: str) -> None:
        self._path, self._slot = os.path.join(path, NAME), -1
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        try:
            self._fd = os.open(NAME, flags, 0o600, dir_fd=folder)
        except OSError as error:
            raise OutputError(f"{self._path}: {error.strerror}") from None
        status = os.fstat(self._fd)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        if not own or status.st_mode & 0o077:
            os.close(self._fd)
            raise OutputError(f"{self._path}: must be a file that only this user can access", "remove it")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *about: object) -> None:
        # Closing gives every lock back.
        os.close(self._fd)

    @contextmanager
    def held(self, what: int = ENTRIES, patience: float = PATIENCE) -> Iterator[None]:
        """Hold a lock, ENTRIES or CORES; of both, CORES is taken first.

        Raises OutputError where somebody else holds it for so many seconds.
        """
        until = time.monotonic() + patience
        while not self._lock(what):
            if time.monotonic() > until:
                raise OutputError(f"{self._path}: has been locked for more than {patience:g} s")
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self._unlock(what)

    def _lock(self, at: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, at: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, at, 1, 0))

    def _slots(self) -> Iterator[int]:
        yield from range(_TABLE, min(_TABLE + _SLOT * self._number(_COUNT), _RECENT), _SLOT)

    def _number(self, at: int) -> int:
        digits = os.pread(self._fd, _SLOT, at).split(b"\0")[0].strip()
        return int(digits) if digits.isdigit() else 0

    def reserved(self) -> int:
        """The bytes that others have reserved; to be asked while ENTRIES is held."""
        total = 0
        for at in self._slots():
            if at == self._slot:
                continue
            if self._lock(at):
                self._unlock(at)
                continue
            total += self._number(at)
        return total

    def reserve(self, size: int) -> None:
        """Reserve so many bytes until the file is closed; while ENTRIES is held. Raises OutputError."""
        at = self._slot
        if at < 0:
            at = next((at for at in range(_TABLE, _RECENT, _SLOT) if self._lock(at)), -1)
        if at < 0:
            raise OutputError(f"{self._path}: {MOST_SLOTS} cores are being written", "wait until some are done")
        self._slot = at
        os.pwrite(self._fd, b"%0*d" % (_SLOT, size), at)
        count = (at - _TABLE) // _SLOT + 1
        if count > self._number(_COUNT):
            os.pwrite(self._fd, b"%0*d" % (_SLOT, count), _COUNT)

    def admit(self, uid: int, executable: str, *, interval: float, burst: int) -> bool:
        """Count a crash of an executable and user; whether it is within the rate. While ENTRIES is held.

        The clock is that of the time since boot, which nobody sets and which goes on in suspend.
        """
        # Not before a rate asks for it: the process that crashed waits for what is loaded here. hashlib takes 3 ms of
        # CPU, this 0.5; names that are made to have one digest count together, for the user who made them.
        from xxhash import xxh3_64_hexdigest

        now, boot = time.clock_gettime(time.CLOCK_BOOTTIME), _boot_id()
        who = f"{uid} {xxh3_64_hexdigest(executable.encode('utf-8', 'surrogateescape'))}"
        recent = self._recent(boot)
        times = [when for when in recent.get(who, []) if 0 <= now - when < interval]
        if len(times) >= burst:
            return False
        recent[who] = [*times, now]
        self._remember(boot, recent, now - interval)
        return True

    def _recent(self, boot: str) -> dict[str, list[float]]:
        """What was saved since this boot, by user and executable; nothing where the file does not say it."""
        lines = os.pread(self._fd, _MOST_RECENT, _RECENT).decode("ascii", "replace").splitlines()
        if lines[:1] != [boot]:
            return {}
        found: dict[str, list[float]] = {}
        for line in lines[1:]:
            try:
                uid, name, *times = line.split(" ")
                found[f"{uid} {name}"] = [float(when) for when in times]
            except ValueError:
                continue
        return found

    def _remember(self, boot: str, recent: dict[str, list[float]], oldest: float) -> None:
        users: dict[str, list[tuple[float, str]]] = {}
        for who, times in recent.items():
            users.setdefault(who.partition(" ")[0], []).extend((when, who) for when in times if when >= oldest)
        kept: dict[str, list[float]] = {}
        for entries in users.values():
            for when, who in sorted(entries)[-MOST_OF_A_USER:]:
                kept.setdefault(who, []).append(round(when, 3))
        lines = [boot, *(" ".join([who, *map(str, times)]) for who, times in kept.items())]
        raw = "\n".join(lines).encode()[:_MOST_RECENT]
        os.ftruncate(self._fd, _RECENT)
        os.pwrite(self._fd, raw, _RECENT)


def _boot_id() -> str:
    with open(_BOOT, encoding="ascii") as file:
        return file.read().strip()
