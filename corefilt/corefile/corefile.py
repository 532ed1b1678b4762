"""A core that is open: its tables, its notes, its mappings, and what can be asked of them."""

from __future__ import annotations

import os
import stat
from array import array
from itertools import pairwise

from corefilt.classify.classifier import Rules
from corefilt.classify.payload import Payload
from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile import elf
from corefilt.corefile.elf import MACHINES, PT_LOAD, PT_NOTE, Ehdr, Phdrs, Shdr
from corefilt.corefile.fdpic import recognise
from corefilt.corefile.mappings import Mappings, flags_text
from corefilt.corefile.notes import FileNote, Notes, read_notes
from corefilt.errors import DamagedCoreError, UnstreamableError, UsageError
from corefilt.evidence.assumptions import Assumption
from corefilt.filterbits import CoredumpFilter, as_filter
from corefilt.io.sources import Extents, FileSource, Source, open_source
from corefilt.kinds import CURRENT, DUMPERS, Finding
from corefilt.plan.layout import cut_out, end_of_segments, is_dense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from corefilt.corefile.loadmaps import Loadmap
    from corefilt.evidence.evidence import Evidence
    from corefilt.evidence.sysroot import Sysroot
    from corefilt.io.sources import Place
    from corefilt.plan.plan import Plan
    from corefilt.procfs.snapshot import Seen

# Headers and notes that a pipe may bring before NT_FILE ends; NT_FILE itself is 4 MiB at most by default
# (core_file_note_size_limit), and a million program headers are 56 MiB.
MAX_HEADERS = 64 << 20


class Mapping:
    """One mapping as a person looks at it: addresses, ``flags`` (rwx), file, ``present`` bytes, and its kind.

    ``missing`` are the bytes that p_filesz claims besides, where the core was cut.
    """

    __slots__ = ("end", "file_offset", "finding", "flags", "missing", "path", "present", "start")

    def __init__(self, mappings: Mappings, m: int, finding: Finding, there: int) -> None:
        """Copy what the tables say of mapping ``m``, of which ``there`` bytes are in the core."""
        self.start, self.end = mappings.start(m), mappings.end(m)
        self.flags, self.present, self.missing = flags_text(mappings.flags(m)), there, mappings.present(m) - there
        self.path, self.file_offset = mappings.path(m), mappings.file_offset(m)
        self.finding = finding

    @property
    def kind(self) -> str:
        """The (likeliest) kind's name."""
        return self.finding.kind

    @property
    def certainty(self) -> str:
        """exact, inferred, assumed or stated."""
        return self.finding.certainty

    @property
    def evidence(self) -> tuple[str, ...]:
        """The reasons, in words."""
        return self.finding.evidence


