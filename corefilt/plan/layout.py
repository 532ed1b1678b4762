"""From sizes to a layout: which bytes of the input make the output, and the new headers. Pure arithmetic.

One rule makes every layout: the output is the input with the dropped ranges cut out, and every offset in a
header moves up by what was cut before it. For the kernel's layout that is what the kernel itself would have
written; gdb's cores, odd gaps and unaligned offsets need nothing else.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import chain

from corefilt import _fast
from corefilt.corefile.elf import (
    PN_XNUM,
    PT_AARCH64_MEMTAG_MTE,
    PT_LOAD,
    SHT_NOBITS,
    SHT_NOTE,
    Ehdr,
    Phdrs,
    Shdr,
    xnum_shdr,
)
from corefilt.corefile.ranges import Cuts, cut_out, end_of_segments
from corefilt.io.steps import TO_THE_END, Step
from corefilt.kinds import NOTHING, ONE_PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def kept_bytes(level: int, present: int, page_size: int) -> int:
    """How many bytes of a mapping stay, of those that are present."""
    if level == NOTHING:
        return 0
    return min(page_size, present) if level == ONE_PAGE else present


class Note:
    """A change to the notes of program header ``phdr``: ``data`` takes the place of ``replaced`` bytes at ``offset``.

    Either a note comes in where the segment begins, or over another one; or all of the notes are new: then ``size``
    is their length, ``data`` may have padding behind them, and ``e_flags`` are the ELF header's.
    """

    __slots__ = ("data", "e_flags", "offset", "phdr", "replaced", "size")

    def __init__(
        self, phdr: int, offset: int, replaced: int, data: bytes, *, size: int | None = None, e_flags: int | None = None
    ) -> None:
        """Hold the fields; ``size`` and ``e_flags`` are None where they follow from the input's."""
        self.phdr, self.offset, self.replaced, self.data = phdr, offset, replaced, data
        self.size, self.e_flags = size, e_flags

    @property
    def grown(self) -> int:
        """By how many bytes everything behind it moves up, or down where that is negative."""
        return len(self.data) - self.replaced

    def size_of(self, before: int) -> int:
        """The segment's p_filesz, when it was ``before``."""
        return before + self.grown if self.size is None else self.size


class Layout:
    """The output: its program headers, which ranges of the input it leaves out, and what replaces what."""

    __slots__ = ("cuts", "puts", "size", "table")

    def __init__(self, cuts: Cuts, table: Phdrs, puts: list[Step], size: int) -> None:
        """Hold the parts; ``puts`` say what is written instead of what the input has, ``size`` is in bytes."""
        self.cuts, self.table, self.puts, self.size = cuts, table, puts, size

    def steps(self, end: int) -> Iterator[Step]:
        """What to do to make the output, in its order; ``end`` is the input's, or TO_THE_END."""
        at = 0
        puts = iter(sorted(self.puts, key=lambda put: put.source))
        put = next(puts, None)
        for start, stop in chain(self.cuts, ((end, end),)):
            while put is not None and put.source < start:
                if put.source > at:
                    yield Step(at, put.source - at, self.cuts.shift(at))
                yield put
                at = put.source + put.length
                put = next(puts, None)
            if start > at:
                yield Step(at, TO_THE_END if start == TO_THE_END else start - at, self.cuts.shift(at))
            at = stop
        if put is not None:
            yield put


def lay_out(
    ehdr: Ehdr,
    table: Phdrs,
    sections: list[Shdr],
    sizes: array[int],
    present: array[int],
    end: int | None,
    gaps: Sequence[tuple[int, int]] = (),
    note: Note | None = None,
) -> Layout:
    """Lay out a core of which ``sizes`` bytes of each segment stay, of the ``present`` ones that are there.

    ``end`` is the input's length in bytes, or None for a pipe, which ends behind its last segment. ``gaps`` are
    ranges that no header claims and that are cut out too. ``note`` comes first among the notes, or takes the place of
    one like it.
    """
    cuts, anew, astray = _cuts_and_headers(ehdr, table, sections, sizes, present, end, gaps, note)
    at = ehdr.e_shoff
    last = end_of_segments(table, present) if end is None else end
    puts: list[Step] = []
    if note is not None:
        puts.append(Step(note.offset, note.replaced, cuts.shift_ahead(note.offset), note.data))
    offsets = cuts.shift_all(table.p_offset, last)
    if note is not None:
        sizes = array("Q", sizes)
        sizes[note.phdr] = note.size_of(sizes[note.phdr])
        offsets[note.phdr] = cuts.shift_ahead(table.p_offset[note.phdr])
    new_table = table.replaced(offsets, sizes)
    e_phoff = cuts.shift(ehdr.e_phoff)
    puts.append(Step(ehdr.e_phoff, len(table) * ehdr.phdr_size, e_phoff, new_table.encode(ehdr)))
    head = ehdr.with_count_elsewhere() if anew else ehdr
    tail = section_headers(ehdr, table, sections, sizes, cuts, note) if ehdr.e_shoff or anew else b""
    e_shoff = replaced = 0
    if tail:
        if astray:
            # gdb's are of no use for reading a core; what counts program headers comes to stand at the end.
            at, tail = last, tail if ehdr.e_phnum == PN_XNUM else b""
        replaced = min(len(tail), end - at) if end is not None else len(tail) if at == ehdr.e_shoff else 0
    if tail and (ehdr.wide or cuts.shift(at) < 1 << 32):
        puts.append(Step(at, replaced, cuts.shift(at), tail))
        e_shoff = cuts.shift(at)
        last = max(last, at + replaced) + len(tail) - replaced
    sectioned, e_flags = bool(e_shoff) or not ehdr.e_shoff, note.e_flags if note is not None else None
    header = head.pack(e_shoff=e_shoff, sections=sectioned, e_flags=e_flags, e_phoff=e_phoff)
    puts.append(Step(0, ehdr.size, 0, header))
    return Layout(cuts, new_table, puts, last - cuts.total + cuts.inserted)


