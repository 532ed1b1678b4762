"""Where cores are and go, step by step: below a folder that was named, no link is followed.

Whoever can write into a folder of an archive can put links there while a job runs. What a person names on the command
line is opened as it is; from there on every folder is opened by its name in the one before, and a link is refused.
"""

from __future__ import annotations

import errno
import os
import stat

from corefilt.errors import InputError, OutputError
from corefilt.io.openat import FOLDER, StepError, walk


class OpenPlace:
    """A file's folder, opened, and its name in it; a context manager. ``path`` is for people."""

    __slots__ = ("folder", "leaf", "path")

    def __init__(self, folder: int, leaf: str, path: str) -> None:
        self.folder, self.leaf, self.path = folder, leaf, path

    def __enter__(self) -> OpenPlace:
        return self

    def __exit__(self, *about: object) -> None:
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
            raise InputError(f"{self.path}: not a regular file")
        return fd, status


def enter(path: str, root: str) -> OpenPlace:
    """The place of a file that was found below ``root``, or was named itself (empty). Raises InputError."""
    if not root:
        # The file that was named may be a link; what it points to is meant.
        path = os.path.realpath(path)
        root = os.path.dirname(path)
    below = os.path.relpath(path, root)
    steps, leaf = os.path.split(below)
    if os.path.isabs(below) or below.split(os.sep)[0] == os.pardir:
        raise InputError(f"{path}: not below {root}")
    return OpenPlace(open_folder(root, steps), leaf, path)


def open_folder(root: str, below: str) -> int:
    """A descriptor of a folder ``below`` another one. Raises InputError."""
    try:
        return walk(os.open(root, FOLDER), _steps(below))
    except OSError as error:
        raise InputError(_said(error, root)) from None


def make_folder(root: str, below: str) -> int:
    """As open_folder, but what is not there is made, 0700. Raises OutputError."""
    try:
        os.makedirs(root or os.curdir, mode=0o700, exist_ok=True)
        return walk(os.open(root or os.curdir, FOLDER), _steps(below), make=True)
    except OSError as error:
        raise OutputError(_said(error, root)) from None


def _steps(below: str) -> list[str]:
    return [step for step in below.split(os.sep) if step not in ("", os.curdir)]


def _said(error: OSError, root: str) -> str:
    at = os.path.join(root, error.filename) if isinstance(error, StepError) else root
    words = "is a symbolic link or not a directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
    return f"{at}: {words}"


def make_place(path: str, root: str) -> OpenPlace:
    """The place of an output below ``root`` (empty: in the folder that was named); what is not there is made.

    Raises OutputError.
    """
    root = root or os.path.dirname(path)
    folder, leaf = os.path.split(os.path.relpath(path, root or os.curdir))
    if folder.split(os.sep)[0] == os.pardir or leaf in ("", os.curdir, os.pardir):
        raise OutputError(f"{path}: not below {root}")
    return OpenPlace(make_folder(root, folder), leaf, path)
