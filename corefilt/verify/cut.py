"""Whether a core ends where RLIMIT_CORE ends it, by a count of its own of what the kernel writes.

``elf_core_dump`` in fs/binfmt_elf.c and ``dump_emit`` in fs/coredump.c (Linux 6.18): the ELF header, every program
header, of each note the header, the name and the descriptor, every page that is there, every block of memory tags, and
section header 0 are pieces; the first that would take the count over the limit ends the core. Holes cost nothing, but
one byte at the very end. Which pages of zeros were holes a copy does not tell, so there can be several such ends.
"""

from __future__ import annotations

from typing import NamedTuple

from corefilt.text import counted
from corefilt.verify.files import WINDOW
from corefilt.verify.note_segments import MOST_WALKED, walk
from corefilt.verify.pairs import MTE, Pair
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.sizes import Limit
    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

AT_PAGESZ = 6
NT_AUXV = 6
NT_X86_XSAVE_LAYOUT = 0x205
# struct x86_xfeat_component, of which each is a piece (arch/x86/kernel/fpu/xstate.c).
_XFEAT_COMPONENT = 16
_X86 = ("EM_386", "EM_X86_64")
_TABLE, _SECTIONS = -2, -1


class _KernelPieces(NamedTuple):
    """Pieces of ``unit`` bytes that fill a range of the file; the last can be shorter."""

    start: int
    end: int
    unit: int


def check_cut(
    files: tuple[MappedCore, MappedCore],
    cores: tuple[Tables, Tables],
    pairs: list[Pair],
    limit: Limit,
    verdict: Verdict,
) -> None:
    """Hold the length of the filtered core against the limit, and tell of the cut."""
    size, count = cores[1].size, _Count(files, cores, pairs)
    least = count.end(limit.size, zeros=True)
    most = least if size == least else count.end(limit.size, zeros=False)
    if not least <= size <= most:
        ends = f"{least}" if least == most else f"between {least} and {most}"
        text = f"the file ends at {size}, and under {limit} the kernel ends it at {ends}"
        verdict.findings.append(Finding("segment", text, bytes=max(least - size, size - most)))
    elif cores[1].is_short:
        verdict.changes.append(f"cut at {counted(size, 'byte')}, as the kernel cuts under {limit}")


