"""Text for people: names out of a core, as a terminal can show them."""

from __future__ import annotations

import os


def printable(text: str | bytes) -> str:
    """Return a name out of a core for a terminal: what could steer the terminal is escaped."""
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
