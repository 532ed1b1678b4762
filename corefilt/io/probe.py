"""Finds out on the first bytes of a copy which way to move them takes the least CPU time."""

from __future__ import annotations

import statistics
import time

# Moved by one of them at a turn, and turns of each: 24 MiB with two ways, 36 MiB with three.
PIECE = 4 << 20
ROUNDS = 3


class Probe:
    """Movers that take turns, until each had ROUNDS of them; ``told`` says what came of it, ``best`` which is first.

    CPU time of the thread is compared, for how long other programs keep it waiting says nothing of the mover.
    """

    def __init__(self, movers: list[str]) -> None:
        """Take the names of the movers, best guess first."""
        self._rates: dict[str, list[float]] = {name: [] for name in movers}
        self._moved, self._seconds, self._began = 0, 0.0, 0.0
        self.mover = movers[0]

    @property
    def best(self) -> str | None:
        """The one that took the least time, when that is known."""
        if any(len(rates) < ROUNDS for rates in self._rates.values()) and len(self._rates) > 1:
            return None
        return max(self._rates, key=lambda name: statistics.median(self._rates[name] or [0.0]))

    @property
    def told(self) -> str:
        """What came of it, in words."""
        if self.best is None:
            return f"--engine probe: too few bytes to compare; it needs {PIECE * ROUNDS * len(self._rates) >> 20} MiB"
        if len(self._rates) == 1:
            return f"--engine probe: only {self.best} can move these bytes"
        rates = (f"{name} {statistics.median(rates) / 1e9:.2f}" for name, rates in self._rates.items())
        return f"--engine probe: {self.best}, by GB moved in a second of CPU time: {', '.join(rates)}"

    def begin(self) -> None:
        """The mover starts."""
        self._began = time.thread_time()

    def took(self, moved: int) -> None:
        """It has moved so many bytes; the next one's turn comes after PIECE of them."""
        self._moved, self._seconds = self._moved + moved, self._seconds + time.thread_time() - self._began
        if self._moved >= PIECE:
            self._rates[self.mover].append(self._moved / max(self._seconds, 1e-9))
            self._next()

    def drop(self) -> None:
        """The mover cannot do it."""
        del self._rates[self.mover]
        self._next()

    def _next(self) -> None:
        self._moved, self._seconds = 0, 0.0
        self.mover = min(self._rates, key=lambda name: len(self._rates[name]))