def cuts_of(
    ehdr: Ehdr,
    table: Phdrs,
    sections: list[Shdr],
    sizes: array[int],
    present: array[int],
    end: int | None,
    gaps: Sequence[tuple[int, int]] = (),
    note: Note | None = None,
) -> Cuts:
    """What ``lay_out`` leaves out and puts in between, without the tables, which take longest."""
    cuts, _, _ = _cuts_and_headers(ehdr, table, sections, sizes, present, end, gaps, note)
    return cuts


def _cuts_and_headers(
    ehdr: Ehdr,
    table: Phdrs,
    sections: list[Shdr],
    sizes: array[int],
    present: array[int],
    end: int | None,
    gaps: Sequence[tuple[int, int]],
    note: Note | None,
) -> tuple[Cuts, bool, bool]:
    """The cuts, whether PN_XNUM's section header is written anew, and whether section headers are lost or astray."""
    anew = counts_anew(ehdr, table, sections, end)
    # PN_XNUM needs one, which a pipe brings last.
    count = 1 if anew else max(len(sections), int(ehdr.e_phnum == PN_XNUM))
    at, length = ehdr.e_shoff, count * ehdr.shdr_size
    # They are lost, or are said to stand where other things do.
    astray = not at or (end is not None and at > end) or taken(ehdr, table, present, at, at + length)
    shdrs = (0, 0) if astray else (at, at + length)
    if astray and at and end is not None and at < end:
        # What is left of the old ones beside segments is nobody's.
        gaps = [*gaps, (at, min(at + length, end))]
    cuts = _cuts(ehdr, table, [] if astray else sections, sizes, present, gaps, shdrs)
    if note is not None:
        cuts.at, cuts.inserted = note.offset, note.grown
    return cuts, anew, astray


def counts_anew(ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr], end: int | None) -> bool:
    """Whether PN_XNUM's section header 0 is to be written anew: nothing announces it, or what is there is false.

    ``end`` is the input's length in bytes, or None for a pipe, which brings it last.
    """
    if ehdr.e_phnum != PN_XNUM:
        return False
    return not ehdr.counts_elsewhere or (end is not None and not (sections and sections[0].sh_info == len(table)))


def taken(ehdr: Ehdr, table: Phdrs, present: array[int], start: int, end: int) -> bool:
    """Whether header, table or any segment has bytes in a range of the input."""
    if start >= max(end_of_segments(table, present), ehdr.e_phoff + len(table) * ehdr.phdr_size):
        return False
    ranges = zip(table.p_offset, present, strict=True)
    return (
        start < ehdr.size
        or (start < ehdr.e_phoff + len(table) * ehdr.phdr_size and ehdr.e_phoff < end)
        or any(offset < end and start < offset + size for offset, size in ranges if size)
    )


def _cuts(
    ehdr: Ehdr,
    table: Phdrs,
    sections: list[Shdr],
    sizes: array[int],
    present: array[int],
    gaps: Sequence[tuple[int, int]],
    shdrs: tuple[int, int],
) -> Cuts:
    table_end = ehdr.e_phoff + len(table) * ehdr.phdr_size
    apart = [shdrs, *_contents_apart(sections, table, sizes)] if sections else [shdrs]
    if not gaps:
        starts, ends, before = (array("Q", bytes(8 * (len(table) + more))) for more in (0, 0, 1))
        count = _fast.cut(table.p_offset, sizes, present, ehdr.size, starts, ends, before)
        if count is not None:
            del starts[count:], ends[count:], before[count + 1 :]
            behind = not sections or min(start for start, _ in apart) >= end_of_segments(table, present)
            if behind and (not count or table_end <= starts[0]):
                return Cuts.of_columns(starts, ends, before)
    rows = zip(table.p_offset, sizes, present, strict=True)
    drops = [*gaps, *((offset + size, offset + there) for offset, size, there in rows if size < there)]
    keeps = [(0, ehdr.size), (ehdr.e_phoff, table_end), *apart]
    keeps += [(offset, offset + size) for offset, size in zip(table.p_offset, sizes, strict=True)]
    return cut_out(drops, keeps)


