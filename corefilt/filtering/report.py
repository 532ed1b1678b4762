"""What a run did, for a person on standard error and for a program as JSON."""

from __future__ import annotations

from corefilt import __version__
from corefilt.corefile.corefilt_note import (
    NT_COREFILT_KINDS,
    NT_COREFILT_MADE,
    NT_COREFILT_SCRUBBED,
    NT_COREFILT_SIGNATURE,
)
from corefilt.corefile.elf import PN_XNUM, PT_NOTE
from corefilt.filterbits import Bit, describe
from corefilt.filtering.shown import Shown, kinds_table
from corefilt.kinds import ONE_PAGE
from corefilt.plan.layout import kept_bytes
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from corefilt.coredump_filter import CoredumpFilter
    from corefilt.io.engine import Engine
    from corefilt.io.sinks import Sink
    from corefilt.kinds import Classification
    from corefilt.plan.fit.chosen import Fit
    from corefilt.plan.format import Conversion
    from corefilt.plan.layout import Layout
    from corefilt.plan.plan import KeepPlan, Mapping


class Report(Shown):
    """The outcome of one filtering; the attributes are the keys of the JSON report, sizes in bytes."""

    def __init__(
        self,
        plan: KeepPlan,
        layout: Layout,
        engine: Engine | None,
        sink: Sink | None,
        seconds: float,
        *,
        fit: Fit | None = None,
        conversion: Conversion | None = None,
        moved: bool = True,
    ) -> None:
        """Gather what a run knows; ``moved`` tells that payload moves up to where some was dropped."""
        core = plan.core
        self._plan = plan
        self.version = __version__
        self.input = core.source.name
        self.output = sink.name if sink is not None else None
        self.elf_class = core.elf_class
        self.machine = core.machine
        self.format = _format_of(plan, conversion)
        self.page_size = core.maps.page_size
        self.segments = len(core.table)
        self.input_bytes = core.end
        self.output_bytes = layout.size if sink is None or sink.seekable or engine is None else engine.moved
        self.allocated_bytes = _allocated(sink)
        self.kinds = list(plan.by_kind())
        self.kept_bytes = sum(kept for _, kept, _, _ in self.kinds)
        self.dropped_bytes = sum(dropped for _, _, dropped, _ in self.kinds)
        self.assumed_bytes = sum(assumed for *_, assumed in self.kinds)
        self.inferred_bytes = sum(plan.findings.sums(plan.inferred))
        self.holes = engine.holes if engine is not None else "none"
        self.engine = engine.name if engine is not None else None
        self.seconds = seconds
        self.damaged = core.damaged
        self.warnings = list(core.warnings)
        self.notices = notices(plan, fitted=fit is not None)
        # From a pipe into a stream the headers have left before the end was seen.
        mended = core.source.seekable or engine is None or engine.sink.seekable
        self.changes = _changes(plan, layout, conversion, mended=mended, fitted=fit is not None, moved=moved)
        late = core.miscounted and core.ehdr.counts_elsewhere
        if (core.truncated or late) and not mended:
            self.notices.append(
                "the headers were written before the end of the core was seen, and may claim bytes that are missing; "
                "to repair the output, save it to a file and filter it again with corefilt all"
            )
        self.fit = fit
        if fit is not None:
            self.changes += fit.changes
            self.notices += fit.notices
            request = fit.request
            if request.allocated and request.limit is not None and (self.allocated_bytes or 0) > request.limit:
                self.notices.append(
                    f"this file system takes {show_size(self.allocated_bytes or 0)} for it, more than was planned: "
                    "it has large blocks, or reserves space"
                )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Report cannot be copied or pickled: report.as_dict() can be")

    def as_dict(self) -> dict[str, object]:
        """Return the report as a dictionary with the keys of schema 1."""
        return {
            "schema": 1,
            "version": self.version,
            "input": self.input,
            "output": self.output,
            "filter": f"{self._plan.filter:#x}",
            "class": self.elf_class,
            "machine": self.machine,
            **({"format": self.format} if self.format is not None else {}),
            "page_size": self.page_size,
            "segments": self.segments,
            "input_bytes": self.input_bytes,
            "output_bytes": self.output_bytes,
            "allocated_bytes": self.allocated_bytes,
            "kept_bytes": self.kept_bytes,
            "dropped_bytes": self.dropped_bytes,
            "assumed_bytes": self.assumed_bytes,
            "inferred_bytes": self.inferred_bytes,
            "holes": self.holes,
            "engine": self.engine,
            "seconds": round(self.seconds, 6),
            "warnings": self.warnings + self.notices,
            "changes": self.changes,
            **({"fit": self.fit.as_dict()} if self.fit is not None else {}),
            "mappings": [mapping_as_dict(self._plan, m, mapping) for m, mapping in enumerate(self._plan.mappings)],
        }

    @property
    def filter(self) -> CoredumpFilter:
        """The filter."""
        from corefilt.coredump_filter import CoredumpFilter

        return CoredumpFilter(self._plan.filter)

    @property
    def mappings(self) -> Sequence[Mapping]:
        """The mappings, with their kinds as known at the end."""
        return self._plan.mappings

    def __repr__(self) -> str:
        return f"<corefilt.Report {self.headline().removeprefix('corefilt: ')}>"

    def _repr_html_(self) -> str:
        return kinds_table(self.headline(), self.kinds)

    def headline(self) -> str:
        """Return the first line of the summary."""
        arrow = (
            f" -> {show_size(self.output_bytes)}"
            if self.output is not None
            else f", would become {show_size(self.output_bytes)}"
        )
        size = show_size(self.input_bytes) if self.input_bytes is not None else "pipe"
        on_disk = f" ({show_size(self.allocated_bytes)} on disk)" if self.allocated_bytes is not None else ""
        out = f" -> {printable(self.output)}" if self.output is not None else ""
        return f"corefilt: {printable(self.input)}{out}: {size}{arrow}{on_disk}"

    def summary(self, *, verbose: bool = False) -> str:
        """Return the summary, a few lines of text."""
        about = f"{counted(self.segments, 'segment')}, filter {describe(self._plan.filter)}, {self.seconds:.2f} s"
        lines = [f"{self.headline()}, {about}"]
        width = max([len(name) for name, *_ in self.kinds] + [4])
        if self.kinds:
            lines.append(f"  {'kind':{width}}  {'kept':>10}  {'dropped':>10}  {'ambiguous':>10}")
        for name, kept, dropped, assumed in self.kinds:
            if kept or dropped or verbose:
                ambiguous = show_size(assumed) if assumed else "-"
                lines.append(f"  {name:{width}}  {show_size(kept):>10}  {show_size(dropped):>10}  {ambiguous:>10}")
        if self.assumed_bytes:
            verb = {"keep": "kept", "guess": "guessed", "drop": "dropped"}[self._plan.unknown]
            lines.append(
                f"  ambiguous: {show_size(self.assumed_bytes)} depend on an assumption and were {verb}; "
                "corefilt inspect shows which; --maps, --pid, --sysroot or --assume settle kinds, "
                "--pid or --sysroot header pages"
            )
        lines += [f"  {line}" for line in convention_lines(self._plan, everything=verbose)]
        if verbose:
            lines.append(
                f"  engine: {self.engine or 'none'}; holes: {self.holes}; page size: {self.page_size}; "
                f"{self.elf_class} {self.machine}"
            )
        elif self.holes == "guessed":
            lines.append("  holes: guessed (pages of zeros became holes; a pipe does not tell which ones were)")
        if self.fit is not None:
            lines += [f"  {line}" for line in self.fit.lines()]
        if self._plan.core.truncated:
            from corefilt.filtering.missing import missing_lines

            lines += [f"  missing: {line}" for line in missing_lines(self._plan.core)]
        lines += [f"  changed: {change}" for change in self.changes]
        lines += [f"  note: {printable(notice)}" for notice in self.notices]
        lines += [f"  warning: {printable(warning)}" for warning in self.warnings]
        return "\n".join(lines)


