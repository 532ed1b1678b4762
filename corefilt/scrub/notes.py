"""Where the notes of a core stand in it."""

from __future__ import annotations

from corefilt import _fast
from corefilt.corefile.elf import PT_NOTE
from corefilt.corefile.notes import MOST_OF_A_NOTE, MOST_WALKED, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile


def spans(core: CoreFile) -> Iterator[tuple[int, bytes, int, int]]:
    """Every whole note: (type, name without its NUL, where the descriptor begins, its length in bytes)."""
    budget = min(MOST_WALKED, core.source.size or 0)
    for i, p_type in enumerate(core.table.p_type):
        if p_type != PT_NOTE:
            continue
        at, end, window = core.table.p_offset[i], core.table.p_offset[i] + core.present[i], WINDOW
        while end - at >= 12 and budget > 0:
            chunk = core.source.peek(at, min(window, end - at))
            found, done = _fast.walk_notes(chunk, big=core.ehdr.big)
            for n_type, name_at, n_namesz, desc_at, n_descsz in found:
                yield n_type, chunk[name_at : name_at + n_namesz].rstrip(b"\0"), at + desc_at, n_descsz
            if not done:
                if window >= MOST_OF_A_NOTE or len(chunk) < window:
                    break
                window *= 16
                continue
            at, budget, window = at + done, budget - done, WINDOW
