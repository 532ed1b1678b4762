"""Writes a filtered core in one pass: planned beforehand, or settled at the end where a pipe runs into a file."""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_right

from . import elf
from .core import Core, Plan, as_filter, ceiling, open_core, place_for_note
from .engine import Engine
from .errors import OutputError, UndecidedError, UnstreamableError, UsageError
from .filterbits import CoredumpFilter
from .findings import Rules
from .kinds import CURRENT
from .plan import TO_THE_END, Layout, Step, kept_bytes, lay_out, tag_bytes, tagged_loads
from .report import Report
from .sinks import NamedFile, Sink, open_sink, seekable_from
from .sources import PipeSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .limits import Cut, Limit
    from .naming import Naming
    from .sources import Place
    from .variants import Conversion
    from .wish import Wish


FORMATS = ("same", "elf", "fdpic")
# Those of corefilt.compression, which no run without compression loads.
COMPRESSED_SUFFIXES = (".zst", ".lz4", ".xz", ".gz", ".bz2")


class Options:
    """How to write: every field is an option of ``corefilt filter`` by the same name."""

    __slots__ = (
        "annotate", "assume", "cache", "compact", "compress", "compress_threads", "dry_run", "dumper", "engine", "fit",
        "force", "format", "in_place", "jobs", "loadmaps", "maps", "on_progress", "pid", "sparse", "stamp", "strict",
        "sync", "sysroot", "truncate", "unknown",
    )  # fmt: skip

    def __init__(
        self,
        *,
        unknown: str = "keep",
        assume: Sequence[str] = (),
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        annotate: bool = False,
        fit: Wish | None = None,
        truncate: int | str | None = None,
        format: str = "same",
        loadmaps: tuple[int, int] | None = None,
        dumper: str = CURRENT,
        strict: bool = False,
        sparse: str = "auto",
        engine: str = "auto",
        jobs: int | None = None,
        cache: str = "auto",
        compress: str | None = None,
        compress_threads: int | None = None,
        sync: bool = True,
        force: bool = False,
        dry_run: bool = False,
        in_place: bool = False,
        compact: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Hold the options."""
        # What a batch tells of the core in a note, by the bytes that hang on an assumption; of no option's name.
        self.stamp: Callable[[int], bytes] | None = None
        self.unknown, self.assume, self.strict = unknown, assume, strict
        self.maps, self.pid, self.sysroot, self.annotate = maps, pid, sysroot, annotate
        self.sparse, self.engine, self.sync, self.force = sparse, engine, sync, force
        self.jobs, self.cache = jobs, cache
        self.compress, self.compress_threads = compress, compress_threads
        self.dry_run, self.on_progress, self.fit, self.truncate = dry_run, on_progress, fit, truncate
        self.in_place, self.compact = in_place, compact
        self.format, self.loadmaps, self.dumper = format, loadmaps, dumper


def write_filtered(core: Core, wanted: CoredumpFilter, output: Place | NamedFile, options: Options) -> Report:
    """Filter an open core into ``output`` and tell what was done; in place there is no other output.

    Raises InputError, OutputError, UndecidedError and their kin; whatever is raised, no output bears its name.
    """
    began = time.monotonic()
    output = compressed(core, output, options)
    if options.fit is not None:
        check_fit(core, output, options)
    evidence = core.evidence(maps=options.maps, pid=options.pid, sysroot=options.sysroot)
    if isinstance(core.source, PipeSource) and not options.in_place and seekable_from(output):
        rules = core.rules(options.assume, evidence=evidence, dumper=options.dumper, with_payload=True)
        return _carry_out(_SettledAtTheEnd(core, wanted, rules, options), output, began)
    plan = Plan(core, wanted, core.rules(options.assume, evidence=evidence, dumper=options.dumper), options.unknown)
    if options.in_place:
        from .inplace import write_in_place

        stop_if_undecided(plan, options)
        return write_in_place(plan, options, began)
    return _carry_out(_PlannedBeforehand(plan, options), output, began)


def write_plan(plan: Plan, output: Place | NamedFile, options: Options) -> Report:
    """As write_filtered, with a plan that was made before."""
    began = time.monotonic()
    core = plan.core
    output = compressed(core, output, options)
    if isinstance(core.source, PipeSource) and seekable_from(output):
        assume = [assumption.text for assumption in plan.rules.assumptions]
        rules = core.rules(assume, evidence=plan.rules.evidence, dumper=plan.rules.dumper, with_payload=True)
        return _carry_out(_SettledAtTheEnd(core, plan.filter, rules, options), output, began)
    return _carry_out(_PlannedBeforehand(plan, options), output, began)


def compressed(core: Core, output: Place | NamedFile, options: Options) -> Place | NamedFile:
    """The output as a place for compressed bytes, where --compress, or without it the name's end, asks for that.

    Raises UsageError.
    """
    name = options.compress
    if name is None:
        path = output.path if isinstance(output, NamedFile) else output
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not name.endswith(COMPRESSED_SUFFIXES):
            return output
        from .compression import by_suffix

        name = by_suffix(name)
    elif name == "same":
        name = core.source.compression
    if name is None or name == "none" or options.in_place:
        return output
    from .compression import default_threads, parse_compress
    from .packing import Packed

    compression = parse_compress(name, options.compress_threads or default_threads())
    return output if isinstance(compression, str) else Packed(output, compression, force=options.force)


def _carry_out(run: _Run, output: Place | NamedFile, began: float) -> Report:
    core, options = run.core, run.options
    if options.dry_run:
        run.dry()
        _check_input(core)
        return run.report(None, time.monotonic() - began)
    sink = open_sink(output, force=options.force, source=core.source)
    try:
        run.write(sink)
        _check_input(core)
        if isinstance(output, NamedFile):
            output.settled(run.plan)
        sink.commit(run.layout.size, sync=options.sync)
    except BaseException as error:
        sink.abort()
        if isinstance(error, BrokenPipeError) and sink.failure is not None:
            raise sink.failure from None
        raise
    return run.report(sink, time.monotonic() - began)


def _check_input(core: Core) -> None:
    damage = core.source.check()
    if damage is not None and damage not in core.warnings:
        core.warnings.append(damage)


class _Run:
    """What both ways share: the plan, the engine that carried it out, and the report."""

    plan: Plan
    layout: Layout

    def __init__(self, core: Core, wanted: CoredumpFilter, options: Options) -> None:
        self.core, self.wanted, self.options = core, wanted, options
        self.engine: Engine | None = None
        self.limit = _limit(options.truncate, core) if options.truncate is not None else None
        self.cut: Cut | None = None
        self.conversion = _conversion(core, options)

    def write(self, sink: Sink) -> None:
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
            jobs=options.jobs,
            cache=options.cache,
            expected=expected,
            on_progress=options.on_progress,
        )
        return self.engine

    def report(self, sink: Sink | None, seconds: float) -> Report:
        if self.cut is None:
            return Report(self.plan, self.layout, self.engine, sink, seconds)
        report = Report(self.cut.plan(self.plan, self.layout), self.layout, self.engine, sink, seconds)
        self.cut.tell(report, self.plan)
        return report

    def _shorten(self, cut: Cut) -> None:
        self.cut = cut
        self.layout = Layout(self.layout.cuts, self.layout.table, self.layout.puts, cut.size)

    def _lay_out(self) -> Layout:
        self.plan.conversion = self.conversion
        stamp = self.options.stamp
        told = stamp(sum(self.plan.assumed)) if stamp is not None else None
        return self.plan.laid_out(self.plan.note(annotate=self.options.annotate, stamp=told))


def stop_if_undecided(plan: Plan, options: Options) -> None:
    """With ``strict``, raise UndecidedError while any bytes hang on an assumption."""
    undecided = sum(plan.assumed)
    if options.strict and undecided:
        count = sum(1 for size in plan.assumed if size)
        raise UndecidedError(f"{plan.core.source.name}: {undecided} bytes in {count} mappings hang on an assumption")


class _PlannedBeforehand(_Run):
    """From a file to anywhere, and from a pipe to a stream: the headers are known before the first byte leaves."""

    def __init__(self, plan: Plan, options: Options) -> None:
        super().__init__(plan.core, plan.filter, options)
        self.plan = plan
        stop_if_undecided(self.plan, self.options)
        self.layout = self._lay_out()
        if options.fit is not None:
            from .fit import fitted

            plan.fit = fitted(plan, options.fit, self.layout.size, sparse=options.sparse, annotate=options.annotate)
            self.layout = plan.fit.layout or self.layout
        if self.limit is not None:
            from .limits import cut_of_input

            cut = cut_of_input(self.core, self.layout, self.limit)
            if cut is not None:
                self._shorten(cut)

    def dry(self) -> None:
        if isinstance(self.core.source, PipeSource):
            with open(os.devnull, "wb") as nowhere:
                self.write(Sink(nowhere.fileno(), os.devnull, owned=False))

    def write(self, sink: Sink) -> None:
        core = self.core
        if self.limit is not None and isinstance(core.source, PipeSource):
            engine = self._cut_as_it_passes(core.source, sink, self.limit)
        else:
            engine = self._engine(sink, self.layout.size)
            steps = self.layout.steps(TO_THE_END if core.end is None else core.end)
            if self.cut is not None:
                from .limits import shortened

                steps = shortened(steps, self.cut.size)
            engine.run(steps)
        if core.end is not None:
            return
        end = engine.at_end if engine.at_end is not None else 0
        core.ends_at(end)
        self.plan.sizes = array("Q", map(min, self.plan.sizes, core.present))
        if core.ehdr.e_phnum == elf.PN_XNUM and core.ehdr.e_shoff:
            check_tail(core, engine.replaced.get(core.ehdr.e_shoff, b""))

    def _cut_as_it_passes(self, source: PipeSource, sink: Sink, limit: Limit) -> Engine:
        from .cutting import CuttingEngine
        from .limits import FROM_A_PIPE, Cut

        options = self.options
        engine = CuttingEngine(
            self.core, self.layout, limit.size, source, sink, demand=options.engine, on_progress=options.on_progress
        )
        self.engine = engine
        engine.run(self.layout.steps(TO_THE_END))
        engine.finish()
        full = self.layout.size if engine.account.refused else engine.moved
        self._shorten(Cut(limit, engine.moved, full, FROM_A_PIPE))
        return engine


class _SettledAtTheEnd(_Run):
    """From a pipe to a file: what only the payload can tell is looked at as it passes, the headers come last.

    Of every mapping as much is written as any finding that can still come may keep. When all is known, what
    turned out to be too much is taken out again within the output, before it gets its name.
    """

    def __init__(self, core: Core, wanted: CoredumpFilter, rules: Rules, options: Options) -> None:
        super().__init__(core, wanted, options)
        self.rules = rules
        if rules.payload is None:
            raise AssertionError("the payload is looked at as it passes")
        self._payload = rules.payload
        self._written = array("Q", core.present)
        # Its length is known from the start, its content at the end.
        stamped = options.stamp is not None
        self._note = place_for_note(core, self.conversion, annotate=options.annotate, stamped=stamped)

    def write(self, sink: Sink) -> None:
        if not sink.seekable:
            raise OutputError(f"{sink.name}: was a file, and is none any more")
        engine, core = self._engine(sink), self.core
        engine.run(self._steps())
        inserted = self._note.grown if self._note is not None else 0
        core.ends_at(
            engine.at_end or 0,
            peek=lambda offset, length: os.pread(sink.reader, length, sink.base + offset + inserted),
        )
        written = array("Q", map(min, self._written, core.present))
        first = lay_out(core.ehdr, core.table, core.sections, written, core.present, core.end, note=self._note)
        if self.rules.by_files:
            core.compare(self.rules, peek=_reader(sink, first, written, core))
        self.rules.take_loadmaps()
        self._settle()
        self.plan.sizes = array("Q", map(min, self.plan.sizes, written))
        self.layout = self._lay_out()
        end = core.end or 0
        if engine.moved != end - first.cuts.total + first.cuts.inserted:
            raise AssertionError("what was written is not what the layout says")
        if core.ehdr.e_phnum == elf.PN_XNUM and core.ehdr.e_shoff:
            at = sink.base + first.cuts.shift(core.ehdr.e_shoff)
            check_tail(core, os.pread(sink.reader, core.ehdr.shdr_size, at) if core.ehdr.e_shoff < end else b"")
        engine.relocate(_moves(first, self.layout, end))
        for put in self.layout.puts:
            engine.write(put.target, put.put or b"", over=True)
        if self.limit is not None:
            from .limits import FROM_A_PIPE, Cut, OutputMap, cut_at

            size = cut_at(core, self.layout, self.limit.size, OutputMap(sink))
            self._shorten(Cut(self.limit, size, self.layout.size, FROM_A_PIPE))

    def dry(self) -> None:
        if self.limit is not None:
            raise UnstreamableError(
                f"{self.core.source.name}: where a limit cuts what comes from a pipe is found out by writing it"
            )
        with open(os.devnull, "wb") as nowhere:
            engine = Engine(self.core.source, Sink(nowhere.fileno(), os.devnull, owned=False))
            engine.run(self._steps())
        self.core.ends_at(engine.at_end or 0)
        if self.rules.by_files:
            self.core.compare(self.rules, peek=None)
        self.rules.take_loadmaps()
        self._settle()
        self.layout = self._lay_out()

    def _settle(self) -> None:
        self.plan = Plan(self.core, self.wanted, self.rules, self.options.unknown)
        stop_if_undecided(self.plan, self.options)

    def _steps(self) -> Iterator[Step]:
        """Decide each segment when the engine has come to it."""
        core = self.core
        table = core.table
        mapping_of = {i: m for m, i in enumerate(core.maps.phdr)}
        load_of = tagged_loads(table)
        run = target = 0
        for i in sorted((i for i, size in enumerate(table.p_filesz) if size), key=table.p_offset.__getitem__):
            offset, present = table.p_offset[i], table.p_filesz[i]
            m = mapping_of.get(i)
            note = self._note
            if note is not None and i == note.phdr:
                yield Step(run, note.offset - run, target)
                target += note.offset - run
                yield Step(note.offset, note.replaced, target, note.data)
                target, run = target + len(note.data), note.offset + note.replaced
            if m is not None and self._payload.wants_of(m):
                # Also an empty step has the engine pass over what was dropped before, so that it is not held.
                yield Step(run, offset - run, target)
                target, run = target + offset - run, offset
                self._payload.look(m, core.source)
            if m is not None:
                kept = kept_bytes(ceiling(self.rules, m, self.wanted), present, core.maps.page_size)
            else:
                kept = tag_bytes(table, self._written, i, load_of[i]) if i in load_of else present
            self._written[i] = kept
            if kept < present:
                if offset + kept > run:
                    yield Step(run, offset + kept - run, target)
                    target += offset + kept - run
                run = offset + present
        yield Step(run, TO_THE_END, target)


def check_fit(core: Core, output: Place | NamedFile, options: Options) -> None:
    """Refuse what cannot be chosen from. Raises UnstreamableError or UsageError."""
    if options.truncate is not None or options.in_place:
        other = "--truncate cuts blindly" if options.truncate is not None else "-i moves nothing"
        raise UsageError(f"{other}, and --fit and --minimal choose what to keep", "leave one of them out")
    if isinstance(core.source, PipeSource):
        raise UnstreamableError(
            f"{core.source.name}: --fit and --minimal look into stacks before anything is copied, and a pipe cannot be "
            "read twice"
        )
    if options.fit is not None and options.fit.allocated and not options.dry_run and not seekable_from(output):
        raise UsageError("--fit-allocated counts disk use, and the output is no file", "-o FILE names one")


def _reader(sink: Sink, first: Layout, written: array[int], core: Core) -> Callable[[int, int], bytes]:
    """Reads the core's payload by its offset in the core, out of the output; what was not written reads as zeros."""
    starts = sorted(
        (offset, offset + size, offset + there)
        for offset, size, there in zip(core.table.p_offset, written, core.present, strict=True)
        if there
    )

    def peek(offset: int, length: int) -> bytes:
        at = bisect_right(starts, (offset, 1 << 64, 0)) - 1
        start, kept, end = starts[max(at, 0)]
        length = max(0, min(length, end - offset)) if start <= offset else 0
        there = max(0, min(length, kept - offset))
        data = os.pread(sink.reader, there, sink.base + first.cuts.shift(offset)) if there else b""
        return data + bytes(length - len(data))

    return peek


def _moves(first: Layout, last: Layout, end: int) -> Iterator[tuple[int, int, int]]:
    """What must move within the output from its first layout to its last, which keeps less."""
    at = 0
    for start, stop in [*last.cuts, (end, end)]:
        if start > at and first.cuts.shift(at) != last.cuts.shift(at):
            yield first.cuts.shift(at), last.cuts.shift(at), start - at
        at = stop


def _conversion(core: Core, options: Options) -> Conversion | None:
    """What --format makes of the notes; records of mappings are written anew where they are wanted, or cut to fit."""
    if options.format == "same" and options.loadmaps is None:
        return None
    from .variants import convert

    annotated = options.annotate or (options.fit is not None and bool(core.notes.records))
    return convert(core, options.format, options.loadmaps, annotated=annotated)


def _limit(value: int | str, core: Core) -> Limit | None:
    from .limits import parse_limit, refuse_below_a_page

    limit = parse_limit(value)
    refuse_below_a_page(limit, core)
    return limit if limit.cuts else None


def check_tail(core: Core, raw: bytes) -> None:
    """Hold PN_XNUM's section header 0, which a pipe brings last, against the count that was derived before."""
    if len(raw) < core.ehdr.shdr_size:
        core.warnings.append("section header 0, which repeats the count of segments, is missing")
        return
    sh_info = elf.Shdr(raw, core.ehdr).sh_info
    if sh_info != len(core.table):
        core.warnings.append(elf.mismatch(sh_info, len(core.table)))


def make_wish(
    *,
    fit: int | str | None,
    allocated: bool,
    minimal: bool,
    follow: int | str | None,
    ladder: str | Sequence[str] | None,
) -> Wish | None:
    """What --fit, --minimal and their kin ask for, or None where none of them is there. Raises UsageError."""
    if fit is None and not allocated and not minimal and follow is None and ladder is None:
        return None
    from .wish import Wish

    return Wish(fit=fit, allocated=allocated, minimal=minimal, follow=follow, ladder=ladder)


def make_naming(
    name: str | None, *, directory: str | None, given: Mapping[str, str] | None, uses_pid: str
) -> Naming | None:
    """What --name and its kin ask for, or None where none of them is there. Raises UsageError."""
    if name is None:
        if directory is not None or given or uses_pid != "no":
            raise UsageError("--directory, --set and --uses-pid go with --name", "add --name TEMPLATE")
        return None
    from .naming import Naming

    return Naming(name, directory=directory, given=given, uses_pid=uses_pid)


def named(core: Core, naming: Naming, options: Options) -> tuple[NamedFile, list[str]]:
    """The file that a template names for this core, and what is not certain of its name. Raises UsageError."""
    from .corefile import CoreFile

    path, notices = naming.path(core)
    return CoreFile(path, replace=options.force, dumpable=naming.dumpable), notices


def filter_core(
    source: Place,
    output: Place | None = None,
    *,
    filter: int | str,
    name: str | None = None,
    directory: str | None = None,
    values: Mapping[str, str] | None = None,
    uses_pid: str = "no",
    unknown: str = "keep",
    assume: Sequence[str] = (),
    maps: str | None = None,
    pid: int | None = None,
    sysroot: str | None = None,
    annotate: bool = False,
    fit: int | str | None = None,
    fit_allocated: bool = False,
    minimal: bool = False,
    follow: int | str | None = None,
    ladder: str | Sequence[str] | None = None,
    truncate: int | str | None = None,
    format: str = "same",
    loadmaps: tuple[int, int] | None = None,
    dumper: str = CURRENT,
    strict: bool = False,
    sparse: str = "auto",
    engine: str = "auto",
    jobs: int | None = None,
    cache: str = "auto",
    compress: str | None = None,
    compress_threads: int | None = None,
    sync: bool = True,
    force: bool = False,
    spool: bool = False,
) -> Report:
    """Filter a core into another: paths, ``-``, or descriptors or binary files, which stay open.

    The options are those of ``corefilt filter``; ``values`` are what ``--set`` gives. Either ``output`` or ``name``
    says where to. Returns the report; ``report.damaged`` tells that the input was, ``report.output`` is the path.
    Raises CorefiltError's children.
    """
    if (output is None) == (name is None):
        raise UsageError("the output is either a place or a template's name", "give output or name")
    naming = make_naming(name, directory=directory, given=values, uses_pid=uses_pid)
    wanted, warnings = as_filter(filter)
    options = Options(
        fit=make_wish(fit=fit, allocated=fit_allocated, minimal=minimal, follow=follow, ladder=ladder),
        unknown=unknown, assume=assume, maps=maps, pid=pid, sysroot=sysroot, annotate=annotate, truncate=truncate,
        format=format, loadmaps=loadmaps, dumper=dumper, strict=strict, sparse=sparse, engine=engine, jobs=jobs,
        cache=cache, compress=compress, compress_threads=compress_threads, sync=sync, force=force,
    )  # fmt: skip
    with open_core(source, spool=spool) as core:
        target, notices = named(core, naming, options) if naming is not None else (output, [])
        if target is None:
            raise AssertionError("there is an output or a name")
        report = write_filtered(core, wanted, target, options)
        report.notices += warnings + notices
        return report
