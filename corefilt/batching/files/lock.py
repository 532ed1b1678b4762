"""One job at a time on an archive: the folder itself is locked, and while it is replaced each core.

systemd-tmpfiles, which deletes old cores, passes over a folder that is locked.
"""

from __future__ import annotations

import fcntl
import os
import time

from corefilt.errors import LockedError

# Workers of a job that was killed hold its locks until the kernel has ended them, too.
PATIENCE = 3.0
_STEP = 0.05


class Lock:
    """Folders that are locked until it is closed; a context manager."""

    def __init__(self, folders: list[str]) -> None:
        """Lock them all. Raises LockedError."""
        self._fds: list[int] = []
        try:
            for folder in folders:
                self._fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                if not _taken(self._fds[-1], PATIENCE):
                    raise LockedError(f"{folder}: is locked: another corefilt batch is working on it")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *about: object) -> None:
        while self._fds:
            os.close(self._fds.pop())


def lock_file(fd: int, name: str) -> None:
    """Lock an open file until it is closed. Raises LockedError."""
    if not _taken(fd, 0):
        raise LockedError(f"{name}: is locked: another job is working on it")


def _taken(fd: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_STEP)
        except OSError:
            # This file system knows no locks.
            return True
