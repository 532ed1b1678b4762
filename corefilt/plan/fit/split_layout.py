"""The layout of a core of which mappings are kept in parts: headers, notes, then what is kept, in the input's order."""

from __future__ import annotations

from corefilt.corefile.corefilt_note import fit_mark
from corefilt.corefile.elf import PN_XNUM, PT_LOAD, PT_NOTE, Ehdr, Phdrs, xnum_shdr
from corefilt.corefile.ranges import Cuts
from corefilt.io.steps import Step
from corefilt.plan.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.corefile import CoreFile
    from corefilt.plan.format import Conversion


class SplitPhdr:
    """A program header of the output, made of program header ``phdr`` of the input.

    It begins ``at`` bytes behind that one's address and takes ``memsz`` bytes of memory, of which ``size`` bytes are
    there; they stand ``skip`` bytes behind that one's offset. ``payload`` tells memory from notes and their kin.
    ``extent`` is the memory that it stands for, where ``memsz`` is less.
    """

    __slots__ = ("at", "extent", "memsz", "payload", "phdr", "size", "skip")

    def __init__(
        self, phdr: int, *, at: int, memsz: int, skip: int, size: int, payload: bool, extent: int | None = None
    ) -> None:
        self.phdr, self.at, self.memsz, self.skip, self.size, self.payload = phdr, at, memsz, skip, size, payload
        self.extent = memsz if extent is None else extent


def split(
    core: CoreFile, i: int, runs: list[tuple[int, int]], *, dropped_from: int | None = None
) -> Iterator[SplitPhdr]:
    """The program headers for a mapping of which some ``runs`` are kept: the bytes from, up to, ascending and apart.

    With ``dropped_from``, the number of bytes that there were, memory of which bytes were left out is not claimed.
    """
    whole, memsz, starts = core.maps.table.p_memsz[i], core.table.p_memsz[i], [run[0] for run in runs]
    if not runs or starts[0]:
        runs, starts = [(0, 0), *runs], [0, *starts]
    for (a, b), behind in zip(runs, [*starts[1:], None], strict=True):
        # What p_filesz has beyond p_memsz is no memory, but can be kept.
        extent = max((whole if behind is None else behind) - a, 0)
        claimed = max((memsz if behind is None else behind) - a, 0)
        if dropped_from is not None and b < min(dropped_from, a + claimed):
            claimed = b - a
        yield SplitPhdr(i, at=a, memsz=claimed, skip=a, size=b - a, payload=True, extent=extent)


def fit_note(core: CoreFile, pieces: Sequence[SplitPhdr], size: int = 0) -> bytes:
    """The note that tells which pieces continue a mapping, and what memory those stand for that claim less."""
    table, known = core.table, core.notes.extents
    loads = [(table.p_vaddr[piece.phdr] + piece.at, piece) for piece in pieces if table.p_type[piece.phdr] == PT_LOAD]
    starts = [start for start, piece in loads if piece.at]
    extents = {start: piece.extent for start, piece in loads if piece.extent != piece.memsz or start in known}
    return fit_mark(core.ehdr, starts, extents, size)


class FittedLayout(Layout):
    """A layout that is no cut-out of the input: its steps stand as they are carried out."""

    __slots__ = ("_steps",)

    def __init__(self, table: Phdrs, steps: list[Step], size: int) -> None:
        """Hold the parts; ``size`` is in bytes."""
        super().__init__(Cuts([]), table, [], size)
        self._steps = steps

    def steps(self, end: int) -> Iterator[Step]:
        """What to do to make the output, in its order."""
        return iter(self._steps)


class _Writer:
    """Puts one thing behind the other."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps: list[Step] = []

    def put(self, data: bytes) -> None:
        if data:
            self.steps.append(Step(0, 0, self.at, data))
            self.at += len(data)

    def copy(self, source: int, length: int) -> None:
        if length:
            self.steps.append(Step(source, length, self.at))
            self.at += length

    def align(self, unit: int) -> None:
        self.put(bytes(-self.at % unit))


def lay_out_pieces(
    ehdr: Ehdr,
    table: Phdrs,
    pieces: list[SplitPhdr],
    *,
    notes: bytes,
    without: tuple[int, int] | None,
    unit: int,
    conversion: Conversion | None = None,
) -> FittedLayout:
    """Lay out a core of the pieces of another.

    ``notes`` come in front of the first note segment, from which the note at ``without`` (offset, length) is left
    out; where there is a ``conversion``, its notes stand for that segment. Every piece of memory begins at a multiple
    of ``unit`` bytes.
    """
    new = Phdrs(len(pieces))
    writer = _Writer(ehdr.size + len(pieces) * ehdr.phdr_size)
    for n, piece in enumerate(pieces):
        i = piece.phdr
        new.p_type[n], new.p_flags[n], new.p_align[n] = table.p_type[i], table.p_flags[i], table.p_align[i]
        new.p_vaddr[n], new.p_memsz[n] = table.p_vaddr[i] + piece.at, piece.memsz
        # It is anything in a hostile core, and adds up as addresses do.
        new.p_paddr[n] = (table.p_paddr[i] + piece.at) % (1 << (64 if ehdr.wide else 32)) if table.p_paddr[i] else 0
        if piece.payload:
            continue
        start = writer.at
        at, end = table.p_offset[i], table.p_offset[i] + piece.size
        if table.p_type[i] == PT_NOTE and piece.size:
            writer.put(notes)
            notes = b""
            if conversion is not None and i == conversion.phdr:
                writer.put(conversion.data)
                at, without = end, None
            if without is not None and at <= without[0] and sum(without) <= end:
                writer.copy(at, without[0] - at)
                at, without = sum(without), None
        writer.copy(at, end - at)
        new.p_offset[n], new.p_filesz[n] = start, writer.at - start
    payload = any(piece.size for piece in pieces if piece.payload)
    for n, piece in enumerate(pieces):
        if not piece.payload:
            continue
        if payload:
            writer.align(unit)
        new.p_offset[n], new.p_filesz[n] = writer.at, piece.size
        writer.copy(table.p_offset[piece.phdr] + piece.skip, piece.size)
    head = Ehdr(ehdr.pack(e_shoff=0, sections=False))
    head.e_phoff, head.e_phnum, head.e_shentsize = ehdr.size, min(len(pieces), PN_XNUM), 0
    e_shoff = 0
    if head.e_phnum == PN_XNUM:
        head.e_shentsize, head.e_shnum, e_shoff = ehdr.shdr_size, 1, writer.at
        writer.put(xnum_shdr(head, len(pieces)))
    front = [
        Step(0, 0, 0, head.pack(e_shoff=e_shoff, sections=True, e_flags=conversion.e_flags if conversion else None)),
        Step(0, 0, ehdr.size, new.encode(ehdr)),
    ]
    return FittedLayout(new, front + writer.steps, writer.at)
