"""The two sides of a copy: what of the input is data, how bytes that are held here reach the output, and the cache."""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.movers import SCRATCH, explained
from corefilt.io.sources import NO_MORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.page_cache import Cache
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Chunk, Extents, Source

# A copy is large from this share of the memory on: read and written, it would fill a quarter of it.
LARGE_SHARE = 8
# Moved at a time where the page cache is dropped behind the copy.
WINDOW = 8 << 20
# Zeros become holes in pieces of this many bytes, the block of nearly every file system.
GRANULE = 4096
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sides:
    """A source and a sink. ``zeros`` counts bytes left out as holes, ``moved`` all bytes put in place."""

    keeps_holes = scans = writeback = False
    demanded: str | None = None

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
        # What was written and not yet sent to the disk begins here.
        self._unsent = NO_MORE
        self.moved = self.zeros = 0

    def write(self, target: int, data: Chunk, *, over: bool = False) -> None:
        """Write bytes at an offset of the output (in order, if it cannot be sought); ``over`` what is there already."""
        offset = self.sink.base + target if self.sink.seekable else -1
        granule = GRANULE if self.scans and not over else 0
        try:
            if self.sink.encodes:
                self.sink.put(data)
            else:
                self.zeros += _fast.write_at(self.sink.fd, offset, data, granule=granule)
        except OSError as error:
            raise self._explained(error) from None
        self.moved += len(data)

    def write_pieces(self, target: int, pieces: list[Chunk], length: int) -> None:
        """Write pieces of ``length`` bytes in all, one behind the other, as ``write`` does."""
        if self.sink.encodes:
            for piece in pieces:
                self.write(target, piece)
            return
        offset = self.sink.base + target if self.sink.seekable else -1
        cache = self._cache_of()
        try:
            self.zeros += _fast.write_pieces(
                self.sink.fd, offset, pieces,
                granule=GRANULE if self.scans else 0, flags=cache.flags[1] if cache is not None else 0,
            )  # fmt: skip
        except OSError as error:
            raise self._explained(error) from None
        self.moved += length
        if cache is not None:
            cache.after(-1, offset, length, flagged=True)
        elif self.writeback:
            # When it is worth a call.
            self._unsent = min(self._unsent, offset)
            if offset + length - self._unsent >= WINDOW:
                _fast.start_writeback(self.sink.fd, self._unsent, offset + length - self._unsent)
                self._unsent = offset + length

    def _hole(self, length: int) -> None:
        if self.sink.seekable:
            self.zeros += length
            self.moved += length
            return
        zeros = bytes(min(length, SCRATCH))
        while length:
            self.write(0, zeros[:length])
            length -= min(length, SCRATCH)

    def _explained(self, error: OSError) -> Exception:
        return explained(error, self.source.name, self.sink.name, self.demanded)

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
