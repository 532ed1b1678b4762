"""What every way to write a core has in common: the plan, the engine that carries it out, and the report."""

from __future__ import annotations

from corefilt.corefile import elf
from corefilt.corefile.corefilt_note import NT_COREFILT_MADE, NT_COREFILT_SCRUBBED, NT_COREFILT_SIGNATURE
from corefilt.errors import NoCoreError, UndecidedError
from corefilt.filtering.report import Report
from corefilt.io.engine import Engine
from corefilt.plan.layout import Layout
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.filtering.options import Options
    from corefilt.io.sinks import Sink
    from corefilt.plan.fit.chosen import Fit
    from corefilt.plan.format import Conversion
    from corefilt.plan.plan import KeepPlan
    from corefilt.plan.rlimit import Cut
    from corefilt.sizes import Limit


class FilterRun:
    """What both ways share: the plan, the engine that carried it out, and the report."""

    plan: KeepPlan
    layout: Layout

    def __init__(self, core: CoreFile, wanted: int, options: Options) -> None:
        """Find out what the options ask of this core. Raises UsageError and its kin."""
        self.core, self.wanted, self.options = core, wanted, options
        self.engine: Engine | None = None
        self.limit = _limit(options.truncate, core) if options.truncate is not None else None
        self.cut: Cut | None = None
        # Notes of corefilt's own that tell how the core is made, by their types.
        self.texts: list[tuple[int, bytes]] = []
        self.fit: Fit | None = None
        self.conversion = _conversion(core, options)

    def write(self, sink: Sink) -> None:
        """Write the output, all but its name."""
        raise AssertionError("a run is planned beforehand or settled at the end")

    def dry(self) -> None:
        """Find out what would be written, without an output."""

    def _engine(self, sink: Sink, expected: int = 0) -> Engine:
        options = self.options
        self.engine = Engine(
            self.core.source,
            sink,
            demand=options.engine,
            sparse=options.sparse,
            writeback=options.sync,
            jobs=options.threads,
            cache=options.cache,
            expected=expected,
            on_progress=options.on_progress,
        )
        return self.engine

    def report(self, sink: Sink | None, seconds: float) -> Report:
        """What was done; ``sink`` is None after ``dry``."""
        plan = self.plan if self.cut is None else self.cut.plan(self.plan, self.layout)
        report = Report(plan, self.layout, self.engine, sink, seconds, fit=self.fit, conversion=self.conversion)
        if self.engine is not None and self.engine.probe is not None:
            report.notices.append(self.engine.probe.told)
        if self.cut is not None:
            report.changes += self.cut.changes(self.plan, plan)
            report.notices += self.cut.notices()
        return report

    def _shorten(self, cut: Cut) -> None:
        self.cut = cut
        self.layout = Layout(self.layout.cuts, self.layout.table, self.layout.puts, cut.size)

    def _lay_out(self) -> Layout:
        stamp, overwrite = self.options.stamp, self.options.overwrite
        if stamp is not None:
            self.texts.append((NT_COREFILT_MADE, stamp(sum(self.plan.assumed))))
        if overwrite is not None:
            self.texts.append((NT_COREFILT_SCRUBBED, overwrite.told))
        if self.options.annotate and self.options.signs and self.core.source.seekable:
            self._sign()
        note = self.plan.note(self.conversion, annotate=self.options.annotate, texts=self.texts)
        return self.plan.laid_out(note)

    def _sign(self) -> None:
        """Have the annotation tell the signature of the crash, where it is known and no note tells it yet."""
        from corefilt.crash.recorded import parse_signature
        from corefilt.crash.signature import find_crash

        crash, noted = find_crash(self.core, sysroot=self.options.sysroot), self.core.notes.signature
        recorded = crash.recorded.encode() if crash is not None and crash.signature is not None else noted
        known = parse_signature(noted)
        if recorded != noted and (known is None or known.certain is None):
            self.texts.append((NT_COREFILT_SIGNATURE, recorded))


def stop_if_undecided(plan: KeepPlan, options: Options) -> None:
    """With ``strict``, raise UndecidedError while any bytes depend on an assumption."""
    undecided = sum(plan.assumed) if options.strict else 0
    if undecided:
        count = sum(1 for size in plan.assumed if size)
        raise UndecidedError(
            f"{plan.core.source.name}: {show_size(undecided)} in {counted(count, 'mapping')} depend on an assumption"
        )


def check_tail(core: CoreFile, raw: bytes) -> None:
    """Hold PN_XNUM's section header 0, which a pipe brings last, against the count that was derived before."""
    if len(raw) < core.ehdr.shdr_size:
        core.warnings.append(elf.MISSING_COUNT)
        core.miscounted = True
        return
    sh_info = elf.Shdr(raw, core.ehdr).sh_info
    if sh_info != len(core.table):
        core.warnings.append(elf.mismatch(sh_info, len(core.table)))
        core.miscounted = True


def _conversion(core: CoreFile, options: Options) -> Conversion | None:
    """What --format makes of the notes; records of mappings are written anew where they are wanted, or cut to fit."""
    if options.format == "same" and options.loadmaps is None:
        return None
    from corefilt.plan.format import convert

    annotated = options.annotate or (options.fit_request is not None and bool(core.notes.records))
    return convert(core, options.format, options.loadmaps, annotated=annotated)


def _limit(value: int | str, core: CoreFile) -> Limit | None:
    from corefilt.plan.rlimit import refuse_below_a_page
    from corefilt.sizes import parse_limit

    limit = parse_limit(value)
    refuse_below_a_page(limit, core)
    payload = (o for o, size in zip(core.table.p_offset, core.table.p_filesz, strict=True) if size)
    if limit.cuts and min(payload, default=core.ehdr.e_phoff) < core.ehdr.e_phoff:
        raise NoCoreError(
            f"{core.source.name}: its program headers (e_phoff {core.ehdr.e_phoff:#x}) come after the payload, and "
            "--truncate would leave none of them",
            "--fit SIZE makes a core of at most that size",
        )
    return limit if limit.cuts else None
