"""Runs work that touches mapped files in a child, so that a file cut underneath is an error and no crash.

Where a file ends before a mapped page, the kernel sends SIGBUS, which no Python code can take. The child dies of it,
and the parent says so.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal

from ..errors import CorefiltError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# linux/prctl.h.
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def guarded(work: Callable[[], T], *names: str) -> T:
    """What ``work`` returns or raises, from a child of this process; ``names`` are the files that it reads.

    Raises InputError where one of them was cut while a page of it was looked at.
    """
    which = " or ".join(dict.fromkeys(names))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _work_and_exit(work, writer)
    os.close(writer)
    try:
        with open(reader, "rb") as answer:
            raw = answer.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGBUS:
        raise InputError(f"{which}: was cut while it was read, or its disk failed", "wait until nobody writes to it")
    if status or not raw:
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        raise CorefiltError(f"{which}: the process that read it ended early ({how})")
    good, value = pickle.loads(raw)
    if not good:
        raise value
    outcome: T = value
    return outcome


def _work_and_exit(work: Callable[[], object], writer: int) -> None:
    """The child: never returns. It leaves no core of its own and does not outlive its parent."""
    code = 1
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        try:
            outcome: tuple[bool, object] = True, work()
        except Exception as error:
            outcome = False, error
        with open(writer, "wb") as answer:
            pickle.dump(outcome, answer)
        code = 0
    finally:
        os._exit(code)
