"""Text for people: names out of a core as a terminal can show them, and times."""

from __future__ import annotations

import os
import time


def printable(text: str | bytes) -> str:
    """Return a name out of a core for a terminal: escaped is what could steer it, and bytes that are no UTF-8."""
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def counted(count: int, one: str, more: str | None = None) -> str:
    """Return a number with what is counted: ``1 mapping``, ``2 mappings``; ``more`` where it takes more than an s.

    Amounts of memory and of disk space are written by ``show_size``. Bytes are counted where each of them matters: of
    positions, of limits that were given in bytes, and of bytes that differ.
    """
    return f"{count} {one if count == 1 else more if more is not None else one + 's'}"


def day(seconds: float | None) -> str:
    """Return the date of a time in seconds since the epoch, in UTC; "-" for None."""
    return moment(seconds).partition(" ")[0]


def moment(seconds: float | None) -> str:
    """Return date and time in UTC, "-" for None and for what no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds is not None else "-"
    except (OverflowError, ValueError, OSError):
        return "-"
