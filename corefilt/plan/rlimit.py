"""RLIMIT_CORE as the kernel cuts it: how much of a core a limit would have left.

``dump_emit``, ``dump_emit_page`` and ``dump_skip`` in fs/coredump.c (Linux 3.13 and later): the kernel counts what
it writes, piece by piece, and the first piece that would take the count over the limit ends the core. What is not
written, absent pages and padding, is sought over, costs nothing, and is in the file only when something follows.
So whatever a limit leaves is the beginning of the whole core, and one number says how much.
"""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.corefile.elf import EM_386, EM_X86_64, PT_LOAD, PT_NOTE, Ehdr
from corefilt.corefile.notes import MOST_WALKED
from corefilt.errors import NoCoreError
from corefilt.io.movers import SCRATCH
from corefilt.io.sources import Extents, FileSource
from corefilt.io.steps import Step
from corefilt.plan.layout import tagged_loads
from corefilt.sizes import Limit, show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.io.sinks import Sink
    from corefilt.plan.layout import Layout
    from corefilt.plan.plan import KeepPlan

NT_X86_XSAVE_LAYOUT = 0x205
# struct x86_xfeat_component, of which every one is written by itself (arch/x86/kernel/fpu/xstate.c, Linux 6.12).
XFEAT_COMPONENT = 16

# How a run of pieces is counted: always; always, and its content tells what follows; only what is not a hole.
COUNTED, NOTE_HEADER, PRESENT = range(3)


def refuse_below_a_page(limit: Limit, core: CoreFile) -> None:
    """Raise NoCoreError for a limit under which the kernel does not begin (``min_coredump`` in fs/coredump.c)."""
    least = core.maps.exec_page_size
    if limit.size < least:
        raise NoCoreError(
            f"{core.source.name}: the kernel would write no core: {limit} is less than one page ({least} bytes)"
        )


class PieceRun:
    """Bytes of the output, from ``start`` to ``end``, that are written in pieces of ``unit`` bytes.

    ``segment`` is the program header they belong to, or -1; ``load`` is, for memory tags, the PT_LOAD whose pages
    they describe, and otherwise the same as ``segment``.
    """

    __slots__ = ("end", "kind", "load", "segment", "start", "unit")

    def __init__(self, start: int, end: int, unit: int, kind: int = COUNTED, segment: int = -1, load: int = -1) -> None:
        self.start, self.end, self.unit, self.kind = start, end, unit, kind
        self.segment, self.load = segment, segment if load < 0 else load


def runs(core: CoreFile, layout: Layout) -> Generator[PieceRun, bytes | None, None]:
    """What the kernel writes of this output, in its order; for a NOTE_HEADER the note's first bytes must be sent.

    ``elf_core_dump`` in fs/binfmt_elf.c (Linux 6.18): the ELF header, each program header, of each note the
    header, the name and the descriptor, each page, the blocks of memory tags, and section header 0.
    """
    ehdr, table, head = core.ehdr, layout.table, _header_of(layout)
    tags = tagged_loads(table)
    tables = {
        -3: (0, ehdr.size, ehdr.size),
        -2: (head.e_phoff, len(table) * ehdr.phdr_size, ehdr.phdr_size),
        -1: (head.e_shoff, max(head.e_shnum, 1) * ehdr.shdr_size, ehdr.shdr_size),
    }
    if not tables[-1][0]:
        del tables[-1]
    order = sorted(
        [*tables, *(i for i, size in enumerate(table.p_filesz) if size)],
        key=lambda i: (table.p_offset[i] if i >= 0 else tables[i][0], i),
    )
    at, page = 0, core.maps.page_size
    for i in order:
        start, length, unit = tables[i] if i < 0 else (table.p_offset[i], table.p_filesz[i], page)
        start, end = max(start, at), start + length
        at = max(at, end)
        if start >= end:
            continue
        if i < 0:
            yield PieceRun(start, end, unit)
        elif table.p_type[i] == PT_NOTE:
            yield from _runs_of_notes(ehdr, i, start, end, page)
        elif i in tags:
            block = core.table.p_filesz[i] * page // core.table.p_filesz[tags[i]]
            yield PieceRun(start, end, max(block, 1), PRESENT, i, tags[i])
        else:
            yield PieceRun(start, end, page, PRESENT, i)


def _header_of(layout: Layout) -> Ehdr:
    """The output's ELF header."""
    return Ehdr(next(put.put for put in layout.puts if put.source == 0 and put.put))


def _runs_of_notes(ehdr: Ehdr, i: int, start: int, end: int, page: int) -> Generator[PieceRun, bytes | None, None]:
    """``writenote`` in fs/binfmt_elf.c: three pieces a note, and padding, which is free."""
    at = start
    while end - at >= 12 and at - start < MOST_WALKED:
        raw = (yield PieceRun(at, at + 12, 12, NOTE_HEADER, i)) or b""
        if len(raw) < 12:
            return
        n_namesz, n_descsz, n_type = (ehdr.number(raw[k : k + 4]) for k in (0, 4, 8))
        name = at + 12
        desc = name + (n_namesz + 3 & ~3)
        at = desc + (n_descsz + 3 & ~3)
        in_records = n_type == NT_X86_XSAVE_LAYOUT and ehdr.e_machine in (EM_386, EM_X86_64)
        for first, length, unit in (
            (name, n_namesz, n_namesz),
            (desc, n_descsz, XFEAT_COMPONENT if in_records else n_descsz),
        ):
            if length and first < end:
                yield PieceRun(first, min(first + length, end), unit, COUNTED, i)
    if at < end:
        yield PieceRun(at, end, page, COUNTED, i)