def _allocated(sink: Sink | None) -> int | None:
    return sink.allocated if sink is not None else None


def notices(plan: KeepPlan, *, fitted: bool = False) -> list[str]:
    """What a person should know beside the numbers."""
    context = plan.classifier.context
    told = list(plan.core.notes.notices)
    if context.evidence is not None:
        told += context.evidence.notices + context.evidence.told_of_copies
    if context.payload is None and plan.filter & Bit.ELF_HEADERS and plan.unknown == "keep":
        page, core = plan.core.maps.page_size, plan.core
        hedged = [
            m
            for m, finding in enumerate(plan.findings)
            if finding.header_in_doubt
            and 0 < plan.kept(m) == kept_bytes(ONE_PAGE, core.present[core.maps.phdr[m]], page)
        ]
        if hedged:
            told.append(
                "the input cannot be read twice, so payload was not examined: "
                f"{counted(len(hedged), 'mapping keeps', 'mappings keep')} a page that may not be a header page"
            )
    dax = Bit.PRIVATE_DAX | Bit.SHARED_DAX
    files = Bit.PRIVATE_FILE_BACKED | Bit.SHARED_FILE_BACKED
    if plan.filter & dax and plan.filter & files != files:
        told.append("a core does not show DAX: mappings from such a file system count as file-backed")
    told += _lost_loadmaps(plan, fitted=fitted)
    if plan.core.left_behind:
        compressed = plan.core.source.compression is not None
        remedy = "add --spool, or decompress it" if compressed else "name the core as a file, or add --spool"
        told.append(
            f"{show_size(plan.core.left_behind)} that -i dropped at the end of the input are in the output, as zeros: "
            f"the end of {plan.core.source.passing} is not known beforehand, and this is too much to read ahead "
            f"({remedy})"
        )
    known = plan.findings.of_class
    doubted = any(finding.contradiction or finding.disbelieved for finding in known)
    found = list(zip(known, plan.findings.count(), strict=True)) if doubted else []
    contradicting = sum(count for finding, count in found if finding.contradiction)
    if contradicting:
        told.append(f"kept although the evidence contradicts itself: {counted(contradicting, 'mapping')}")
    disbelieved = sum(count for finding, count in found if finding.disbelieved)
    if disbelieved:
        told.append(f"the COREFILT note was ignored where it contradicts the core: {counted(disbelieved, 'mapping')}")
    return told


