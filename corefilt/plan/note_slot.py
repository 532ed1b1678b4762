"""Where new notes go in a core: over old ones of the same length, before all others, or instead of all of them."""

from __future__ import annotations

from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile.elf import PT_NOTE
from corefilt.errors import AnnotationError
from corefilt.plan.layout import Note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.plan.format import Conversion


def place_for_note(core: CoreFile, conversion: Conversion | None, *, annotate: bool, texts: int = 0) -> Note | None:
    """Where new notes go, with zeros for so many texts and for mappings' records; None where there are no new ones.

    Records alone go over some of the same length; anything else before all other notes. Raises AnnotationError where
    there is no such place.
    """
    size = annotation.note_size(len(core.maps), core.maps.page_size) if annotate else 0
    size += texts * annotation.text_size(core.maps.page_size)
    if conversion is not None:
        return _place_for_all(core, conversion, size)
    if not size:
        return None
    if not core.ehdr.wide and max(core.table.p_offset, default=0) + size >= 1 << 32:
        raise AnnotationError(f"{core.source.name}: a note would move segments past what 32 bits can address")
    table, there = core.table, core.present
    first = next((i for i, p_type in enumerate(table.p_type) if p_type == PT_NOTE and there[i]), None)
    if first is None:
        raise AnnotationError(f"{core.source.name}: has no notes to insert another one before")
    if annotate and len({(core.maps.start(m), core.maps.end(m)) for m in range(len(core.maps))}) < len(core.maps):
        raise AnnotationError(f"{core.source.name}: two segments have the same addresses, which a note refers to")
    old = core.notes.record_at
    if old is not None and not texts and old[1] == size and old[0] + size <= table.p_offset[first] + there[first]:
        return Note(first, old[0], size, bytes(size))
    _refuse_over_notes(core, first)
    return Note(first, table.p_offset[first], 0, bytes(size))


def takes_a_note(core: CoreFile) -> bool:
    """Whether there is a place for one more note."""
    try:
        return place_for_note(core, None, annotate=False, texts=1) is not None
    except AnnotationError:
        return False


def _refuse_over_notes(core: CoreFile, notes: int) -> None:
    table, there, at = core.table, core.present, core.table.p_offset[notes]
    others = ((i, start) for i, start in enumerate(table.p_offset) if i != notes and there[i])
    over = next((i for i, start in others if start <= at < start + there[i]), None)
    if over is not None:
        raise AnnotationError(f"{core.source.name}: program header {over} overlaps the notes (program header {notes})")


def _place_for_all(core: CoreFile, conversion: Conversion, size: int) -> Note:
    """The place of all notes and of the padding behind them, which the kernel fills up to a page."""
    phdr, table = conversion.phdr, core.table
    _refuse_over_notes(core, phdr)
    start, behind = table.p_offset[phdr], conversion.behind
    data = bytes(size) + conversion.data
    # Payload behind them stays aligned to pages, and what else may follow to words.
    followed = any(offset >= behind for i, offset in enumerate(table.p_offset) if i != phdr)
    unit = max(core.maps.exec_page_size, core.maps.page_size) if followed else 8
    room = len(data) + (behind - start - len(data)) % unit
    if not core.ehdr.wide and max(table.p_offset) + room - (behind - start) >= 1 << 32:
        raise AnnotationError(f"{core.source.name}: longer notes would move segments past what 32 bits can address")
    return Note(phdr, start, behind - start, data.ljust(room, b"\0"), size=len(data), e_flags=conversion.e_flags)
