"""A URL as the place of an output: made in a temporary file here, and there when it is whole, or not at all.

The temporary file lets headers be settled when the payload has been seen, the metadata tell what came of it, and an
upload begin again where the connection broke. An upload that does not come to its end is aborted; one that a killed
process leaves behind bears no name, and lies in the store until its rule for such leavings takes it away.
"""

from __future__ import annotations

import os

from corefilt.errors import OutputError
from corefilt.io.handover import HandoverSink
from corefilt.io.remote.url import Remote
from corefilt.io.sinks import NamedFile
from corefilt.io.tempfiles import new_name

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

    def __init__(self, url: str, *, force: bool, storage_options: Mapping[str, Any] | None = None) -> None:
        """Find the library for it. Raises UsageError or MissingLibraryError."""
        self.path, self.force = url, force
        self.remote = Remote(url, storage_options)
        self.metadata: dict[str, str] = {}

    def open(self, source: Source | None) -> RemoteSink:
        """A temporary file that becomes it. Raises OutputError where there is something and no ``force``."""
        if not self.force and self.exists():
            raise there_is(self.path)
        return RemoteSink(self)

    def exists(self) -> bool:
        """Whether there is something; a child may know. Raises OutputError."""
        return self.remote.found() is not None

    def came_meanwhile(self) -> bool:
        """Whether what a write found there is as good as what was to be written; a child may see that it is.

        It may be the very object, where the answer to a first write was lost. Raises InputError.
        """
        return False

    def complete(self, fd: int) -> None:
        """A child checks what is whole before it is sent, and adds to the metadata. Raises OutputError."""


class RemoteSink(HandoverSink):
    """A temporary file that is uploaded when it is whole."""

    def __init__(self, file: RemoteFile) -> None:
        """Open one in TMPDIR. Raises OutputError."""
        self._file = file
        super().__init__(file.path)

    def hand_over(self, size: int) -> None:
        """Upload, and give the object its name. Raises OutputError."""
        self._file.complete(self.fd)
        try:
            store(self._file.remote, self.fd, size, self._file.metadata, new=not self._file.force)
        except ExistsError:
            if not self._file.came_meanwhile():
                raise
        self.allocated = size


def store(remote: Remote, fd: int, size: int, metadata: Mapping[str, str], *, new: bool = False) -> None:
    """Upload what a descriptor holds; the object has its name and metadata when all of it is there.

    With ``new`` an object store that knows conditional writes replaces nothing that came meanwhile. Raises OutputError.
    """

    def attempt(fs: Any, fresh: bool) -> None:
        if remote.scheme.renames:
            _put_by_name(fs, remote, fd, size)
            return
        try:
            _put_by_commit(fs, remote, fd, size, metadata, mode="xb" if new else "wb")
        except FileExistsError:
            raise there_is(remote.url) from None

    remote.persistently(attempt, OutputError)


class ExistsError(OutputError):
    """Something has the name already."""


def there_is(url: str) -> ExistsError:
    """What is raised where something has the name already."""
    return ExistsError(f"{url}: exists", "-f replaces it")


def _put_by_commit(fs: Any, remote: Remote, fd: int, size: int, metadata: Mapping[str, str], *, mode: str) -> None:
    part = max(PART, -(-size // MOST_PARTS // PART) * PART)
    named = {remote.scheme.metadata: dict(metadata)} if remote.scheme.metadata is not None and metadata else {}
    # By one request where the library knows at the end only that it was the whole.
    at_once = remote.scheme.s3 and size < part
    file = fs.open(remote.path, mode, block_size=part, autocommit=at_once, **named)
    try:
        _copy(fd, size, file)
        file.close()
        if not at_once:
            file.commit()
    except BaseException:
        try:
            file.discard()
        except Exception:
            # The connection is gone, and what was sent bears no name.
            pass
        file.closed = True
        raise


def _put_by_name(fs: Any, remote: Remote, fd: int, size: int) -> None:
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