def _format_of(plan: KeepPlan, conversion: Conversion | None) -> str | None:
    """``elf`` or ``fdpic``: how the notes of the output are written; None where FDPIC has nothing to do with it."""
    if plan.core.fdpic is None and conversion is None:
        return None
    return "fdpic" if plan.core.notes.of_fdpic != (conversion is not None) else "elf"


def _lost_loadmaps(plan: KeepPlan, *, fitted: bool) -> list[str]:
    """What will be missed of an FDPIC core: without its loadmaps nobody can tell where the program was loaded."""
    core = plan.core
    told = []
    for whose, address in zip(("program", "loader"), core.fdpic.loadmaps if core.fdpic else (), strict=False):
        m = next((m for m in range(len(core.maps)) if core.maps.start(m) <= address < core.maps.end(m)), None)
        if not address:
            continue
        if m is None:
            told.append(f"the {whose}'s loadmap is said to be at {address:#x}, where nothing was mapped")
        elif not fitted and plan.kept(m) <= address - core.maps.start(m) < core.present[core.maps.phdr[m]]:
            told.append(
                f"the {whose}'s loadmap at {address:#x} is dropped with its stack; without it nobody can tell from the "
                "core where the program was loaded (bit 0, private-anonymous, keeps it)"
            )
    return told


def _changes(
    plan: KeepPlan, layout: Layout, conversion: Conversion | None, *, mended: bool, fitted: bool, moved: bool
) -> list[str]:
    """Every change to headers and notes beyond offsets and sizes of what the filter dropped."""
    core, table = plan.core, plan.core.table
    changes = []
    if core.truncated and mended:
        cut = sum(1 for there, claimed in zip(core.present, table.p_filesz, strict=True) if there < claimed)
        changes.append(f"p_filesz of {counted(cut, 'program header')} was set to what is present")
        for offset, there, claimed, p_type in zip(
            table.p_offset, core.present, table.p_filesz, table.p_type, strict=True
        ):
            behind = min(core.end or 0, offset + claimed) - offset - there
            if p_type == PT_NOTE and behind > 0:
                changes.append(
                    f"the notes end with the last whole one; {show_size(behind)} of a cut note come after it"
                )
    if core.gaps and moved:
        left = sum(end - start for start, end in core.gaps)
        changes.append(f"{show_size(left)} of gaps, as -i leaves them, were removed")
    if core.ehdr.e_phnum == PN_XNUM:
        if core.miscounted and not fitted:
            how = "made anew" if core.ehdr.e_shoff else "added"
            changes.append(
                f"section header 0, which counts {counted(len(table), 'program header')} (PN_XNUM), was {how}"
            )
    elif core.ehdr.e_shoff and mended and core.end is not None and not core.sections:
        changes.append("the reference to missing section headers was removed")
    if conversion is not None:
        changes += conversion.changes
    for put in layout.puts:
        at, data = 0, put.put or b""
        while data[at + 12 : at + 20] == b"COREFILT":
            size, n_type = 24 + core.ehdr.number(data[at + 4 : at + 8]), core.ehdr.number(data[at + 8 : at + 12])
            how = "replaced" if core.notes.record_at is not None and put.length else "added"
            if n_type == NT_COREFILT_KINDS:
                changes.append(f"a COREFILT note of {size} bytes was {how}")
            elif n_type == NT_COREFILT_MADE:
                changes.append(f"a COREFILT note of {size} bytes, which tells how the core was made, was added")
            elif n_type == NT_COREFILT_SIGNATURE:
                changes.append(f"a COREFILT note of {size} bytes with the signature of the crash was added")
            elif n_type == NT_COREFILT_SCRUBBED:
                changes.append(f"a COREFILT note of {size} bytes, which tells that the core was scrubbed, was added")
            at += size
    return changes


