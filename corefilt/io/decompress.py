"""A core that is made of other bytes as it is read: decompressed, or taken out of an archive.

It passes once, and what is held of it is bounded. What goes wrong while it is made is kept until the reader has come
that far. A stream that was cut or is damaged is a core that was cut there.
"""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.errors import CorefiltError, InputError
from corefilt.io import compression, decoding
from corefilt.io.sources import PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corefilt.io.sources import Chunk

# Read of the other source at a time.
READ = 64 << 10
# Made at a time: as much as stays in the processor's own cache until it is written.
BATCH = 256 << 10
# Memory that is asked for in pieces of up to this size is kept when it is freed, and twice as much in all; it is where
# glibc's own adapting ends. From zstd, 256 MiB of random memory took 25,000 page faults and 0.25 s of CPU without it,
# 3,400 and 0.20 s with it.
KEPT = 32 << 20


class MadeSource(PipeSource):
    """A source that passes once, whose bytes are made here; a child knows how."""

    made = True

    def __init__(self, fd: int, inner: Source | None, name: str, *, most_ahead: int) -> None:
        """Take what the bytes are made of, which is closed with this source; None if that is no file here.

        ``fd`` stands for the source where it is asked what it is.
        """
        super().__init__(fd, name, most_ahead=most_ahead)
        self._inner = inner
        self.origin = self if inner is None else inner.origin
        self._error: BaseException | None = None
        self._batch: list[Chunk] = []

    @property
    def identity(self) -> tuple[int, int]:
        """That of the file that it is made of, or of its own descriptor."""
        return super().identity if self.origin is self else self.origin.identity

    def check(self) -> str | None:
        """What is wrong with the bytes that have come: words where they were cut. Raises InputError for the rest.

        What is no Exception (KeyboardInterrupt) is raised as it is.
        What the other source ran into comes first, as it may look like a cut from here.
        """
        words = self._inner.check() if self._inner is not None else None
        # That a file changed excuses nothing that was met with in it.
        changed = self._inner is not None and self._inner.seekable
        if self._error is None or (words is not None and not changed):
            self.whole = self.whole and (self._inner is None or self._inner.whole)
            return words
        if isinstance(self._error, EOFError):
            self.whole = isinstance(self._error, decoding.StreamFault) and self._error.whole
            told = str(self._error) or "the compressed stream is cut off"
            return told + (f", and {words}" if words is not None else "")
        if isinstance(self._error, CorefiltError) or not isinstance(self._error, Exception):
            # What ends a program or a task does so in the thread that reads.
            raise self._error
        told = getattr(self._error, "strerror", None) or str(self._error) or type(self._error).__name__
        raise InputError(f"{self.name}: cannot be read: {told}")

    def pieces(self, length: int) -> list[Chunk]:
        """Consume up to ``length`` bytes as they were made; none at the end."""
        if self.ahead:
            return [self.take(min(length, BATCH))]
        found = self._next(length)
        self.position += sum(map(len, found))
        return found

    def close(self) -> None:
        """Close what the bytes are made of, too."""
        if self.owned:
            self.owned = False
            self._let_go()
            if self._inner is not None:
                self._inner.close()

    def _made(self) -> list[Chunk]:
        """The next bytes, about BATCH; none at the end."""
        raise AssertionError("a child knows how")

    def _next(self, length: int) -> list[Chunk]:
        """Up to ``length`` of the bytes that come next; none at the end."""
        if not self._batch:
            self._batch = self._made()
        if sum(map(len, self._batch)) <= length:
            found, self._batch = self._batch, []
            return found
        found = []
        while length and self._batch:
            piece = self._batch[0]
            if len(piece) > length:
                view = memoryview(piece)
                piece, self._batch[0] = view[:length], view[length:]
            else:
                del self._batch[0]
            found.append(piece)
            length -= len(piece)
        return found

    def _read_ahead(self, count: int) -> None:
        while count > 0:
            found = self._next(count)
            if not found:
                self._at_end()
                return
            for piece in found:
                self.ahead += piece
                count -= len(piece)

    def _at_end(self) -> None:
        words = self.check()
        if words is not None and not self.position and not self.ahead:
            raise InputError(f"{self.name}: {words} before any of the core came")


class DerivedSource(MadeSource):
    """What is made of another source as it is asked for.

    By the thread that asks: with one of its own beside it, which writes while the other decompresses, zstd took a
    third more CPU time for the 4,000 times that one waited for the other (256 MiB, Linux 6.18, two cores).
    """

    def __init__(
        self, inner: Source, make: Callable[[SourceReader], Iterator[bytes]], name: str, *, most_ahead: int
    ) -> None:
        """``make`` gives the core's bytes by reading the other source's, and raises what is wrong.

        An EOFError tells that they were cut.
        """
        super().__init__(inner.fd, inner, name, most_ahead=most_ahead)
        self._pieces: Iterator[Chunk] = make(SourceReader(inner))

    def _made(self) -> list[Chunk]:
        batch: list[Chunk] = []
        size = 0
        try:
            while size < BATCH and len(batch) < _fast.MOST_BUFFERS:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                batch.append(piece)
                size += len(piece)
        except Exception as error:
            self._error = error
        return batch


class SourceReader:
    """Reads a source from its beginning."""

    def __init__(self, source: Source, start: int = 0, end: int | None = None) -> None:
        """Hold it; of what can be sought ``start`` and ``end`` are where to begin and to end, in bytes."""
        self._source, self._start, self._end = source, start, end
        self._at = start

    def again(self, at: int) -> SourceReader | None:
        """Another one that begins so many bytes behind where this one began, where that is possible."""
        return SourceReader(self._source, self._start + at, self._end) if self._source.seekable else None

    def __call__(self) -> bytes:
        """The next bytes, up to READ; none at the end. Raises OSError."""
        source, file = self._source, self._source.file
        if file is not None:
            length = min(READ, (file.size if self._end is None else self._end) - self._at)
            piece = os.pread(file.fd, length, file.base + self._at) if length > 0 else b""
            self._at += len(piece)
            return piece
        if source.made:
            return b"".join(source.pieces(READ))
        return source.take(READ) or os.read(source.fd, READ)


def keep_memory() -> None:
    """Have this process, which is our own, keep what it frees for what is decompressed next."""
    _fast.keep_memory(KEPT)


def unpacked(source: Source, head: bytes, *, most_ahead: int) -> Source:
    """What a compressed source holds, by its first bytes; any other source as it is. Raises MissingLibraryError."""
    name = compression.recognise(head)
    if name is None:
        return source
    # A package that is missing is to be told here, not as damage.
    decoding.check_decoder(name)
    made = DerivedSource(
        source, lambda read: decoding.decoded(name, read, again=read.again), source.name, most_ahead=most_ahead
    )
    made.compression = name
    return made
