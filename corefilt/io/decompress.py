"""A core that is made of other bytes as it is read: decompressed, taken out of an archive, or fetched.

A thread makes it and writes it into a pipe, so that everything behind is as with any pipe: it passes once, what is
held of it is bounded, and what makes it waits for who reads it. What goes wrong in the thread is kept until the reader
has come that far. A stream that was cut or is damaged is a core that was cut there.
"""

from __future__ import annotations

import os
import select
import threading

from corefilt.errors import CorefiltError, InputError
from corefilt.io import compression, decoding
from corefilt.io.sources import PipeSource, Source, enlarge_pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FedSource(PipeSource):
    """A pipe that a thread of ours feeds with what it makes of another source, which is closed with it.

    Without another one, the bytes come from what is no file here.
    """

    def __init__(
        self, inner: Source | None, make: Callable[[SourceReader], Iterator[bytes]], name: str, *, most_ahead: int
    ) -> None:
        """Start to read; ``make`` gives the core's bytes by reading the other source's, and raises what is wrong.

        An EOFError tells that they were cut.
        """
        fd, self._feed = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(self._feed)
        super().__init__(fd, name, most_ahead=most_ahead)
        self._inner = inner
        self.origin = self if inner is None else inner.origin
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(make,), name="corefilt-unpacking", daemon=True)
        self._thread.start()

    @property
    def identity(self) -> tuple[int, int]:
        """That of the file that it is made of, or the pipe's own."""
        return super().identity if self.origin is self else self.origin.identity

    def check(self) -> str | None:
        """What is wrong with the bytes that have come: words where they were cut. Raises InputError for the rest.

        Where the pipe has ended, it is known: the thread says it before it closes its end. What the other source ran
        into comes first, as it may look like a cut from here.
        """
        words = self._inner.check() if self._inner is not None else None
        # That a file changed excuses nothing that was met with in it.
        changed = self._inner is not None and self._inner.seekable
        if self._error is None or (words is not None and not changed):
            self.whole = self.whole and (self._inner is None or self._inner.whole)
            return words
        if isinstance(self._error, EOFError):
            self.whole = isinstance(self._error, decoding.StreamFault) and self._error.whole
            told = str(self._error) or "what the core was in is cut off"
            return told + (f", and {words}" if words is not None else "")
        if isinstance(self._error, CorefiltError):
            raise self._error
        told = getattr(self._error, "strerror", None) or str(self._error) or type(self._error).__name__
        raise InputError(f"{self.name}: cannot be read: {told}")

    def close(self) -> None:
        """Stop the thread, and close the other source too."""
        if self.owned:
            super().close()
            self._thread.join()
            if self._inner is not None:
                self._inner.close()

    def _at_end(self) -> None:
        words = self.check()
        if words is not None and not self.position and not self.ahead:
            raise InputError(f"{self.name}: {words} before any of the core came")

    def _run(self, make: Callable[[SourceReader], Iterator[bytes]]) -> None:
        try:
            for piece in make(SourceReader(self._inner or self, self._feed)):
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._feed, view) :]
        except BrokenPipeError:
            # Nobody wants the rest.
            pass
        except Exception as error:
            self._error = error
        finally:
            os.close(self._feed)


class SourceReader:
    """Reads a source from its beginning; from a pipe it stops waiting when nobody reads what is made of it."""

    def __init__(self, source: Source, feed: int) -> None:
        self._source, self._feed, self._at = source, feed, 0

    def again(self, at: int) -> SourceReader | None:
        """Another one that reads from an offset in bytes, where that is possible."""
        if not self._source.seekable:
            return None
        reader = SourceReader(self._source, self._feed)
        reader._at = at
        return reader

    def __call__(self) -> bytes:
        """The next bytes, up to compression.PIECE; none at the end. Raises OSError, and BrokenPipeError as said."""
        source, file = self._source, self._source.file
        if file is not None:
            length = min(compression.PIECE, file.size - self._at)
            piece = os.pread(file.fd, length, file.base + self._at) if length > 0 else b""
            self._at += len(piece)
            return piece
        if held := source.take(compression.PIECE):
            return held
        ready = select.poll()
        ready.register(source.fd, select.POLLIN)
        ready.register(self._feed, 0)
        if any(fd == self._feed for fd, _ in ready.poll()):
            raise BrokenPipeError
        return os.read(source.fd, compression.PIECE)


def unpacked(source: Source, head: bytes, *, most_ahead: int) -> Source:
    """What a compressed source holds, by its first bytes; any other source as it is. Raises MissingLibraryError."""
    name = compression.recognise(head)
    if name is None:
        return source
    # A package that is missing is to be told here, not in the thread.
    decoding.check_decoder(name)
    made = FedSource(
        source, lambda read: decoding.decoded(name, read, again=read.again), source.name, most_ahead=most_ahead
    )
    made.compression = name
    return made
