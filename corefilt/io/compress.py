"""A compressed output: what the engine writes goes down a pipe, and a thread compresses it to where it belongs."""

from __future__ import annotations

import os
import threading

from corefilt import _fast
from corefilt.errors import CorefiltError
from corefilt.io.compression import ENCODED, Compression, encoder
from corefilt.io.opening import open_sink
from corefilt.io.sinks import NamedFile, Sink, reported
from corefilt.io.sources import Source, enlarge_pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Place


# Seconds that a stream's reader is waited for when it is to be given up.
_PATIENCE = 1.0


class Packed(NamedFile):
    """An output place, and how what goes there is compressed."""

    seekable = False

    def __init__(self, place: Place | NamedFile, compression: Compression, *, force: bool) -> None:
        """Hold them; ``force`` is that of ``open_sink``."""
        self.place, self.compression, self.force = place, compression, force
        self.path = place.path if isinstance(place, NamedFile) else str(place)

    def open(self, source: Source | None) -> PackedSink:
        """A stream, whatever the place itself is. Raises what ``open_sink`` does, and MissingLibraryError."""
        # What is missing is missing before a file is made.
        encoder(self.compression)
        return PackedSink(open_sink(self.place, force=self.force, source=source), self.compression)

    def on_decided(self, undecided_bytes: int) -> None:
        """Pass it on."""
        if isinstance(self.place, NamedFile):
            self.place.on_decided(undecided_bytes)


class PackedSink(Sink):
    """A stream into a thread that compresses it into another sink; ``written`` counts the compressed bytes."""

    def __init__(self, inner: Sink, compression: Compression) -> None:
        self.inner, self._compression = inner, compression
        self.written = 0
        self._aborted = False
        self._read, fd = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(fd)
        super().__init__(fd, inner.name, owned=True)
        self.allocated = None
        self._thread = threading.Thread(target=self._run, name="corefilt-packing", daemon=True)
        self._thread.start()

    def commit(self, size: int, *, sync: bool) -> None:
        """Compress what is left, and make the inner sink final. Raises OutputError."""
        self.close()
        self._thread.join()
        if self.failure is not None:
            self.inner.abort()
            raise self.failure
        self.inner.commit(self.written, sync=sync)
        self.allocated = self.inner.allocated

    def abort(self) -> None:
        """Stop the thread; what is in the inner sink goes as that one can make it go."""
        self._aborted = True
        self.close()
        # Whoever reads a stream may have stopped for good; then the thread ends with the process.
        self._thread.join(None if self.inner.seekable else _PATIENCE)
        if not self._thread.is_alive():
            self.inner.abort()

    def _run(self) -> None:
        try:
            with reported(self.name):
                stream = encoder(self._compression)
                # Whole pieces, however they came: what an encoder makes of bytes depends on how they are cut.
                room = memoryview(bytearray(ENCODED))
                while got := _fast.read_into(self._read, -1, room):
                    self._put(stream.compress(room[:got]))
                if not self._aborted:
                    self._put(stream.flush())
        except (CorefiltError, OSError, MemoryError) as error:
            self.failure = error
        finally:
            # Whoever still writes learns that nobody reads.
            os.close(self._read)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.write(self.inner.fd, view)
            view, self.written = view[done:], self.written + done
