"""Who may change what runs as root: every component of a path, from the root folder to the file, must be root's.

A component that another may write to, or that is another's, lets him put his own bytes where the handler's were. A
sticky bit does not count: where anybody can make a file, anybody can make the one that is not there yet.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

# What the kernel follows in one path (MAXSYMLINKS).
MOST_LINKS = 40
# A POSIX ACL that lets a user or a group write shows in the group's bits, which are its mask.
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Fault(NamedTuple):
    """A component that is not root's alone: its ``path``, ``what`` is wrong, and ``why`` it is looked at."""

    path: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what} ({self.why})"


class Trust:
    """Looks at paths and whole folders below ``root``; ``faults`` holds what is wrong, each component once."""

    def __init__(self, root: str = "/", owner: int = 0) -> None:
        self._root = os.path.abspath(root).rstrip("/")
        self._owner = owner
        self._modes: dict[str, int | None] = {}
        self._walked: set[str] = set()
        self.faults: list[Fault] = []

    def path(self, name: str, why: str) -> str | None:
        """Check an absolute path and every link on the way; returns where it leads to, None if nothing is there.

        What is missing is as good as the folder that it would be made in, which has been checked by then.
        """
        todo = _parts(name)
        at, links = "", 0
        self._look("", why)
        while todo:
            part = todo.pop()
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            here = f"{at}/{part}"
            mode = self._look(here, why)
            if mode is None:
                return None
            if not stat.S_ISLNK(mode):
                at = here
                continue
            links += 1
            if links > MOST_LINKS:
                self.faults.append(Fault(name, f"leads through more than {MOST_LINKS} links", why))
                return None
            target = os.readlink(self._root + here)
            if target.startswith("/"):
                at = ""
            todo += _parts(target)
        return at or "/"

    def tree(self, name: str, why: str) -> None:
        """Check a path, and below it everything that an import can reach, also where links lead to.

        No import names a folder like ``site-packages`` or ``x-1.0.dist-info`` as a package: what is in such a one only
        counts if it is on sys.path itself.
        """
        top = self.path(name, why)
        todo = [top] if top is not None else []
        while todo:
            folder = todo.pop()
            if folder in self._walked:
                continue
            self._walked.add(folder)
            try:
                names = os.listdir(self._root + folder)
            except NotADirectoryError:
                continue
            except OSError as error:
                self.faults.append(Fault(folder, f"cannot be listed: {error.strerror}", why))
                continue
            for entry in names:
                here = f"{folder.rstrip('/')}/{entry}"
                mode = self._look(here, why)
                if mode is not None and stat.S_ISLNK(mode):
                    target = self.path(here, why)
                elif mode is not None and stat.S_ISDIR(mode):
                    target = here
                else:
                    continue
                if target is not None and entry.isidentifier():
                    todo.append(target)

    def _look(self, here: str, why: str) -> int | None:
        """The mode of one component, None if it is missing; records a fault when it is first looked at."""
        if here in self._modes:
            return self._modes[here]
        shown = here or "/"
        mode: int | None = None
        try:
            status = os.lstat(self._root + shown)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.faults.append(Fault(shown, f"cannot be examined: {error.strerror}", why))
        else:
            mode = status.st_mode
            if status.st_uid != self._owner:
                self.faults.append(Fault(shown, f"belongs to user {status.st_uid}", why))
            # The mode of a link means nothing: it is replaced by who may write to its folder.
            if mode & _WRITABLE_BY_OTHERS and not stat.S_ISLNK(mode):
                who = "anybody" if mode & stat.S_IWOTH else f"group {status.st_gid}"
                self.faults.append(Fault(shown, f"may be written to by {who} (mode {stat.S_IMODE(mode):04o})", why))
        self._modes[here] = mode
        return mode


def _parts(name: str) -> list[str]:
    """The components of a path, the last one first."""
    return [part for part in reversed(name.split("/")) if part not in ("", ".")]
