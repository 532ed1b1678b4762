"""Text for people: names out of a core as a terminal can show them, and times."""

from __future__ import annotations

import os
import time


def printable(text: str | bytes) -> str:
    """Return a name out of a core for a terminal: what could steer the terminal is escaped."""
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def amount(count: int, things: str) -> str:
    """Return a number with what it counts: "1 mapping" of "mappings", "2 mappings"."""
    return f"{count} {things.removesuffix('s') if count == 1 else things}"


def day(seconds: float | None) -> str:
    """Return the date of a time in seconds since the epoch, in UTC; "-" for None."""
    return moment(seconds).partition(" ")[0]


def moment(seconds: float | None) -> str:
    """Return date and time in UTC, "-" for None and for what no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds is not None else "-"
    except (OverflowError, ValueError, OSError):
        return "-"