class Core:
    """A core dump that is open for reading; a context manager."""

    def __init__(self, source: Source) -> None:
        """Read headers and notes. Raises InputError and its kin."""
        self.source = source
        self.warnings: list[str] = []
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
            self.warnings.append(f"the section headers (e_shoff {self.ehdr.e_shoff:#x}) are not there")
        check_layout(source, self.ehdr, self.table, self.sections)
        self.notes: Notes = read_notes(source, self.ehdr, self.table)
        self.warnings += self.notes.warnings
        self.fdpic = recognise(self.ehdr, self.table, self.notes)
        self.maps = Mappings(self.ehdr, self.table, self.notes)
        self._sysroots: dict[str, Sysroot] = {}
        self.gaps: list[tuple[int, int]] = []
        # What of a pipe was let pass although a run in place had left it behind, in bytes.
        self.left_behind = 0
        self.end = source.size
        self._find_gaps()
        self.present = array("Q")
        self.truncated = False
        self.ends_at(source.size, peek=source.peek)

    def _find_gaps(self) -> None:
        """Find what a run in place took from segments: ``gaps`` are ranges that no header claims now.

        Of a pipe that has not ended yet, those that other headers point behind.
        """
        ehdr, table, page = self.ehdr, self.table, self.maps.page_size
        end = self.end
        if end is None:
            end = max(end_of_segments(table, table.p_filesz), ehdr.e_shoff and ehdr.e_shoff + ehdr.shdr_size)
        # Memory tags of a mapping can be less than a page.
        if is_dense(table, end, page) and elf.PT_AARCH64_MEMTAG_MTE not in table.p_type:
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
        ended = self.end is None and end is not None
        self.end = end
        if ended:
            self._find_gaps()
        table = self.table
        self.present = array("Q", table.p_filesz)
        if end is None:
            return
        missing = 0
        for i, (offset, size) in enumerate(zip(table.p_offset, table.p_filesz, strict=True)):
            if size and offset + size > end:
                self.present[i] = max(0, end - offset)
                missing += size - self.present[i]
                if self.present[i] and table.p_type[i] == PT_NOTE and peek is not None:
                    from corefilt.corefile.truncation import whole_notes

                    self.present[i] = whole_notes(peek, self.ehdr, offset, self.present[i])
        self.truncated = missing > 0
        if missing:
            self.warnings.append(f"the core is truncated: {missing} bytes of its segments are missing")

    def __enter__(self) -> Core:
        """Give the core itself."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the input, and what was opened beside it."""
        self.source.close()
        for sysroot in self._sysroots.values():
            sysroot.close()
        self._sysroots.clear()

    @property
    def damaged(self) -> bool:
        """Whether anything in it contradicts itself or is missing."""
        return bool(self.warnings)

    @property
    def machine(self) -> str:
        """The machine's name, or its EM_ number."""
        return MACHINES.get(self.ehdr.e_machine, f"EM {self.ehdr.e_machine}")

    @property
    def mappings(self) -> Sequence[Mapping]:
        """All mappings with what is known of their kinds."""
        return self.plan(CoredumpFilter.ALL).mappings

    def evidence(
        self,
        *,
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        process: Seen | None = None,
    ) -> Evidence | None:
        """What lies beside the core, and the note in it: the options are those of ``corefilt filter``.

        ``process`` is what was read of it already. Raises EvidenceError for what cannot be used.
        """
        if maps is None and pid is None and sysroot is None and process is None and not self.notes.records:
            return None
        from corefilt.evidence.evidence import gather

        evidence = gather(self.source, self.maps.whole, maps=maps, pid=pid, process=process)
        if sysroot is not None:
            evidence.sysroot = self._sysroot(sysroot)
        if self.notes.records:
            evidence.records = annotation.records_by_mapping(self.notes.records, self.maps)
            strangers = annotation.strangers(self.notes.records, self.maps)
            if strangers:
                evidence.notices.append(f"{strangers} records of the COREFILT note fit no mapping")
        names = evidence.file_names() if self.notes.files is None else None
        if names is not None:
            notes = self.notes.with_files(FileNote.of(names, self.ehdr))
            evidence.mappings = Mappings(self.ehdr, self.table, notes, like=self.maps)
        return evidence

    def _sysroot(self, folder: str) -> Sysroot:
        if folder not in self._sysroots:
            from corefilt.evidence.sysroot import sysroot_for

            self._sysroots[folder] = sysroot_for(folder, self.source.origin.fd)
        return self._sysroots[folder]

    def rules(
        self,
        assume: Sequence[str] = (),
        *,
        evidence: Evidence | None = None,
        dumper: str = CURRENT,
        with_payload: bool | None = None,
    ) -> Rules:
        """The rules over this core; the payload is looked at beforehand where the input can be sought."""
        if dumper not in DUMPERS:
            raise UsageError(f"dumper is {dumper!r}", f"it can be {', '.join(DUMPERS)}")
        assumptions = [Assumption(text) for text in assume]
        seekable = isinstance(self.source, FileSource)
        named = evidence.mappings if evidence is not None else None
        maps = self.maps if named is None else named
        rules = Rules(self.ehdr, maps, None, assumptions, evidence, fdpic=self.fdpic, dumper=dumper)
        if seekable if with_payload is None else with_payload:
            rules.payload = Payload(rules.mappings, rules.vvar, self._loadmap_pieces())
            if seekable:
                rules.payload.read_from(self.source)
                rules.take_loadmaps()
        if rules.by_files and (seekable or rules.payload is None):
            self.compare(rules, peek=self.source.peek if seekable else None)
        return rules

    def loadmaps(self) -> list[tuple[str, int, Loadmap | str]]:
        """Whose loadmap, its address, and the loadmap or what is wrong with it; none from a pipe."""
        if self.fdpic is None or not isinstance(self.source, FileSource):
            return []
        from corefilt.corefile.loadmaps import read
        from corefilt.corefile.memory import Memory

        memory = Memory(self)
        found: list[tuple[str, int, Loadmap | str]] = []
        for whose, address in zip(("program", "loader"), self.fdpic.loadmaps, strict=True):
            if address:
                try:
                    found.append((whose, address, read(address, self.ehdr, memory.read)))
                except ValueError as error:
                    found.append((whose, address, str(error)))
        return found

    def _loadmap_pieces(self) -> list[tuple[int, int]]:
        """Where the loadmaps begin, and how many bytes they can have."""
        if self.fdpic is None:
            return []
        from corefilt.corefile.loadmaps import MOST_LOOKED_FOR, size_of

        return [(address, size_of(MOST_LOOKED_FOR, self.ehdr)) for address in set(self.fdpic.loadmaps) if address]

    def compare(self, rules: Rules, *, peek: Callable[[int, int], bytes] | None) -> None:
        """Hold the mapped files below --sysroot against the payload, which ``peek`` reads by its offset in the core."""
        from corefilt.evidence.file_compare import compare

        status = os.fstat(self.source.origin.fd)
        dumped_ns = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None
        seekable = isinstance(self.source, FileSource) and peek is not None
        if rules.evidence is not None:
            compare(rules.evidence, rules, peek=peek, data=self._data if seekable else None, dumped_ns=dumped_ns)

    def _data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where ``[start, end)`` of a file has data and no holes."""
        base = self.source.base
        for low, high in Extents(self.source.fd).pieces(base + start, base + end):
            yield low - base, high - base

    def plan(
        self,
        filter: int | str,
        *,
        unknown: str = "keep",
        assume: Sequence[str] = (),
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        dumper: str = CURRENT,
    ) -> Plan:
        """What the filter leaves of this core, by what can be known before it is written.

        The options are those of ``corefilt filter``. Raises FilterError, UsageError, EvidenceError, or SelectorError
        for an assumption that fits nothing.
        """
        from corefilt.plan.plan import Plan

        wanted = as_filter(filter)[0]
        evidence = self.evidence(maps=maps, pid=pid, sysroot=sysroot)
        return Plan(self, wanted, self.rules(assume, evidence=evidence, dumper=dumper), unknown)


def check_layout(source: Source, ehdr: Ehdr, table: Phdrs, sections: Sequence[Shdr]) -> None:
    """Refuse what cannot be filtered: payload over the headers; on a pipe, overlaps and what comes too late.

    Raises DamagedCoreError or UnstreamableError.
    """
    first, end = ehdr.e_phoff, ehdr.e_phoff + len(table) * ehdr.phdr_size
    for i, (offset, size) in enumerate(zip(table.p_offset, table.p_filesz, strict=True)):
        if size and (offset < ehdr.size or (offset < end and first < offset + size)):
            start, stop = (0, ehdr.size) if offset < ehdr.size else (first, end)
            field = f"p_offset is {offset:#x}" if offset >= start else f"p_filesz is {size:#x}, from {offset:#x} on"
            raise DamagedCoreError(
                f"{source.name}: program header {i}: {field}, inside the headers from {start:#x} to {stop:#x}"
            )
    if isinstance(source, FileSource):
        return
    pieces = sorted(
        (offset, offset + size, i)
        for i, (offset, size) in enumerate(zip(table.p_offset, table.p_filesz, strict=True))
        if size
    )
    payload = next((offset for offset, _, i in pieces if table.p_type[i] == PT_LOAD), None)
    if payload is not None and payload < ehdr.e_phoff:
        raise elf.phdrs_behind_payload(source.name, ehdr)
    late = next(
        (i for offset, _, i in pieces if table.p_type[i] == PT_NOTE and payload is not None and offset > payload),
        None,
    )
    if late is not None:
        raise UnstreamableError(
            f"{source.name}: the notes (program header {late}) come after the payload, as gdb's gcore writes them, "
            "and a pipe cannot be read twice"
        )
    if ehdr.e_shoff and not sections and (ehdr.e_phnum != elf.PN_XNUM or ehdr.e_shnum > 1):
        raise UnstreamableError(
            f"{source.name}: has section headers (e_shoff {ehdr.e_shoff:#x}), as gdb's gcore writes them, "
            "and they can be adjusted only in a file"
        )
    for (_, end, before), (offset, _, i) in pairwise(pieces):
        if offset < end:
            raise DamagedCoreError(
                f"{source.name}: program header {i}: p_offset is {offset:#x}, inside program header {before}'s bytes",
                "overlapping segments can be filtered from a file",
            )


def open_core(path: Place, *, max_headers: int = MAX_HEADERS, spool: bool = False) -> Core:
    """Open a core: a path, ``-`` for standard input, a descriptor or a binary file. Raises InputError and its kin."""
    source = open_source(path, max_headers=max_headers, spool=spool)
    try:
        return Core(source)
    except BaseException:
        source.close()
        raise
