"""Notes of both cores must be the same but for corefilt's own, and for what --format changes."""

from __future__ import annotations

from corefilt.text import counted
from corefilt.verify.converted import check_converted
from corefilt.verify.files import Difference, difference
from corefilt.verify.note_segments import OURS, NoteSegment
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict


def check_notes(
    files: tuple[MappedCore, MappedCore],
    cores: tuple[Tables, Tables],
    pair: tuple[int, int],
    verdict: Verdict,
    *,
    cut: bool,
) -> bool:
    """Hold one note segment against another; tells whether they were written in another format.

    A difference that nothing declares becomes a finding, one that a note of corefilt's declares a change. Of one that
    is ``cut`` the beginning must be there.
    """
    old = NoteSegment(files[0], cores[0], pair[0])
    new = NoteSegment(files[1], cores[1], pair[1], cut=cut)
    _tell_own(old, new, verdict, cut=cut and new.is_short)
    apart = _difference(old, new)
    if apart is None and (old.length == new.length or (cut and new.is_short and new.length < old.length)):
        return False
    if check_converted(old, new, pair[0], verdict, cut=cut and new.is_short):
        return True
    verdict.findings.append(_named(old, new, pair[0], apart))
    return False


def _tell_own(old: NoteSegment, new: NoteSegment, verdict: Verdict, *, cut: bool) -> None:
    before = [(note.n_type, old.desc(note)) for note in old.own]
    for note in new.own:
        told = note.n_type, new.desc(note)
        if told in before:
            before.remove(told)
        else:
            verdict.changes.append(f"a COREFILT note {OURS[note.n_type]} of {note.end - note.start} bytes is new")
    if not cut:
        verdict.changes += [f"a COREFILT note {OURS[n_type]} was removed" for n_type, _ in before]


def _difference(old: NoteSegment, new: NoteSegment) -> Difference | None:
    """Where what others wrote differs, as a distance in the old segment's ranges."""
    done = 0
    for a, b, length in _aligned(old, new):
        found = difference(old.file, a, new.file, b, length)
        if found is not None:
            found.first += done
            return found
        done += length
    return None


def _aligned(old: NoteSegment, new: NoteSegment) -> Iterator[tuple[int, int, int]]:
    """Ranges that others wrote, and that correspond: (offset in the old core, offset in the new one, length)."""
    ours, theirs = iter(old.foreign), iter(new.foreign)
    (a, a_end), (b, b_end) = next(ours), next(theirs)
    while True:
        while a == a_end:
            a, a_end = next(ours, (-1, -1))
            if a < 0:
                return
        while b == b_end:
            b, b_end = next(theirs, (-1, -1))
            if b < 0:
                return
        length = min(a_end - a, b_end - b)
        yield a, b, length
        a, b = a + length, b + length


def aligned(
    files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], pair: tuple[int, int]
) -> Iterator[tuple[int, int, int]]:
    """The same of two note segments, which are numbers of program headers."""
    return _aligned(NoteSegment(files[0], cores[0], pair[0]), NoteSegment(files[1], cores[1], pair[1]))


def _named(old: NoteSegment, new: NoteSegment, segment: int, apart: Difference | None) -> Finding:
    """Which note is another one."""
    after = iter(new.notes())
    for note in old.notes():
        other = next(after, None)
        if other is None:
            return Finding("notes", f"{note.called} is missing", segment=segment, bytes=note.end - note.start)
        if other[:2] != note[:2] or other.n_descsz != note.n_descsz:
            text = f"{other.called} of {other.n_descsz} bytes stands for {note.called} of {note.n_descsz}"
            return Finding("notes", text, segment=segment, bytes=note.end - note.start)
        found = difference(old.file, note.start, new.file, other.start, note.end - note.start)
        if found is not None:
            differ = counted(found.count, "byte differs", "bytes differ")
            text = f"{note.called}: {differ}, the first at byte {note.start + found.first}: {found}"
            return Finding("notes", text, segment=segment, bytes=found.count)
    extra = next(after, None)
    if extra is not None:
        text = f"{extra.called} is not in the full core"
        return Finding("notes", text, segment=segment, bytes=extra.end - extra.start)
    if apart is not None:
        text = f"{counted(apart.count, 'byte after the notes differs', 'bytes after the notes differ')}: {apart}"
        return Finding("notes", text, segment=segment, bytes=apart.count)
    text = f"the notes take {new.length} bytes, not {old.length}"
    return Finding("notes", text, segment=segment, bytes=abs(new.length - old.length))
