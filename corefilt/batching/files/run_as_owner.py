"""Root at work in a folder that others can write: the work is done as the owner of the file, or not at all.

Whatever somebody puts into his own folder while root works there, root then does nothing that he could not do himself.
"""

from __future__ import annotations

import json
import os
import stat

from corefilt.batching.outcome import Outcome
from corefilt.children import answer_of, become, groups_of, told_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Refused(Exception):
    """Nobody is fit to do it; the message says why."""


def owner_to_become(folder: int, status: os.stat_result) -> int | None:
    """The user to replace a file as, by its status and its open folder's; None: as we are. Raises Refused."""
    us = os.geteuid()
    if us != 0:
        if status.st_uid != us:
            raise Refused(f"belongs to user {status.st_uid}; only root can create files for that user")
        return None
    above = os.fstat(folder)
    if above.st_uid == 0 and not above.st_mode & 0o022:
        return None
    if status.st_uid != 0:
        return status.st_uid
    if above.st_mode & stat.S_ISVTX:
        # Nobody else can move what is root's in a sticky folder.
        return None
    raise Refused("belongs to root, in a directory that others can write to")


def as_owner(owner: int, work: Callable[[], Outcome]) -> Outcome:
    """Have a child do the work as somebody else. Raises Refused where the child could not."""
    # What is loaded later may lie where only root can read.
    from corefilt import verify  # noqa: F401

    groups = groups_of(owner)
    told, status = answer_of(lambda: json.dumps(work().as_dict()).encode(), become=lambda: become(owner, groups))
    try:
        return Outcome.of_dict(json.loads(told))
    except (ValueError, KeyError, TypeError):
        raise Refused(f"the work as user {owner} ended early: {told_of(status)}") from None
