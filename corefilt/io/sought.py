"""A seekable zstd file as what can be sought: of its frames those are decompressed that somebody reads.

They stand in a temporary file without a name, as long as the core, of which the rest is a hole; or, where the core is
read once and in order, they pass as any stream does.
"""

from __future__ import annotations

import os
import sys
from array import array
from bisect import bisect_right
from itertools import accumulate

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.compression import zstd_library
from corefilt.io.decoding import ZSTD_PIECE, ZSTD_WINDOW_LOG, decoded
from corefilt.io.decompress import BATCH, READ, DerivedSource, SourceReader
from corefilt.io.seekable import ENTRY, FOOTER, HEAD, SEEKABLE_MAGIC, TABLE_MAGIC
from corefilt.io.sources import Extents, FileSource
from corefilt.io.tempfiles import nameless_in
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A checksum in each entry, which the frame has, too; the bits that are reserved are zero.
CHECKSUM_FLAG, RESERVED = 0x80, 0x7C
# Frames that are larger are read as a stream: all of one is decompressed to have a byte of it. t2sz makes 16 MiB, we 4.
MOST_OF_A_FRAME = 64 << 20
# A table of more is read as a stream, too: these, 2 TiB in frames of 4 MiB, take 30 MiB to read. In a sparse file a
# table costs nothing, and one of 60 million entries took 2.3 GiB.
MOST_FRAMES = 1 << 19
# Zeros become holes in pieces of this many bytes.
GRANULE = 4096


class SeekTable:
    """Where each frame begins, in the file and in what it holds; both end with where the last one ends."""

    __slots__ = ("held", "stored")

    def __init__(self, stored: array[int], held: array[int]) -> None:
        """Take the columns, in bytes."""
        self.stored, self.held = stored, held


