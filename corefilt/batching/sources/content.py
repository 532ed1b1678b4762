"""What something is by its first bytes: a core, or why not."""

from __future__ import annotations

import os

from corefilt.corefile.elf import ELFMAG
from corefilt.corefile.formats import HEAD, described
from corefilt.io import compression

# Archives, as a member's wrapping names them.
TAR, ZIP = "tar", "zip"
# More members of one archive are not looked at: a hostile one has no end.
MOST_MEMBERS = 100_000


class Content:
    """One core in a file, or what the file is instead: then ``reason`` says it, and is empty otherwise.

    ``unreadable`` tells that nobody knows what it is, because it cannot be read: it may be a core.
    """

    __slots__ = ("member", "reason", "unreadable", "wrapping")

    def __init__(
        self, wrapping: tuple[str, ...], member: str | None = None, reason: str = "", *, unreadable: bool = False
    ) -> None:
        """Hold them; ``wrapping`` names the layers from the outside in."""
        self.wrapping, self.member, self.reason, self.unreadable = wrapping, member, reason, unreadable


def why_no_core(head: bytes, name: str | None = None) -> str:
    """Nothing for the first bytes of a core, else what they are instead."""
    inside = f"{name}, whose content is " if name is not None else ""
    if head.startswith(ELFMAG) and len(head) >= 18:
        big = head[5:6] == b"\2"
        e_type = int.from_bytes(head[16:18], "big" if big else "little")
        kinds = {1: "an object file", 2: "an executable", 3: "a shared object or executable"}
        return "" if e_type == 4 else f"{inside}{kinds.get(e_type, f'of e_type {e_type}')}, not a core"
    if not head:
        return f"{inside}empty"
    if name is not None and compression.recognise(head) is not None:
        return f"{inside}compressed once more"
    told = described(head[:HEAD], "FILE")
    if told is None:
        return f"{inside}not an ELF file"
    words, hint = told
    return f"{inside}not an ELF core but {words}{f'; {hint}' if hint else ''}"


def member_content(head: bytes, wrapping: tuple[str, ...], name: str) -> Content:
    """A member of an archive that begins with ``head``."""
    packed = compression.recognise(head)
    if packed is None:
        return Content(wrapping, name, why_no_core(head))
    # Of a member only its beginning is there; what is in it is seen when it is opened.
    return Content((*wrapping, packed), name)


def unsafe(name: str) -> str:
    """Why a member's name must not become a path, or nothing."""
    steps = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or os.pardir in steps or "\0" in name or not name.strip("/."):
        return "its name leads out of the archive"
    return ""
