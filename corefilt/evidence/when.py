"""When a core was written: no core tells that itself, but what stored it may."""

from __future__ import annotations

import os
import re
import stat

TIMESTAMP = "user.coredump.timestamp"
ATTRIBUTE, NAME, ABRT, MTIME = "attribute of the file", "name of the file", "abrt", "mtime of the file"
# core.COMM.UID.BOOT.PID.TIME, the last in microseconds (make_filename in src/coredump/coredump.c of systemd 257).
_STORED = re.compile(r"core\..+\.\d+\.[0-9a-f]{32}\.\d+\.(\d{1,17})(?:\.(?:zst|lz4|xz))?", re.DOTALL)
# Where abrt keeps the core of a problem, and beside it the time (elements of libreport's problem directories).
_ABRT_CORE, _ABRT_TIME = "coredump", "time"


def written_at(fd: int, path: str | None = None) -> tuple[float, str] | None:
    """Return when the open core at ``path`` was written, in seconds since the epoch, and what tells so.

    systemd-coredump and corefilt's handler note it on the file, systemd-coredump also in the name, abrt in a file
    beside it; the time of the last change is what is left. None for what is no regular file.
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
        folder, name = os.path.split(path)
        stored = _STORED.fullmatch(name)
        if stored is not None:
            return int(stored[1]) / 1_000_000, NAME
        told = _number(_beside(folder)) if name.partition(".")[0] == _ABRT_CORE else None
        if told is not None:
            return told, ABRT
    return status.st_mtime, MTIME


def _attribute(fd: int) -> bytes:
    try:
        return os.getxattr(fd, TIMESTAMP)
    except OSError:
        return b""


def _beside(folder: str) -> bytes:
    try:
        fd = os.open(
            os.path.join(folder, _ABRT_TIME),
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY,
        )
    except OSError:
        return b""
    try:
        return os.read(fd, 32) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def _number(text: bytes) -> float | None:
    """Seconds as a decimal number."""
    digits = text.strip()
    return float(digits) if digits.isdigit() and len(digits) <= 12 else None
