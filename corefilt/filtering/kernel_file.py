"""The file that a core's name stands for: what the kernel makes of whatever is there already, and safer.

``do_coredump`` in fs/coredump.c, Linux 6.18: what bears the name is removed and a new file of mode 0600 is made, never
through a link at its end; with dump mode 2 only under an absolute name that nothing bears, and for root; with dump
mode 0 not at all. Here the new file gets its name when it is whole, so that nothing is removed before. Held against
the files that the kernel leaves.
"""

from __future__ import annotations

import os
import stat

from corefilt.errors import NoCoreError, OutputError
from corefilt.io.sinks import NamedFile, NewFileSink, reported, told_of_holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Source

# What suid_dumpable and PR_SET_DUMPABLE call them (include/linux/sched/coredump.h).
SUID_DUMP_DISABLE, SUID_DUMP_USER, SUID_DUMP_ROOT = 0, 1, 2


class KernelFile(NamedFile):
    """A core's path to be; ``replace`` lets it take the place of what bears the name, ``dumpable`` is the mode."""

    __slots__ = ("dumpable", "path", "replace")

    def __init__(self, path: str, *, replace: bool, dumpable: int = SUID_DUMP_USER) -> None:
        self.path, self.replace, self.dumpable = path, replace, dumpable

    def open(self, source: Source | None) -> NewFileSink:
        """A sink that becomes this file. Raises NoCoreError where the mode forbids one, OutputError for the rest."""
        self._check_mode()
        self._check_place(source)
        sink = NewFileSink(self.path, replace=self.replace and self.dumpable != SUID_DUMP_ROOT)
        try:
            check_made(sink.fd, self.path)
        except BaseException:
            sink.abort()
            raise
        return told_of_holder(sink) if self.replace else sink

    def _check_mode(self) -> None:
        if self.dumpable == SUID_DUMP_DISABLE:
            raise NoCoreError("dump mode 0 (%d): the kernel writes no core", "use mode 1 or 2")
        if self.dumpable == SUID_DUMP_ROOT:
            if not os.path.isabs(self.path):
                raise NoCoreError(
                    f"{self.path}: with dump mode 2 the kernel writes no core to a relative name",
                    "name the directory by its absolute path",
                )
            if os.geteuid():
                raise NoCoreError(f"{self.path}: with dump mode 2 the core is root's", "run this as root")

    def _check_place(self, source: Source | None) -> None:
        with reported(self.path):
            try:
                status = os.lstat(self.path)
            except FileNotFoundError:
                folder = os.path.dirname(self.path) or "."
                if not os.path.isdir(folder):
                    raise OutputError(
                        f"{self.path}: its directory does not exist", "corefilt creates no directories"
                    ) from None
                return
        if stat.S_ISDIR(status.st_mode):
            raise OutputError(f"{self.path}: is a directory")
        if source is not None and (status.st_dev, status.st_ino) == source.identity:
            raise OutputError(f"{self.path}: is the input itself", "write to another file")
        if self.dumpable == SUID_DUMP_ROOT:
            raise OutputError(f"{self.path}: exists, and dump mode 2 does not replace files")
        if not self.replace:
            raise OutputError(f"{self.path}: exists", "-f replaces it")
        if not _may_remove(self.path, status):
            raise OutputError(f"{self.path}: belongs to another user, in a sticky directory")


def _may_remove(path: str, status: os.stat_result) -> bool:
    """Whether a sticky folder lets us (``__check_sticky`` in fs/namei.c); found out before hours of writing."""
    folder = os.stat(os.path.dirname(path) or ".")
    return not folder.st_mode & stat.S_ISVTX or os.geteuid() in (0, status.st_uid, folder.st_uid)


def check_made(fd: int, name: str) -> None:
    """Raise OutputError where the file system gave a new file another owner or other rights than were asked for.

    The kernel writes no core there either: its pages would be everybody's to read.
    """
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise OutputError(f"{name}: its file system gives files to user {status.st_uid}, and a core is its owner's")
    if status.st_mode & 0o677 != 0o600:
        raise OutputError(
            f"{name}: its file system gives files mode {stat.S_IMODE(status.st_mode):04o}, and a core's is 0600"
        )
