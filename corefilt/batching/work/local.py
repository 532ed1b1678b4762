"""A file as the endpoint of a task: everything happens relative to its folder, which is open."""

from __future__ import annotations

import os
import time

from corefilt.batching.files.safe_paths import OpenPlace
from corefilt.batching.sources import containers as wrappings
from corefilt.batching.work import provenance
from corefilt.batching.work.provenance import Fingerprint, Provenance, head_of
from corefilt.corefile.corefile import MAX_HEADERS
from corefilt.errors import OutputError
from corefilt.filtering.options import wants_fit
from corefilt.io.replace import ReplacementSink
from corefilt.io.sinks import NewFileSink
from corefilt.io.sources import FileSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.batching.task import Task
    from corefilt.batching.work.endpoint import TaskOutput
    from corefilt.io.sources import Source

# What systemd-coredump and corefilt tell of a core beside it; what corefilt tells of the file is ``user.corefilt``.
_TOLD = ("user.coredump.", "user.corefilt.")


class LocalEndpoint:
    """A file, or the place of one to be; it is opened at the first question about its content, and once."""

    def __init__(self, place: OpenPlace) -> None:
        """Take a place, which is closed with this."""
        self.place, self.name = place, place.path
        self._file: tuple[int, os.stat_result, bytes] | None = None
        self._fingerprint: Fingerprint | None = None

    def __enter__(self) -> LocalEndpoint:
        return self

    def __exit__(self, *about: object) -> None:
        if self._file is not None:
            os.close(self._file[0])
        os.close(self.place.folder)

    def _opened(self) -> tuple[int, os.stat_result, bytes]:
        """The descriptor, what the file was when it was opened, and its beginning."""
        if self._file is None:
            fd, status = self.place.open()
            self._file = fd, status, b""
            self._file = fd, status, head_of(fd)
        return self._file

    @property
    def fd(self) -> int:
        """The descriptor of the file that stands there, for reading. Raises InputError."""
        return self._opened()[0]

    @property
    def status(self) -> os.stat_result:
        """What the file was when it was opened. Raises InputError."""
        return self._opened()[1]

    @property
    def age(self) -> float:
        """Seconds since it was written. Raises InputError."""
        return time.time() - os.fstat(self.fd).st_mtime

    @property
    def stored(self) -> int:
        """How many bytes it takes on its file system. Raises InputError."""
        return os.fstat(self.fd).st_blocks * 512

    @property
    def keeps_marks(self) -> bool:
        """Whether its file system has attributes."""
        return provenance.keeps_attributes(self.place.folder)

    def fingerprint(self) -> Fingerprint:
        """What tells its content from another one, as it was when it was opened. Raises InputError."""
        if self._fingerprint is None:
            _, status, head = self._opened()
            self._fingerprint = Fingerprint.made(status, head)
        return self._fingerprint

    def is_file(self, status: os.stat_result) -> bool:
        """Whether it is the file that a status is of, by device and inode. Raises InputError."""
        return os.path.samestat(self.status, status)

    def changed(self) -> bool:
        """Whether its content is another one by now."""
        fd, before, head = self._opened()
        status = os.fstat(fd)
        seen = status.st_size, status.st_mtime_ns, head_of(fd)
        return seen != (before.st_size, before.st_mtime_ns, head)

    def open(self, task: Task, folder: str | None = None) -> Source:
        """Open the core of a task, taken out of what it is wrapped in; temporary files go to ``folder``, or to TMPDIR.

        Raises InputError.
        """
        file = FileSource(os.dup(self.fd), task.source, size=self.status.st_size)
        most = task.options.get("max_headers")
        most = most if isinstance(most, int) else MAX_HEADERS
        # A check, scrubbing and who asks for a copy read all of it.
        in_parts = not (task.verify or task.replace or task.scrub is not None or task.options.get("spool"))
        seeks = task.survey or (in_parts and wants_fit(task.options))
        return wrappings.opened(file, task.wrapping, task.member, max_headers=most, seeks=seeks, folder=folder)

    def mark(self) -> Provenance | None:
        """Read how the file that stands there came about, if it is as it was written. Raises InputError."""
        if self._file is None and self.place.status() is None:
            return None
        mark = provenance.read(self.fd)
        return mark if mark is not None and mark.stands_for(self.fd) else None

    def hand_over(self, fd: int) -> None:
        """Give an output what systemd-coredump told of the file, and its times."""
        try:
            for name in os.listxattr(self.fd):
                if name.startswith(_TOLD):
                    os.setxattr(fd, name, os.getxattr(self.fd, name))
        except OSError:
            # They are told to people, and no part of the core.
            pass
        os.utime(fd, ns=(self.status.st_atime_ns, self.status.st_mtime_ns))

    def sink(self, output: TaskOutput) -> NewFileSink:
        """Open a file without a name that becomes the output here. Raises OutputError."""
        if output.source is self:
            return _ReplacedSink(output, self)
        there = self.place.status()
        if there is not None:
            if output.source.is_file(there):
                raise OutputError(f"{self.name}: is the input itself", "use --replace to replace it")
            if not output.task.force:
                raise OutputError(f"{self.name}: exists", "-f replaces it")
        return _BesideSink(output, self.place)

    def complete(self, fd: int, output: TaskOutput) -> bool:
        """Mark an output by an attribute, and give it what is the source's where that is another file."""
        if output.source is not self:
            output.source.hand_over(fd)
        return provenance.write(fd, output.task, output.fingerprint, output.undecided)


class _BesideSink(NewFileSink):
    def __init__(self, output: TaskOutput, place: OpenPlace) -> None:
        self._output = output
        super().__init__(place.path, replace=output.task.force, folder=place.folder)

    def complete(self, size: int) -> None:
        self._output.complete(self.fd)


class _ReplacedSink(ReplacementSink):
    def __init__(self, output: TaskOutput, file: LocalEndpoint) -> None:
        self._output = output
        super().__init__(file.name, file.fd, folder=file.place.folder)

    def complete(self, size: int) -> None:
        super().complete(size)
        kept = os.fstat(self.fd)
        if (kept.st_uid, kept.st_gid, kept.st_mode) != (
            self.status.st_uid, self.status.st_gid, self.status.st_mode,
        ):  # fmt: skip
            raise OutputError(f"{self.name}: a new file cannot get its owner and mode")
        self._output.complete(self.fd)
