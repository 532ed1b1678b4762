"""What is noted on a stored core in extended attributes: by systemd-coredump, by corefilt, by its administrator."""

from __future__ import annotations

import os

# systemd-coredump and corefilt's handler note these of the process (coredumpctl reads them).
FACTS = "user.coredump."
# The handler notes who owns the executable: a number, or "-" where that is not known.
OWNER = "user.corefilt.owner"
# Whatever it says, the core stays.
KEEP = "user.corefilt.keep"
# The handler notes how many bytes the kernel wrote.
INPUT = "user.corefilt.input"
# It was made minimal because there are enough full cores of the same crash.
SMALL = "user.corefilt.repeat"
# What stands for the name of an executable where none is noted.
UNKNOWN = "(not known)"
# Of 64 bits.
MOST_OF_A_NUMBER = 20


def names(fd: int) -> frozenset[str]:
    """The names of all attributes of an open file; none where its file system keeps none."""
    try:
        return frozenset(os.listxattr(fd))
    except OSError:
        return frozenset()


def text(fd: int, name: str) -> bytes | None:
    """The value of an attribute, or None."""
    try:
        return os.getxattr(fd, name)
    except OSError:
        return None


def fact(fd: int, name: str) -> bytes | None:
    """What is noted of the process under a name of systemd's, like ``exe``; or None."""
    return text(fd, FACTS + name)


def number(raw: bytes | None) -> int | None:
    """A decimal number, or None for anything else."""
    return int(raw) if raw is not None and raw.isdigit() and len(raw) <= MOST_OF_A_NUMBER else None
