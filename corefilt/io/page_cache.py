"""Leaves the page cache as it was: what the copy of a large core brings in is taken out again.

What was not in the cache before is dropped behind the copy; what was there, because a debugger has the core
open, stays. Where kernel and file system know RWF_DONTCACHE (Linux 6.14) and the mover is READWRITE, the kernel
does it: for the output always, for the input only where the cache does not tell what it holds. A folio that is
read with this flag goes with the first read that touches it, also when the next one wants the rest, so that
ext4 fetched 1.1 to 1.5 times the file from the disk in reads of 1 MiB to 128 KiB (Linux 6.18).
"""

from __future__ import annotations

import os

from corefilt import _fast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Source

# Dropped at a time.
WINDOW = 8 << 20
# How far ahead of a read the cache is asked, at least half as far: before the kernel, which reads up to two of its
# windows ahead (/sys/class/bdi/*/read_ahead_kb; 8 MiB are not rare).
AHEAD = 64 << 20
# How far behind it is dropped once more, because a folio that reaches over an edge stays the first time.
BEHIND = 16 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tells(fd: int) -> bool:
    """Whether mincore(2) tells the truth about a file: to its owner, and to who may write to it (Linux 5.2)."""
    return os.fstat(fd).st_uid == os.geteuid() or os.access(f"/proc/self/fd/{fd}", os.W_OK)


def dontcache(fd: int) -> int:
    """RWF_DONTCACHE if it can be had for a descriptor, else 0."""
    try:
        os.preadv(fd, [bytearray(1)], 0, _fast.DONTCACHE)
    except OSError:
        return 0
    return _fast.DONTCACHE


class Cache:
    """The page cache of one copy; ``flags`` are those of preadv2 for the input and of pwritev2 for the output."""

    def __init__(self, source: Source, sink: Sink, *, wait: bool) -> None:
        """Look at both sides; ``wait`` says whether to wait for the disk before the output's pages are dropped."""
        self._source = source.fd if source.seekable else -1
        self._sink = sink.fd if sink.seekable else -1
        self._wait = wait
        asks = self._source < 0 or tells(self._source)
        self.flags = 0 if asks else dontcache(self._source), dontcache(sink.reader)
        self._known = self._dropped = 0
        self._absent: list[tuple[int, int]] = []
        self._start, self._end = -1, 0
        self._behind: list[tuple[int, int]] = []

    def before(self, at: int, length: int, *, flagged: bool) -> None:
        """Note what of the input is not in the cache before ``[at, at + length)`` is read, ``flagged`` or not."""
        if self._source < 0 or (flagged and self.flags[0]) or at + length + AHEAD // 2 <= self._known:
            return
        start = max(at // _PAGE * _PAGE, self._known)
        end = -(-(at + length + AHEAD) // _PAGE) * _PAGE
        self._known = end
        try:
            self._absent += _fast.absent(self._source, start, end - start)
        except OSError:
            # Nothing is known to be absent, so nothing is dropped.
            return

    def was_absent(self, at: int, length: int) -> bool:
        """Whether any of the input's ``[at, at + length)``, for which ``before`` was called, was not in the cache."""
        return any(start < at + length and at < end for start, end in self._absent)

    def after(self, end: int, target: int, length: int, *, flagged: bool) -> None:
        """Drop what came in with the input up to ``end``, and with ``length`` bytes written at ``target``.

        What carried flags is the kernel's to drop.
        """
        if self._source >= 0 and not (flagged and self.flags[0]) and end >= self._dropped + WINDOW:
            self._drop_input(end)
        if self._sink < 0 or (flagged and self.flags[1]):
            return
        self._start = min(self._start, target) if self._start >= 0 else target
        self._end = max(self._end, target + length)
        if self._end - self._start >= WINDOW:
            self._leave_window()

    def _leave_window(self) -> None:
        """Have the disk write the window, and drop the one before the last, which it has had time for."""
        _fast.start_writeback(self._sink, self._start, self._end - self._start)
        self._behind.append((self._start, self._end))
        self._start = -1
        if len(self._behind) > 2:
            self._drop_output(*self._behind.pop(0))

    def _drop_input(self, end: int) -> None:
        self._dropped = end
        left = []
        for start, stop in self._absent:
            if start < end:
                os.posix_fadvise(self._source, start, min(stop, end) - start, os.POSIX_FADV_DONTNEED)
            if stop > end - BEHIND:
                left.append((max(start, end - BEHIND), stop))
        self._absent = left

    def _drop_output(self, start: int, end: int) -> None:
        if self._wait:
            _fast.wait_writeback(self._sink, start, end - start)
        # As far as it is on the disk.
        os.posix_fadvise(self._sink, start, end - start, os.POSIX_FADV_DONTNEED)

    def finish(self) -> None:
        """Drop what is left, also of what the kernel read ahead."""
        if self._source >= 0:
            self._drop_input(self._known)
        if self._start >= 0:
            self._leave_window()
        for window in self._behind:
            self._drop_output(*window)
        self._behind = []
