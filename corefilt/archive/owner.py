"""Root at work in a folder that others can write: the work is done as the owner of the file, or not at all.

Whatever somebody puts into his own folder while root works there, root then does nothing that he could not do himself.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys

from .outcome import Outcome
from .parent import die_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Refused(Exception):
    """Nobody is fit to do it; the message says why."""


def owner_to_become(folder: int, status: os.stat_result) -> tuple[int, int] | None:
    """User and group to replace a file as, by its status and its open folder's; None: as we are. Raises Refused."""
    us = os.geteuid()
    if us != 0:
        if status.st_uid != us:
            raise Refused(f"belongs to user {status.st_uid}, whom only root can give a file")
        return None
    above = os.fstat(folder)
    if above.st_uid == 0 and not above.st_mode & 0o022:
        return None
    if status.st_uid != 0:
        return status.st_uid, status.st_gid
    if above.st_mode & stat.S_ISVTX:
        # Nobody else can move what is root's in a sticky folder.
        return None
    raise Refused("belongs to root in a folder that others can write")


def as_owner(owner: tuple[int, int], work: Callable[[], Outcome]) -> Outcome:
    """Have a child do the work as somebody else. Raises Refused where the child could not."""
    # What is loaded later may lie where only root can read.
    from .. import cutting, fit, packing, unpacking, variants, verify  # noqa: F401

    reader, writer = os.pipe2(os.O_CLOEXEC)
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        _in_child(owner, work, writer, us)
    os.close(writer)
    try:
        with open(reader, "rb") as file:
            told = file.read()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        _, how = os.waitpid(pid, 0)
    try:
        return Outcome.of_dict(json.loads(told))
    except (ValueError, KeyError, TypeError):
        ended = f"signal {os.WTERMSIG(how)}" if os.WIFSIGNALED(how) else f"exit code {os.waitstatus_to_exitcode(how)}"
        raise Refused(f"the work as user {owner[0]} ended early: {ended}") from None


def _in_child(owner: tuple[int, int], work: Callable[[], Outcome], writer: int, parent: int) -> None:
    code = 1
    try:
        uid, gid = owner
        os.setgroups([gid])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        die_with_parent(parent)
        told = json.dumps(work().as_dict()).encode()
        with open(writer, "wb") as file:
            file.write(told)
        code = 0
    except BaseException as error:
        code = 3 if isinstance(error, Exception) else 4
    finally:
        # Nothing of the parent's is to be done twice on the way out.
        if sys.stderr is not None:
            sys.stderr.flush()
        os._exit(code)
