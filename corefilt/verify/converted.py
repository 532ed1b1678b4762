"""Notes that --format wrote anew: built from those of the full core, and held against the filtered core's.

``struct elf_prstatus_fdpic`` has two words, the addresses of the loadmaps, before its last one, which holds pr_fpvalid
(include/linux/elfcore-compat.h).
"""

from __future__ import annotations

import struct

from corefilt.text import counted
from corefilt.verify.note_segments import COREFILT, MOST_WALKED, ORIGIN
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from corefilt.verify.note_segments import NoteEntry, NoteSegment
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

    # The addresses of the loadmaps of the program and of its loader.
    Loadmaps: TypeAlias = tuple[int, ...]

_CORE = b"CORE\0"
NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
# What elf_fdpic_core_dump writes (fs/binfmt_elf_fdpic.c).
_OF_FDPIC = (NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV)


def check_converted(old: NoteSegment, new: NoteSegment, segment: int, verdict: Verdict, *, cut: bool) -> bool:
    """Whether the notes are what --format makes of the old ones; what it changed is told.

    Every NT_PRSTATUS has the two words less, or more, and then the notes are missing that the FDPIC dumper does not
    write; each other byte is the same. Of notes that are ``cut`` the beginning is there.
    """
    words, before = 2 * old.core.word, old.notes()
    sizes = [[note.n_descsz for note in notes if _is_thread(note)] for notes in (before, new.notes())]
    steps = {now - was for was, now in zip(*sizes, strict=False)} - {0}
    if steps not in ({words}, {-words}) or max(old.length, new.length) > 2 * MOST_WALKED:
        return False
    shrunk, size = steps == {-words}, sizes[1][0]
    here, at, left_out = new.raw_foreign(), 0, 0
    # By the number of the thread: what it lost or got, and what it had already.
    moved: dict[int, Loadmaps] = {}
    had: set[Loadmaps] = set()
    threads = 0
    for note in before:
        if not shrunk and not _is_of_fdpic(note):
            left_out += 1
            continue
        raw = old.raw(note)
        if _is_thread(note):
            place = note.desc - note.start + min(note.n_descsz, size) - old.core.word
            if note.n_descsz == size:
                had.add(_loadmaps(old.core, raw[place - words : place]))
            elif abs(note.n_descsz - size) == words:
                pair = raw[place : place + words] if shrunk else here[at + place : at + place + words]
                if len(pair) == words:
                    moved[threads] = _loadmaps(old.core, pair)
                rest = raw[place + words :] if shrunk else pair + raw[place:]
                raw = raw[:4] + struct.pack(old.core.order + "I", size) + raw[8:place] + rest
            threads += 1
        there = here[at : at + len(raw)]
        if there != raw[: len(there)] or (len(there) < len(raw) and not cut):
            return False
        at += len(raw)
    if not _same_rest(here[at:], old, shrunk=shrunk, cut=cut):
        return False
    left = f", and {counted(left_out, 'note was', 'notes were')} left out" if left_out else ""
    what = f"NT_PRSTATUS of {counted(len(sizes[1]), 'thread')} has two words {'less' if shrunk else 'more'}{left}"
    verdict.changes.append(f"{what} (--format)")
    if shrunk:
        _check_origin(new, list(moved.values()), old.core.header["e_flags"], segment, verdict)
    else:
        _check_loadmaps(old, moved, had, segment, verdict)
    return True


def _is_thread(note: NoteEntry) -> bool:
    return (note.name, note.n_type) == (_CORE, NT_PRSTATUS)


def _is_of_fdpic(note: NoteEntry) -> bool:
    return note.name == COREFILT or (note.name == _CORE and note.n_type in _OF_FDPIC)


def _loadmaps(core: Tables, raw: bytes) -> Loadmaps:
    return core.number(raw[: core.word]), core.number(raw[core.word :])


def _same_rest(here: bytes, old: NoteSegment, *, shrunk: bool, cut: bool) -> bool:
    """Whether what stands after the notes is the same; zeros there are empty notes, which no FDPIC dumper writes."""
    rest = old.raw_rest()
    return here == rest or (cut and rest.startswith(here)) or not (shrunk or here or rest.strip(b"\0"))


def _check_origin(new: NoteSegment, lost: list[Loadmaps], e_flags: int, segment: int, verdict: Verdict) -> None:
    """Hold the note that keeps what was taken out of the threads against it."""
    order = new.core.order
    pairs = lost[:1] if len(set(lost)) == 1 else lost
    desc = struct.pack(f"{order}IIII", 1, e_flags, len(pairs), 0)
    desc += b"".join(struct.pack(f"{order}QQ", *pair) for pair in pairs)
    head = struct.pack(f"{order}III", len(COREFILT), len(desc), ORIGIN)
    if [new.raw(note) for note in new.own if note.n_type == ORIGIN] != [head + COREFILT.ljust(12, b"\0") + desc]:
        text = "no COREFILT note of --format records what NT_PRSTATUS and e_flags were"
        verdict.findings.append(Finding("notes", text, segment=segment))


def _check_loadmaps(
    old: NoteSegment, got: dict[int, Loadmaps], had: set[Loadmaps], segment: int, verdict: Verdict
) -> None:
    """Hold the addresses that the threads got against a note that kept them; without one they are all the same."""
    kept: list[Loadmaps] = []
    for desc in (old.desc(note) for note in old.own if note.n_type == ORIGIN):
        kept += struct.iter_unpack(f"{old.core.order}QQ", desc[16 : len(desc) // 16 * 16])
    if kept and all(pair == kept[min(thread, len(kept) - 1)] for thread, pair in got.items()):
        return
    different = set(got.values())
    if len(different) > 1:
        text = "the threads' NT_PRSTATUS have different addresses of loadmaps (--format)"
        verdict.findings.append(Finding("notes", text, segment=segment))
    elif not different <= had:
        first, second = different.pop()
        verdict.changes.append(
            f"the loadmaps' addresses in NT_PRSTATUS, {first:#x} and {second:#x}, are in no note of the full core "
            "(--format)"
        )
