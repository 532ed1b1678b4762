"""A core that comes from elsewhere: a thread fetches it, and hands it over piece by piece, without a copy."""

from __future__ import annotations

import os
import threading
from _queue import SimpleQueue

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.decompress import BATCH, MadeSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corefilt.io.sources import Chunk

# Batches that are fetched ahead; a larger one counts as several.
DEPTH = 4


class UnwantedError(Exception):
    """Nobody takes what is put into a channel: its own word, as whoever fetches may raise any other."""


class Channel:
    """A queue of a few batches between two threads. Either of them may close it."""

    def __init__(self) -> None:
        self._made: SimpleQueue[tuple[list[Chunk], int] | None] = SimpleQueue()
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(DEPTH):
            self._free.put(None)
        self._closed = False
        self._batch: list[Chunk] = []
        self._size = 0

    def put(self, piece: Chunk) -> None:
        """Add a piece, which nobody changes any more. Raises UnwantedError when nobody takes it."""
        self._batch.append(piece)
        self._size += len(piece)
        if self._size >= BATCH or len(self._batch) == _fast.MOST_BUFFERS:
            self.flush()

    def flush(self) -> None:
        """Hand over what was added; waits while enough is under way. Raises UnwantedError."""
        if not self._batch:
            return
        share = min(-(-self._size // BATCH), DEPTH)
        for _ in range(share):
            self._free.get()
        if self._closed:
            raise UnwantedError
        self._made.put((self._batch, share))
        self._batch, self._size = [], 0

    def end(self) -> None:
        """Say that no more comes."""
        self._made.put(None)

    def take(self) -> list[Chunk]:
        """The next batch; waits for it. An empty one is the end."""
        found = self._made.get()
        if found is None:
            self._made.put(None)
            return []
        batch, share = found
        for _ in range(share):
            self._free.put(None)
        return batch

    def close(self) -> None:
        """Have neither side wait any more."""
        self._closed = True
        for _ in range(DEPTH):
            self._free.put(None)
        self._made.put(None)


class FedSource(MadeSource):
    """What a thread fetches while what came before is dealt with."""

    in_order = "a core that is read in order"

    def __init__(self, make: Callable[[], Iterator[bytes]], name: str, *, most_ahead: int) -> None:
        """Start; ``make`` gives the core's bytes, and raises what is wrong. An EOFError tells that they were cut."""
        super().__init__(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), None, name, most_ahead=most_ahead)
        self._channel: Channel | None = None
        self._process = os.getpid()
        self.feed(make)

    def feed(self, make: Callable[[], Iterator[bytes]]) -> None:
        """Have another thread fetch what comes next, and stop the one that does."""
        self._stop()
        # What went wrong with bytes that nobody wants is of no interest.
        self._error = None
        self._channel = channel = Channel()
        self._thread = threading.Thread(target=self._run, args=(make, channel), name="corefilt-fetching", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        if self.owned:
            fd = self.fd
            super().close()
            self._stop()
            os.close(fd)

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._thread.join()

    def _made(self) -> list[Chunk]:
        if os.getpid() != self._process:
            # After fork(2) there is no thread here that fetches, and take() would wait for ever.
            raise InputError(
                f"{self.name}: was opened by process {self._process}, which alone can read it",
                "open it in the process that reads it",
            )
        return self._channel.take() if self._channel is not None else []

    def _run(self, make: Callable[[], Iterator[bytes]], channel: Channel) -> None:
        try:
            for piece in make():
                channel.put(piece)
            channel.flush()
        except UnwantedError:
            # Nobody wants the rest.
            pass
        except BaseException as error:
            # Also what would end this thread alone: the reader would take that for the core's end.
            self._fail(error, channel)
        finally:
            channel.end()

    def _fail(self, error: BaseException, channel: Channel) -> None:
        """Hand over what came before an error, which is told when the reader has come that far."""
        self._error = error
        try:
            channel.flush()
        except UnwantedError:
            pass
