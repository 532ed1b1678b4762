"""When a core was written: no core tells that itself, but what stored it may."""

from __future__ import annotations

import os
import stat

from corefilt.evidence.elements import abrt_element

TIMESTAMP = "user.coredump.timestamp"
ATTRIBUTE, NAME, ABRT, MTIME = "attribute of the file", "name of the file", "abrt", "mtime of the file"
# core.COMM.UID.BOOT.PID.TIME, the last in microseconds (make_filename in src/coredump/coredump.c of systemd 257).
_STORED = r"(?s)core\..+\.\d+\.[0-9a-f]{32}\.\d+\.(\d{1,17})(?:\.(?:zst|lz4|xz))?"


def written_at(fd: int, path: str | None = None) -> tuple[float, str] | None:
    """Return when the open core at ``path`` was written, in seconds since the epoch, and what tells so.

    systemd-coredump and corefilt's handler note it on the file, systemd-coredump also in the name, abrt in a file
    beside it; the time of the last change is what is left. None for what is not a regular file.
    """
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
    except OSError:
        return None
    noted = _number(_attribute(fd))
    if noted is not None:
        return noted, ATTRIBUTE
    if path is not None:
        stored = _stored_at(os.path.basename(path))
        if stored is not None:
            return stored, NAME
        told = _number(abrt_element(path, "time"))
        if told is not None:
            return told, ABRT
    return status.st_mtime, MTIME


def _stored_at(name: str) -> float | None:
    """The time in a name that systemd-coredump gave."""
    if not name.startswith("core."):
        return None
    # It takes 6 ms to load, and few cores have such names.
    import re

    found = re.fullmatch(_STORED, name)
    return int(found[1]) / 1_000_000 if found is not None else None


def _attribute(fd: int) -> bytes:
    try:
        return os.getxattr(fd, TIMESTAMP)
    except OSError:
        return b""


def _number(text: bytes) -> float | None:
    """Seconds as a decimal number."""
    digits = text.strip()
    return float(digits) if digits.isdigit() and len(digits) <= 12 else None
