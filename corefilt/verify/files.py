"""A core's bytes by offset: read for tables and notes, mapped in windows for the payload, holes passed over.

No hole is mapped: on tmpfs, to look at a page of one through a mapping gives the file that page.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from bisect import bisect_right

from xxhash import xxh3_128_digest

from corefilt.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from corefilt.verify.guard import Passed

# What is mapped at a time. Hashing 1 GiB of warm page cache (Xeon, 2 cores, Linux 6.18) took 0.115 s of processor time
# in windows of 16 MiB, 0.110 in 64 MiB, 0.167 in 1 MiB, and 0.170 by pread.
WINDOW = 16 << 20
# Holes shorter than this are looked at with the data around them: two system calls and two windows cost more.
SMALL_HOLE = 64 << 10
_ALIGNMENT = mmap.ALLOCATIONGRANULARITY
_NO_MORE = 1 << 63


class MappedCore:
    """A core that is open for reading; a context manager. ``size`` is its length in bytes when it was opened.

    ``damage`` is what was wrong with what it was made of, if it is a copy.
    """

    damage: str | None = None
    # Ranges that ascend and lie apart, in which other bytes are no difference: they are judged elsewhere.
    excused: Sequence[tuple[int, int]] = ()
    # Hears of bytes that were looked at.
    passed: Passed | None = None

    def __init__(self, path: str | os.PathLike[str], name: str = "") -> None:
        """Open it; errors call it ``name``, or as the path does. Raises InputError."""
        self.name = name or os.fsdecode(path)
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from None
        self._before = os.fstat(self.fd)
        self.size = self._before.st_size
        self._data, self._data_end, self._asked = 0, 0, 0
        # The data that windows were in last, as the file system has it.
        self._run = 0, 0
        if not stat.S_ISREG(self._before.st_mode):
            os.close(self.fd)
            raise InputError(f"{self.name}: not a regular file", "save the core to a file first")

    def __enter__(self) -> MappedCore:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self.fd)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer only where it ended when it was opened. Raises InputError."""
        wanted = max(0, min(length, self.size - offset))
        pieces = []
        while wanted > 0:
            try:
                piece = os.pread(self.fd, min(wanted, WINDOW), offset)
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read at byte {offset}: {error.strerror}") from None
            if not piece:
                raise self._cut(offset)
            pieces.append(piece)
            offset, wanted = offset + len(piece), wanted - len(piece)
        return b"".join(pieces)

    def window(self, offset: int, length: int) -> Window:
        """A window over bytes that must be there, of at most WINDOW. Raises InputError where they no longer are.

        Where the file is cut after this looked, touching the window ends the process by SIGBUS: see guard.py.
        """
        if os.fstat(self.fd).st_size < offset + length:
            raise self._cut(offset)
        if not self._run[0] <= offset < self._run[1]:
            self._run = self.next_data(offset)
        if not self._run[0] <= offset <= offset + length <= self._run[1]:
            return Window(self.read(offset, length), 0)
        aligned = offset // _ALIGNMENT * _ALIGNMENT
        try:
            whole = mmap.mmap(self.fd, offset - aligned + length, prot=mmap.PROT_READ, offset=aligned)
        except ValueError:
            raise self._cut(offset) from None
        except OSError as error:
            raise InputError(f"{self.name}: cannot be mapped at byte {offset}: {error.strerror}") from None
        return Window(whole, offset - aligned)

    def extent(self, at: int, end: int) -> tuple[int, int]:
        """The first data in ``[at, end)`` as (start, end), with small holes in it; both are ``end`` if there is none.

        An answer is remembered until it has been passed: a file system may walk to the end of the data for it.
        """
        if not self._asked <= at < self._data_end:
            self._asked = at
            self._data, self._data_end = self.next_data(at)
            while self._data_end < end:
                start, stop = self.next_data(self._data_end)
                if start - self._data_end > SMALL_HOLE:
                    break
                self._data_end = stop
        return min(max(at, self._data), end), min(self._data_end, end)

    def next_data(self, at: int) -> tuple[int, int]:
        """The first data from ``at`` on as (start, end), as the file system has it; both are huge if there is none."""
        if at >= self.size:
            # Hostile headers speak of offsets that no system call takes.
            return _NO_MORE, _NO_MORE
        try:
            start = os.lseek(self.fd, at, os.SEEK_DATA)
            return start, os.lseek(self.fd, start, os.SEEK_HOLE)
        except OSError as error:
            # ENXIO: no data behind. Anything else: this file system keeps no map of holes, everything is data.
            return (_NO_MORE, _NO_MORE) if error.errno == errno.ENXIO else (at, _NO_MORE)

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All data in ``[start, end)``, as (start, end), in pieces of at most WINDOW."""
        while start < end:
            at, stop = self.extent(start, end)
            while at < stop:
                yield at, min(at + WINDOW, stop)
                at += WINDOW
            start = stop

    def check_unchanged(self) -> None:
        """Raise InputError where somebody wrote to the file since it was opened."""
        now = os.fstat(self.fd)
        if (now.st_size, now.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise InputError(f"{self.name}: was changed while it was read", "wait until nobody writes to it")

    def _cut(self, offset: int) -> InputError:
        return InputError(
            f"{self.name}: was truncated while it was read: byte {offset} is gone",
            "wait until nobody writes to it",
        )


class Window:
    """Bytes of a file that are there while the body of a with statement runs."""

    def __init__(self, whole: mmap.mmap | bytes, skip: int) -> None:
        """Take a mapping, or a copy, which begins ``skip`` bytes before what was asked for."""
        self._whole = whole
        self._all = memoryview(whole)
        self._view = self._all[skip:]

    def __enter__(self) -> memoryview:
        return self._view

    def __exit__(self, *about: object) -> None:
        self._view.release()
        self._all.release()
        if isinstance(self._whole, mmap.mmap):
            self._whole.close()


class Difference:
    """Where two ranges differ: ``first`` is the first such byte's distance from the beginning, ``count`` how many.

    ``here`` and ``there`` are the bytes from the first on, up to eight.
    """

    __slots__ = ("count", "first", "here", "there")

    def __init__(self, first: int, here: bytes, there: bytes) -> None:
        self.first, self.count, self.here, self.there = first, 0, here, there

    def __str__(self) -> str:
        return f"{self.here.hex(' ')} became {self.there.hex(' ')}"


def difference(one: MappedCore, at_one: int, other: MappedCore, at_other: int, length: int) -> Difference | None:
    """Where ``length`` bytes of two files differ, but for what is excused in the other, or None.

    What is a hole in both is not touched.
    """
    whole: Difference | None = None
    at = at_other
    k = bisect_right(other.excused, at_other, key=_end_of)
    while at < at_other + length:
        excused = other.excused[k] if k < len(other.excused) else (_NO_MORE, _NO_MORE)
        stop, k = min(excused[0], at_other + length), k + 1
        if at < stop:
            found = _difference(one, at_one + at - at_other, other, at, stop - at)
            if found is not None:
                found.first += at - at_other
                if whole is None:
                    whole = found
                else:
                    whole.count += found.count
        at = max(stop, excused[1])
    return whole


def _end_of(span: tuple[int, int]) -> int:
    return span[1]


def _difference(one: MappedCore, at_one: int, other: MappedCore, at_other: int, length: int) -> Difference | None:
    found: Difference | None = None
    at = 0
    while at < length:
        start, end = one.extent(at_one + at, at_one + length)
        low, stop = other.extent(at_other + at, at_other + length)
        begin, before = min(start - at_one, low - at_other), at
        if begin >= length:
            break
        at = min(end - at_one if start - at_one == begin else stop - at_other, begin + WINDOW)
        if one.passed is not None:
            one.passed.add(at - before)
        with one.window(at_one + begin, at - begin) as here, other.window(at_other + begin, at - begin) as there:
            if xxh3_128_digest(here) == xxh3_128_digest(there):
                continue
            mixed = int.from_bytes(here, "little") ^ int.from_bytes(there, "little")
            apart = mixed.to_bytes(len(here), "little")
            first = len(apart) - len(apart.lstrip(b"\0"))
            if found is None:
                found = Difference(begin + first, bytes(here[first : first + 8]), bytes(there[first : first + 8]))
            found.count += len(apart) - apart.count(0)
    return found
