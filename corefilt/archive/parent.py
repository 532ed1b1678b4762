"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal

# linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of that number, ends; at once where it has ended already.

    A change of user takes it back, so it comes after that.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
