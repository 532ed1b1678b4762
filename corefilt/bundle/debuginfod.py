"""Files by their build-ids, from debuginfod's cache or a server (debuginfod(8)); each is held against its own."""

from __future__ import annotations

import os

from corefilt.errors import EvidenceError
from corefilt.evidence.sysroot import MappedFile, Sysroot
from corefilt.io.named_files import NotUsable, OpenFile
from corefilt.io.tempfiles import nameless_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUGINFO, EXECUTABLE = "debuginfo", "executable"
# Seconds without an answer; debuginfod's own clients wait 90 by default (DEBUGINFOD_TIMEOUT).
TIMEOUT = 90
# The debug file of a browser has 3 GiB.
MOST_OF_A_FILE = 16 << 30
PIECE = 1 << 20


class Debuginfod:
    """The cache and the servers of DEBUGINFOD_URLS, as debuginfod-find uses them; a cache is read, never written."""

    def __init__(self, folder: str) -> None:
        """Name the directory for what is fetched. Raises EvidenceError where there is neither cache nor server."""
        self._folder = folder
        self._urls = [
            url for url in os.environ.get("DEBUGINFOD_URLS", "").split() if url.startswith(("http://", "https://"))
        ]
        cache = _cache_folder()
        self._cache = Sysroot(cache) if os.path.isdir(cache) else None
        if not self._urls and self._cache is None:
            raise EvidenceError("--debuginfod: DEBUGINFOD_URLS names no server", "export DEBUGINFOD_URLS=https://...")

    def find(self, build_id: bytes, kind: str) -> MappedFile | None:
        """The file of a build-id, or None where neither the cache nor a server has it. Raises EvidenceError."""
        for file in self._found(build_id, kind):
            try:
                if file.build_id() == build_id:
                    return file
            except NotUsable:
                # It cannot be read: another place may have it.
                pass
            file.close()
        return None

    def _found(self, build_id: bytes, kind: str) -> Iterator[MappedFile]:
        place = f"/{build_id.hex()}/{kind}"
        if self._cache is not None:
            try:
                yield self._cache.find(place.encode())
            except NotUsable:
                # It is not there: the servers are asked.
                pass
        for url in self._urls:
            file = self._fetched(f"{url.rstrip('/')}/buildid{place}")
            if file is not None:
                yield file

    def _fetched(self, url: str) -> MappedFile | None:
        """What a server has. Raises EvidenceError for a server that cannot be asked."""
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import urlopen

        fd = nameless_in(self._folder)
        try:
            with urlopen(url, timeout=TIMEOUT) as answer:
                left = MOST_OF_A_FILE
                while piece := answer.read(min(PIECE, left)):
                    left -= len(piece)
                    _write(fd, piece)
            return MappedFile(OpenFile(fd))
        except HTTPError as error:
            os.close(fd)
            if error.code == 404:
                return None
            raise EvidenceError(f"{url}: {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            os.close(fd)
            raise EvidenceError(f"{url}: {getattr(error, 'reason', None) or error}") from None
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Give the cache back."""
        if self._cache is not None:
            self._cache.close()


def _cache_folder() -> str:
    """Where debuginfod's clients keep what they fetched (debuginfod_find_debuginfo(3), "CACHE")."""
    own = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if own:
        return own
    home = os.path.expanduser("~")
    old = os.path.join(home, ".debuginfod_client_cache")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    return old if os.path.isdir(old) else os.path.join(base, "debuginfod_client")


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
