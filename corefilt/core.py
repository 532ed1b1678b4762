"""A core that is open: its tables, its mappings, and the plan for a filter."""

from __future__ import annotations

import os
import stat
from array import array
from functools import lru_cache
from itertools import pairwise

from . import annotation, elf
from .elf import MACHINES, PT_LOAD, PT_NOTE, Ehdr, Phdrs, Shdr
from .errors import AnnotationError, DamagedCoreError, SelectorError, UnstreamableError, UsageError
from .fdpic import recognise
from .filterbits import CoredumpFilter, parse_filter
from .findings import Rules
from .kinds import CURRENT, DUMPERS, Finding, Kind, level, single
from .mappings import Mappings, flags_text
from .notes import FileNote, Notes, read_notes
from .payload import Payload
from .plan import (
    Layout,
    Note,
    cut_out,
    end_of_segments,
    is_dense,
    kept_bytes,
    lay_out,
    tag_bytes,
    tagged_loads,
)
from .selectors import Assumption
from .sources import Extents, FileSource, Source, open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from .evidence import Evidence
    from .fit import Fit
    from .loadmaps import Loadmap
    from .process import Seen
    from .report import Report
    from .sources import Place
    from .sysroot import Sysroot
    from .variants import Conversion

# Headers and notes that a pipe may bring before NT_FILE ends; NT_FILE itself is 4 MiB at most by default
# (core_file_note_size_limit), and a million program headers are 56 MiB.
MAX_HEADERS = 64 << 20
UNKNOWN = ("keep", "guess", "drop")


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
        self.ehdr = elf.read_ehdr(source)
        count, warnings = elf.count_phdrs(source, self.ehdr)
        self.table = elf.read_phdrs(source, self.ehdr, count)
        self.warnings += warnings
        self.sections: list[Shdr] = elf.read_sections(source, self.ehdr)
        if self.ehdr.e_shoff and self.ehdr.e_phnum != elf.PN_XNUM and source.size is not None and not self.sections:
            self.warnings.append(f"the section headers (e_shoff {self.ehdr.e_shoff:#x}) are not there")
        check_layout(source, self.ehdr, self.table)
        self.notes: Notes = read_notes(source, self.ehdr, self.table)
        self.warnings += self.notes.warnings
        self.fdpic = recognise(self.ehdr, self.table, self.notes)
        self.maps = Mappings(self.ehdr, self.table, self.notes)
        self._sysroots: dict[str, Sysroot] = {}
        self.gaps: list[tuple[int, int]] = []
        self._find_gaps()
        self.end = source.size
        self.present = array("Q")
        self.truncated = False
        self.ends_at(source.size, peek=source.peek)

    def _find_gaps(self) -> None:
        """Find what a run in place took from segments: ``gaps``, in a file, are ranges that no header claims now."""
        ehdr, table, size, page = self.ehdr, self.table, self.source.size, self.maps.page_size
        end = end_of_segments(table, table.p_filesz) if size is None else size
        # Memory tags of a mapping can be less than a page.
        if is_dense(table, end, page) and elf.PT_AARCH64_MEMTAG_MTE not in table.p_type:
            return
        from .gaps import claimed, given_up

        found = given_up(ehdr, table, self.sections, end, page)
        self.maps.given_up = {i: stop - start for i, (start, stop) in found.items()}
        if size is not None and found:
            self.gaps = list(cut_out(list(found.values()), claimed(ehdr, table, self.sections, table.p_filesz)))

    def ends_at(self, end: int | None, *, peek: Callable[[int, int], bytes] | None = None) -> None:
        """Take note of where the input ends: what lies behind it is not there, whatever the headers say.

        Notes that were cut count up to the last whole one, where ``peek`` can read them by their offset in the core.
        """
        self.end = end
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
                    from .missing import whole_notes

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
        from .evidence import gather

        evidence = gather(self.source, self.maps, maps=maps, pid=pid, process=process)
        if sysroot is not None:
            evidence.sysroot = self._sysroot(sysroot)
        if self.notes.records:
            evidence.records = annotation.records_by_mapping(self.notes.records, self.maps)
            strangers = len(self.notes.records) - len(evidence.records)
            if strangers:
                evidence.notices.append(f"{strangers} records of the COREFILT note fit no mapping")
        names = evidence.file_names() if self.notes.files is None else None
        if names is not None:
            evidence.mappings = Mappings(self.ehdr, self.table, self.notes.with_files(FileNote.of(names, self.ehdr)))
            evidence.mappings.given_up, evidence.mappings.page_size = self.maps.given_up, self.maps.page_size
        return evidence

    def _sysroot(self, folder: str) -> Sysroot:
        if folder not in self._sysroots:
            from .sysroot import Sysroot

            self._sysroots[folder] = Sysroot(folder)
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
        from .loadmaps import read
        from .memory import Memory

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
        from .loadmaps import MOST_LOOKED_FOR, size_of

        return [(address, size_of(MOST_LOOKED_FOR, self.ehdr)) for address in set(self.fdpic.loadmaps) if address]

    def compare(self, rules: Rules, *, peek: Callable[[int, int], bytes] | None) -> None:
        """Hold the mapped files below --sysroot against the payload, which ``peek`` reads by its offset in the core."""
        from .copies import compare

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
        wanted = as_filter(filter)[0]
        evidence = self.evidence(maps=maps, pid=pid, sysroot=sysroot)
        return Plan(self, wanted, self.rules(assume, evidence=evidence, dumper=dumper), unknown)


