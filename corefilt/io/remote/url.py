"""Files behind a URL, by fsspec: object stores and other machines.

Credentials and endpoints come from where the libraries look for them: the environment (AWS_*,
GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_*), their own files, and the ssh agent.
"""

from __future__ import annotations

import errno
import os
import re
import time
from datetime import UTC, datetime
from typing import NamedTuple

from corefilt.errors import CorefiltError, InputError, MissingLibraryError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Seconds to wait before the same is tried once more, by a new connection: s3fs tries five times within two seconds, but
# not where no connection is made, and a connection of ssh that has ended stays so.
WAITS = (1.0, 4.0)
# botocore would try five times for each of s3fs's, over up to 15 seconds.
_S3 = {"config_kwargs": {"retries": {"mode": "standard", "max_attempts": 1}}}
# What no second try makes better.
_FINAL = (
    CorefiltError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotImplementedError,
    ValueError,
    TypeError,
)
# What tells one content of a name from the next, where a store has it.
_VERSION_KEYS = ("ETag", "etag", "generation", "mtime", "created")
_TIMES = ("LastModified", "mtime", "updated", "created")


class Scheme(NamedTuple):
    """``packages`` are what is needed, on PyPI; ``metadata`` is the argument of open() for an object's.

    ``renames`` tells a file system, where a new file is there from its first byte on, from a store, where an object
    appears when its upload is completed. ``options`` are the library's. With ``s3`` the library also takes requests of
    S3 as they are.
    """

    packages: str
    metadata: str | None
    renames: bool
    options: Mapping[str, object] = {}
    s3: bool = False


SCHEMES = {
    "s3": Scheme("s3fs", "Metadata", False, _S3, s3=True),
    "s3a": Scheme("s3fs", "Metadata", False, _S3, s3=True),
    "gs": Scheme("gcsfs", "metadata", False),
    "gcs": Scheme("gcsfs", "metadata", False),
    "sftp": Scheme("fsspec paramiko", None, True),
    "ssh": Scheme("fsspec paramiko", None, True),
    "memory": Scheme("fsspec", None, False),
}


def is_url(place: str) -> bool:
    """Whether a place is a URL, and no path."""
    return _SCHEME.match(place) is not None


def local_path(place: str) -> str:
    """The path that a ``file://`` URL stands for; any other place as it is."""
    return place[len("file://") :] if place.lower().startswith("file:///") else place


class Remote:
    """What a URL names; ``path`` is what the file system behind it calls that."""

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        """Find the library for it; nothing is asked over the network. Raises UsageError or MissingLibraryError.

        ``storage_options`` are what fsspec hands to the library.
        """
        found = _SCHEME.match(url)
        name = found[1].lower() if found is not None else ""
        if name not in SCHEMES:
            raise UsageError(
                f"{url}: corefilt does not support {name}://", f"it supports {', '.join(SCHEMES)} and file:///PATH"
            )
        self.url, self.scheme = url, SCHEMES[name]
        self._options = {**self.scheme.options, **(storage_options or {})}
        self.path = self._connected(fresh=False)[1]

    def _connected(self, *, fresh: bool) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise self._missing() from None
        try:
            # fsspec knows its schemes in small letters.
            scheme, colon, rest = self.url.partition(":")
            fs, path = url_to_fs(scheme.lower() + colon + rest, skip_instance_cache=fresh, **self._options)
        except ImportError:
            raise self._missing() from None
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.url}: {words(error)}", "storage_options are those of fsspec's library") from None
        return fs, path

    def _missing(self) -> MissingLibraryError:
        # By their own names: until corefilt is on PyPI, anybody can put something there under its name.
        return MissingLibraryError(f"{self.url}: a library is missing", f"pip install {self.scheme.packages}")

    def persistently(self, attempt: Callable[[Any, bool], T], error: type[CorefiltError] = InputError) -> T:
        """What ``attempt`` gives, which is called with the file system, and whether that is a new one.

        Where a connection breaks it is called again. What goes wrong for good is raised as ``error``.
        """
        for tries in range(1 + len(WAITS)):
            if tries:
                time.sleep(WAITS[tries - 1])
            try:
                return attempt(self._connected(fresh=tries > 0)[0], tries > 0)
            except CorefiltError:
                raise
            except _FINAL as final:
                raise error(f"{self.url}: {words(final)}") from None
            except Exception as broken:
                if tries == len(WAITS):
                    raise error(f"{self.url}: {words(broken)}", "it was tried several times") from None
        raise AssertionError("the last try returns or raises")

    def info(self) -> ObjectInfo:
        """What the store tells of it. Raises InputError."""

        def attempt(fs: Any, fresh: bool) -> ObjectInfo:
            fs.invalidate_cache()
            return info_of(fs.info(self.path))

        return self.persistently(attempt)

    def found(self) -> ObjectInfo | None:
        """What the store tells of it and its metadata, by one request of S3; None where it is not.

        Raises InputError.
        """

        def attempt(fs: Any, fresh: bool) -> ObjectInfo | None:
            try:
                # A bucket is not an object.
                if self.scheme.s3 and "/" in self.path:
                    from corefilt.io.remote.s3 import head

                    return info_of(head(fs, self.path))
                fs.invalidate_cache()
                return info_of(fs.info(self.path))
            except FileNotFoundError:
                return None

        return self.persistently(attempt)


