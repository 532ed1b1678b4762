"""The files that the parent opened for the child to write: it has no folder and gives no names."""

from __future__ import annotations

import os

from corefilt.errors import OutputError
from corefilt.handler.store import free
from corefilt.io.sinks import NamedFile, Sink, reported
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.sources import Source


class Output(NamedFile, Sink):
    """A nameless file by a descriptor that can read and write; the name is the parent's to give."""

    seekable = True

    def __init__(self, fd: int) -> None:
        Sink.__init__(self, fd, "the core", owned=False)
        self.path, self.reader = self.name, fd

    def open(self, source: Source | None) -> Output:
        """Itself, empty."""
        with reported(self.name):
            os.ftruncate(self.fd, 0)
            os.lseek(self.fd, 0, os.SEEK_SET)
        return self

    def commit(self, size: int, *, sync: bool) -> None:
        """Cut to size, and wait for the disk."""
        with reported(self.name):
            os.ftruncate(self.fd, size)
            if sync:
                os.fsync(self.fd)
            self.allocated = os.fstat(self.fd).st_blocks * 512

    def abort(self) -> None:
        """Give the room back."""
        try:
            os.ftruncate(self.fd, 0)
        except OSError:
            return


def floor_under(fd: int, least: int) -> Callable[[int], None]:
    """What the engine calls with the bytes that went by: raises OutputError once less than ``least`` bytes are free."""

    def check(count: int) -> None:
        check_floor(fd, least)

    return check


def check_floor(fd: int, least: int) -> None:
    """Raise OutputError where the file system of a descriptor has less than ``least`` bytes left."""
    if least and free(fd) < least:
        raise OutputError(f"less than {show_size(least)} would stay free (free-space)", "cores may not fill it")
