"""A core behind a URL as a source: fetched piece by piece as it is read, and again where the connection broke."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.fetched import FedSource
from corefilt.io.remote.url import Remote, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from corefilt.io.sources import Source

# Fetched at a time: large enough that asking costs nothing beside it, and all that a run holds of the core.
PIECE = 8 << 20
# Blocks of zeros of this many bytes become holes of a copy.
HOLE = 4096


def open_remote(url: str, *, max_headers: int, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Open what is behind a URL, as it is. Raises what ``Remote`` does, and InputError."""
    remote = Remote(url, storage_options)
    info = remote.info()
    if info.get("type") == "directory":
        raise InputError(f"{url}: is a directory")
    return FedSource(lambda: fetched(remote, info), url, most_ahead=max_headers)


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


def fetched(remote: Remote, info: dict[str, Any]) -> Iterator[bytes]:
    """The content of a file of which ``info`` was told, in pieces.

    Raises InputError, also where it has changed meanwhile.
    """
    size = int(info["size"])
    version = version_of(info)
    file: Any = None

    def attempt(fs: Any, fresh: bool) -> bytes:
        nonlocal file
        if file is None or fresh:
            fs.invalidate_cache()
            if version_of(fs.info(remote.path)) != version:
                raise InputError(f"{remote.url}: has changed since it was opened")
            file = fs.open(remote.path, "rb", block_size=PIECE, cache_type="none")
        file.seek(at)
        piece: bytes = file.read(min(PIECE, size - at))
        if not piece:
            raise ConnectionError(f"nothing came from byte {at} on")
        return piece

    at = 0
    try:
        while at < size:
            piece = remote.persistently(attempt)
            at += len(piece)
            yield piece
    finally:
        if file is not None:
            file.close()
