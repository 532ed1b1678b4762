"""A file that takes another one's place: its name, and what belongs to the name rather than to the content."""

from __future__ import annotations

import errno
import os
import stat

from corefilt.io.sinks import NewFileSink


class ReplacementSink(NewFileSink):
    """A new file that takes over a file's name, and its mode, owner, attributes and times as far as allowed."""

    def __init__(self, path: str, old: int, *, folder: int | None = None) -> None:
        """Take the descriptor of the file to be replaced; ``folder`` is its folder where it is open already."""
        self.old, self.status = old, os.fstat(old)
        super().__init__(path, replace=True, folder=folder)

    def complete(self, size: int) -> None:
        """Take over what belongs to the name."""
        take_over(self.fd, self.old, self.status)

    def _give_name(self) -> None:
        status = os.stat(self._leaf, dir_fd=self._folder, follow_symlinks=False)
        if not os.path.samestat(status, self.status):
            raise OSError(errno.ESTALE, "another file has taken its name meanwhile")
        super()._give_name()


def take_over(fd: int, old: int, status: os.stat_result) -> None:
    """Give a file another one's mode, owner, attributes (ACLs among them) and times.

    A file that cannot get the owner stays its maker's alone: the mode was meant for others.
    """
    mode, ours = stat.S_IMODE(status.st_mode), False
    try:
        os.fchown(fd, status.st_uid, status.st_gid)
    except OSError:
        mode, ours = mode & 0o700, True
    os.fchmod(fd, mode)
    try:
        names = [] if ours else os.listxattr(old)
    except OSError:
        names = []
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(old, name))
        except OSError:
            continue
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
