"""The two sides of a copy: what of the input is data, what the page cache has to do with them, and who hears of it."""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.page_cache import Cache
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Extents, Source

# A copy is large from this share of the memory on: read and written, it would fill a quarter of it.
LARGE_SHARE = 8
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sides:
    """A source and a sink. ``zeros`` counts bytes left out as holes, ``moved`` all bytes put in place."""

    keeps_holes = writeback = False

    def __init__(
        self, source: Source, sink: Sink, *, cache: str, expected: int, on_progress: Callable[[int], None] | None
    ) -> None:
        """Take both; ``expected`` is the most bytes that will be moved, if that is known."""
        self.source, self.sink, self.on_progress = source, sink, on_progress
        self.seeks = source.seekable
        if self.seeks and expected:
            # What is a hole is not moved.
            expected = min(expected, os.fstat(source.fd).st_blocks * 512)
        self._expected = expected
        self._cache_watched = cache == "auto" and (self.seeks or sink.seekable)
        self._cache: Cache | None = None
        self._large_from = 0
        self._data: Extents | None = None
        self.moved = self.zeros = 0

    def _shorter(self) -> InputError:
        return InputError(f"{self.source.name}: became shorter while it was read")

    def _was_absent(self, at: int, length: int) -> bool:
        """Whether the page cache did not hold a piece of the input; without a policy its first page tells."""
        if self._cache is not None:
            return self._cache.was_absent(at, length)
        try:
            return bool(_fast.absent(self.source.fd, at // PAGE * PAGE, 1))
        except OSError:
            return False

    def _cache_of(self) -> Cache | None:
        """What leaves the page cache as it was, from where on the copy is large; holes take nothing of it."""
        passed = max(self._expected, self.moved - self.zeros)
        if self._cache is None and self._cache_watched and passed >= self._large():
            from corefilt.io.page_cache import Cache

            self._cache = Cache(self.source, self.sink, wait=self.writeback)
        return self._cache

    def _large(self) -> int:
        if not self._large_from:
            self._large_from = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // LARGE_SHARE
        return self._large_from

    def _data_extent(self, at: int, end: int) -> tuple[int, int]:
        if not self.keeps_holes:
            return at, end
        if self._data is None:
            self._data = self.source.extents()
        return self._data.first(at, end)

    def _told(self, count: int) -> int:
        if self.on_progress is not None:
            self.on_progress(count)
        return count
