"""The notes of a segment: what corefilt wrote, and what others did."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables

    Spans = list[tuple[int, int]]

COREFILT = b"COREFILT\0"
# Their types, and what wrote them (docs/annotation.md).
FITS, ORIGIN, SHARED, SCRUBBED = 0x46495453, 0x46445043, 0x53484152, 0x53435242
OURS = {
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
    return note.name == COREFILT and note.n_type in OURS


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


class NoteSegment:
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
        return n_namesz == len(COREFILT) and n_type in OURS and COREFILT.startswith(raw[12:])

    @property
    def length(self) -> int:
        """How many bytes others wrote."""
        return sum(end - start for start, end in self.foreign)

    def notes(self) -> list[NoteEntry]:
        """The notes of others."""
        return [note for note in walk(self.file, self.core, self.i) if not is_ours(note)]

    def desc(self, note: NoteEntry) -> bytes:
        """The descriptor of a note."""
        return self.file.read(note.desc, note.n_descsz)

    def raw(self, note: NoteEntry) -> bytes:
        """A note with its header and padding."""
        return self.file.read(note.start, note.end - note.start)

    def raw_rest(self) -> bytes:
        """What others wrote after the last note."""
        last = max((note.end for note in walk(self.file, self.core, self.i)), default=self.foreign[-1][0])
        return self.file.read(last, self.foreign[-1][1] - last)

    def raw_foreign(self) -> bytes:
        """All that others wrote."""
        return b"".join(self.file.read(start, end - start) for start, end in self.foreign)
