"""Where cores are and go, step by step: below a folder that was named, no link is followed.

Whoever can write into a folder of an archive can put links there while a job runs. What a person names on the command
line is opened as it is; from there on every folder is opened by its name in the one before, and a link is refused.
"""

from __future__ import annotations

import errno
import os
import stat

from corefilt.errors import InputError, OutputError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOCTTY


class Place:
    """A file's folder, opened, and its name in it; a context manager. ``path`` is for people."""

    __slots__ = ("folder", "leaf", "path")

    def __init__(self, folder: int, leaf: str, path: str) -> None:
        """Take the folder's descriptor."""
        self.folder, self.leaf, self.path = folder, leaf, path

    def __enter__(self) -> Place:
        """Give the place itself."""
        return self

    def __exit__(self, *about: object) -> None:
        """Close the folder."""
        os.close(self.folder)

    def status(self) -> os.stat_result | None:
        """What stands there, itself and not what it may point to; None for nothing."""
        try:
            return os.stat(self.leaf, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self) -> tuple[int, os.stat_result]:
        """Open the regular file that stands there for reading. Raises InputError."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self.leaf, flags, dir_fd=self.folder)
        except OSError as error:
            words = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise InputError(f"{self.path}: {words}") from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise InputError(f"{self.path}: is no regular file")
        return fd, status


def enter(path: str, root: str) -> Place:
    """The place of a file that was found below ``root``, or was named itself (empty). Raises InputError."""
    if not root:
        # The file that was named may be a link; what it points to is meant.
        path = os.path.realpath(path)
        root = os.path.dirname(path)
    below = os.path.relpath(path, root)
    steps, leaf = os.path.split(below)
    if os.path.isabs(below) or below.split(os.sep)[0] == os.pardir:
        raise InputError(f"{path}: is not below {root}")
    return Place(open_folder(root, steps), leaf, path)


def open_folder(root: str, below: str) -> int:
    """A descriptor of a folder ``below`` another one. Raises InputError."""
    at = root
    try:
        fd = os.open(root, _FOLDER)
        for step in below.split(os.sep) if below else ():
            at = os.path.join(at, step)
            last, fd = fd, -1
            try:
                fd = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=last)
            finally:
                os.close(last)
    except OSError as error:
        words = "is a symbolic link or no folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise InputError(f"{at}: {words}") from None
    return fd


def make_folder(root: str, below: str) -> int:
    """As open_folder, but what is not there is made, 0700. Raises OutputError."""
    at = root
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        fd = os.open(root, _FOLDER)
        for step in below.split(os.sep) if below else ():
            at = os.path.join(at, step)
            last, fd = fd, -1
            try:
                try:
                    os.mkdir(step, 0o700, dir_fd=last)
                except FileExistsError:
                    pass
                fd = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=last)
            finally:
                os.close(last)
    except OSError as error:
        words = "is a symbolic link or no folder" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
        raise OutputError(f"{at}: {words}") from None
    return fd


def make_place(path: str) -> Place:
    """The place of an output, whose folders are made where they are not there. Raises OutputError."""
    folder, leaf = os.path.split(path)
    return Place(make_folder(folder or os.curdir, ""), leaf, path)
