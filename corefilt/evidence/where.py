"""On which host and kernel a core was written, by what stored it: no core holds a host name."""

from __future__ import annotations

import os

from corefilt.evidence.elements import abrt_element, apport_field
from corefilt.evidence.when import ABRT, ATTRIBUTE

HOSTNAME = "user.coredump.hostname"
APPORT = "apport"
# HOST_NAME_MAX of Linux is 64; a name of DNS has up to 253.
_MOST = 255


def host_of(fd: int, path: str | None = None) -> tuple[str, str] | None:
    """Return the host that the open core at ``path`` was written on, and what tells so; None where nothing does.

    systemd-coredump and corefilt's handler note it on the file, abrt in a file beside it. It is not looked for in the
    core's name: where ``%h`` of a core_pattern stands in that, the name does not tell.
    """
    try:
        noted = _line(os.getxattr(fd, HOSTNAME))
    except OSError:
        noted = ""
    if noted:
        return noted, ATTRIBUTE
    told = _line(abrt_element(path, "hostname")) if path is not None else ""
    return (told, ABRT) if told else None


def kernel_of(path: str) -> tuple[str, str] | None:
    """Return the release of the kernel that wrote the core at ``path``, and what tells so; None where nothing does."""
    told = _line(abrt_element(path, "kernel"))
    if told:
        return told, ABRT
    # "Linux 5.15.0-91-generic x86_64"
    system, _, rest = _line(apport_field(path, "Uname")).partition(" ")
    release = rest.partition(" ")[0]
    return (release, APPORT) if system == "Linux" and release else None


def _line(raw: bytes) -> str:
    """One short line of text; empty for anything else."""
    text = raw.strip()
    if not text or len(text) > _MOST or b"\n" in text or b"\0" in text:
        return ""
    return text.decode("utf-8", "backslashreplace")
