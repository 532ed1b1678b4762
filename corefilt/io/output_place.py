"""What stands under an output's name, held open while it is decided on, so that what is opened is what was looked at.

A link at the end of the name is followed only if it belongs to the caller or to root, whatever directory it is in; a
FIFO in a directory that others can write to is written only if it belongs to the caller or to the directory's owner.
Links on the way to the last directory are followed, as everywhere.
"""

from __future__ import annotations

import errno
import os
import stat

from corefilt.errors import OutputError
from corefilt.io.sources import shut

# The kernel follows no more links for one name (MAXSYMLINKS in include/linux/namei.h).
MOST_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STREAM = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY
# What lets more than its owner change the names in a directory, or tells that it is meant for that.
_OTHERS_WRITE = stat.S_ISVTX | stat.S_IWGRP | stat.S_IWOTH


class OutputPlace:
    """An output's directory and what its name leads to there, both held open; a context manager.

    ``folder`` is an O_PATH descriptor of the directory and ``leaf`` the name in it, ``status`` tells what stands there
    (None: nothing). ``linked`` tells that the name that was given is a symbolic link.
    """

    __slots__ = ("_fd", "_own", "folder", "leaf", "linked", "name", "status")

    def __init__(self, name: str) -> None:
        """Look it up. Raises OutputError for a link of somebody else's, and OSError."""
        self.name, self.linked, self._own = name, False, False
        self.folder = self._fd = -1
        self.leaf = ""
        self.status: os.stat_result | None = None
        try:
            self._follow(name)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> OutputPlace:
        return self

    def __exit__(self, *about: object) -> None:
        for fd in (self.folder, self._fd):
            if fd >= 0:
                shut(fd)
        self.folder = self._fd = -1

    def _follow(self, path: str) -> None:
        for _ in range(MOST_LINKS + 1):
            above, self.leaf = os.path.split(path)
            former, self.folder = self.folder, -1
            try:
                self.folder = os.open(above or ".", _FOLDER, dir_fd=former if former >= 0 else None)
            finally:
                if former >= 0:
                    shut(former)
            try:
                self._fd = os.open(self.leaf or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
            except FileNotFoundError:
                return
            self.status = os.fstat(self._fd)
            if not stat.S_ISLNK(self.status.st_mode):
                return
            self.linked = True
            if self.status.st_uid not in (0, os.geteuid()):
                raise OutputError(
                    f"{self.name}: is a symbolic link of user {self.status.st_uid}", "name the file that it points to"
                )
            if _made_of_descriptors(self.folder):
                self._follow_magic()
                return
            path = os.readlink("", dir_fd=self._fd)
            shut(self._fd)
            self._fd, self.status = -1, None
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _follow_magic(self) -> None:
        """Take what a link of /proc/PID/fd stands for: its text is not a path."""
        own = (f"/proc/{part}/fd" for part in ("self", "thread-self"))
        self._own = any(os.path.samestat(os.fstat(self.folder), os.stat(path)) for path in own)
        link, self._fd = self._fd, -1
        shut(link)
        self._fd = os.open(self.leaf, os.O_PATH | os.O_CLOEXEC, dir_fd=self.folder)
        self.status = os.fstat(self._fd)

    def open_stream(self, *, force: bool) -> int:
        """Open the FIFO or device that stands there for writing; of a FIFO the reader is waited for.

        Raises OutputError for a FIFO that others may have planted, unless ``force``, and OSError.
        """
        status = self.status
        if status is None:
            raise AssertionError("it exists")
        if not force:
            self._refuse_planted(status)
        again = f"/proc/self/fd/{self._fd}"
        if not os.path.exists(again):
            fd = os.open(self.leaf, _STREAM | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.folder)
        else:
            try:
                fd = os.open(again, _STREAM | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO or not stat.S_ISFIFO(status.st_mode):
                    raise
                # Nobody reads yet; it is waited for at the FIFO that was looked at.
                fd = os.open(again, _STREAM)
        try:
            if not os.path.samestat(status, os.fstat(fd)):
                raise OutputError(f"{self.name}: another file took its name while it was opened")
            os.set_blocking(fd, True)
        except BaseException:
            shut(fd)
            raise
        return fd

    def _refuse_planted(self, status: os.stat_result) -> None:
        """Refuse a FIFO that any user could have put there to be sent the core. Descriptors of ours are passed."""
        above = os.fstat(self.folder)
        if (
            stat.S_ISFIFO(status.st_mode)
            and not self._own
            and above.st_mode & _OTHERS_WRITE
            and status.st_uid not in (os.geteuid(), above.st_uid)
        ):
            raise OutputError(
                f"{self.name}: is a FIFO of user {status.st_uid}, in a directory that others can write to",
                "-f writes to it anyway",
            )


def _made_of_descriptors(folder: int) -> bool:
    """Whether a directory lies in procfs, where links stand for open files."""
    try:
        return os.fstat(folder).st_dev == os.stat("/proc/self/fd").st_dev
    except OSError:
        return False