class _Count:
    """Counts the pieces of a filtered core up to a limit."""

    def __init__(self, files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], pairs: list[Pair]) -> None:
        self.full, self.file = files
        self.core = cores[1]
        self.page = page_size(self.full, cores[0])
        # Where the full core has the bytes of a segment, and how many.
        self.there = {
            pair.filtered: (cores[0].segments[pair.full].p_offset + pair.skip, cores[0].present(pair.full) - pair.skip)
            for pair in pairs
        }

    def end(self, limit: int, *, zeros: bool) -> int:
        """Where the file ends under a limit, in bytes; ``zeros`` tells that only holes cost nothing."""
        written = end = 0
        for piece in self._pieces(zeros=zeros):
            length = piece.end - piece.start
            room = limit - written
            fit = length if length <= room else room - room % piece.unit
            written += fit
            if fit:
                end = piece.start + fit
            if fit < length:
                return end
        whole = max(self.core.whole, self.core.size)
        # Behind holes the kernel writes one zero, if that fits.
        return whole if end < whole and written < limit else end

    def _pieces(self, *, zeros: bool) -> Iterator[_KernelPieces]:
        core, header = self.core, self.core.header
        tables = {
            _TABLE: (header["e_phoff"], core.count * header["e_phentsize"], header["e_phentsize"]),
            _SECTIONS: (header["e_shoff"], max(header["e_shnum"], 1) * header["e_shentsize"], header["e_shentsize"]),
        }
        if not header["e_shoff"]:
            del tables[_SECTIONS]
        places = [(start, label) for label, (start, _, _) in tables.items()]
        places += [(segment.p_offset, j) for j, segment in enumerate(core.segments) if segment.p_filesz]
        at = core.header_size
        yield _KernelPieces(0, at, at)
        for start, label in sorted(places):
            length, unit = (core.segments[label].p_filesz, self.page) if label >= 0 else tables[label][1:]
            start, end = max(start, at), start + length
            at = max(at, end)
            if start >= end:
                continue
            if label < 0:
                yield _KernelPieces(start, end, unit)
            elif core.segments[label].p_type == "PT_NOTE":
                yield from self._notes(start, end)
            elif core.segments[label].p_type in MTE:
                # Tags of all 16 bytes of a page, four bits each.
                yield from self._present(label, start, end, self.page // 32, zeros=zeros, tags=True)
            else:
                yield from self._present(label, start, end, self.page, zeros=zeros)

    def _notes(self, start: int, end: int) -> Iterator[_KernelPieces]:
        at, core = start, self.core
        while end - at >= 12 and at - start < MOST_WALKED:
            yield _KernelPieces(at, at + 12, 12)
            raw = self.file.read(at, 12)
            if len(raw) < 12:
                # The file ends here, and the count does not: what follows makes no difference.
                return
            n_namesz, n_descsz, n_type = (core.number(raw[k : k + 4]) for k in (0, 4, 8))
            name = at + 12
            desc = name + (n_namesz + 3 & ~3)
            at = desc + (n_descsz + 3 & ~3)
            in_records = n_type == NT_X86_XSAVE_LAYOUT and core.header["e_machine"] in _X86
            for first, length, unit in (
                (name, n_namesz, n_namesz),
                (desc, n_descsz, _XFEAT_COMPONENT if in_records else n_descsz),
            ):
                if length and first < end:
                    yield _KernelPieces(first, min(first + length, end), unit)
        if at < end:
            yield _KernelPieces(at, end, self.page)

    def _present(
        self, label: int, start: int, end: int, unit: int, *, zeros: bool, tags: bool = False
    ) -> Iterator[_KernelPieces]:
        """What of a segment is no hole; the full core tells, also of what lies behind the cut."""
        segment = self.core.segments[label]
        origin, there = self.there.get(label, (0, 0))
        skip = start - segment.p_offset
        there = min(there - skip, end - start)
        if tags and zeros:
            yield _KernelPieces(start, end, unit)
            return
        for first, last in _filled(self.full, origin + skip, there, unit, zeros=zeros):
            yield _KernelPieces(start + first * unit, min(start + last * unit, end), unit)


def _filled(file: MappedCore, start: int, length: int, unit: int, *, zeros: bool) -> Iterator[tuple[int, int]]:
    """The pieces of a range that are no holes, as (first, behind the last); without ``zeros`` those that hold any."""
    at, end, done = start, start + length, 0
    while at < end:
        data, stop = file.next_data(at)
        if data >= end:
            return
        first, last = max((data - start) // unit, done), -(-(min(stop, end) - start) // unit)
        if zeros and first < last:
            yield first, last
        elif first < last:
            yield from _not_zero(file, start, end, unit, range(first, last))
        done, at = last, start + last * unit


def _not_zero(file: MappedCore, start: int, end: int, unit: int, pieces: range) -> Iterator[tuple[int, int]]:
    nothing = bytes(unit)
    step = max(WINDOW // unit, 1)
    for first in pieces[::step]:
        at = start + first * unit
        with file.window(at, min(WINDOW, start + pieces.stop * unit - at, end - at)) as view:
            found = [
                k for k in range(-(-len(view) // unit))
                if (piece := bytes(view[k * unit : (k + 1) * unit])) != nothing[: len(piece)]
            ]  # fmt: skip
        yield from ((first + k, first + k + 1) for k in found)


def page_size(file: MappedCore, core: Tables) -> int:
    """AT_PAGESZ of a core, or the p_align of its segments, in bytes."""
    aligns = (segment.p_align for segment in core.segments if segment.p_type == "PT_LOAD")
    for i, segment in enumerate(core.segments):
        if segment.p_type != "PT_NOTE":
            continue
        for note in walk(file, core, i):
            if note.n_type == NT_AUXV and note.name == b"CORE\0":
                return _sane(_page_size_of(file.read(note.desc, min(note.n_descsz, 1 << 12)), core), aligns)
    return _sane(0, aligns)


def _page_size_of(auxv: bytes, core: Tables) -> int:
    word = core.word
    pairs = (
        (core.number(auxv[at : at + word]), core.number(auxv[at + word : at + 2 * word]))
        for at in range(0, len(auxv), 2 * word)
    )
    return next((value for key, value in pairs if key == AT_PAGESZ), 0)


def _sane(claimed: int, others: Iterable[int]) -> int:
    sizes = (claimed, *others)
    return next((size for size in sizes if 512 <= size <= 1 << 20 and size & size - 1 == 0), 1 << 12)
