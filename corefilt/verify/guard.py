"""Runs work that touches mapped files in a child, so that a file cut underneath is an error and no crash.

Where a file ends before a mapped page, the kernel sends SIGBUS, which no Python code can take. The child dies of it,
and the parent says so.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import pickle
import signal
import threading
from functools import partial

from corefilt.children import answer_of, told_of
from corefilt.errors import CorefiltError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# linux/prctl.h.
_PR_SET_DUMPABLE = 4
_HINTS = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close some files; the system has no more",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)",
}
# Seconds between two words about what a child has done.
TURN = 0.2


class Passed:
    """How many bytes a child has looked at, of how many, where its parent sees it."""

    def __init__(self) -> None:
        # Both processes have these pages.
        self._numbers = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def expect(self, total: int) -> None:
        """Tell how many there are in all."""
        self._numbers[1] = total

    def add(self, count: int) -> None:
        """Count some that were looked at."""
        self._numbers[0] += count

    def state(self) -> tuple[int, int | None]:
        """How many, and how many there are in all, where that is known."""
        return self._numbers[0], self._numbers[1] or None


class _Reporter(threading.Thread):
    """Tells of a child's progress while its parent waits. What the telling raises ends it, and ``stop`` raises it."""

    def __init__(self, passed: Passed, told: Callable[[int, int | None], object]) -> None:
        super().__init__(name="corefilt-progress", daemon=True)
        self._passed, self._told, self._over = passed, told, threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(TURN):
                self._told(*self._passed.state())
        except Exception as error:
            self._error = error

    def stop(self) -> None:
        """Have it end, after the last word."""
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error
        self._told(*self._passed.state())


def guarded(
    work: Callable[[], T],
    *names: str,
    passed: Passed | None = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> T:
    """What ``work`` returns or raises, from a child of this process; ``names`` are the files that it reads.

    ``progress`` is called, from a thread, with what ``work`` counts in ``passed``. Raises InputError where one of
    the files was cut while a page of it was looked at.
    """
    which = " or ".join(dict.fromkeys(names))
    # Started by the parent alone: the child is forked before.
    reporter = _Reporter(passed, progress) if passed is not None and progress is not None else None
    try:
        raw, status = answer_of(partial(_outcome, work), meanwhile=reporter)
    except OSError as error:
        raise CorefiltError(
            f"{which}: no process can be started to read it: {error.strerror or error}", _hint(error)
        ) from None
    if status == -signal.SIGBUS:
        raise InputError(
            f"{which}: was truncated while it was read, or its disk failed", "wait until nobody writes to it"
        )
    if status or not raw:
        raise CorefiltError(f"{which}: the process that read it ended early ({told_of(status)})")
    good, value = pickle.loads(raw)
    if isinstance(value, OSError):
        raise InputError(f"{which}: cannot be read: {value.strerror or value}", _hint(value))
    if not good:
        raise value
    outcome: T = value
    return outcome


def _hint(error: OSError) -> str | None:
    """What to try where a limit of this process is the reason."""
    return _HINTS.get(error.errno) if error.errno is not None else None


def _outcome(work: Callable[[], object]) -> bytes:
    """What the work returned or raised; this process leaves no core of its own."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    try:
        return pickle.dumps((True, work()))
    except Exception as error:
        return pickle.dumps((False, error))
