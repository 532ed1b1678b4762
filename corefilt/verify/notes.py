"""Notes of both cores must be the same but for corefilt's own, and for what --format changes."""

from __future__ import annotations

from typing import NamedTuple

from corefilt.text import counted
from corefilt.verify.files import Difference, difference
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

    Spans = list[tuple[int, int]]

COREFILT = b"COREFILT\0"
NT_PRSTATUS = 1
# Their types, and what wrote them (docs/annotation.md).
FITS, ORIGIN, SHARED, SCRUBBED = 0x46495453, 0x46445043, 0x53484152, 0x53435242
_OURS = {
    0x4B494E44: "of kinds (--annotate)",
    FITS: "of a fit (--fit, --minimal)",
    ORIGIN: "of --format",
    SHARED: "of --shared-once",
    SCRUBBED: "of corefilt scrub",
    0x5349474E: "of the crash's signature (--annotate)",
    0x4D414445: "of a batch (what it was made of)",
}
# Notes are looked at one by one this far, in bytes: as far as corefilt reads them itself.
MOST_WALKED = 64 << 20
_CHUNK = 1 << 16
# linux/elf.h and its neighbours, for people.
_NAMES = {
    1: "NT_PRSTATUS", 2: "NT_PRFPREG", 3: "NT_PRPSINFO", 6: "NT_AUXV", 0x46494C45: "NT_FILE", 0x53494749: "NT_SIGINFO",
    0x202: "NT_X86_XSTATE",
}  # fmt: skip


class NoteEntry(NamedTuple):
    """One note: its name and type, and where header, descriptor and padding stand in the file."""

    name: bytes
    n_type: int
    start: int
    desc: int
    n_descsz: int
    end: int

    @property
    def called(self) -> str:
        """What people call it."""
        name = self.name.rstrip(b"\0").decode("latin-1")
        return f"{_NAMES.get(self.n_type, hex(self.n_type))} of {name!r}"


def walk(file: MappedCore, core: Tables, i: int) -> Iterator[NoteEntry]:
    """The notes of a segment that are all there, up to the first that cannot be one."""
    start = at = core.segments[i].p_offset
    end = start + core.present(i)
    chunk, chunk_at = b"", at
    while end - at >= 12 and at - start < MOST_WALKED:
        if at + 12 + len(COREFILT) > chunk_at + len(chunk):
            chunk, chunk_at = file.read(at, min(_CHUNK, end - at)), at
        head = chunk[at - chunk_at : at - chunk_at + 12]
        n_namesz, n_descsz, n_type = (core.number(head[k : k + 4]) for k in (0, 4, 8))
        desc = at + 12 + (n_namesz + 3 & ~3)
        if desc + n_descsz > end or not (n_namesz or n_descsz or n_type):
            return
        name = chunk[at - chunk_at + 12 :][: min(n_namesz, len(COREFILT))]
        stop = min(desc + (n_descsz + 3 & ~3), end)
        yield NoteEntry(name, n_type, at, desc, n_descsz, stop)
        at = stop


def is_ours(note: NoteEntry) -> bool:
    """Whether corefilt wrote it."""
    return note.name == COREFILT and note.n_type in _OURS


def own_notes(file: MappedCore, core: Tables) -> set[int]:
    """The types of corefilt's own notes in a core."""
    return {
        note.n_type
        for i, segment in enumerate(core.segments)
        if segment.p_type == "PT_NOTE"
        for note in walk(file, core, i)
        if is_ours(note)
    }


