"""Where the notes of a core that was cut by a limit or a full disk still end well."""

from __future__ import annotations

import os
import stat
import time

from corefilt import _fast
from corefilt.corefile.elf import Ehdr
from corefilt.corefile.notes import MOST_WALKED, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.io.sources import Source

# Seconds: a kernel or a copy that is at work writes more often.
RECENT = 15.0


def whole_notes(peek: Callable[[int, int], bytes], ehdr: Ehdr, start: int, there: int) -> int:
    """How many of the ``there`` bytes of notes at ``start`` of the core are whole notes, padding included.

    gdb takes a core whose last note is cut for no core at all (BFD, ``elf_parse_notes``), and opens one that ends
    before.
    """
    at = 0
    while there - at >= 12 and at < MOST_WALKED:
        chunk = peek(start + at, min(WINDOW, there - at))
        found, done = _fast.walk_notes(chunk, big=ehdr.big)
        padding = next(
            (name - 12 for n_type, name, n_namesz, _, n_descsz in found if not n_type | n_namesz | n_descsz), -1
        )
        if padding >= 0:
            # Zeros behind the last note are none.
            return at + padding
        if not done:
            if len(chunk) < 12:
                break
            # It is cut, or larger than the window.
            n_namesz, n_descsz = (ehdr.number(chunk[i : i + 4]) for i in (0, 4))
            desc = 12 + (n_namesz + 3 & ~3)
            if at + desc + n_descsz > there:
                break
            done = min(desc + (n_descsz + 3 & ~3), there - at)
        at += done
    return at


def still_written(source: Source) -> str | None:
    """Ask whether a truncated core is still being written, if its file was written to a moment ago; else None."""
    status = os.fstat(source.origin.fd)
    age = time.time() - status.st_mtime
    # What has no name is a copy of our own.
    if not stat.S_ISREG(status.st_mode) or not status.st_nlink or not -RECENT < age < RECENT:
        return None
    return f"it was written to {max(0, round(age))} s ago: is it still being written?"
