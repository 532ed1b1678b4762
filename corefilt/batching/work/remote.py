"""A URL as the endpoint of a task.

An object tells in its metadata how it came about, as a file does by an attribute; where there are none, a note within
the core tells it. Nothing behind a URL is ever replaced by what is made of it, or deleted.
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import cached_property

from corefilt import __version__
from corefilt.batching.work import provenance
from corefilt.batching.work.provenance import Fingerprint, Provenance
from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import CorefiltError
from corefilt.io.opening import as_core
from corefilt.io.remote.download import open_found
from corefilt.io.remote.upload import RemoteFile, RemoteSink
from corefilt.io.remote.url import Remote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.batching.task import Task
    from corefilt.batching.work.endpoint import TaskOutput
    from corefilt.io.remote.url import ObjectInfo
    from corefilt.io.sources import Source

# The name in an object's metadata.
METADATA = "corefilt"


class RemoteEndpoint:
    """What is behind a URL, or will be; the store is asked at the first question, and once."""

    place = None

    def __init__(self, url: str, listed: ObjectInfo | None = None, *, there: bool | None = None) -> None:
        """Find the library for it. Raises UsageError or MissingLibraryError.

        ``listed`` is what a listing told of it; ``there`` whether it is known that there is an output, which is not of
        this work, or none.
        """
        self.name, self._remote = url, Remote(url)
        self._metadata: dict[str, str] = {}
        self.there = there
        if listed is not None:
            self._info = listed

    def __enter__(self) -> RemoteEndpoint:
        return self

    def __exit__(self, *about: object) -> None: ...

    @cached_property
    def _info(self) -> ObjectInfo:
        return self._remote.info()

    @property
    def age(self) -> float | None:
        """Seconds since it was written, where the store tells that. Raises InputError."""
        return time.time() - self._info.written if self._info.written is not None else None

    @property
    def stored(self) -> int:
        """Its length in bytes. Raises InputError."""
        return self._info.size

    @property
    def keeps_marks(self) -> bool:
        """Whether its store has metadata."""
        return self._remote.scheme.metadata is not None

    def fingerprint(self) -> Fingerprint:
        """Its length, its time, and a digest of what else its store tells of its content. Raises InputError."""
        return fingerprint_of(self._info)

    def is_file(self, status: os.stat_result) -> bool:
        """False: it is behind a URL."""
        return False

    def changed(self) -> bool:
        """False: what is fetched is checked as it comes."""
        return False

    def open(self, task: Task, folder: str | None = None) -> Source:
        """Fetch it, decompressed as it comes. Raises InputError."""
        most = task.options.get("max_headers")
        return self._opened(most if isinstance(most, int) else MAX_HEADERS)

    def _opened(self, most: int) -> Source:
        return as_core(open_found(self._remote, self._info, max_headers=most), max_headers=most)

    def mark(self) -> Provenance | None:
        """Read how the object came about, if it is as it was written. Raises InputError."""
        if self.there is not None:
            return None
        found = self._remote.found()
        self.there = found is not None
        if found is None:
            return None
        if self.keeps_marks:
            mark = Provenance.decode(found.metadata.get(METADATA, "").encode())
            return mark if mark is not None and mark.output is not None and mark.output.size == found.size else None
        self._info = found
        try:
            with CoreFile(self._opened(MAX_HEADERS)) as core:
                return Provenance.decode(core.notes.made)
        except CorefiltError:
            return None

    def hand_over(self, fd: int) -> None:
        """Give an output the time of the object."""
        written = self.fingerprint().mtime_ns
        if written:
            os.utime(fd, ns=(written, written))

    def sink(self, output: TaskOutput) -> RemoteSink:
        """Open a temporary file that is uploaded when it is whole. Raises OutputError."""
        return _Upload(output, self._metadata, there=self.there).open(None)

    def complete(self, fd: int, output: TaskOutput) -> bool:
        """Have the metadata tell of an output; False where its store has none."""
        whole = Fingerprint(os.fstat(fd).st_size, 0, Fingerprint.of(fd).head)
        work = provenance.work_of(output.task)
        self._metadata[METADATA] = (
            Provenance(__version__, *work, output.fingerprint, whole, output.undecided).encode().decode()
        )
        return self.keeps_marks


def fingerprint_of(info: ObjectInfo) -> Fingerprint:
    """What tells the content of an object from another one."""
    version = hashlib.blake2b(repr(info.version).encode(), digest_size=16).hexdigest()
    return Fingerprint(info.size, int((info.written or 0) * 1e9), version)


class _Upload(RemoteFile):
    def __init__(self, output: TaskOutput, metadata: dict[str, str], *, there: bool | None) -> None:
        self._output, self._there = output, there
        super().__init__(output.path, force=output.task.force)
        self.metadata = metadata

    def exists(self) -> bool:
        # A store that takes conditional writes is asked by the write itself; a file system is asked late.
        return self._there if self._there is not None and not self.remote.scheme.renames else super().exists()

    def came_meanwhile(self) -> bool:
        output = self._output
        mark = RemoteEndpoint(self.path).mark()
        return mark is not None and mark.is_of(output.task) and mark.input == output.fingerprint

    def complete(self, fd: int) -> None:
        self._output.complete(fd)