def mapping_as_dict(plan: KeepPlan, m: int, mapping: Mapping) -> dict[str, object]:
    """One mapping with the stable keys; addresses are hex strings."""
    entry: dict[str, object] = {
        "start": f"{mapping.start:#x}",
        "end": f"{mapping.end:#x}",
        "flags": mapping.flags,
        **path_as_dict(mapping.path),
        "file_offset": mapping.file_offset,
        "kind": mapping.kind,
        "certainty": mapping.certainty,
        "evidence": evidence_texts(mapping.finding) + dropped_texts(plan, m),
        "present": mapping.present,
        "kept": plan.kept(m),
        "inferred_bytes": plan.inferred[m],
    }
    if mapping.missing:
        entry["missing"] = mapping.missing
    return entry


def path_as_dict(path: bytes | None) -> dict[str, str | None]:
    """A path for JSON, which is UTF-8: in hex besides where the path is not."""
    if path is None:
        return {"path": None}
    try:
        return {"path": path.decode()}
    except UnicodeDecodeError:
        return {"path": path.decode("utf-8", "backslashreplace"), "path_bytes": path.hex()}


HEADER_IN_DOUBT = "its first page may be a header page (0x10): the mode or first bytes of its file are not known"


def evidence_texts(finding: Classification) -> list[str]:
    """The reasons for the kind, whether its first page is in doubt, and what it could be instead."""
    others, texts = finding.others(), list(finding.evidence)
    if finding.header_in_doubt and not finding.contradiction:
        texts.append(HEADER_IN_DOUBT)
    if others:
        texts.append(f"could also be: {', '.join(others)}")
    return texts


def dropped_texts(plan: KeepPlan, m: int) -> list[str]:
    """On which conventions bytes of a mapping are dropped, if any are."""
    if not plan.inferred[m]:
        return []
    names = ", ".join(convention.name for convention in plan.findings[m].dropped_by(plan.filter))
    return [f"dropped on a convention: {names}"]


# How many conventions a summary names; a core whose filter has few bits can rest on ten.
MOST_NAMED = 3


def convention_lines(plan: KeepPlan, *, everything: bool) -> list[str]:
    """How many bytes are dropped on a convention, and on which; ``everything`` names and explains them all."""
    dropped = sum(plan.findings.sums(plan.inferred))
    if not dropped:
        return []
    found = plan.by_convention()
    overlap = sum(size for _, size in found) > dropped
    if everything:
        return [
            f"dropped on a convention: {show_size(dropped)}"
            + (" (bytes that need several are listed under each)" if overlap else ""),
            *(f"  {convention.name}: {show_size(size)} ({convention.words})" for convention, size in found),
        ]
    named = ", ".join(f"{convention.name} {show_size(size)}" for convention, size in found[:MOST_NAMED])
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    shared = ", which overlap" if overlap else ""
    return [f"dropped on a convention: {show_size(dropped)} ({named}{more}{shared}); --verbose explains them"]


def error_as_dict(kind: str, message: str, hint: str, exit_code: int) -> dict[str, object]:
    """The report of a failure."""
    return {"schema": 1, "error": {"type": kind, "message": message, "hint": hint, "exit_code": exit_code}}
