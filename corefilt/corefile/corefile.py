"""A core that is open: its tables, its notes, its mappings, and what can be asked of them."""

from __future__ import annotations

from array import array
from itertools import pairwise

from corefilt import _fast
from corefilt.corefile import elf
from corefilt.corefile.elf import MACHINES, PT_LOAD, PT_NOTE, Ehdr, Phdrs, Shdr
from corefilt.corefile.fdpic import Fdpic, has_mmu, machine_of
from corefilt.corefile.mappings import Mappings
from corefilt.corefile.notes import Notes, read_notes
from corefilt.corefile.ranges import cut_out, end_of_segments, in_file_order, is_dense
from corefilt.errors import DamagedCoreError, NotACoreError
from corefilt.io.opening import open_source
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Protocol, Self

    from corefilt.corefile.loadmaps import Loadmap
    from corefilt.corefile.memory import Memory
    from corefilt.io.sources import Place, Source

    class Closable(Protocol):
        """What is closed with a core."""

        def close(self) -> None:
            """Close it."""


# Headers and notes that a pipe may bring before NT_FILE ends; NT_FILE itself is 4 MiB at most by default
# (core_file_note_size_limit), and a million program headers are 56 MiB.
MAX_HEADERS = 64 << 20
# What is looked at of the memory in all: ten thousand threads have some 100 MiB of stacks in use.
MOST_READ = 512 << 20


