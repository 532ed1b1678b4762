"""Runs work that touches mapped files in a child, so that a file cut underneath is an error and no crash.

Where a file ends before a mapped page, the kernel sends SIGBUS, which no Python code can take. The child dies of it,
and the parent says so.
"""

from __future__ import annotations

import ctypes
import pickle
import signal
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


def guarded(work: Callable[[], T], *names: str) -> T:
    """What ``work`` returns or raises, from a child of this process; ``names`` are the files that it reads.

    Raises InputError where one of them was cut while a page of it was looked at.
    """
    which = " or ".join(dict.fromkeys(names))
    raw, status = answer_of(partial(_outcome, work))
    if status == -signal.SIGBUS:
        raise InputError(f"{which}: was cut while it was read, or its disk failed", "wait until nobody writes to it")
    if status or not raw:
        raise CorefiltError(f"{which}: the process that read it ended early ({told_of(status)})")
    good, value = pickle.loads(raw)
    if not good:
        raise value
    outcome: T = value
    return outcome


def _outcome(work: Callable[[], object]) -> bytes:
    """What the work returned or raised; this process leaves no core of its own."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    try:
        return pickle.dumps((True, work()))
    except Exception as error:
        return pickle.dumps((False, error))
