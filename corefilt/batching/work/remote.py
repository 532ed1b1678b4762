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
from corefilt.io.opening import open_source
from corefilt.io.remote.upload import RemoteFile, RemoteSink
from corefilt.io.remote.url import Remote, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corefilt.batching.task import Task
    from corefilt.batching.work.endpoint import TaskOutput
    from corefilt.io.sources import Source

# The name in an object's metadata.
METADATA = "corefilt"


class RemoteEndpoint:
    """What is behind a URL, or will be; the store is asked at the first question, and once."""

    place = None

    def __init__(self, url: str) -> None:
        """Find the library for it. Raises UsageError or MissingLibraryError."""
        self.name, self._remote = url, Remote(url)
        self._metadata: dict[str, str] = {}

    def __enter__(self) -> RemoteEndpoint:
        return self

    def __exit__(self, *about: object) -> None: ...

    @cached_property
    def _info(self) -> dict[str, Any]:
        return self._remote.info()

    @cached_property
    def _written(self) -> float | None:
        return self._remote.modified()

    @property
    def age(self) -> float | None:
        """Seconds since it was written, where the store tells that. Raises InputError."""
        return time.time() - self._written if self._written is not None else None

    @property
    def stored(self) -> int:
        """Its length in bytes. Raises InputError."""
        return int(self._info.get("size") or 0)

    @property
    def keeps_marks(self) -> bool:
        """Whether its store has metadata."""
        return self._remote.scheme.metadata is not None

    def fingerprint(self) -> Fingerprint:
        """Its length, its time, and a digest of what else its store tells of its content. Raises InputError."""
        version = hashlib.blake2b(repr(version_of(self._info)).encode(), digest_size=16).hexdigest()
        return Fingerprint(self.stored, int((self._written or 0) * 1e9), version)

    def is_file(self, status: os.stat_result) -> bool:
        """False: it is behind a URL."""
        return False

    def changed(self) -> bool:
        """False: what is fetched is checked as it comes."""
        return False

    def open(self, task: Task) -> Source:
        """Fetch it, decompressed as it comes. Raises InputError."""
        most = task.options.get("max_headers")
        return open_source(self.name, max_headers=most if isinstance(most, int) else MAX_HEADERS)

    def mark(self) -> Provenance | None:
        """Read how the object came about, if it is as it was written. Raises InputError."""
        if not self._remote.exists():
            return None
        if self.keeps_marks:
            mark = Provenance.decode((self._remote.attribute(METADATA) or "").encode())
            return mark if mark is not None and mark.output is not None and mark.output.size == self.stored else None
        try:
            with CoreFile(open_source(self.name, max_headers=MAX_HEADERS)) as core:
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
        return _Upload(output, self._metadata).open(None)

    def complete(self, fd: int, output: TaskOutput) -> bool:
        """Have the metadata tell of an output; False where its store has none."""
        whole = Fingerprint(os.fstat(fd).st_size, 0, Fingerprint.of(fd).head)
        work = provenance.work_of(output.task)
        self._metadata[METADATA] = (
            Provenance(__version__, *work, output.fingerprint, whole, output.undecided).encode().decode()
        )
        return self.keeps_marks


class _Upload(RemoteFile):
    def __init__(self, output: TaskOutput, metadata: dict[str, str]) -> None:
        self._output = output
        super().__init__(output.path, force=output.task.force)
        self.metadata = metadata

    def complete(self, fd: int) -> None:
        self._output.complete(fd)
