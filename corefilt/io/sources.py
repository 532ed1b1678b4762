"""Where the bytes come from: a file, which can be asked for any of them, or a pipe, which passes once.

Both answer ``peek(offset, length)``. A pipe answers it for what has not been consumed yet, by holding what it
has read ahead; the engine takes that first.
"""

from __future__ import annotations

import fcntl
import os
import stat
from io import FileIO, TextIOBase

from corefilt import _fast
from corefilt.errors import DamagedCoreError, InputError, UnstreamableError, UsageError
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO, TypeAlias

    Place: TypeAlias = str | bytes | os.PathLike[str] | int | BinaryIO
    Chunk: TypeAlias = bytes | memoryview

# A pipe of 1 MiB carries three times what one of 64 KiB does (measured on Linux 6.18, two cores); it is also the
# most that an ordinary user may ask for (fs.pipe-max-size).
PIPE_SIZE = 1 << 20
_STREAMS = {0: "standard input", 1: "standard output"}
# Behind every offset.
NO_MORE = 1 << 63


class Source:
    """An input; ``size`` is its length in bytes, or None where it is not known beforehand.

    ``origin`` is the source whose bytes these are made of: itself, but for what is decompressed or spooled;
    ``compression`` the format that it was decompressed from, or None; ``seekable`` tells that any of its bytes can be
    had at any time, ``spooled`` that its holes are a pipe's zeros, ``made`` that its
    bytes do not come by the descriptor, but by ``pieces``. ``position`` is the offset of the first byte that
    was not consumed; what can be sought stays at 0. ``in_order`` is what it is called where it passes once. ``whole``
    turns False when ``check`` finds that what it was made of is cut or damaged.
    """

    compression: str | None = None
    in_order = "a pipe"
    made = False
    position = 0
    seekable = False
    spooled = False
    whole = True

    def __init__(self, fd: int, name: str, *, base: int = 0, size: int | None = None, owned: bool = True) -> None:
        """Take a descriptor; ``base`` is where the core begins in it, ``owned`` whether close() closes it."""
        self.fd, self.name, self.base, self.size, self.owned = fd, name, base, size, owned
        self.origin = self

    def refused(self, why: str) -> UnstreamableError:
        """Say ``why`` a source that passes only once is refused, as a pipe does and what is decompressed."""
        if self.compression is None:
            return UnstreamableError(f"{self.name}: {why}")
        return UnstreamableError(f"{self.name}: {why}", "add --spool to keep a temporary copy, or decompress it")

    @property
    def passing(self) -> str:
        """What it is called where it passes only once."""
        return self.in_order if self.compression is None else "a compressed core"

    def claim(self) -> None:
        """Have one writer alone consume it, where it passes only once. Raises UnstreamableError for the others."""
        if self.seekable:
            return
        # Of several threads one finds its own, as this is one operation of a dictionary.
        mine = object()
        held = self.__dict__.setdefault("_claimed", mine) is not mine
        if held or self.position:
            how = "was read already" if self.position else "is being read already"
            raise self.refused(f"{how}, and {self.passing} cannot be read twice")

    def release(self) -> None:
        """Let another writer claim it, if nothing of it was consumed."""
        if not self.position:
            self.__dict__.pop("_claimed", None)

    def check_descriptor(self) -> None:
        """Raise InputError if its descriptor, which may be somebody else's, is closed by now."""
        try:
            os.fstat(self.fd)
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from None

    def peek(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset`` of the core; fewer only where it ends."""
        raise AssertionError("a source is a file or a pipe")

    def take(self, length: int) -> bytes:
        """Consume up to ``length`` of the bytes that were read ahead: of what can be sought there are none."""
        return b""

    def drop(self, length: int) -> None:
        """Forget up to ``length`` of the bytes that were read ahead."""

    def pieces(self, length: int) -> list[Chunk]:
        """Consume up to ``length`` bytes as they were made here; none at the end."""
        raise AssertionError("its bytes come by its descriptor")

    def skip(self, length: int) -> int:
        """Consume and forget some of the next ``length`` bytes that are made here; how many, 0 at the end."""
        return sum(map(len, self.pieces(length)))

    def need(self, start: int, end: int) -> None:
        """Have ``[start, end)`` of the core where the descriptor reads it; ``peek`` does so itself."""

    def extents(self) -> Extents:
        """Where the descriptor has data."""
        return Extents(self.fd)

    def reachable(self, ahead: int) -> tuple[int, int]:
        """The range of offsets that can be had by reading at most ``ahead`` bytes ahead, as (start, end)."""
        return 0, 1 << 64

    def is_cut(self) -> bool:
        """Whether it is a file that is shorter now than when it was opened. Raises InputError."""
        return False

    @property
    def file(self) -> FileSource | None:
        """Itself as what can be sought and has a size, or None."""
        return None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode, the same for two names of one file."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def check(self) -> str | None:
        """What is wrong with the bytes that came, if they are good for something all the same. Raises InputError."""
        return None

    def close(self) -> None:
        """Give the descriptor back; what uses ``fd`` from then on raises UsageError."""
        fd = self._let_go()
        if self.owned:
            self.owned = False
            if fd is not None:
                shut(fd)

    def check_open(self) -> None:
        """Raise UsageError if it is closed."""
        if self.closed:
            raise UsageError(f"{self.name}: is closed", "use the core and its plans inside the with block")

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return "fd" not in self.__dict__

    def _let_go(self) -> int | None:
        """Forget the descriptor's number, which may soon be another file's; None if that was done before."""
        fd: int | None = self.__dict__.pop("fd", None)
        return fd

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            # Python comes here only for what an instance lacks: reading through an open one costs nothing.
            if name == "fd":
                self.check_open()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class FileSource(Source):
    """An input that can be sought."""

    size: int
    seekable = True

    def __init__(self, fd: int, name: str, *, base: int = 0, size: int | None = None, owned: bool = True) -> None:
        super().__init__(fd, name, base=base, size=size, owned=owned)
        self._state = _state_of(fd)

    def check(self) -> str | None:
        """Whether somebody wrote to the file since it was opened: what was read may be of two times. Raises InputError.

        Size, mtime and ctime tell; a write by mmap reaches them when the kernel writes the page back, or at msync.
        """
        try:
            state = _state_of(self.fd)
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from None
        if state == self._state:
            return None
        grown = state[0] - self._state[0]
        if grown:
            return f"{'grew' if grown > 0 else 'shrank'} by {show_size(abs(grown))} while it was read"
        return "changed while it was read"

    def peek(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; no more is allocated than the file holds. Raises InputError."""
        room = bytearray(max(0, min(length, self.size - offset)))
        try:
            got = _fast.read_into(self.fd, self.base + offset, room) if room else 0
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read at byte {offset}: {error.strerror}") from None
        return bytes(room) if got == len(room) else bytes(room[:got])

    def is_cut(self) -> bool:
        """Whether it is shorter now than when it was opened. Raises InputError."""
        try:
            return os.fstat(self.fd).st_size < self.base + self.size
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from None

    @property
    def file(self) -> FileSource:
        """Itself."""
        return self


def _state_of(fd: int) -> tuple[int, int, int]:
    """Size, mtime and ctime; those of what is no regular file change by being used."""
    status = os.fstat(fd)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if stat.S_ISREG(status.st_mode) else (0, 0, 0)


class PipeSource(Source):
    """An input that passes once; ``ahead`` holds what was read from ``position`` on but not consumed."""

    def __init__(self, fd: int, name: str, *, most_ahead: int, owned: bool = True) -> None:
        """Take a descriptor that is read in order; more than ``most_ahead`` bytes are never held."""
        super().__init__(fd, name, owned=owned)
        self.most_ahead = most_ahead
        self.ahead = bytearray()

    def peek(self, offset: int, length: int) -> bytes:
        """As for a file, from the current position on. Raises DamagedCoreError past what may be held."""
        start = offset - self.position
        if start < 0:
            raise AssertionError("a pipe cannot go back")
        missing = start + length - len(self.ahead)
        if missing > 0:
            if start + length > self.most_ahead:
                raise DamagedCoreError(
                    f"{self.name}: headers and notes exceed {show_size(self.most_ahead)}, the limit for a pipe",
                    "raise --max-headers, or name the core as a file",
                )
            self._read_ahead(missing)
        # A table of a million program headers has 53 MiB, of which a slice would be one more copy.
        return bytes(memoryview(self.ahead)[start : start + length])

    def _read_ahead(self, count: int) -> None:
        # In pieces: the size was claimed by the input, so no more is allocated than has really arrived.
        room = memoryview(bytearray(min(count, PIPE_SIZE)))
        while count > 0:
            try:
                got = _fast.read_into(self.fd, -1, room[:count])
            except OSError as error:
                raise InputError(f"{self.name}: cannot be read: {error.strerror}") from None
            if not got:
                self._at_end()
                return
            self.ahead += room[:got]
            count -= got

    def _at_end(self) -> None:
        """There is no more; a child may know why."""

    def take(self, length: int) -> bytes:
        """Consume up to ``length`` of the bytes that are held already."""
        taken = bytes(memoryview(self.ahead)[:length])
        self.drop(length)
        return taken

    def drop(self, length: int) -> None:
        """Consume and forget up to ``length`` of the bytes that are held already."""
        self.position += min(length, len(self.ahead))
        del self.ahead[:length]

    def reachable(self, ahead: int) -> tuple[int, int]:
        """The range of offsets from the current position on, as far as the pipe may be read ahead."""
        return self.position, self.position + min(ahead, self.most_ahead)


class Extents:
    """Where a file has data, asked once for each piece of it.

    The question where the next hole is can cost a walk to the end of the file (tmpfs walks page by page), so a
    piece that was found is remembered until it has been passed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = self._end = 0
        self._asked = 0

    def first(self, at: int, end: int) -> tuple[int, int]:
        """The first data in ``[at, end)`` as (start, end); both are ``end`` if there is none."""
        if not self._asked <= at < self._end:
            self._asked = at
            try:
                self._start, self._end = _fast.data_extent(self._fd, at) or (NO_MORE, NO_MORE)
            except OSError:
                # This file system keeps no map of holes: everything is data.
                self._start, self._end = at, NO_MORE
        return min(max(at, self._start), end), min(self._end, end)

    def pieces(self, at: int, end: int) -> Iterator[tuple[int, int]]:
        """All data in ``[at, end)``, as (start, end)."""
        while at < end:
            data, at = self.first(at, end)
            if data < at:
                yield data, at


def shut(fd: int) -> None:
    """Close a descriptor that was read, or whose file is on the disk: what close could still tell changes nothing."""
    try:
        os.close(fd)
    except OSError:
        # It is closed all the same (close(2)).
        return


def enlarge_pipe(fd: int) -> None:
    """Ask for a pipe of PIPE_SIZE; one that refuses works all the same."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_SIZE:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return


def refuse_content(path: bytes) -> None:
    """Raise UsageError for what is no path but a core itself, whose bytes no message may show."""
    if b"\0" in path:
        raise UsageError("bytes are taken for a path, and these have a NUL", "io.BytesIO(DATA) gives a core in memory")


def descriptor_of(place: Place) -> str | bytes | os.PathLike[str] | int | BinaryIO:
    """A binary file's descriptor, positioned and flushed as the file is; anything else as it came.

    What changes the bytes on the way (gzip.GzipFile) or keeps them elsewhere (io.BytesIO) is used by its methods.
    Raises UsageError for what is neither a place nor a binary file, and OSError where flushing or seeking fails.
    """
    # Some files of fsspec have a path, too; what is asked for is what they hold, from where they stand.
    is_file = hasattr(place, "read") or hasattr(place, "write")
    if isinstance(place, str | bytes | int) or (isinstance(place, os.PathLike) and not is_file):
        if isinstance(place, bytes):
            refuse_content(place)
        return place
    if not is_file:
        raise UsageError(f"a core is a path, a descriptor or a binary file, not {type(place).__name__}")
    file: Any = place
    if isinstance(file, TextIOBase):
        raise UsageError(f"{name_of(file)}: is a text file", "open it in binary mode, or give its .buffer")
    inner = file
    try:
        # Of a buffer, and of what tempfile gives.
        while beneath := getattr(inner, "raw", None) or getattr(inner, "file", None):
            inner = beneath
        if not isinstance(inner, FileIO):
            return place
        fd: int = inner.fileno()
        if file.writable():
            file.flush()
        if file.seekable():
            os.lseek(fd, file.tell(), os.SEEK_SET)
    except ValueError as error:
        raise UsageError(f"{name_of(file)}: {error}") from None
    return fd


def called_as(fd: int, place: Place) -> str:
    """What to call an open descriptor: as a standard stream, or as the file that was given if it has a name."""
    if fd in _STREAMS:
        return _STREAMS[fd]
    is_file = hasattr(place, "read") or hasattr(place, "write")
    name = getattr(place, "name", None) if is_file else None
    return os.fsdecode(name) if isinstance(name, str | bytes) else f"descriptor {fd}"


def name_of(file: object) -> str:
    """What to call a file that was given as an object."""
    name = getattr(file, "name", None) or getattr(file, "full_name", None)
    return name if isinstance(name, str) else type(file).__name__