def _contents_apart(sections: Sequence[Shdr], table: Phdrs, sizes: array[int]) -> Iterator[tuple[int, int]]:
    """Where sections have contents that no PT_LOAD holds: names of sections, notes, and in a damaged core others."""
    holders = _Holders(table, sizes)
    for section in sections:
        held = section.sh_addr and holders.kept(section) is not None
        if section.sh_type not in (0, SHT_NOBITS) and section.sh_size and not held:
            yield section.sh_offset, section.sh_offset + section.sh_size


def section_headers(
    ehdr: Ehdr, table: Phdrs, sections: list[Shdr], sizes: array[int], cuts: Cuts, note: Note | None = None
) -> bytes:
    """The section header table of the output: PN_XNUM's one entry, or gdb's, whose sections follow their segments."""
    if ehdr.e_phnum == PN_XNUM and not (sections and sections[0].sh_info == len(table)):
        return xnum_shdr(ehdr.with_count_elsewhere(), len(table))
    holders = _Holders(table, sizes)
    out = bytearray()
    for section in sections:
        size, sh_type = section.sh_size, section.sh_type
        # One without bytes stands where others have theirs.
        kept = holders.kept(section) if section.sh_addr and sh_type != SHT_NOBITS else None
        if kept is not None:
            if kept == 0:
                sh_type = SHT_NOBITS
            else:
                size = min(size, kept)
        # A note that comes in must not take it past what the field holds.
        sh_offset = min(cuts.shift(section.sh_offset), (1 << (64 if ehdr.wide else 32)) - 1)
        if note is not None and section.sh_offset == note.offset and sh_type == SHT_NOTE:
            sh_offset, size = cuts.shift_ahead(section.sh_offset), note.size_of(size)
        out += section.moved(ehdr, sh_type=sh_type, sh_offset=sh_offset, sh_size=size)
    return bytes(out)


class _Holders:
    """Which PT_LOAD holds a section's bytes: by address and place, or, where none has both, by place alone.

    PN_XNUM's section header lies in none, so the million rows that need it are sorted only for a section that can.
    """

    def __init__(self, table: Phdrs, sizes: array[int]) -> None:
        self._table, self._sizes = table, sizes
        self._by_place: list[tuple[int, int, int]] | None = None
        self._by_address: list[tuple[int, int, int, int]] = []

    def _sort(self) -> list[tuple[int, int, int]]:
        table = self._table
        rows = zip(table.p_type, table.p_offset, table.p_vaddr, table.p_filesz, self._sizes, strict=True)
        loads = [(offset, vaddr, old, new) for p_type, offset, vaddr, old, new in rows if p_type == PT_LOAD and old]
        self._by_address = sorted((vaddr, offset, old, new) for offset, vaddr, old, new in loads)
        self._by_place = sorted((offset, old, new) for offset, _, old, new in loads)
        return self._by_place

    def kept(self, section: Shdr) -> int | None:
        """How many bytes of the segment are kept from where the section begins; None where it lies in no segment."""
        by_place = self._by_place if self._by_place is not None else self._sort()
        at = bisect_right(self._by_address, section.sh_addr, key=lambda row: row[0]) - 1
        if at >= 0:
            vaddr, offset, old, new = self._by_address[at]
            inside = section.sh_addr - vaddr
            if inside < old and section.sh_offset == offset + inside:
                there: int = new - inside
                return max(0, there)
        at = bisect_right(by_place, section.sh_offset, key=lambda row: row[0]) - 1
        if at >= 0:
            offset, old, new = by_place[at]
            if section.sh_offset < offset + old:
                behind: int = offset + new - section.sh_offset
                return max(0, behind)
        return None


def tagged_loads(table: Phdrs) -> dict[int, int]:
    """For every memory tag segment of ARM's MTE the PT_LOAD whose tags it holds (indices of program headers)."""
    if PT_AARCH64_MEMTAG_MTE not in table.p_type:
        return {}
    loads = {table.p_vaddr[i]: i for i, p_type in enumerate(table.p_type) if p_type == PT_LOAD and table.p_filesz[i]}
    return {
        i: loads[table.p_vaddr[i]]
        for i, p_type in enumerate(table.p_type)
        if p_type == PT_AARCH64_MEMTAG_MTE and table.p_vaddr[i] in loads
    }


def tag_bytes(table: Phdrs, sizes: array[int], tag: int, load: int) -> int:
    """What stays of a memory tag segment, in bytes, when ``sizes`` says what stays of its PT_LOAD.

    ``elf_core_extra_phdrs`` in arch/arm64/kernel/elfcore.c (Linux 5.18 and later): the tags of a mapping take
    a fixed share of what is dumped of it.
    """
    return table.p_filesz[tag] * sizes[load] // table.p_filesz[load]