class CoreFile:
    """A core dump that is open for reading; a context manager.

    ``opened`` is what was opened beside it, by name; it is closed with the core.
    """

    def __init__(self, source: Source) -> None:
        """Read headers and notes. Raises InputError and its kin."""
        self.source = source
        self.warnings: list[str] = []
        _refuse_other_files(source)
        try:
            self.ehdr = elf.read_ehdr(source)
            count, warnings = elf.count_phdrs(source, self.ehdr)
            self.table = elf.read_phdrs(source, self.ehdr, count)
        except DamagedCoreError as error:
            # Where a stream ended in the headers, it is the reason.
            words = source.check()
            raise error if words is None else DamagedCoreError(f"{error}; {words}", error.hint) from None
        self.warnings += warnings
        # Whether PN_XNUM's section header 0 is missing or counts otherwise than the table is long.
        self.miscounted = bool(warnings)
        self.sections: list[Shdr] = elf.read_sections(source, self.ehdr, self.table)
        if self.ehdr.e_shoff and self.ehdr.e_phnum != elf.PN_XNUM and source.size is not None and not self.sections:
            self.warnings.append(f"the section headers (e_shoff {self.ehdr.e_shoff:#x}) are missing")
        check_layout(source, self.ehdr, self.table, self.sections)
        self.notes: Notes = read_notes(source, self.ehdr, self.table)
        self.warnings += self.notes.warnings
        self.fdpic = fdpic_of(self.ehdr, self.table, self.notes)
        self.maps = Mappings(self.ehdr, self.table, self.notes)
        self.opened: dict[str, Closable] = {}
        self._memory: Memory | None = None
        self.gaps: list[tuple[int, int]] = []
        # What of a pipe was let pass although a run in place had left it behind, in bytes.
        self.left_behind = 0
        self.end = source.size
        self._find_gaps()
        self.present = array("Q")
        self.truncated = False
        self.ends_at(source.size, peek=source.peek)

    @classmethod
    def of(cls, source: Source) -> Self:
        """Read the headers and notes of a source, which is closed if that fails. Raises InputError and its kin."""
        try:
            return cls(source)
        except BaseException:
            source.close()
            raise

    def _find_gaps(self) -> None:
        """Find what a run in place took from segments: ``gaps`` are ranges that no header claims now.

        Of a pipe that has not ended yet, those that other headers point behind.
        """
        ehdr, table, page = self.ehdr, self.table, self.maps.page_size
        end = self.end
        if end is None:
            end = max(end_of_segments(table, table.p_filesz), ehdr.e_shoff and ehdr.e_shoff + ehdr.shdr_size)
        if is_dense(table, min(end, ehdr.e_shoff or end)):
            return
        from corefilt.corefile.punched import given_up

        found = given_up(ehdr, table, self.sections, end, page)
        self.maps.gave_up({i: stop - start for i, (start, stop) in found.items()})
        self.gaps = self._unclaimed(list(found.values()))

    def gaps_by(self, end: int) -> list[tuple[int, int]]:
        """The gaps of the same core, if it ended at ``end``."""
        from corefilt.corefile.punched import given_up

        return self._unclaimed(list(given_up(self.ehdr, self.table, self.sections, end, self.maps.page_size).values()))

    def _unclaimed(self, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
        from corefilt.corefile.punched import claimed

        return (
            list(cut_out(ranges, claimed(self.ehdr, self.table, self.sections, self.table.p_filesz))) if ranges else []
        )

    def ends_at(self, end: int | None, *, peek: Callable[[int, int], bytes] | None = None) -> None:
        """Take note of where the input ends: what lies behind it is not there, whatever the headers say.

        Notes that were cut count up to the last whole one, where ``peek`` can read them by their offset in the core.
        """
        self._memory = None
        ended = self.end is None and end is not None
        self.end = end
        if ended:
            self._find_gaps()
        table = self.table
        if end is None:
            self.present = array("Q", table.p_filesz)
            return
        self.present = array("Q", bytes(8 * len(table)))
        missing = _fast.clip(table.p_offset, table.p_filesz, end, self.present)
        if missing and peek is not None:
            from corefilt.corefile.truncation import whole_notes

            for i in table.of_type(PT_NOTE):
                if 0 < self.present[i] < table.p_filesz[i]:
                    self.present[i] = whole_notes(peek, self.ehdr, table.p_offset[i], self.present[i])
        self.truncated = missing > 0
        if missing:
            from corefilt.corefile.truncation import still_written

            asked = still_written(self.source)
            self.warnings.append(
                f"the core is truncated: {show_size(missing)} of its segments are missing"
                + (f"; {asked}" if asked is not None else "")
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.source.close()
        for beside in self.opened.values():
            beside.close()
        self.opened.clear()

    @property
    def damaged(self) -> bool:
        """Whether anything in it contradicts itself or is missing."""
        return bool(self.warnings)

    @property
    def length(self) -> int:
        """Where it ends, in bytes; of a pipe that has not ended, where its program headers say that it does."""
        return self.end if self.end is not None else end_of_segments(self.table, self.table.p_filesz)

    @property
    def elf_class(self) -> str:
        """ELF32 or ELF64."""
        return "ELF64" if self.ehdr.wide else "ELF32"

    @property
    def machine(self) -> str:
        """The machine's name, or its EM_ number."""
        return MACHINES.get(self.ehdr.e_machine, f"EM {self.ehdr.e_machine}")

    def loadmaps(self) -> list[tuple[str, int, Loadmap | str]]:
        """Whose loadmap, its address, and the loadmap or what is wrong with it; none from a pipe."""
        if self.fdpic is None or not self.source.seekable:
            return []
        from corefilt.corefile.loadmaps import read

        memory = self.memory()
        found: list[tuple[str, int, Loadmap | str]] = []
        for whose, address in zip(("program", "loader"), self.fdpic.loadmaps, strict=True):
            if address:
                try:
                    found.append((whose, address, read(address, self.ehdr, memory.read)))
                except ValueError as error:
                    found.append((whose, address, str(error)))
        return found

    def memory(self, budget: int = MOST_READ) -> Memory:
        """The process's memory by address, of a core that can be sought; ``budget`` bytes of it at most are read."""
        from corefilt.corefile.memory import Memory

        if self._memory is None:
            self._memory = Memory(self.ehdr, self.maps.table, self.maps.phdr, self.present, self.source.peek, budget)
        return self._memory.again(budget)

    def loadmap_pieces(self) -> list[tuple[int, int]]:
        """Where the loadmaps begin, and how many bytes they can have."""
        if self.fdpic is None:
            return []
        from corefilt.corefile.loadmaps import MOST_LOOKED_FOR, size_of

        return [(address, size_of(MOST_LOOKED_FOR, self.ehdr)) for address in set(self.fdpic.loadmaps) if address]

    def data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where ``[start, end)`` of the core, in a file, has data and no holes."""
        base = self.source.base
        for low, high in self.source.extents().pieces(base + start, base + end):
            yield low - base, high - base


def fdpic_of(ehdr: Ehdr, table: Phdrs, notes: Notes) -> Fdpic | None:
    """What is FDPIC about a core, or about the one that --format elf made it of; None for a plain one.

    That is also the one with the wide struct of ARM's Linux 4.14 to 5.8.
    """
    machine = machine_of(ehdr)
    pair = notes.loadmaps if notes.of_fdpic else notes.origin.loadmaps[0] if notes.origin is not None else None
    if machine is None or pair is None:
        return None
    return Fdpic(machine, *pair, has_mmu(machine, ehdr, table))


def _refuse_other_files(source: Source) -> None:
    """Raise NotACoreError for what does not begin like an ELF file, with what it is and what to try."""
    magic = source.peek(0, len(elf.ELFMAG))
    if magic == elf.ELFMAG[: len(magic)]:
        return
    from corefilt.corefile.formats import HEAD, described

    told = described(source.peek(0, HEAD), source.name)
    inside = f", in {source.compression}" if source.compression is not None else ""
    if told is None:
        raise NotACoreError(f"{source.name}: not an ELF file{inside}")
    raise NotACoreError(f"{source.name}: not an ELF core but {told[0]}{inside}", told[1])


def check_layout(source: Source, ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr]) -> None:
    """Refuse what cannot be filtered: payload over the headers; on a pipe, overlaps and what comes too late.

    Raises DamagedCoreError or UnstreamableError.
    """
    first, end = ehdr.e_phoff, ehdr.e_phoff + len(table) * ehdr.phdr_size
    for start, stop in ((0, ehdr.size), (first, end)):
        i = _fast.first_within(table.p_offset, table.p_filesz, start, stop)
        if i is not None:
            offset, size = table.p_offset[i], table.p_filesz[i]
            field = f"p_offset is {offset:#x}" if offset >= start else f"p_filesz is {size:#x}, from {offset:#x} on"
            raise DamagedCoreError(
                f"{source.name}: program header {i}: {field}, inside the headers from {start:#x} to {stop:#x}"
            )
    if not source.seekable:
        _refuse_late(source, ehdr, table, sections)


def _refuse_late(source: Source, ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr]) -> None:
    """Refuse what a pipe brings too late, or twice. Raises DamagedCoreError or UnstreamableError."""
    rows, apart = in_file_order(table)
    payload = next((table.p_offset[i] for i in rows if table.p_type[i] == PT_LOAD), None)
    if payload is not None and payload < ehdr.e_phoff:
        raise elf.phdrs_behind_payload(source, ehdr)
    notes = (i for i in table.of_type(PT_NOTE) if table.p_filesz[i])
    late = next((i for i in notes if payload is not None and table.p_offset[i] > payload), None)
    if late is not None:
        raise source.refused(
            f"the notes (program header {late}) come after the payload, as gdb's gcore writes them, "
            f"and {source.passing} cannot be read twice"
        )
    if ehdr.e_shoff and not sections and (ehdr.e_phnum != elf.PN_XNUM or ehdr.e_shnum > 1):
        raise source.refused(
            f"has section headers (e_shoff {ehdr.e_shoff:#x}), as gdb's gcore writes them, "
            "and they can be adjusted only in a file"
        )
    if apart:
        return
    for before, i in pairwise(rows):
        offset = table.p_offset[i]
        if offset < table.p_offset[before] + table.p_filesz[before]:
            raise DamagedCoreError(
                f"{source.name}: program header {i}: p_offset is {offset:#x}, inside program header {before}'s bytes",
                "overlapping segments can be filtered from a file",
            )


def open_core(path: Place, *, max_headers: int = MAX_HEADERS, spool: bool = False, seeks: bool = False) -> CoreFile:
    """Open a core: a path or URL, ``-`` for standard input, a descriptor or a binary file.

    Raises InputError and its kin.
    """
    return CoreFile.of(open_source(path, max_headers=max_headers, spool=spool, seeks=seeks))