class ObjectInfo(NamedTuple):
    """What a store tells of an object, in a listing or by itself.

    That is its length in bytes, when it was ``written``, in seconds since 1970, where that is known, and what another
    content of the same name would differ in. A listing leaves the metadata out.
    """

    size: int
    written: float | None
    version: tuple[object, ...]
    metadata: Mapping[str, str] = {}
    is_folder: bool = False


def info_of(told: Mapping[str, Any]) -> ObjectInfo:
    """What fsspec's libraries tell, in our terms."""
    version = (told.get("size"), *(_text(told[key]) for key in _VERSION_KEYS if key in told))
    metadata = told.get("metadata")
    return ObjectInfo(
        int(told.get("size") or 0),
        _written(told),
        version,
        dict(metadata) if isinstance(metadata, dict) else {},
        told.get("type") == "directory",
    )


def _text(value: object) -> str:
    # fsspec's own file systems list as a number what they tell of a file itself as a time.
    return str(datetime.fromtimestamp(value, UTC) if isinstance(value, float) else value)


def _written(told: Mapping[str, Any]) -> float | None:
    for key in _TIMES:
        value = told.get(key)
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, int | float):
            # Some stores list it with a fraction that they do not tell of the object itself.
            return float(int(value) if key == "LastModified" else value)
    return None


class ListedFile(NamedTuple):
    """A file below a URL: its own URL, its path below the one that was asked for, and what the listing tells of it."""

    url: str
    relative: str
    info: ObjectInfo


def files_below(url: str) -> Iterator[ListedFile]:
    """All files below a URL, or those that fit where it holds ``*``, ``?`` or ``[``, or the one that it names.

    Raises InputError, UsageError and MissingLibraryError.
    """
    whole = Remote(url)
    magic = re.search(r"[*?[]", url)
    base = url[: url.rindex("/", 0, magic.start()) + 1] if magic is not None else url
    root = Remote(base).path.rstrip("/")

    def attempt(fs: Any, fresh: bool) -> dict[str, dict[str, Any]]:
        fs.invalidate_cache()
        entries: dict[str, dict[str, Any]] = (fs.find if magic is None else fs.glob)(whole.path, detail=True)
        return entries

    entries = whole.persistently(attempt)
    if not entries and magic is None and whole.found() is None:
        raise InputError(f"{url}: No such file or directory")
    for path, info in sorted(entries.items()):
        if info.get("type") == "file":
            relative = path[len(root) :].lstrip("/")
            own = f"{base.rstrip('/')}/{relative}" if relative else base
            yield ListedFile(own, relative or root.rpartition("/")[2], info_of(info))


def words(error: Exception) -> str:
    """What went wrong, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError) and not error.strerror:
        text = os.strerror(errno.ENOENT)
    return " ".join(str(text).split())
