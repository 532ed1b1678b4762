"""Which pages of a core are kept, and how large the output becomes by it, in length or in disk use."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate

from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile.elf import ELFMAG, MOST_PHDRS, PF_W, PN_XNUM, PT_LOAD
from corefilt.corefile.mappings import NO_FILE
from corefilt.plan.fit.split_layout import SplitPhdr, split
from corefilt.plan.layout import tagged_loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from corefilt.plan.plan import KeepPlan

    Mark: TypeAlias = tuple[dict[int, list[tuple[int, int]]], tuple[int, int, int]]

# A hole of the input that is no longer than this is kept with its surroundings: it would cost program headers.
SMALL_HOLE = 64 << 10
# An unwritable mapping of a file of which a part beyond its first page is wanted is kept whole up to this size: so is
# RELRO in 540 of the 568 libraries and programs of a Debian 12 (chromium's has 11 MiB, libLLVM's 8). Text is larger.
SMALL_MAPPING = 64 << 10
# File systems keep a list of extents in blocks of their own, which count as disk use: of ext4's, a block has 340.
FREE_EXTENTS, EXTENTS_A_BLOCK = 4, 150


class Selection:
    """Which pages of every PT_LOAD are kept, and how large the output becomes by it.

    Offsets are bytes from the beginning of a mapping; a run ends at a page or where the mapping's bytes end.
    """

    def __init__(
        self, plan: KeepPlan, notes: int, holes: Holes | None, *, annotated: bool, unreadable: bool = False
    ) -> None:
        """Begin with nothing kept.

        ``notes`` is by how many bytes the notes grow, beside a COREFILT note where they are ``annotated``; with
        ``holes`` disk use is counted. What is cut is ``unreadable`` where no program header is to claim it.
        """
        core = plan.core
        self._annotated, self._unreadable = annotated, unreadable
        self.plan, self.unit = plan, max(core.maps.page_size, 4096)
        self._holes, self._ehdr, self._table = holes, core.ehdr, core.table
        self.runs: dict[int, list[tuple[int, int]]] = {}
        self._tags = {load: tag for tag, load in tagged_loads(core.table).items()}
        others = (i for i, p_type in enumerate(core.table.p_type) if p_type != PT_LOAD and i not in self._tags.values())
        self._before = core.ehdr.size + notes + sum(core.present[i] for i in others)
        self._count = len(core.table)
        self._payload = self._extents = 0
        # Where mappings are no whole pages, as on systems without an MMU, neither is what is kept of them.
        loads = [i for i, p_type in enumerate(core.table.p_type) if p_type == PT_LOAD]
        paged = all(not (core.table.p_vaddr[i] | core.table.p_filesz[i]) % 512 for i in loads)
        self.align = self.unit if paged or holes is not None else 1
        # libsaproc (ps_core_common.c, OpenJDK 17 to 25) refuses a core in which the mapping of an unwritable segment of
        # a library begins in a program header whose p_filesz is neither one page nor the whole.
        self._page = core.maps.page_size
        self._undivided = {
            i for m, i in enumerate(core.maps.phdr) if core.maps.file[m] != NO_FILE and not core.table.p_flags[i] & PF_W
        }

    def undivided(self, i: int) -> bool:
        """Whether of a mapping nothing is kept, its first page, or all: it is a file's and not writable."""
        return i in self._undivided

    def size_with(self, change: tuple[int, int, int] = (0, 0, 0)) -> int:
        """The output's size in bytes, or its disk use, after a change that ``trial`` told."""
        count = self._count + change[1]
        head = self._before + count * self._ehdr.phdr_size + self.annotation_size(change[1]) + self.mark_size(change[1])
        payload = self._payload + change[0]
        size = -(-head // self.align) * self.align + payload
        if not payload and self._holes is None:
            size = head
        if count >= PN_XNUM:
            size += self.unit if self._holes is not None else self._ehdr.shdr_size
        extents = self._extents + change[2]
        if extents > FREE_EXTENTS:
            size += 4096 * (2 + extents // EXTENTS_A_BLOCK)
        return size

    def annotation_size(self, more: int = 0) -> int:
        """The length of the COREFILT note, with so many program headers more."""
        return annotation.note_size(self._count + more, self.plan.core.maps.page_size) if self._annotated else 0

    def mark_size(self, more: int = 0) -> int:
        """The length of the note that tells which program headers continue a mapping, with so many more."""
        count, notes = self._count + more, self.plan.core.notes
        extra, extents = count - len(self._table), count if self._unreadable or notes.extents else 0
        return annotation.fit_mark_size(extra, extents) if extra or extents or not notes.fitted else 0

    def whole(self, i: int, a: int, b: int) -> tuple[int, int]:
        """The whole pages around a range of a mapping, as far as there are bytes."""
        return a // self.unit * self.unit, min(-(-b // self.unit) * self.unit, self._most(i))

    def _most(self, i: int) -> int:
        """How many bytes of a mapping can be kept: p_filesz beyond p_memsz is no memory."""
        return min(self.plan.sizes[i], self._table.p_memsz[i])

    def trial(self, i: int, a: int, b: int) -> tuple[int, int, int]:
        """What a range of whole pages would add: bytes, program headers, extents."""
        runs = self.runs.get(i, [])
        first, last = self._touching(runs, a, b)
        low = min(a, runs[first][0]) if first < last else a
        high = max(b, runs[last - 1][1]) if first < last else b
        gone = runs[first:last]
        after = len(runs) - len(gone) + 1
        begins = low if not first else runs[0][0]
        headers = _headers(after, begins) - _headers(len(runs), runs[0][0] if runs else 0)
        if i in self._tags:
            headers += max(after, 1) - max(len(runs), 1)
        cost = self._cost(i, low, high) - sum(self._cost(i, *run) for run in gone)
        extents = 0
        if self._holes is not None:
            extents = self._holes.count(i, low, high) - sum(self._holes.count(i, *run) for run in gone)
        return cost, headers, extents

    def _cost(self, i: int, a: int, b: int) -> int:
        size = -(-(b - a) // self.align) * self.align if self._holes is None else self._holes.data(i, a, b)
        tag = self._tags.get(i)
        if tag is not None:
            size += -(-self.tag_bytes(i, a, b) // self.align) * self.align
        return size

    def tag_bytes(self, i: int, a: int, b: int) -> int:
        """How many bytes of memory tags belong to a range of a mapping."""
        tag, size = self._tags[i], self._table.p_filesz[i]
        tags, there = self._table.p_filesz[tag], self.plan.core.present[tag]
        return min(tags * b // size, there) - min(tags * a // size, there)

    @staticmethod
    def _touching(runs: list[tuple[int, int]], a: int, b: int) -> tuple[int, int]:
        """Which runs overlap a range or touch it: from, up to."""
        first = bisect_left(runs, a, key=lambda run: run[1])
        last = bisect_right(runs, b, key=lambda run: run[0])
        return first, max(first, last)

    def add(self, i: int, a: int, b: int) -> None:
        """Keep a range of whole pages."""
        change = self.trial(i, a, b)
        runs = self.runs.setdefault(i, [])
        first, last = self._touching(runs, a, b)
        if first < last:
            a, b = min(a, runs[first][0]), max(b, runs[last - 1][1])
        runs[first:last] = [(a, b)]
        self._payload += change[0]
        self._count += change[1]
        self._extents += change[2]

    def fill(self, i: int, a: int, b: int, limit: int | None, *, needed: bool = False) -> bool:
        """Keep as much of a range, from its beginning, as the limit allows; tells whether that was all.

        Of a mapping that is not divided a part is rounded down to its first page, or to nothing, unless all of it is
        small, or more than the first page is ``needed`` of it.
        """
        a, b = self.whole(i, a, b)
        if i in self._undivided:
            return a >= b or self._fill_undivided(i, a, b, limit, needed=needed)
        if a >= b or self.holds(i, a, b):
            return True
        a = self._beginning(i, a)
        change = self.trial(i, a, b)
        if self._count + change[1] >= MOST_PHDRS:
            return False
        if limit is None or self.size_with(change) <= limit:
            self.add(i, a, b)
            return True
        few, many = 0, -(-(b - a) // self.unit)
        while many - few > 1:
            middle = (few + many) // 2
            if self.size_with(self.trial(i, a, a + middle * self.unit)) <= limit:
                few = middle
            else:
                many = middle
        if few:
            self.add(i, a, a + few * self.unit)
        return False

    def _beginning(self, i: int, a: int) -> int:
        """Where a part that is wanted from ``a`` on has to begin.

        elfutils takes every segment that begins with ELFMAG for a loaded file, so the page before comes along. Such
        copies lie on stacks: ld.so (glibc 2.36, open_verify) reads a library's first bytes there.
        """
        core = self.plan.core
        while a and not self.holds(i, a - self.unit, a):
            if core.source.peek(self._table.p_offset[i] + a, len(ELFMAG)) != ELFMAG:
                break
            a -= self.unit
        return a

    def _fill_undivided(self, i: int, a: int, b: int, limit: int | None, *, needed: bool) -> bool:
        size = self._most(i)
        first = min(self._page, size)
        if b > first and (needed or size <= SMALL_MAPPING or (a, b) == (0, size)):
            if self._add_within(i, size, limit):
                return True
            self._add_within(i, first, limit)
            return False
        return a >= first or self._add_within(i, first, limit)

    def _add_within(self, i: int, end: int, limit: int | None) -> bool:
        """Keep the beginning of a mapping, if the limit allows all of that."""
        if self.holds(i, 0, end):
            return True
        # From its beginning on, it takes no program header more.
        if limit is not None and self.size_with(self.trial(i, 0, end)) > limit:
            return False
        self.add(i, 0, end)
        return True

    def mark(self) -> Mark:
        """What is kept so far, to come back to."""
        return {i: list(runs) for i, runs in self.runs.items()}, (self._payload, self._count, self._extents)

    def back_to(self, mark: Mark) -> None:
        """Forget what was added since a mark, which is used up by it."""
        self.runs, (self._payload, self._count, self._extents) = mark

    def holds(self, i: int, a: int, b: int) -> bool:
        """Whether all of a range is kept."""
        runs = self.runs.get(i, [])
        at = bisect_right(runs, a, key=lambda run: run[0]) - 1
        return at >= 0 and b <= runs[at][1]

    def kept(self, i: int) -> int:
        """How many bytes of a mapping are kept."""
        return sum(b - a for a, b in self.runs.get(i, []))

    def pieces(self) -> Iterator[SplitPhdr]:
        """The program headers of the output, in the order of the input's."""
        tagged = {tag: load for load, tag in self._tags.items()}
        for i, p_type in enumerate(self._table.p_type):
            if p_type == PT_LOAD:
                dropped_from = self._most(i) if self._unreadable else None
                yield from split(self.plan.core, i, self.runs.get(i, []), dropped_from=dropped_from)
            elif i in tagged:
                load = tagged[i]
                size, tags = self._table.p_filesz[load], self._table.p_filesz[i]
                for a, b in self.runs.get(load, [(0, 0)]):
                    skip, there = tags * a // size, self.tag_bytes(load, a, b)
                    yield SplitPhdr(
                        i, at=a, memsz=b - a if b else self._table.p_memsz[i], skip=skip, size=there, payload=True
                    )
            else:
                memsz, there = self._table.p_memsz[i], self.plan.core.present[i]
                yield SplitPhdr(i, at=0, memsz=memsz, skip=0, size=there, payload=False)


def _headers(runs: int, begins: int) -> int:
    """How many program headers a mapping takes of which so many runs are kept, the first from ``begins`` on."""
    return max(runs + (begins > 0 if runs else 0), 1)


class Holes:
    """Where the mappings of an input have data, and where holes; all in whole pages."""

    def __init__(self, plan: KeepPlan, unit: int) -> None:
        self._plan, self._unit = plan, unit
        self._extents = plan.core.source.extents()
        self._found: dict[int, list[tuple[int, int]]] = {}
        self._sums: dict[int, list[int]] = {}

    def _look(self, i: int) -> list[tuple[int, int]]:
        """The ranges of a mapping that have data, ascending, in whole pages around it."""
        core, unit = self._plan.core, self._unit
        begin = core.source.base + core.table.p_offset[i]
        size = self._plan.sizes[i]
        found: list[tuple[int, int]] = []
        for data, stop in self._extents.pieces(begin, begin + size):
            a, b = (data - begin) // unit * unit, min(-(-(stop - begin) // unit) * unit, size)
            if found and a <= found[-1][1]:
                found[-1] = found[-1][0], max(b, found[-1][1])
            else:
                found.append((a, b))
        return found

    def ranges(self, i: int) -> list[tuple[int, int]]:
        """What was found of a mapping, remembered."""
        if i not in self._found:
            found = self._found[i] = self._look(i)
            lengths = (-(-(b - a) // self._unit) * self._unit for a, b in found)
            self._sums[i] = list(accumulate(lengths, initial=0))
        return self._found[i]

    def data(self, i: int, a: int, b: int) -> int:
        """How many bytes a range of whole pages has on the disk."""
        found = self.ranges(i)
        first = bisect_right(found, a, key=lambda there: there[1])
        last = bisect_left(found, b, key=lambda there: there[0])
        if first >= last:
            return 0
        sums = self._sums[i]
        total = sums[last] - sums[first]
        total -= max(0, a - found[first][0]) + max(0, found[last - 1][1] - b)
        return -(-total // self._unit) * self._unit

    def count(self, i: int, a: int, b: int) -> int:
        """In how many pieces they are."""
        found = self.ranges(i)
        first = bisect_right(found, a, key=lambda there: there[1])
        return max(0, bisect_left(found, b, key=lambda there: there[0]) - first)

    def large(self, i: int) -> Iterator[tuple[int, int]]:
        """The ranges of a mapping with data, holes up to SMALL_HOLE included."""
        before: tuple[int, int] | None = None
        for a, b in self._look(i):
            if before is not None and a - before[1] <= SMALL_HOLE:
                before = before[0], b
                continue
            if before is not None:
                yield before
            before = a, b
        if before is not None:
            yield before


def within(ranges: list[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    """The parts of some ranges, sorted and apart, that lie in ``[low, high)``."""
    at = bisect_right(ranges, low, key=lambda there: there[1])
    while at < len(ranges) and ranges[at][0] < high:
        yield max(ranges[at][0], low), min(ranges[at][1], high)
        at += 1
