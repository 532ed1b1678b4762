"""A URL as the place of an output: made in a temporary file here, and there when it is whole, or not at all.

The temporary file lets headers be settled when the payload has been seen, the metadata tell what came of it, and an
upload begin again where the connection broke. An upload that does not come to its end is aborted; one that a killed
process leaves behind bears no name, and lies in the store until its rule for such leavings takes it away.
"""

from __future__ import annotations

import os
import tempfile

from corefilt.errors import OutputError
from corefilt.io.remote.url import Remote
from corefilt.io.sinks import NamedFile, Sink, reported
from corefilt.io.tempfiles import nameless, new_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corefilt.io.sources import Source

# Sent at a time. S3 takes parts of 5 MiB or more, and 10,000 of them.
PART = 8 << 20
MOST_PARTS = 9000


class RemoteFile(NamedFile):
    """A file to be behind a URL; ``metadata`` are told of the object, in ASCII, and may be added until it is there."""

    def __init__(self, url: str, *, force: bool, metadata: Mapping[str, str] | None = None) -> None:
        """Find the library for it. Raises UsageError or MissingLibraryError."""
        self.path, self.force = url, force
        self.remote = Remote(url)
        self.metadata = dict(metadata or {})

    def open(self, source: Source | None) -> RemoteSink:
        """A temporary file that becomes it. Raises OutputError where there is something and no ``force``."""
        if not self.force and self.remote.exists():
            raise OutputError(f"{self.path}: exists", "-f replaces it")
        return RemoteSink(self)

    def complete(self, fd: int) -> None:
        """A child checks what is whole before it is sent, and adds to the metadata. Raises OutputError."""


class RemoteSink(Sink):
    """A temporary file that is uploaded when it is whole."""

    seekable = True

    def __init__(self, file: RemoteFile) -> None:
        """Open one in TMPDIR. Raises OutputError."""
        self._file = file
        with reported(tempfile.gettempdir()):
            folder = os.open(tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = nameless(folder)
            finally:
                os.close(folder)
        super().__init__(fd, file.path, owned=True)
        self.reader = self.fd

    def commit(self, size: int, *, sync: bool) -> None:
        """Cut to size, upload, and give the object its name. Raises OutputError."""
        try:
            with reported(self.name):
                os.ftruncate(self.fd, size)
            self._file.complete(self.fd)
            store(self._file.remote, self.fd, size, self._file.metadata)
            self.allocated = size
        finally:
            self.close()


def store(remote: Remote, fd: int, size: int, metadata: Mapping[str, str]) -> None:
    """Upload what a descriptor holds; the object has its name and metadata when all of it is there.

    Raises OutputError.
    """
    put = _put_by_name if remote.scheme.renames else _put_by_commit
    remote.persistently(lambda fs, fresh: put(fs, remote, fd, size, metadata), OutputError)


def _put_by_commit(fs: Any, remote: Remote, fd: int, size: int, metadata: Mapping[str, str]) -> None:
    part = max(PART, -(-size // MOST_PARTS // PART) * PART)
    named = {remote.scheme.metadata: dict(metadata)} if remote.scheme.metadata is not None and metadata else {}
    file = fs.open(remote.path, "wb", block_size=part, autocommit=False, **named)
    try:
        _copy(fd, size, file)
        file.close()
        file.commit()
    except BaseException:
        try:
            file.discard()
        except Exception:
            # The connection is gone, and what was sent bears no name.
            pass
        file.closed = True
        raise


def _put_by_name(fs: Any, remote: Remote, fd: int, size: int, metadata: Mapping[str, str]) -> None:
    folder, _, _ = remote.path.rpartition("/")
    temporary = f"{folder}/{new_name()}"
    fs.makedirs(folder, exist_ok=True)
    try:
        with fs.open(temporary, "wb") as file:
            # Before anything of a core is in it.
            file.chmod(0o600)
            _copy(fd, size, file)
        fs.mv(temporary, remote.path)
    except BaseException:
        try:
            fs.rm_file(temporary)
        except Exception:
            # It was not made, or the connection is gone.
            pass
        raise


def _copy(fd: int, size: int, file: Any) -> None:
    at = 0
    while piece := os.pread(fd, min(PART, size - at), at):
        file.write(piece)
        at += len(piece)
