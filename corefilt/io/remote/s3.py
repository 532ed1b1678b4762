"""Requests of S3 itself, by s3fs: what fsspec's own terms need several of, or cannot ask for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Names:
    """The names of objects below a folder, as far as they were listed: all, or those up to ``last`` in S3's order."""

    def __init__(self, held: frozenset[str], last: bytes | None) -> None:
        """Take paths as fsspec has them; ``last`` is None where all were listed."""
        self._held, self._last = held, last

    def tell(self, path: str) -> bool | None:
        """Whether there is an object of this name; None where that was not listed."""
        if path in self._held:
            return True
        return False if self._last is None or path.encode() <= self._last else None


def head(fs: Any, path: str) -> dict[str, Any]:
    """What S3 tells of an object, as ``info`` of fsspec does, and its metadata. Raises FileNotFoundError and others."""
    told = fs.call_s3("head_object", fs.kwargs, **_named(fs, path))
    return {**told, "size": told["ContentLength"], "type": "file", "metadata": told.get("Metadata")}


def listed(fs: Any, folder: str, most_pages: int) -> Names:
    """Up to so many pages, of 1000 each, of the names below a folder, in the order of their bytes."""
    bucket, key, _ = fs.split_path(folder)
    prefix = f"{key.rstrip('/')}/" if key else ""
    held: set[str] = set()
    more: dict[str, str] = {}
    last = b""
    for _ in range(most_pages):
        page = fs.call_s3("list_objects_v2", fs.kwargs, Bucket=bucket, Prefix=prefix, **more)
        names = [f"{bucket}/{one['Key']}" for one in page.get("Contents", ())]
        held.update(names)
        token = page.get("NextContinuationToken")
        if not page.get("IsTruncated") or not token:
            return Names(frozenset(held), None)
        last, more = names[-1].encode() if names else last, {"ContinuationToken": token}
    return Names(frozenset(held), last)


class Body:
    """An object from a byte on, by one GET that goes on as it is read."""

    def __init__(self, fs: Any, path: str, at: int, length: int = 0) -> None:
        """Ask for it, or for ``length`` bytes. Raises what s3fs does; ``etag`` is that of the content that comes."""
        wanted = f"bytes={at}-{at + length - 1 if length else ''}"
        answer = fs.call_s3("get_object", fs.kwargs, **_named(fs, path), Range=wanted)
        self.etag: object = answer.get("ETag")
        self._fs, self._body = fs, answer["Body"]

    def read(self, count: int) -> bytes:
        """The next bytes, so many but at the end. Raises what the connection does."""
        from fsspec.asyn import sync

        piece: bytes = sync(self._fs.loop, _read, self._body, count)
        return piece

    def close(self) -> None:
        """Let the connection go."""
        self._fs.loop.call_soon_threadsafe(self._body.close)


async def _read(body: Any, count: int) -> bytes:
    # What has arrived comes in small pieces, and each change of the thread costs more than joining them.
    pieces = []
    while count and (piece := await body.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _named(fs: Any, path: str) -> dict[str, str]:
    bucket, key, version = fs.split_path(path)
    return {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
