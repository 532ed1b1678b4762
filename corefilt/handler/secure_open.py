"""Files and folders that root opens: step by step, never through a link, and only where no other user can move them."""

from __future__ import annotations

import os
import stat

from corefilt.errors import ConfigError
from corefilt.io.openat import FOLDER, StepError, walk

# tomllib takes it whole.
MOST_OF_A_FILE = 64 << 10


def open_folder(path: str) -> int:
    """A descriptor of a folder; what leads to it must be root's, the folder itself is whose it is. Raises ConfigError.

    A folder that others may write to is passed only where it is sticky: there they cannot exchange what is root's.
    """
    parts = path.split("/")
    if not path.startswith("/") or ".." in parts or "." in parts:
        raise ConfigError(f"{path!r} is not an absolute path without . and ..")
    try:
        return walk(
            os.open("/", FOLDER),
            [part for part in parts if part],
            check=lambda fd, at: _check_owner(os.fstat(fd), f"/{at}", sticky=True),
        )
    except StepError as error:
        raise ConfigError(
            f"/{error.filename}: cannot be opened as a directory: {error.strerror}", "links are not followed"
        ) from None


def read_own_file(path: str) -> bytes | None:
    """A small file of root's that nobody else can write, whole; None where there is none. Raises ConfigError."""
    folder_path, name = os.path.split(path)
    folder = open_folder(folder_path)
    try:
        _check_owner(os.fstat(folder), folder_path, sticky=True)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be opened: {error.strerror}", "links are not followed") from None
    finally:
        os.close(folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: not a regular file")
        _check_owner(status, path, sticky=False)
        text = os.read(fd, MOST_OF_A_FILE + 1)
    finally:
        os.close(fd)
    if len(text) > MOST_OF_A_FILE:
        raise ConfigError(f"{path}: has more than {MOST_OF_A_FILE} bytes")
    return text


def _check_owner(status: os.stat_result, path: str, *, sticky: bool) -> None:
    if status.st_uid:
        raise ConfigError(f"{path}: belongs to user {status.st_uid}, not to root")
    if status.st_mode & 0o022 and not (sticky and status.st_mode & stat.S_ISVTX):
        raise ConfigError(f"{path}: can be written by others (mode {stat.S_IMODE(status.st_mode):04o})")
