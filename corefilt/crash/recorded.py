"""The signature of a crash as it is kept beside a core (extended attribute) or in it (note of ``--annotate``)."""

from __future__ import annotations

import os

from corefilt.crash.skipped import VERSION

ATTRIBUTE = "user.corefilt.signature"
UNWOUND, PARTIAL, PC_ONLY, NONE = QUALITIES = ("unwound", "partial", "pc-only", "none")
# "stack overflow" and "fault SIGRTMIN+30" are the longest classes.
MOST_OF_IT = 128


class RecordedSignature:
    """``signature`` has 16 hex digits, or is None; ``quality`` is one of QUALITIES, ``kind`` the class of the crash."""

    __slots__ = ("kind", "quality", "signature")

    def __init__(self, quality: str, signature: str | None, kind: str) -> None:
        self.quality, self.signature, self.kind = quality, signature, kind

    @property
    def certain(self) -> str | None:
        """The signature where it may count as seen before, else None."""
        return self.signature if self.quality == UNWOUND else None

    def encode(self) -> bytes:
        """Return it as text: version, quality, signature and class."""
        return f"{VERSION} {self.quality} {self.signature or '-'} {self.kind}".encode()


def parse_signature(raw: bytes) -> RecordedSignature | None:
    """Read what ``encode`` made; None for anything else, and for another version: those do not compare."""
    try:
        version, quality, signature, kind = raw[:MOST_OF_IT].decode("ascii").split(" ", 3)
    except ValueError:
        return None
    if version != str(VERSION) or quality not in QUALITIES or not kind.isprintable():
        return None
    if signature == "-":
        return RecordedSignature(quality, None, kind)
    well_formed = len(signature) == 16 and not set(signature) - set("0123456789abcdef")
    return RecordedSignature(quality, signature, kind) if well_formed else None


def read_signature(fd: int) -> RecordedSignature | None:
    """Return what is recorded beside an open core; None where nothing is."""
    try:
        return parse_signature(os.getxattr(fd, ATTRIBUTE))
    except OSError:
        return None


def write_signature(fd: int, recorded: RecordedSignature) -> bool:
    """Record it beside an open core; False where that is not allowed, or its file system keeps no attributes."""
    try:
        os.setxattr(fd, ATTRIBUTE, recorded.encode())
    except OSError:
        return False
    return True