def as_filter(value: int | str) -> tuple[CoredumpFilter, list[str]]:
    """A filter from Python: an int is its bits, a text is read as on the command line; with its warnings."""
    if isinstance(value, str):
        return parse_filter(value)
    return parse_filter(f"{int(value):#x}") if int(value) >= 0 else parse_filter(str(value))


class Plan:
    """What a filter keeps of every mapping: ``findings``, and ``sizes`` in bytes for every program header."""

    def __init__(self, core: Core, wanted: CoredumpFilter, rules: Rules, unknown: str) -> None:
        """Decide every mapping by the rules; ``unknown`` says what becomes of what stays open."""
        if unknown not in UNKNOWN:
            raise UsageError(f"unknown is {unknown!r}", f"it can be {', '.join(UNKNOWN)}")
        self.core, self.filter, self.rules, self.unknown = core, wanted, rules, unknown
        self.findings = [rules.decide(m) for m in range(len(core.maps))]
        unused = [a.text for a in rules.assumptions if not a.used]
        if unused:
            raise SelectorError(f"--assume {unused[0]!r} fits no mapping of this core")
        self.sizes = array("Q", core.present)
        self.assumed = array("Q", bytes(8 * len(self.findings)))
        self.fit: Fit | None = None
        self.conversion: Conversion | None = None
        self._decide_sizes()
        for tag, load in tagged_loads(core.table).items():
            self.sizes[tag] = min(self.sizes[tag], tag_bytes(core.table, self.sizes, tag, load))

    def _decide_sizes(self) -> None:
        page, present = self.core.maps.page_size, self.core.present
        levels: dict[Finding, tuple[int, int, int]] = {}
        for m, (finding, i) in enumerate(zip(self.findings, self.core.maps.phdr, strict=True)):
            there = present[i]
            if not there:
                continue
            if finding not in levels:
                least, likely, most = finding.levels(self.filter)
                levels[finding] = {"keep": most, "guess": likely, "drop": least}[self.unknown], least, most
            kept, least, most = levels[finding]
            self.sizes[i] = kept_bytes(kept, there, page)
            if least != most:
                self.assumed[m] = kept_bytes(most, there, page) - kept_bytes(least, there, page)

    def write(
        self,
        output: Place,
        *,
        force: bool = False,
        strict: bool = False,
        sparse: str = "auto",
        engine: str = "auto",
        jobs: int | None = None,
        cache: str = "auto",
        compress: str | None = None,
        compress_threads: int | None = None,
        sync: bool = True,
        annotate: bool = False,
        truncate: int | str | None = None,
        format: str = "same",
        loadmaps: tuple[int, int] | None = None,
    ) -> Report:
        """Write the filtered core; the options are those of ``corefilt filter``. Raises CorefiltError's children.

        A pipe can be written once, and into a file what it keeps is settled only at its end.
        """
        from .writer import Options, write_plan

        options = Options(
            unknown=self.unknown, force=force, strict=strict, sparse=sparse, engine=engine, jobs=jobs, cache=cache,
            compress=compress, compress_threads=compress_threads, sync=sync, annotate=annotate, truncate=truncate,
            format=format, loadmaps=loadmaps,
        )  # fmt: skip
        return write_plan(self, output, options)

    @property
    def mappings(self) -> Sequence[Mapping]:
        """The mappings, made when looked at."""
        maps, there = self.rules.mappings, self.core.present
        return [Mapping(maps, m, finding, there[maps.phdr[m]]) for m, finding in enumerate(self.findings)]

    @property
    def layout(self) -> Layout:
        """The output's layout."""
        return self.laid_out()

    def laid_out(self, note: Note | None = None) -> Layout:
        """The output's layout with a note put in."""
        core = self.core
        return lay_out(core.ehdr, core.table, core.sections, self.sizes, core.present, core.end, core.gaps, note)

    def note(self, *, annotate: bool, stamp: bytes | None = None) -> Note | None:
        """What becomes of the notes: records of the findings come in, or all are converted, or neither (None).

        ``stamp`` is what a batch tells of how it makes the core. Raises AnnotationError.
        """
        note = place_for_note(self.core, self.conversion, annotate=annotate, stamped=stamp is not None)
        if note is None:
            return None
        maps, made, records = self.core.maps, b"", b""
        if stamp is not None:
            made = annotation.encode_made(self.core.ehdr, stamp, annotation.made_size(maps.page_size))
        if annotate:
            findings = [(maps.start(m), maps.end(m), finding) for m, finding in enumerate(self.findings)]
            records = annotation.encode(self.core.ehdr, findings, annotation.note_size(len(maps), maps.page_size))
        note.data = made + records + note.data[len(made) + len(records) :]
        return note

    def kept(self, m: int) -> int:
        """Bytes of mapping ``m`` that stay."""
        return self.sizes[self.core.maps.phdr[m]]

    def by_kind(self) -> Iterator[tuple[str, int, int, int]]:
        """For every kind that is there: its name, and bytes kept, dropped and decided by an assumption."""
        sums: dict[str, list[int]] = {}
        present, sizes = self.core.present, self.sizes
        for finding, i, assumed in zip(self.findings, self.core.maps.phdr, self.assumed, strict=True):
            entry = sums.get(finding.kind)
            if entry is None:
                entry = sums[finding.kind] = [0, 0, 0]
            kept = sizes[i]
            entry[0] += kept
            entry[1] += present[i] - kept
            entry[2] += assumed
        for name, (kept, dropped, assumed) in sorted(sums.items()):
            yield name, kept, dropped, assumed


