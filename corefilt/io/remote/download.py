"""A core behind a URL as a source: fetched piece by piece as it is read, and again where the connection broke."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from functools import partial

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.fetched import FedSource
from corefilt.io.remote.s3 import Body, head
from corefilt.io.remote.url import Remote, info_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from typing import Any

    from corefilt.io.remote.url import ObjectInfo
    from corefilt.io.sources import Source

# Fetched by a request where each piece takes one: large enough that asking costs nothing beside it, and all that a run
# holds of the core.
PIECE = 8 << 20
# Taken at a time of an answer that goes on.
TAKEN = 1 << 20
# More than this is passed over by another request: about what comes in the time that one takes.
JUMP = 8 << 20
# Blocks of zeros of this many bytes become holes of a copy.
HOLE = 4096


def open_remote(url: str, *, max_headers: int, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Open what is behind a URL, as it is. Raises what ``Remote`` does, and InputError."""
    remote = Remote(url, storage_options)
    info = remote.info()
    if info.is_folder:
        raise InputError(f"{url}: is a directory")
    return open_found(remote, info, max_headers=max_headers)


def open_found(remote: Remote, info: ObjectInfo, *, max_headers: int) -> Source:
    """Open a file of which ``info`` was told, as it is."""
    return RemoteSource(remote, info, most_ahead=max_headers)


class RemoteSource(FedSource):
    """What is behind a URL, read once and in order; what is long and nobody asks for is not fetched."""

    def __init__(self, remote: Remote, info: ObjectInfo, *, most_ahead: int) -> None:
        """Begin to fetch it."""
        self._remote, self._info = remote, info
        super().__init__(lambda: fetched(remote, info), remote.url, most_ahead=most_ahead)

    def skip(self, length: int) -> int:
        """Consume and forget some of the next ``length`` bytes; how many, 0 at the end."""
        come = len(self.ahead) + sum(map(len, self._batch))
        length = min(length, self._info.size - self.position)
        if length - come <= JUMP:
            return super().skip(length)
        self.position += length
        self.ahead.clear()
        self._batch = []
        self.feed(partial(fetched, self._remote, self._info, self.position))
        return length


@contextmanager
def copied(url: str) -> Iterator[str]:
    """Give the path of a file without a name that has what is behind a URL; it lasts as long as the block.

    Pages of zeros are its holes. Raises what ``Remote`` does, and InputError.
    """
    remote = Remote(url)
    pieces = fetched(remote, remote.info())
    with tempfile.TemporaryFile(buffering=0) as copy:
        size = 0
        for piece in pieces:
            try:
                _fast.write_at(copy.fileno(), size, piece, granule=HOLE)
            except OSError as error:
                raise InputError(
                    f"{url}: cannot be copied to {tempfile.gettempdir()}: {error.strerror}",
                    "set TMPDIR to a directory with enough space",
                ) from None
            size += len(piece)
        os.ftruncate(copy.fileno(), size)
        yield f"/proc/self/fd/{copy.fileno()}"


def fetched(remote: Remote, info: ObjectInfo, at: int = 0, *, first: int = 0) -> Generator[bytes, None, None]:
    """The content of a file of which ``info`` was told, in pieces, from a byte on.

    With ``first`` no more than that is asked for until more than that is read. Raises InputError, also where it has
    changed meanwhile.
    """
    reader = _Answer(remote, info) if remote.scheme.s3 else _File(remote, info)
    try:
        while at < info.size:
            piece = remote.persistently(partial(reader.read, at, first))
            at += len(piece)
            first = 0
            yield piece
    finally:
        reader.close()


def _changed(remote: Remote) -> InputError:
    return InputError(f"{remote.url}: has changed since it was opened", "wait until nobody writes to it")


class _File:
    """Reads it as fsspec does, each piece by a request."""

    def __init__(self, remote: Remote, info: ObjectInfo) -> None:
        self._remote, self._info, self._file = remote, info, None

    def read(self, at: int, first: int, fs: Any, fresh: bool) -> bytes:
        """The piece at ``at``; it is seen at each opening whether it is the same file."""
        file: Any = self._file
        if file is None or fresh:
            fs.invalidate_cache()
            if info_of(fs.info(self._remote.path)).version != self._info.version:
                raise _changed(self._remote)
            self._file = file = fs.open(self._remote.path, "rb", block_size=PIECE, cache_type="none")
        file.seek(at)
        piece: bytes = file.read(min(first or PIECE, self._info.size - at))
        if not piece:
            raise ConnectionError(f"nothing came from byte {at} on")
        return piece

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()


class _Answer:
    """Reads it by one request that goes on, and by another where the connection broke."""

    def __init__(self, remote: Remote, info: ObjectInfo) -> None:
        self._remote, self._info = remote, info
        self._body: Body | None = None

    def read(self, at: int, first: int, fs: Any, fresh: bool) -> bytes:
        """The next bytes, which are at ``at``; the store tells with each answer of which content it is."""
        body = self._body
        if body is None or fresh:
            self.close()
            if fresh:
                self._hold_against(head(fs, self._remote.path).get("ETag"))
            self._body = body = Body(fs, self._remote.path, at, first)
            self._hold_against(body.etag)
        piece = body.read(first or min(TAKEN, self._info.size - at))
        if not piece:
            raise ConnectionError(f"nothing came from byte {at} on")
        if first:
            self.close()
        return piece

    def _hold_against(self, etag: object) -> None:
        """See that it is the content that was told of, by what a store tells of each."""
        if len(self._info.version) > 1 and etag not in self._info.version:
            raise _changed(self._remote)

    def close(self) -> None:
        """Let the connection go."""
        if self._body is not None:
            self._body.close()
            self._body = None