def extents(file: MappedCore, core: Tables) -> dict[int, int]:
    """How many bytes of memory segments stand for whose p_memsz may say less, by address, as notes of a fit tell."""
    found: dict[int, int] = {}
    for text in own_texts(file, core, FITS, MOST_WALKED):
        starts = core.number(text[4:8])
        at = 8 + 8 * starts
        count = min(core.number(text[at : at + 8]), max(0, len(text) - at - 8) // 16)
        for start in range(at + 8, at + 8 + 16 * count, 16):
            # The newest note stands first.
            found.setdefault(core.number(text[start : start + 8]), core.number(text[start + 8 : start + 16]))
    return found


def own_texts(file: MappedCore, core: Tables, n_type: int, most: int = _CHUNK) -> list[bytes]:
    """What corefilt's own notes of a type say, up to ``most`` bytes of each."""
    return [
        file.read(note.desc, min(note.n_descsz, most))
        for i, segment in enumerate(core.segments)
        if segment.p_type == "PT_NOTE"
        for note in walk(file, core, i)
        if is_ours(note) and note.n_type == n_type
    ]


class _NoteSegment:
    """One segment: ``foreign`` are the ranges that others wrote, ``own`` what corefilt wrote.

    Of a segment that the file does not have in full only whole notes count, as gdb refuses a core with any other; but
    where a limit may have ``cut`` it, everything does.
    """

    def __init__(self, file: MappedCore, core: Tables, i: int, *, cut: bool = False) -> None:
        self.file, self.core, self.i = file, core, i
        self.own: list[NoteEntry] = []
        self.foreign: Spans = []
        reached = whole = core.segments[i].p_offset
        for note in walk(file, core, i):
            whole = note.end
            if is_ours(note):
                self.own.append(note)
                self.foreign.append((reached, note.start))
                reached = note.end
        end = core.segments[i].p_offset + core.present(i)
        self.is_short = core.present(i) < core.segments[i].p_filesz
        if self.is_short and not (cut and not self._begins_own(whole, end)):
            end = whole
        self.foreign.append((reached, end))

    def _begins_own(self, at: int, end: int) -> bool:
        """Whether what is cut off between two offsets would have been a note of corefilt's."""
        raw = self.file.read(at, min(12 + len(COREFILT), end - at))
        n_namesz, n_type = self.core.number(raw[:4]), self.core.number(raw[8:12])
        return n_namesz == len(COREFILT) and n_type in _OURS and COREFILT.startswith(raw[12:])

    @property
    def length(self) -> int:
        return sum(end - start for start, end in self.foreign)

    def notes(self) -> list[NoteEntry]:
        return [note for note in walk(self.file, self.core, self.i) if not is_ours(note)]

    def desc(self, note: NoteEntry) -> bytes:
        return self.file.read(note.desc, note.n_descsz)

    def raw(self, note: NoteEntry) -> bytes:
        return self.file.read(note.start, note.end - note.start)


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
    old = _NoteSegment(files[0], cores[0], pair[0])
    new = _NoteSegment(files[1], cores[1], pair[1], cut=cut)
    _tell_own(old, new, verdict, cut=cut and new.is_short)
    apart = _difference(old, new)
    if apart is None and (old.length == new.length or (cut and new.is_short and new.length < old.length)):
        return False
    converted = _conversion(old, new, cut=cut and new.is_short)
    if converted is not None:
        verdict.changes.append(converted)
        return True
    verdict.findings.append(_named(old, new, pair[0], apart))
    return False


def _tell_own(old: _NoteSegment, new: _NoteSegment, verdict: Verdict, *, cut: bool) -> None:
    before = [(note.n_type, old.desc(note)) for note in old.own]
    after = [(note.n_type, new.desc(note)) for note in new.own]
    for n_type, desc in after:
        if (n_type, desc) in before:
            before.remove((n_type, desc))
        else:
            verdict.changes.append(f"a COREFILT note {_OURS[n_type]} of {len(desc)} bytes is new")
    if not cut:
        verdict.changes += [f"a COREFILT note {_OURS[n_type]} was removed" for n_type, _ in before]


def _difference(old: _NoteSegment, new: _NoteSegment) -> Difference | None:
    """Where what others wrote differs, as a distance in the old segment's ranges."""
    done = 0
    for a, b, length in _aligned(old, new):
        found = difference(old.file, a, new.file, b, length)
        if found is not None:
            found.first += done
            return found
        done += length
    return None


def _aligned(old: _NoteSegment, new: _NoteSegment) -> Iterator[tuple[int, int, int]]:
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
    return _aligned(_NoteSegment(files[0], cores[0], pair[0]), _NoteSegment(files[1], cores[1], pair[1]))


def _named(old: _NoteSegment, new: _NoteSegment, segment: int, apart: Difference | None) -> Finding:
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


def _conversion(old: _NoteSegment, new: _NoteSegment, *, cut: bool) -> str | None:
    """What --format did, or None where these are simply other notes.

    Every NT_PRSTATUS has two words less, or two words more and then notes may be missing that the FDPIC dumper does
    not write; nothing else is another.
    """
    before, after = old.notes(), new.notes()
    two = 2 * old.core.word
    sizes = [[note.n_descsz for note in notes if note.n_type == NT_PRSTATUS] for notes in (before, after)]
    steps = {now - was for was, now in zip(*sizes, strict=False)} - {0}
    shrunk = steps == {-two}
    if steps not in ({two}, {-two}) or len(set(sizes[1])) > 1:
        return None
    if shrunk and all(note.n_type != ORIGIN for note in new.own):
        return None
    left_out = 0
    rest = iter(after)
    other = next(rest, None)
    for note in before:
        if other is None and cut:
            break
        if other is not None and _stands_for(old, note, new, other, two):
            other = next(rest, None)
        elif shrunk or note.n_type == NT_PRSTATUS:
            return None
        else:
            left_out += 1
    if other is not None:
        return None
    words = f"NT_PRSTATUS of {counted(len(sizes[1]), 'thread')} has two words {'less' if shrunk else 'more'}"
    return (
        f"{words}, and {counted(left_out, 'note was', 'notes were')} left out (--format)"
        if left_out
        else f"{words} (--format)"
    )


def _stands_for(old: _NoteSegment, note: NoteEntry, new: _NoteSegment, other: NoteEntry, two: int) -> bool:
    if note[:2] != other[:2]:
        return False
    if note.n_type != NT_PRSTATUS or note.n_descsz == other.n_descsz:
        return old.raw(note) == new.raw(other)
    short, long = sorted((old.desc(note), new.desc(other)), key=len)
    same = next((k for k, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return len(long) - len(short) == two and any(
        short[at:] == long[at + two :] for at in range(max(0, same - two), same + 1)
    )
