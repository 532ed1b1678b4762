"""A core behind a URL as a source: fetched piece by piece as it is read, and again where the connection broke."""

from __future__ import annotations

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


def open_remote(url: str, *, max_headers: int, storage_options: Mapping[str, Any] | None = None) -> Source:
    """Open what is behind a URL, as it is. Raises what ``Remote`` does, and InputError."""
    remote = Remote(url, storage_options)
    info = remote.info()
    if info.get("type") == "directory":
        raise InputError(f"{url}: is a directory")
    return FedSource(lambda: fetched(remote, info), url, most_ahead=max_headers)


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