def ceiling(rules: Rules, m: int, wanted: CoredumpFilter) -> int:
    """The most that any finding which can still come may keep of mapping ``m`` (a level)."""
    payload = rules.payload
    if payload is None or payload.pending(m) or rules.by_files:
        # A statement can contradict what is proven, and then anything is possible.
        kinds = Kind.ALL if rules.stated(m) else rules.proven(m) or Kind.ALL
    else:
        kinds = rules.decide(m).possible
    return _most(kinds, int(wanted), rules.dumper)


@lru_cache(1 << 10)
def _most(kinds: int, wanted: int, dumper: str) -> int:
    return max(level(kind, CoredumpFilter(wanted), dumper) for kind in single(kinds))


def place_for_note(core: Core, conversion: Conversion | None, *, annotate: bool, stamped: bool = False) -> Note | None:
    """Where new notes go, with zeros for a stamp and for the records of mappings; None where there are no new ones.

    Records alone go over some of the same length; anything else before all other notes. Raises AnnotationError where
    there is no such place.
    """
    size = annotation.note_size(len(core.maps), core.maps.page_size) if annotate else 0
    size += annotation.made_size(core.maps.page_size) if stamped else 0
    if conversion is not None:
        return _place_for_all(core, conversion, size)
    if not size:
        return None
    if not core.ehdr.wide and max(core.table.p_offset, default=0) + size >= 1 << 32:
        raise AnnotationError(f"{core.source.name}: a note would move segments behind what 32 bits can tell")
    table, there = core.table, core.present
    first = next((i for i, p_type in enumerate(table.p_type) if p_type == PT_NOTE and there[i]), None)
    if first is None:
        raise AnnotationError(f"{core.source.name}: has no notes that another one could be put before")
    if annotate and len({(core.maps.start(m), core.maps.end(m)) for m in range(len(core.maps))}) < len(core.maps):
        raise AnnotationError(f"{core.source.name}: two segments have the same addresses, by which a note knows them")
    old = core.notes.record_at
    if old is not None and not stamped and old[1] == size and old[0] + size <= table.p_offset[first] + there[first]:
        return Note(first, old[0], size, bytes(size))
    _refuse_over_notes(core, first)
    return Note(first, table.p_offset[first], 0, bytes(size))


