"""Which program headers of the filtered core stand for which of the full one, and whether they say the same."""

from __future__ import annotations

from typing import NamedTuple

from corefilt.sizes import show_size
from corefilt.text import counted
from corefilt.verify.verdict import Finding, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.verify.tables import Segment, Tables

MTE = ("PT_AARCH64_MEMTAG_MTE", 0x70000002)
# Four bits of tag for every 16 bytes of memory (arch/arm64/include/asm/mte-def.h).
_MEMORY_PER_TAG_BYTE = 32


class Pair(NamedTuple):
    """Program header ``filtered`` stands for what of ``full`` begins ``at`` bytes behind its address.

    Its bytes are those ``skip`` bytes behind the full one's offset.
    """

    full: int
    filtered: int
    at: int
    skip: int


def pair_segments(
    full: Tables, filtered: Tables, verdict: Verdict, *, may_split: bool, extents: tuple[dict[int, int], dict[int, int]]
) -> list[Pair]:
    """Pair all program headers by type and address; what has no partner or no place becomes a finding.

    ``may_split`` tells that a note declares segments which are split where they are cut; ``extents`` are those that
    notes of each core tell, by address.
    """
    return list(_Pairing(full, filtered, verdict, extents, may_split=may_split).run())


class _Pairing:
    """One go through the full core's program headers; those of the filtered one that are taken are ``used``."""

    def __init__(
        self,
        full: Tables,
        filtered: Tables,
        verdict: Verdict,
        extents: tuple[dict[int, int], dict[int, int]],
        *,
        may_split: bool,
    ) -> None:
        self.full, self.filtered, self.verdict, self.may_split = full, filtered, verdict, may_split
        self.extents = extents
        self.unreadable = 0
        self.used = bytearray(len(filtered.segments))
        self.elsewhere: dict[tuple[str | int, int], list[int]] | None = None
        self.splits = 0

    def run(self) -> Iterator[Pair]:
        place = 0
        for i, segment in enumerate(self.full.segments):
            pieces = self._pieces(segment, place)
            if not pieces and place == len(self.filtered.segments) < self.filtered.count:
                # The file ends before this one's program header.
                return
            if not pieces:
                text = f"segment {i} ({segment.where}) is missing"
                self._broken(i, segment, text, segment.p_memsz)
                continue
            if pieces[0] != place:
                self._broken(i, segment, f"segment {i} ({segment.where}) stands at place {pieces[0]}, not {place}")
            for j in pieces:
                yield self._pair(i, segment, j)
            self._check_extent(i, segment, pieces)
            place = pieces[-1] + 1
        for j, segment in enumerate(self.filtered.segments):
            if not self.used[j]:
                text = f"segment {j} of the filtered core ({segment.where}) is not in the full core"
                self.verdict.findings.append(Finding("segment", text, address=segment.p_vaddr, bytes=segment.p_filesz))
        if self.splits:
            split = counted(self.splits, "segment is split where it was", "segments are split where they were")
            self.verdict.changes.append(f"{split} cut, as a note says")
        if self.unreadable:
            self.verdict.changes.append(
                f"p_memsz of {counted(self.unreadable, 'segment')} shows less memory than there was, as a note records "
                "(--unreadable)"
            )

    def _pieces(self, segment: Segment, place: int) -> list[int]:
        """The program headers that stand for one of the full core, in their order; ``place`` is where they should."""
        others, end = self.filtered.segments, self._end(0, segment)
        if segment.p_type in MTE and self.may_split:
            return [j for j in self._tags() if segment.p_vaddr <= others[j].p_vaddr < max(end, 1) and self._take(j)]
        first = self._find(segment, place)
        if first is None:
            return []
        pieces = [first]
        while segment.p_type == "PT_LOAD" and pieces[-1] + 1 < len(others):
            last, following = others[pieces[-1]], others[pieces[-1] + 1]
            reached = self._end(1, last)
            if not last.p_vaddr < reached < end or (following.p_type, following.p_vaddr) != ("PT_LOAD", reached):
                break
            if not self._take(pieces[-1] + 1):
                break
            pieces.append(pieces[-1] + 1)
        return pieces

    def _find(self, segment: Segment, place: int) -> int | None:
        """A program header of this type and address: the one at its place, or the first that is free elsewhere."""
        others, key = self.filtered.segments, (segment.p_type, segment.p_vaddr)
        if place < len(others) and (others[place].p_type, others[place].p_vaddr) == key and self._take(place):
            return place
        if self.elsewhere is None:
            self.elsewhere = {}
            for j in reversed(range(len(others))):
                self.elsewhere.setdefault((others[j].p_type, others[j].p_vaddr), []).append(j)
        candidates = self.elsewhere.get(key, [])
        while candidates:
            j = candidates.pop()
            if self._take(j):
                return j
        return None

    def _tags(self) -> Iterator[int]:
        return (j for j, other in enumerate(self.filtered.segments) if other.p_type in MTE)

    def _take(self, j: int) -> bool:
        """Take a program header; False where it is taken already."""
        if self.used[j]:
            return False
        self.used[j] = 1
        return True

    def _pair(self, i: int, segment: Segment, j: int) -> Pair:
        other = self.filtered.segments[j]
        at = other.p_vaddr - segment.p_vaddr
        for name, was, now in (
            ("p_flags", segment.p_flags, other.p_flags),
            ("p_paddr", (segment.p_paddr + at) % (1 << 8 * self.full.word) if segment.p_paddr else 0, other.p_paddr),
            ("p_align", segment.p_align, other.p_align),
        ):
            if was != now:
                self._broken(i, segment, f"segment {i} ({segment.where}): {name} is {now:#x}, not {was:#x}")
        return Pair(i, j, at, at // _MEMORY_PER_TAG_BYTE if segment.p_type in MTE else at)

    def _check_extent(self, i: int, segment: Segment, pieces: list[int]) -> None:
        others = [self.filtered.segments[j] for j in pieces]
        end = self._end(1, others[-1])
        if segment.p_type not in MTE or not self.may_split:
            expected = self._end(0, segment)
            if end != expected:
                text = f"segment {i} ({segment.where}) ends at {end:#x}: p_memsz is another"
                self._broken(i, segment, text, abs(expected - end))
        claimed = segment.p_vaddr + segment.p_memsz
        hidden = sum(other.p_vaddr + other.p_memsz < min(self._end(1, other), claimed) for other in others)
        self.unreadable += hidden
        if len(pieces) == 1 and not hidden:
            return
        self.splits += len(pieces) > 1
        if not self.may_split:
            self._broken(i, segment, f"segment {i} ({segment.where}) is split in {len(pieces)}, and no note records it")
        for other in others:
            if other.p_type == "PT_LOAD" and other.p_filesz > other.p_memsz:
                text = f"segment {i} ({segment.where}): a part at {other.p_vaddr:#x} has more bytes than memory"
                self._broken(i, segment, text, other.p_filesz - other.p_memsz)

    def _end(self, which: int, segment: Segment) -> int:
        """Where the memory ends that a segment of either core stands for, whatever it claims."""
        noted = self.extents[which].get(segment.p_vaddr, 0) if segment.p_type == "PT_LOAD" else 0
        return segment.p_vaddr + max(segment.p_memsz, noted)

    def _broken(self, i: int, segment: Segment, text: str, count: int | None = None) -> None:
        self.verdict.findings.append(Finding("segment", text, segment=i, address=segment.p_vaddr, bytes=count))


def check_places(full: Tables, filtered: Tables, pairs: list[Pair], verdict: Verdict, *, cut: bool) -> None:
    """What the filtered core's headers claim must be in the file, unless it is cut, and no two the same bytes.

    Claims that lie over each other in the full core may do so in the filtered one.
    """
    partner = {pair.filtered: pair.full for pair in pairs}
    for j, segment in enumerate(filtered.segments):
        beyond = segment.p_filesz - filtered.present(j)
        if beyond and not cut:
            text = (
                f"segment {j} of the filtered core ({segment.where}): {show_size(beyond)} of its "
                f"{show_size(segment.p_filesz)} are past the end of the file"
            )
            verdict.findings.append(
                Finding("segment", text, segment=partner.get(j), address=segment.p_vaddr, bytes=beyond)
            )
    before = {label: (start, end) for start, end, label in claims(full)}
    furthest: tuple[int, int, int] | None = None
    for start, end, label in sorted(claims(filtered)):
        if furthest is not None and start < furthest[1]:
            both = [before.get(partner.get(one, -1) if one >= 0 else one, (0, 0)) for one in (furthest[2], label)]
            (_, first_end), (second_start, _) = sorted(both)
            if first_end <= second_start:
                text = f"{_called(furthest[2])} and {_called(label)} of the filtered core overlap in the file"
                shared = min(end, furthest[1]) - start
                verdict.findings.append(Finding("segment", text, segment=partner.get(label), bytes=shared))
        if furthest is None or end > furthest[1]:
            furthest = start, end, label


_HEADER, _TABLE, SECTIONS = -1, -2, -3


def _called(label: int) -> str:
    names = {_HEADER: "the ELF header", _TABLE: "the program headers", SECTIONS: "the section headers"}
    return names[label] if label < 0 else f"segment {label}"


def claims(core: Tables, *, cut_notes: bool = True) -> list[tuple[int, int, int]]:
    """What the headers claim of a file and is there: (start, end, whose), where a segment is its number.

    Without ``cut_notes`` notes that are not all there claim nothing.
    """
    header = core.header
    found = [(0, core.header_size, _HEADER), (header["e_phoff"], core.table_end, _TABLE)]
    if core.sections:
        found.append((header["e_shoff"], header["e_shoff"] + len(core.sections) * header["e_shentsize"], SECTIONS))
    found += [
        (segment.p_offset, segment.p_offset + core.present(i), i)
        for i, segment in enumerate(core.segments)
        if cut_notes or segment.p_type != "PT_NOTE" or core.present(i) == segment.p_filesz
    ]
    return [(start, end, label) for start, end, label in found if start < end]


def unclaimed(core: Tables, *, sections: bool = True, cut_notes: bool = True) -> Iterator[tuple[int, int]]:
    """The ranges of a file that no header claims, and that no section has for its content, ascending.

    Without ``sections`` that of sections is claimed by nobody, and without ``cut_notes`` notes that are not all there.
    """
    contents = [
        (section["sh_offset"], section["sh_offset"] + section["sh_size"], SECTIONS)
        for section in (core.sections if sections else ())
        if section["sh_type"] not in ("SHT_NULL", "SHT_NOBITS")
    ]
    reached = 0
    for start, end, _ in sorted(claims(core, cut_notes=cut_notes) + contents):
        if start >= core.size:
            break
        if start > reached:
            yield reached, start
        reached = max(reached, end)
    if reached < core.size:
        yield reached, core.size
