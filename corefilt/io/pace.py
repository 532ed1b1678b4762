"""Decides while a large copy runs whether two threads are faster than one: the load average comes too late."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Copied by one thread, and then by two, to compare them; and how much is copied by the faster until the next time.
MEASURED = 32 << 20
KEPT = 1 << 30
# Two threads are taken where they need at most this part of the time of one: what they cost others is worth a tenth.
WORTH = 0.9


class Pace:
    """Has one thread copy, then two, and then whichever was faster, in turn; wall time tells."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with one thread."""
        self._clock = clock
        self._seconds: list[float] = []
        self._left = MEASURED
        self._began = clock()
        self.together = False

    def passed(self, length: int) -> bool:
        """Take note of bytes that were copied, or handed out; whether this turn has come to its end."""
        self._left -= length
        return self._left <= 0

    def turn(self) -> None:
        """Go on to the next turn, when all bytes of this one are copied."""
        length = MEASURED - self._left
        self._seconds.append((self._clock() - self._began) / length)
        if len(self._seconds) == 1:
            self.together, self._left = True, MEASURED
        elif len(self._seconds) == 2:
            one, two = self._seconds
            self.together, self._left = two <= WORTH * one, KEPT
        else:
            self._seconds, self.together, self._left = [], False, MEASURED
        self._began = self._clock()