class DumpBudget:
    """Counts pieces as the kernel does: ``written`` bytes, and ``end``, where the file ends so far."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.written = self.end = 0
        self.refused = False

    def emit(self, start: int, end: int, unit: int) -> bool:
        """Write pieces of ``unit`` bytes, the last of which may be shorter; False when one does not fit any more."""
        length, room = end - start, self.limit - self.written
        fit = length if length <= room else room - room % unit
        self.written += fit
        if fit:
            self.end = start + fit
        self.refused = fit < length
        return not self.refused

    def finish(self, size: int) -> int:
        """Where the file ends at last, in bytes, if it were ``size`` long in full.

        Behind trailing holes ``do_coredump`` writes one zero, if it fits, so that the file is as long as it says.
        """
        if not self.refused and self.end < size and self.emit(size - 1, size, 1):
            return size
        return self.end


class InputMap:
    """Reads notes from an input that can be sought, and tells its holes from what was written."""

    def __init__(self, core: CoreFile, source: FileSource, layout: Layout) -> None:
        self.core, self.source, self.layout = core, source, layout
        self._extents = source.extents()

    def note(self, run: PieceRun) -> bytes:
        """The bytes of a run in the notes."""
        for put in self.layout.puts:
            at = run.start - put.target
            if put.put and 0 <= at < len(put.put):
                return put.put[at : at + run.end - run.start]
        # What was put before all other notes has moved these.
        grown = max(0, self.layout.table.p_filesz[run.segment] - self.core.present[run.segment])
        return self.source.peek(self._place(run) - grown, run.end - run.start)

    def present(self, run: PieceRun) -> Iterator[tuple[int, int]]:
        """The pieces of a run that are no holes, as (first, behind the last), counted from its start.

        A core that ends in holes has one zero written at its very end, so a last page of zeros is taken for a hole.
        """
        page, base = self.core.maps.page_size, self.source.base
        if self.source.spooled:
            start = base + self._place(run)
            yield from _not_zero(self.source.fd, self._extents, start, start + run.end - run.start, run.unit)
            return
        start = base + (self._place(run) if run.load == run.segment else self.core.table.p_offset[run.load])
        count = -(-(run.end - run.start) // run.unit)
        if start + count * page == base + self.source.size:
            count -= _fast.is_zero(self.source.peek(start + (count - 1) * page - base, page))
        at, end, done = start, start + count * page, 0
        while at < end:
            data, stop = self._extents.first(at, end)
            if data >= end:
                return
            first, behind = max((data - start) // page, done), -(-(stop - start) // page)
            if behind > first:
                yield first, behind
            done, at = behind, start + behind * page

    def _place(self, run: PieceRun) -> int:
        return self.core.table.p_offset[run.segment] + run.start - self.layout.table.p_offset[run.segment]


class OutputMap:
    """As InputMap, over an output that has been written from a pipe: zeros count as holes."""

    def __init__(self, sink: Sink) -> None:
        self._fd, self._base = sink.reader, sink.base
        self._extents = Extents(sink.reader)

    def note(self, run: PieceRun) -> bytes:
        """The bytes of a run in the notes."""
        return os.pread(self._fd, run.end - run.start, self._base + run.start)

    def present(self, run: PieceRun) -> Iterator[tuple[int, int]]:
        """The pieces of a run that are not all zeros, as InputMap gives them."""
        return _not_zero(self._fd, self._extents, self._base + run.start, self._base + run.end, run.unit)


def _not_zero(fd: int, extents: Extents, start: int, end: int, unit: int) -> Iterator[tuple[int, int]]:
    """The pieces of a range of a file that are not all zeros, as (first, behind the last); holes are not read."""
    at, step = start, max(SCRATCH - SCRATCH % unit, unit)
    while at < end:
        data, _ = extents.first(at, end)
        at += (data - at) // unit * unit
        chunk = os.pread(fd, min(step, end - at), at)
        first = (at - start) // unit
        for k in range(0, len(chunk), unit):
            if not _fast.is_zero(chunk[k : k + unit]):
                yield first + k // unit, first + k // unit + 1
        at += step


def cut_at(core: CoreFile, layout: Layout, limit: int, where: InputMap | OutputMap) -> int:
    """How long the kernel would have left this output under a limit, both in bytes."""
    account = DumpBudget(limit)
    pieces = runs(core, layout)
    raw: bytes | None = None
    while True:
        try:
            run = pieces.send(raw)
        except StopIteration:
            return account.finish(layout.size)
        raw = where.note(run) if run.kind == NOTE_HEADER else None
        spans = where.present(run) if run.kind == PRESENT else iter([(0, -(-(run.end - run.start) // run.unit))])
        for first, behind in spans:
            end = min(run.start + behind * run.unit, run.end)
            if not account.emit(run.start + first * run.unit, end, run.unit):
                return account.end


def shortened(steps: Iterable[Step], size: int) -> Iterator[Step]:
    """The steps that make the first ``size`` bytes of an output."""
    for step in steps:
        room = size - step.target
        if room <= 0:
            return
        if step.put is not None:
            yield Step(step.source, step.length, step.target, step.put[:room])
        else:
            yield Step(step.source, min(step.length, room), step.target)


class Cut:
    """What a limit did to an output: it is ``size`` of ``full`` bytes long. ``guess`` is why that is not certain."""

    def __init__(self, limit: Limit, size: int, full: int, guess: str | None) -> None:
        self.limit, self.size, self.full, self.guess = limit, size, full, guess

    def plan(self, plan: KeepPlan, layout: Layout) -> KeepPlan:
        """The same plan with the bytes of every segment that are left; what was cut off depends on no assumption."""
        from array import array

        kept = zip(layout.table.p_offset, plan.sizes, strict=True)
        left = array("Q", (min(there, max(0, self.size - offset)) for offset, there in kept))
        rows = zip(plan.assumed, plan.core.maps.phdr, strict=True)
        assumed = array("Q", (max(0, size - (plan.sizes[i] - left[i])) for size, i in rows))
        return plan.with_sizes(left, assumed)

    def changes(self, whole: KeepPlan, shortened: KeepPlan) -> list[str]:
        """Return what a report says of the bytes that were cut off a plan, a line or none."""
        if self.size < self.full:
            lost = [before - after for before, after in zip(whole.sizes, shortened.sizes, strict=True)]
            short = sum(1 for i in whole.core.maps.phdr if lost[i])
            notes = any(lost[i] for i, p_type in enumerate(whole.core.table.p_type) if p_type == PT_NOTE)
            return [
                f"cut at {self.size} of {counted(self.full, 'byte')}, as the kernel cuts under {self.limit}: "
                f"{show_size(sum(lost))} of {counted(short, 'mapping')}{' and of the notes' if notes else ''} dropped"
            ]
        return []

    def notices(self) -> list[str]:
        """Return what a report says of how certain the cut is, a line or none."""
        if self.guess is not None and self.full > self.limit.size:
            return [f"where the kernel would have cut is a guess: {self.guess}"]
        return []


FROM_A_PIPE = "a pipe does not tell which pages were holes, and pages of zeros were treated as holes"


def cut_of_input(core: CoreFile, layout: Layout, limit: Limit) -> Cut | None:
    """Where a limit cuts an output whose input can be sought; None where it cannot cut it."""
    source = core.source.file
    if layout.size <= limit.size or source is None:
        return None
    size = cut_at(core, layout, limit.size, InputMap(core, source, layout))
    return Cut(limit, size, layout.size, _why_a_guess(core, source, layout, size))


def _why_a_guess(core: CoreFile, source: FileSource, layout: Layout, size: int) -> str | None:
    """What keeps the count from being the kernel's, or None."""
    page = core.maps.page_size
    if not _in_the_kernels_layout(core):
        return "the core does not have the kernel's layout"
    if source.spooled:
        return FROM_A_PIPE
    block = os.fstatvfs(source.fd).f_frsize
    if block > page:
        return f"the file system keeps holes in blocks of {block} bytes, and pages have {page}"
    first, stop = source.extents().first(source.base, source.base + source.size)
    if (first, stop) == (source.base, source.base + source.size) and _has_a_page_of_zeros(core, source, layout, size):
        return "the input has pages of zeros and no hole at all, and may have lost its holes in a copy"
    return None


