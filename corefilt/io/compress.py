"""A compressed output: what the engine brings is compressed to where it belongs."""

from __future__ import annotations

import os

from corefilt.io.compression import ENCODED, Compression, encoder
from corefilt.io.opening import open_sink
from corefilt.io.sinks import NamedFile, Sink, reported
from corefilt.io.sources import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.compression import Encoder
    from corefilt.io.sources import Place


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
        made = encoder(self.compression)
        return PackedSink(open_sink(self.place, force=self.force, source=source), made)

    def on_decided(self, undecided_bytes: int) -> None:
        """Pass it on."""
        if isinstance(self.place, NamedFile):
            self.place.on_decided(undecided_bytes)


class PackedSink(Sink):
    """Compresses what it takes into another sink; ``written`` counts the compressed bytes."""

    encodes = True

    def __init__(self, inner: Sink, encoder: Encoder) -> None:
        """Take the sink, which is committed or aborted with this one."""
        super().__init__(-1, inner.name, owned=False)
        self.inner, self._encoder = inner, encoder
        self.notice = inner.notice
        self.written = 0
        self._room, self._held = memoryview(bytearray(ENCODED)), 0

    def room(self) -> memoryview:
        """Where the next bytes may be put."""
        return self._room[self._held :]

    def fill(self, count: int) -> None:
        """Take so many bytes of ``room``, and compress when there is no more. Raises OutputError."""
        self._held += count
        # Whole pieces, however they came: what an encoder makes of bytes depends on how they are cut.
        if self._held == ENCODED:
            self._held = 0
            self._put(self._encoder.compress(self._room))

    def commit(self, size: int, *, sync: bool) -> None:
        """Compress what is left, and make the inner sink final. Raises OutputError."""
        try:
            self._put(self._encoder.compress(self._room[: self._held]) + self._encoder.flush())
        except BaseException:
            self.inner.abort()
            raise
        self.inner.commit(self.written, sync=sync)
        self.allocated = self.inner.allocated

    def abort(self) -> None:
        """What is in the inner sink goes as that one can make it go."""
        self.inner.abort()

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        with reported(self.name):
            while view:
                done = os.write(self.inner.fd, view)
                view, self.written = view[done:], self.written + done
