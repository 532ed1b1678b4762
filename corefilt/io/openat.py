"""One walk through directories that others can change: name by name, each in the one before, no link followed.

Whoever can write to a directory can put a link there while a program of another user walks through it. From a directory
that is open, every step is one name, opened with O_NOFOLLOW; so what is reached lies below where the walk began.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOCTTY


class StepError(OSError):
    """A step that could not be taken; ``filename`` is the way to it, as far as it was walked."""


def walk(
    folder: int,
    steps: Iterable[str],
    *,
    make: bool = False,
    flags: int = FOLDER,
    check: Callable[[int, str], None] | None = None,
) -> int:
    """A descriptor of the directory that names lead to from an open one, which is closed.

    ``make`` makes what is not there, 0700. ``flags`` are those of every open. ``check`` is shown every directory, with
    the way to it, before a name in it is opened; what it raises ends the walk. Raises StepError, with ELOOP or ENOTDIR
    for a link or what is not a directory.
    """
    fd, at = folder, ""
    try:
        for step in steps:
            if step in ("", os.curdir, os.pardir) or "/" in step:
                raise ValueError(f"{step!r} is not a single name")
            if check is not None:
                check(fd, at)
            at = os.path.join(at, step)
            below = _step(fd, step, at, flags, make=make)
            last, fd = fd, below
            os.close(last)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _step(folder: int, name: str, at: str, flags: int, *, make: bool) -> int:
    try:
        if make:
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                pass
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        raise StepError(error.errno, error.strerror, at) from None