def _in_the_kernels_layout(core: CoreFile) -> bool:
    """Whether the notes follow the program headers and the segments follow each other, without section headers."""
    ehdr, table = core.ehdr, core.table
    if table.p_type[0] != PT_NOTE or table.p_offset[0] != ehdr.e_phoff + len(table) * ehdr.phdr_size:
        return False
    at = table.p_offset[0] + table.p_filesz[0]
    for offset, size in zip(table.p_offset[1:], table.p_filesz[1:], strict=True):
        if size:
            if offset < at:
                return False
            at = offset + size
    return not core.sections or core.sections[0].sh_info == len(table)


def _has_a_page_of_zeros(core: CoreFile, source: FileSource, layout: Layout, size: int) -> bool:
    """Whether there is one among the pages in the first ``size`` bytes of the output."""
    page = core.maps.page_size
    step = max(SCRATCH - SCRATCH % page, page)
    for i, p_type in enumerate(core.table.p_type):
        if p_type != PT_LOAD:
            continue
        start, length = core.table.p_offset[i], min(core.present[i], max(0, size - layout.table.p_offset[i]))
        for at in range(0, length, step):
            chunk = source.peek(start + at, min(step, length - at))
            if any(_fast.is_zero(chunk[k : k + page]) for k in range(0, len(chunk), page)):
                return True
    return False
