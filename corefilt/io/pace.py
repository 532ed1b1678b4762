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
# Two threads are tried where one would take this long, in seconds, for what is left. They save a third of it at most,
# take half as much CPU time again, and 5 ms to load and start. 256 MiB took one thread 0.078 s and 0.078 s of CPU from
# ext4 to ext4, and two 0.080 and 0.122; from tmpfs to tmpfs 0.163 and 0.161, and 0.132 and 0.213 (medians of seven,
# idle, start included). 1 GiB took one 0.58 and 0.56, and two 0.42 and 0.73; 0.55 and 0.54, and 0.48 and 0.89 (medians
# of nine, at real-time priority beside other programs, Linux 6.18, two processors).
WORTH_A_TRIAL = 0.2
# And where one thread had a CPU for at least this part of its time. Whoever waits for a CPU, or for a disk, gains
# nothing by a second thread that waits, too.
BUSY = 0.75


class Pace:
    """Has one thread copy, then two, and then whichever was faster, in turn; wall time tells.

    ``together`` tells that it is two threads' turn.
    """

    def __init__(
        self,
        expected: int,
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """Begin with one thread; ``expected`` bytes are to be copied, of which some may not come this way."""
        self._clock, self._worked = clock, worked
        self._to_come = expected
        self._one: float | None = None
        self._began: float | None = None
        self._worked_before = 0.0
        self._turn_of(MEASURED, together=False)

    def begin(self) -> None:
        """The next bytes are about to be copied; the first time in a turn, its time begins."""
        if self._began is None:
            self._began, self._worked_before = self._clock(), self._worked()

    def passed(self, length: int) -> bool:
        """Take note of bytes that were copied, or handed out; whether this turn has come to its end."""
        self._passed += length
        return self._passed >= self._length

    def turn(self) -> None:
        """Go on to the next turn, when all bytes of this one are copied."""
        self._to_come -= self._passed
        taken = 0.0 if self._began is None else self._clock() - self._began
        rate = taken / self._passed
        if self._length == KEPT:
            self._one = None
            self._turn_of(MEASURED, together=False)
        elif self._one is not None:
            self._turn_of(KEPT, together=rate <= WORTH * self._one)
        elif rate * self._to_come >= WORTH_A_TRIAL and self._worked() - self._worked_before >= BUSY * taken:
            self._one = rate
            self._turn_of(MEASURED, together=True)
        else:
            self._turn_of(KEPT, together=False)

    def _turn_of(self, length: int, *, together: bool) -> None:
        self._length, self.together = length, together
        self._passed, self._began = 0, None
