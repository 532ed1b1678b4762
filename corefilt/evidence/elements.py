"""Small files that a crash handler puts beside a core, one fact each: abrt's elements, what apport-unpack writes."""

from __future__ import annotations

import os
import stat

# The core of an abrt problem directory, also compressed (FILENAME_COREDUMP of libreport), and apport's field.
ABRT_CORE, APPORT_CORE = "coredump", "CoreDump"
_MOST = 512


def abrt_element(path: str, name: str) -> bytes:
    """An element of the abrt problem directory that the core at ``path`` is in; empty where there is none."""
    folder, core = os.path.split(path)
    return _read(os.path.join(folder, name)) if core.partition(".")[0] == ABRT_CORE else b""


def apport_field(path: str, name: str) -> bytes:
    """A field of the report that apport-unpack took the core at ``path`` out of; empty where there is none."""
    folder, core = os.path.split(path)
    return _read(os.path.join(folder, name)) if core == APPORT_CORE else b""


def _read(path: str) -> bytes:
    """The start of a regular file, without the blanks around it; a link is not followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(fd, _MOST).strip() if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