def takes_a_note(core: Core) -> bool:
    """Whether there is a place for one more note."""
    try:
        return place_for_note(core, None, annotate=False, stamped=True) is not None
    except AnnotationError:
        return False


def _refuse_over_notes(core: Core, notes: int) -> None:
    table, there, at = core.table, core.present, core.table.p_offset[notes]
    others = ((i, start) for i, start in enumerate(table.p_offset) if i != notes and there[i])
    over = next((i for i, start in others if start <= at < start + there[i]), None)
    if over is not None:
        raise AnnotationError(f"{core.source.name}: program header {over} lies over the notes (program header {notes})")


def _place_for_all(core: Core, conversion: Conversion, size: int) -> Note:
    """The place of all notes and of the padding behind them, which the kernel fills up to a page."""
    phdr, table = conversion.phdr, core.table
    _refuse_over_notes(core, phdr)
    start, behind = table.p_offset[phdr], conversion.behind
    data = bytes(size) + conversion.data
    # Payload behind them stays aligned to pages, and what else may follow to words.
    followed = any(offset >= behind for i, offset in enumerate(table.p_offset) if i != phdr)
    unit = max(core.maps.exec_page_size, core.maps.page_size) if followed else 8
    room = len(data) + (behind - start - len(data)) % unit
    if not core.ehdr.wide and max(table.p_offset) + room - (behind - start) >= 1 << 32:
        raise AnnotationError(f"{core.source.name}: longer notes would move segments behind what 32 bits can tell")
    return Note(phdr, start, behind - start, data.ljust(room, b"\0"), size=len(data), e_flags=conversion.e_flags)


def check_layout(source: Source, ehdr: Ehdr, table: Phdrs) -> None:
    """Refuse what cannot be filtered: payload over the headers; on a pipe, overlaps and what comes too late.

    Raises DamagedCoreError or UnstreamableError.
    """
    head = max(ehdr.size, ehdr.e_phoff + len(table) * ehdr.phdr_size)
    for i, (offset, size) in enumerate(zip(table.p_offset, table.p_filesz, strict=True)):
        if size and offset < head:
            raise DamagedCoreError(
                f"{source.name}: program header {i}: p_offset is {offset:#x}, inside the headers, "
                f"which end at {head:#x}"
            )
    if isinstance(source, FileSource):
        return
    pieces = sorted(
        (offset, offset + size, i)
        for i, (offset, size) in enumerate(zip(table.p_offset, table.p_filesz, strict=True))
        if size
    )
    payload = next((offset for offset, _, i in pieces if table.p_type[i] == PT_LOAD), None)
    late = next(
        (i for offset, _, i in pieces if table.p_type[i] == PT_NOTE and payload is not None and offset > payload),
        None,
    )
    if late is not None:
        raise UnstreamableError(
            f"{source.name}: the notes (program header {late}) come after the payload, as gdb's gcore writes them, "
            "and a pipe cannot be read twice"
        )
    if ehdr.e_shoff and ehdr.e_phnum != elf.PN_XNUM:
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
