"""What a caller hears of a run while it goes on, and how he has it stopped."""

from __future__ import annotations

from corefilt.errors import CancelledError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Event(Protocol):
        """A threading.Event, or another one."""

        def is_set(self) -> bool:
            """Whether it was set."""


def observer(
    progress: Callable[[int, int | None], object] | None, cancel: Event | None, total: int | None
) -> Observer | None:
    """Return one that has something to do, or None. Raises CancelledError where the event is set already."""
    return Observer(progress, cancel, total) if progress is not None or cancel is not None else None


class Observer:
    """Counts bytes that go by for a callback, and stops the run where an event is set.

    The callback is given the bytes so far and all of them, which are None where they are not known.
    """

    def __init__(
        self, progress: Callable[[int, int | None], object] | None, cancel: Event | None, total: int | None
    ) -> None:
        """Begin at 0. Raises CancelledError where the event is set already."""
        if progress is not None and not callable(progress):
            raise UsageError(f"progress is {progress!r}", "it can be a function of two numbers, or None")
        if cancel is not None and not hasattr(cancel, "is_set"):
            raise UsageError(f"cancel is {cancel!r}", "it can be an event like threading.Event, or None")
        self._progress, self._cancel, self._total = progress, cancel, total
        self._done = 0
        self.look()

    def __call__(self, count: int) -> None:
        """Count bytes that went by. Raises CancelledError."""
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)
        self.look()

    def look(self) -> None:
        """Look at the event. Raises CancelledError."""
        if self._cancel is not None and self._cancel.is_set():
            raise CancelledError("cancelled")
