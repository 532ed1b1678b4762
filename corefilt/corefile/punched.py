"""What headers claim of a file, and the gaps that a run in place left behind. Pure arithmetic.

A run in place takes a dropped segment's p_filesz away and leaves its p_offset, and everyone else's, where it
was. What the segment held is then a gap that no header claims. Such a gap can be told from one that somebody
else left for reasons of his own: the segments stand in the file in the order of the table, as the kernel and gdb
write them; the gap begins where the file's share of a segment ends and ends where the next program header points;
and with it the segment would be no larger in the file than in memory. Behind the last program header nothing
points; there the gap counts only if it makes the segment exactly whole, or one page, as the kernel writes it.
What does not fit is taken for somebody else's and left alone, even if a run in place left it: losing room is better
than losing bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import islice
from operator import gt

from corefilt.corefile.elf import PT_AARCH64_MEMTAG_MTE, PT_LOAD, SHT_NOBITS, Ehdr, Phdrs, Shdr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Four bits of tag for every 16 bytes of memory (arch/arm64/include/asm/mte-def.h).
BYTES_PER_TAG_BYTE = 32
# Segments that a filter takes bytes from.
_HELD = (PT_LOAD, PT_AARCH64_MEMTAG_MTE)


def claimed(ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr], sizes: array[int]) -> list[tuple[int, int]]:
    """Every range that the headers speak of, themselves included, when ``sizes`` are the segments' p_filesz."""
    claims = [(0, ehdr.size), (ehdr.e_phoff, ehdr.e_phoff + len(table) * ehdr.phdr_size)]
    if ehdr.e_shoff:
        claims.append((ehdr.e_shoff, ehdr.e_shoff + max(ehdr.e_shnum, len(sections), 1) * ehdr.shdr_size))
    claims += [(offset, offset + size) for offset, size in zip(table.p_offset, sizes, strict=True) if size]
    claims += _section_contents(sections)
    return claims


def _section_contents(sections: Sequence[Shdr]) -> Iterator[tuple[int, int]]:
    for section in sections:
        if section.sh_type not in (0, SHT_NOBITS) and section.sh_size:
            yield section.sh_offset, section.sh_offset + section.sh_size


def given_up(
    ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr], end: int, page_size: int
) -> dict[int, tuple[int, int]]:
    """For every segment that gave bytes up in place, by its program header, the gap behind it in ``end`` bytes."""
    offsets = [o for o, p_type in zip(table.p_offset, table.p_type, strict=True) if p_type in _HELD]
    if any(map(gt, offsets, islice(offsets, 1, None))):
        return {}
    head = ehdr.e_phoff + len(table) * ehdr.phdr_size
    if offsets and offsets[0] < ehdr.e_phoff:
        # delve's: the program headers stand behind what they describe.
        head = ehdr.size
    starts = array("Q", sorted(set(table.p_offset)))
    behind = sorted({end, ehdr.e_shoff or end, ehdr.e_phoff, *(start for start, _ in _section_contents(sections))})
    gaps: dict[int, tuple[int, int]] = {}
    owner: dict[int, int] = {}
    rows = zip(table.p_type, table.p_offset, table.p_filesz, table.p_memsz, strict=True)
    for i, (p_type, offset, size, memsz) in enumerate(rows):
        if p_type in _HELD:
            # Of several at one offset, all but the last were empty from the beginning.
            gaps.pop(owner.get(offset, -1), None)
        whole = memsz if p_type == PT_LOAD else memsz // BYTES_PER_TAG_BYTE if p_type == PT_AARCH64_MEMTAG_MTE else 0
        if size >= whole or not head <= offset < end:
            continue
        at = bisect_right(starts, offset)
        if at < len(starts):
            stop = min(starts[at], end)
            fits = stop - offset <= whole
        else:
            stop = behind[min(bisect_left(behind, offset + size), len(behind) - 1)]
            fits = stop - offset in (whole, page_size)
        if fits and stop > offset + size:
            gaps[i], owner[offset] = (offset + size, stop), i
    return gaps


def most_behind(table: Phdrs, end: int) -> int:
    """How many bytes a run in place can have left behind the last segment's, which end at ``end``."""
    last = max(table.p_offset)
    held = (i for i, p_type in enumerate(table.p_type) if p_type in _HELD and table.p_offset[i] == last)
    return max((last + table.p_memsz[i] - end for i in held), default=0)
