"""Where a filtered core of an archive goes: a new file in another folder, or the place that it had.

Either way it is checked and marked before it gets its name, and everything happens relative to an open folder.
"""

from __future__ import annotations

import os

from corefilt.batch.files.safe_paths import OpenPlace
from corefilt.batch.work import provenance
from corefilt.errors import OutputError
from corefilt.io.replace import ReplacementSink
from corefilt.io.sinks import NamedFile, NewFileSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batch.task import Task
    from corefilt.io.sources import Source

# What systemd-coredump tells of a core beside it.
_TOLD = "user.coredump."


class ArchiveFile(NamedFile):
    """A file to be: of a task, made of the open file ``origin``; ``check`` holds it against the input, and raises."""

    def __init__(self, task: Task, place: OpenPlace, origin: int, check: Callable[[int], None] | None) -> None:
        self.task, self.place, self.origin, self.check = task, place, origin, check
        self.path = place.path
        self.fingerprint = provenance.Fingerprint.of(origin)
        self.status = os.fstat(origin)
        self.undecided = 0
        # By an attribute, or by a note within.
        self.marked = False

    def on_decided(self, undecided_bytes: int) -> None:
        """Remember how many bytes depend on an assumption."""
        self.undecided = undecided_bytes

    def complete(self, fd: int) -> None:
        """Mark and check what is whole. Raises OutputError where the input has changed meanwhile."""
        self.marked = provenance.write(fd, self.task, self.fingerprint, self.undecided) or self.marked
        self._stand_still()
        if self.check is not None:
            self.check(fd)
            self._stand_still()

    def _stand_still(self) -> None:
        if provenance.Fingerprint.of(self.origin) != self.fingerprint:
            raise OutputError(f"{self.path}: the core changed while it was read", "wait until nobody writes to it")


class BesideFile(ArchiveFile):
    """One in the folder of --to, with the times of the file that it was made of."""

    def open(self, source: Source | None) -> NewFileSink:
        """A sink that becomes it. Raises OutputError."""
        status = self.place.status()
        if status is not None and os.path.samestat(status, self.status):
            raise OutputError(f"{self.path}: is the input itself", "--replace puts the core in its own place")
        if status is not None and not self.task.force:
            raise OutputError(f"{self.path}: exists", "-f replaces it")
        return _BesideSink(self)

    def complete(self, fd: int) -> None:
        """Give it what systemd-coredump told, and the times, too."""
        try:
            names = [name for name in os.listxattr(self.origin) if name.startswith(_TOLD)]
            for name in names:
                os.setxattr(fd, name, os.getxattr(self.origin, name))
        except OSError:
            # They are told to people, and no part of the core.
            pass
        os.utime(fd, ns=(self.status.st_atime_ns, self.status.st_mtime_ns))
        super().complete(fd)


class ReplacedFile(ArchiveFile):
    """One in the place of the file that it was made of."""

    def open(self, source: Source | None) -> ReplacementSink:
        """A sink that becomes it. Raises OutputError."""
        return _ReplacedSink(self)


class _BesideSink(NewFileSink):
    def __init__(self, file: BesideFile) -> None:
        self._file = file
        super().__init__(file.path, replace=file.task.force, folder=file.place.folder)

    def complete(self, size: int) -> None:
        self._file.complete(self.fd)


class _ReplacedSink(ReplacementSink):
    def __init__(self, file: ReplacedFile) -> None:
        self._file = file
        super().__init__(file.path, file.origin, folder=file.place.folder)

    def complete(self, size: int) -> None:
        super().complete(size)
        kept = os.fstat(self.fd)
        if (kept.st_uid, kept.st_gid, kept.st_mode) != (
            self.status.st_uid, self.status.st_gid, self.status.st_mode,
        ):  # fmt: skip
            raise OutputError(f"{self.name}: a new file cannot get its owner and mode")
        self._file.complete(self.fd)
