"""What installing and taking away change: the kernel's settings and the drop-in, planned first, then carried out."""

from __future__ import annotations

import os
from typing import NamedTuple

from corefilt.errors import InstallError
from corefilt.handler.admin.sysctl import DROP_IN, PATTERN, PIPE_LIMIT, DropIn, Sysctls, at_start, remove_drop_in
from corefilt.handler.pattern import is_handler, starts_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What a kernel starts with (fs/coredump.c): what was before where nobody recorded it, as in the image of a system.
KERNELS_OWN = {PATTERN: b"core", PIPE_LIMIT: b"0"}


class Change(NamedTuple):
    """One setting of the running kernel: its ``name``, and its value ``before`` and ``after``."""

    name: str
    before: bytes
    after: bytes


class InstallPlan:
    """What is to be done below ``root``: ``changes`` in their order, and the ``drop_in`` as it will be (None: gone).

    ``notices`` say what is left as it is, and why.
    """

    def __init__(self, root: str, changes: list[Change], drop_in: DropIn | None, notices: list[str]) -> None:
        self.root, self.changes, self.drop_in, self.notices = root, changes, drop_in, notices

    def carry_out(self) -> None:
        """Do it. Raises InstallError, with everything as it was."""
        sysctls = Sysctls(self.root)
        done: list[Change] = []
        try:
            for change in self.changes:
                sysctls.set(change.name, change.after)
                done.append(change)
            if self.drop_in is not None:
                self.drop_in.write(self.root)
            else:
                remove_drop_in(self.root)
        except BaseException:
            for change in reversed(done):
                sysctls.set(change.name, change.before)
            raise


def plan_install(
    line: bytes,
    *,
    root: str = "/",
    pipe_limit: int | None = None,
    force: bool = False,
    without: Sequence[str] = (),
) -> InstallPlan:
    """Plan to have the kernel use ``line``. Raises InstallError where another handler would lose its place.

    ``without`` are layers around the child that root does without, which the drop-in records.
    Below a root that has no /proc/sys, which is an image of a system, only the drop-in is written.
    """
    sysctls, old = Sysctls(root), DropIn.read(root)
    settings = {PATTERN: line}
    if pipe_limit is not None:
        settings[PIPE_LIMIT] = b"%d" % pipe_limit
    elif old is not None and PIPE_LIMIT in old.settings:
        settings[PIPE_LIMIT] = old.settings[PIPE_LIMIT]
    _refuse_to_replace(line, sysctls, old, root, force=force)
    former: dict[str, bytes] = {}
    changes = []
    for name, value in settings.items():
        live = sysctls.get(name)
        if live is None:
            continue
        if is_ours(name, live, old) or live == line:
            former[name] = (old.former if old is not None else KERNELS_OWN).get(name, KERNELS_OWN[name])
        else:
            former[name] = live
        if live != value:
            changes.append(Change(name, live, value))
    # The limit first: no crash meets the new handler without it.
    changes.sort(key=lambda change: change.name == PATTERN)
    return InstallPlan(root, changes, DropIn(settings, former, without), [])


def plan_uninstall(*, root: str = "/", force: bool = False) -> InstallPlan:
    """Plan to set what was set before. Raises InstallError where nothing is installed, or nobody knows what was."""
    sysctls, old = Sysctls(root), DropIn.read(root)
    live = sysctls.get(PATTERN)
    if old is None:
        if live is None or not starts_handler(live):
            raise InstallError(f"corefilt is not installed: neither {PATTERN} nor {DROP_IN} names it")
        if not force:
            raise InstallError(
                f"{DROP_IN} is missing, and with it the previous core_pattern",
                f"--force sets the kernel's own, {os.fsdecode(KERNELS_OWN[PATTERN])}",
            )
        return InstallPlan(root, [Change(PATTERN, live, KERNELS_OWN[PATTERN])], None, [])
    changes, notices = [], []
    for name, own in KERNELS_OWN.items():
        now, value = sysctls.get(name), old.former.get(name, own)
        if name not in old.settings or now is None or now == value:
            continue
        if is_ours(name, now, old) or force:
            changes.append(Change(name, now, value))
        else:
            notices.append(f"{name} is {os.fsdecode(now)!r}, which is not corefilt's, and is not changed")
    changes.sort(key=lambda change: change.name != PATTERN)
    return InstallPlan(root, changes, None, notices)


def is_ours(name: str, live: bytes, drop_in: DropIn | None) -> bool:
    """Whether a setting has the value that corefilt gave it."""
    if name == PATTERN and starts_handler(live):
        return True
    return drop_in is not None and drop_in.settings.get(name) == live


def _refuse_to_replace(line: bytes, sysctls: Sysctls, old: DropIn | None, root: str, *, force: bool) -> None:
    live, where = sysctls.get(PATTERN), PATTERN
    if live is None:
        # An image: what would decide there when it starts.
        where, live = at_start(PATTERN, root) or (PATTERN, b"")
    if is_handler(live) and live != line and not is_ours(PATTERN, live, old) and not force:
        raise InstallError(
            f"{where} names another handler: {os.fsdecode(live)!r}",
            "--force replaces it; corefilt uninstall restores it",
        )