def read_table(source: FileSource) -> SeekTable | None:
    """The seek table at the end of a file; None where there is none, or one that cannot be that of the file."""
    size = source.size
    footer = source.peek(size - FOOTER.size, FOOTER.size) if size > FOOTER.size else b""
    if len(footer) < FOOTER.size:
        return None
    count, descriptor, magic = FOOTER.unpack(footer)
    if magic != SEEKABLE_MAGIC or descriptor & RESERVED:
        return None
    entry = ENTRY.size + (4 if descriptor & CHECKSUM_FLAG else 0)
    room = size - HEAD.size - FOOTER.size
    if not 0 < count <= min(room // entry, MOST_FRAMES):
        return None
    begin = size - HEAD.size - count * entry - FOOTER.size
    raw = source.peek(begin, HEAD.size + count * entry)
    if len(raw) < HEAD.size + count * entry or HEAD.unpack_from(raw) != (TABLE_MAGIC, count * entry + FOOTER.size):
        return None
    words = array("I", raw[HEAD.size :])
    if sys.byteorder == "big":
        words.byteswap()
    step = entry // 4
    stored, held = words[::step], words[1::step]
    # The entries are 32 bits each, and there are fewer than 2^29, so that no sum has more than 64.
    if max(held) > MOST_OF_A_FRAME or sum(stored) != begin:
        return None
    return SeekTable(*(array("Q", accumulate(sizes, initial=0)) for sizes in (stored, held)))


class SoughtSource(FileSource):
    """What a seekable zstd file holds; ``need`` has a range decompressed, and ``peek`` asks for what it reads."""

    spooled = True

    def __init__(self, inner: FileSource, table: SeekTable, folder: str | None = None) -> None:
        """Take the compressed file, which is closed with this one; the temporary one is in ``folder`` or TMPDIR.

        Raises InputError or MissingLibraryError.
        """
        self._zstd = zstd_library()
        self._table, self._inner = table, inner
        self._there = bytearray(len(table.held) - 1)
        try:
            fd = nameless_in(folder)
            try:
                os.ftruncate(fd, table.held[-1])
                super().__init__(fd, inner.name, size=table.held[-1])
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise InputError(f"{inner.name}: cannot be decompressed to a temporary file: {error.strerror}") from None
        self.origin, self.compression = inner.origin, "zstd"
        self._check_empty()

    def check(self) -> str | None:
        """Whether somebody wrote to the compressed file meanwhile."""
        return self._inner.check()

    def is_cut(self) -> bool:
        """Whether the compressed file is shorter now."""
        return self._inner.is_cut()

    def peek(self, offset: int, length: int) -> bytes:
        """As for a file. Raises InputError for a frame that is damaged, too."""
        self.need(offset, offset + length)
        return super().peek(offset, length)

    def need(self, start: int, end: int) -> None:
        """Have ``[start, end)`` in the temporary file. Raises InputError."""
        held, end = self._table.held, min(end, self.size)
        frame = bisect_right(held, start) - 1
        while frame < len(self._there) and held[frame] < end:
            if not self._there[frame]:
                self._fill(frame)
            frame += 1

    def extents(self) -> Extents:
        """Where there is data, as far as the frames tell that are asked for."""
        return _Extents(self)

    def close(self) -> None:
        """Close both files."""
        if self.owned:
            super().close()
            self._inner.close()

    def _check_empty(self) -> None:
        """Read the frames that hold nothing by the table: nobody asks for a byte of them, and they may hold some."""
        held = self._table.held
        try:
            for frame in range(len(self._there)):
                if held[frame] == held[frame + 1]:
                    self._fill(frame)
        except InputError:
            super().close()
            raise

    def _fill(self, frame: int) -> None:
        stored, held = self._table.stored, self._table.held
        options = {self._zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
        decoder = self._zstd.ZstdDecompressor(options=options)
        at, end, place = stored[frame], stored[frame + 1], held[frame]
        # What is written ends with a whole granule, so that the cuts cost no hole.
        made = bytearray()
        try:
            while not decoder.eof and place + len(made) <= held[frame + 1]:
                raw = self._inner.peek(at, min(READ, end - at)) if decoder.needs_input else b""
                if decoder.needs_input and not raw:
                    break
                at += len(raw)
                made += decoder.decompress(raw, ZSTD_PIECE)
                if len(made) >= BATCH:
                    place += self._write(place, made, len(made) - (place + len(made)) % GRANULE)
        except self._zstd.ZstdError as error:
            where = f"frame {frame} of the zstd stream, at byte {stored[frame]}"
            raise InputError(f"{self.name}: {where}, is damaged: {error}") from None
        if decoder.unused_data or not decoder.eof or at < end or place + len(made) != held[frame + 1]:
            raise _not_as_told(self.name, self._table, frame)
        self._write(place, made, len(made))
        self._there[frame] = 1

    def _write(self, place: int, made: bytearray, length: int) -> int:
        """Take so many bytes from the beginning of what was made to their place; returns how many."""
        try:
            _fast.write_at(self.fd, place, made[:length], granule=GRANULE)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be decompressed to a temporary file: {error.strerror}") from None
        del made[:length]
        return length


class SkippedSource(DerivedSource):
    """What a seekable zstd file holds, read once and in order; frames of which nothing is asked for are passed over."""

    def __init__(self, inner: FileSource, table: SeekTable, *, most_ahead: int) -> None:
        """Take the compressed file, which is closed with this source."""
        self._table, self._file = table, inner
        super().__init__(inner, lambda read: self._frames(0), inner.name, most_ahead=most_ahead)
        self.compression = "zstd"

    def skip(self, length: int) -> int:
        """Consume and forget some of the next ``length`` bytes; how many, 0 at the end."""
        held = self._table.held
        # Of the last frame the end is to be found.
        frame = min(bisect_right(held, self.position + length), len(held) - 1) - 1
        come = self.position + len(self.ahead) + sum(map(len, self._batch))
        if held[frame] <= come:
            return super().skip(length)
        passed = held[frame] - self.position
        self.ahead.clear()
        # What was wrong with what was read ahead lies in what is passed over.
        self._batch, self._error, self._pieces = [], None, self._frames(frame)
        self.position += passed
        return passed

    def _frames(self, first: int) -> Iterator[bytes]:
        """What the frames hold from one on. Raises InputError where that is not as much as the table says."""
        stored, held = self._table.stored, self._table.held
        for frame in range(first, len(held) - 1):
            read, left = SourceReader(self._file, stored[frame], stored[frame + 1]), held[frame + 1] - held[frame]
            for piece in decoded("zstd", read, again=read.again):
                left -= len(piece)
                if left < 0:
                    break
                yield piece
            if left:
                raise _not_as_told(self.name, self._table, frame)


def _not_as_told(name: str, table: SeekTable, frame: int) -> InputError:
    size = table.held[frame + 1] - table.held[frame]
    where = f"frame {frame} of the zstd stream, at byte {table.stored[frame]}"
    return InputError(f"{name}: {where}, does not hold the {counted(size, 'byte')} that the seek table says")


class _Extents(Extents):
    """Where what is decompressed on demand has data."""

    def __init__(self, source: SoughtSource) -> None:
        super().__init__(source.fd)
        self._source = source

    def first(self, at: int, end: int) -> tuple[int, int]:
        """The first data in ``[at, end)``; frames are decompressed up to there."""
        held = self._source._table.held
        while at < end:
            stop = min(end, held[bisect_right(held, at)] if at < held[-1] else end)
            self._source.need(at, stop)
            self._start = self._end = 0
            data, hole = super().first(at, stop)
            if data < hole:
                return data, hole
            at = stop
        return end, end
