"""Passes over what a pipe brings and nobody wants."""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.errors import InputError
from corefilt.io.movers import TURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.sources import Source


class Skipper:
    """Skips in a pipe: by splice to /dev/null where both can be had, else by reading. A context manager."""

    def __init__(self, source: Source, scratch: bytearray, *, by_reading: bool, told: Callable[[int], int]) -> None:
        """Hold the pipe; ``told`` hears of the bytes that went by, and gives their count back."""
        self._source, self._scratch, self._told = source, scratch, told
        self._by_reading = by_reading
        self._devnull = -1

    def skip_to(self, offset: int) -> bool:
        """Consume the pipe up to an offset in bytes; False when it ends before. Raises InputError."""
        source = self._source
        source.drop(offset - source.position)
        while source.position < offset:
            gone = self.discard(offset - source.position)
            if not gone:
                return False
            source.position += gone
        return True

    def discard(self, length: int) -> int:
        """Read and forget up to ``length`` bytes; returns how many there were, 0 at the end. Raises InputError."""
        length = min(length, TURN)
        if not self._by_reading:
            try:
                if self._devnull < 0:
                    self._devnull = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                return self._told(
                    _fast.move(_fast.SPLICE, self._source.fd, -1, self._devnull, -1, length, self._scratch)[0]
                )
            except OSError:
                # No pipe, or no /dev/null: read it.
                pass
        try:
            return self._told(_fast.discard(self._source.fd, length, self._scratch))
        except OSError as error:
            raise InputError(f"{self._source.name}: cannot be read: {error.strerror}") from None

    def close(self) -> None:
        """Close /dev/null."""
        if self._devnull >= 0:
            os.close(self._devnull)
            self._devnull = -1
