"""Children of this process: they answer through a pipe, and do not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Meanwhile(Protocol):
        """What runs beside a child."""

        def start(self) -> None:
            """Begin."""

        def stop(self) -> None:
            """End."""


# linux/prctl.h.
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
# Of nobody, who has no files: what stands for a user without an entry.
NO_GROUP = 65534


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of that number, ends; at once where it has ended already.

    A change of user takes it back, so it comes after that.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def groups_of(uid: int) -> tuple[int, list[int]]:
    """A user's primary group and all of his groups, as a login gives them; NO_GROUP and none without a passwd entry.

    The group of a file says nothing: its owner may be no member of it.
    """
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return NO_GROUP, []
    return entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)


def become(uid: int, groups: tuple[int, list[int]]) -> None:
    """Become another user for good, in a child; the user cannot trace it, whatever fs.suid_dumpable says.

    ``groups`` come from ``groups_of``, asked before the fork: name services can wait for a network. Raises OSError.
    """
    gid, supplementary = groups
    os.setgroups(supplementary)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def answer_of(
    work: Callable[[], bytes], *, become: Callable[[], None] | None = None, meanwhile: Meanwhile | None = None
) -> tuple[bytes, int]:
    """What a child answers, and how it ended: exit code 0, 1 where ``work`` raised, or less than 0 for a signal.

    ``become`` is what the child does first, before it is bound to its parent; ``meanwhile`` runs here until it has
    answered. Raises OSError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    try:
        child = os.fork()
    except BaseException:
        os.close(reader)
        os.close(writer)
        raise
    if child == 0:
        _answer_and_exit(work, become, writer, parent)
    os.close(writer)
    if meanwhile is not None:
        meanwhile.start()
    try:
        with open(reader, "rb") as answer:
            raw = answer.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        if meanwhile is not None:
            meanwhile.stop()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return raw, status


def told_of(status: int) -> str:
    """How a child ended, in words."""
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _answer_and_exit(work: Callable[[], bytes], become: Callable[[], None] | None, writer: int, parent: int) -> None:
    """The child: never returns."""
    code = 1
    try:
        if become is not None:
            become()
        die_with_parent(parent)
        raw = work()
        with open(writer, "wb") as answer:
            answer.write(raw)
        code = 0
    finally:
        # Nothing of the parent's is to be done twice on the way out.
        if sys.stderr is not None:
            sys.stderr.flush()
        os._exit(code)
