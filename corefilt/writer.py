"""Writes a filtered core in one pass: planned beforehand, or settled at the end where a pipe runs into a file."""

from __future__ import annotations

import os
import time
from array import array

from . import elf
from .core import Core, Plan, as_filter, ceiling, open_core
from .engine import Engine
from .errors import UndecidedError
from .filterbits import CoredumpFilter
from .plan import TO_THE_END, Layout, Step, kept_bytes, lay_out, tag_bytes, tagged_loads
from .report import Report
from .rules import Rules
from .sinks import Sink, open_sink, seekable_from
from .sources import PipeSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .sources import Place


class Options:
    """How to write: every field is an option of ``corefilt filter`` by the same name."""

    __slots__ = (
        "assume", "cache", "dry_run", "engine", "force", "jobs", "on_progress", "sparse", "strict", "sync", "unknown",
    )  # fmt: skip

    def __init__(
        self,
        *,
        unknown: str = "keep",
        assume: Sequence[str] = (),
        strict: bool = False,
        sparse: str = "auto",
        engine: str = "auto",
        jobs: int = 1,
        cache: str = "auto",
        sync: bool = True,
        force: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Hold the options."""
        self.unknown, self.assume, self.strict = unknown, assume, strict
        self.sparse, self.engine, self.sync, self.force = sparse, engine, sync, force
        self.jobs, self.cache = jobs, cache
        self.dry_run, self.on_progress = dry_run, on_progress


def write_filtered(core: Core, wanted: CoredumpFilter, output: Place, options: Options) -> Report:
    """Filter an open core into ``output`` and tell what was done.

    Raises InputError, OutputError, UndecidedError and their kin; whatever is raised, no output bears its name.
    """
    began = time.monotonic()
    if isinstance(core.source, PipeSource) and seekable_from(output):
        rules = core.rules(options.assume, with_payload=True)
        return _carry_out(_SettledAtTheEnd(core, wanted, rules, options), output, began)
    plan = Plan(core, wanted, core.rules(options.assume), options.unknown)
    return _carry_out(_PlannedBeforehand(plan, options), output, began)


def write_plan(plan: Plan, output: Place, options: Options) -> Report:
    """As write_filtered, with a plan that was made before."""
    began = time.monotonic()
    core = plan.core
    if isinstance(core.source, PipeSource) and seekable_from(output):
        rules = core.rules([a.text for a in plan.rules.assumptions], with_payload=True)
        return _carry_out(_SettledAtTheEnd(core, plan.filter, rules, options), output, began)
    return _carry_out(_PlannedBeforehand(plan, options), output, began)


def _carry_out(run: _Run, output: Place, began: float) -> Report:
    core, options = run.core, run.options
    if options.dry_run:
        run.dry()
        return run.report(None, time.monotonic() - began)
    sink = open_sink(output, force=options.force, source=core.source)
    try:
        run.write(sink)
        sink.commit(run.layout.size, sync=options.sync)
    except BaseException:
        sink.abort()
        raise
    return run.report(sink, time.monotonic() - began)


class _Run:
    """What both ways share: the plan, the engine that carried it out, and the report."""

    plan: Plan
    layout: Layout

    def __init__(self, core: Core, wanted: CoredumpFilter, options: Options) -> None:
        self.core, self.wanted, self.options = core, wanted, options
        self.engine: Engine | None = None

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

    def _stop_if_undecided(self) -> None:
        undecided = sum(self.plan.assumed)
        if self.options.strict and undecided:
            count = sum(1 for size in self.plan.assumed if size)
            raise UndecidedError(
                f"{self.core.source.name}: {undecided} bytes in {count} mappings hang on an assumption"
            )

    def report(self, sink: Sink | None, seconds: float) -> Report:
        return Report(self.plan, self.layout, self.engine, sink, seconds)


class _PlannedBeforehand(_Run):
    """From a file to anywhere, and from a pipe to a stream: the headers are known before the first byte leaves."""

    def __init__(self, plan: Plan, options: Options) -> None:
        super().__init__(plan.core, plan.filter, options)
        self.plan = plan
        self._stop_if_undecided()
        self.layout = self.plan.layout

    def dry(self) -> None:
        if isinstance(self.core.source, PipeSource):
            with open(os.devnull, "wb") as nowhere:
                self.write(Sink(nowhere.fileno(), os.devnull, owned=False))

    def write(self, sink: Sink) -> None:
        engine, core = self._engine(sink, self.layout.size), self.core
        engine.run(self.layout.steps(TO_THE_END if core.end is None else core.end))
        if core.end is not None:
            return
        end = engine.at_end if engine.at_end is not None else 0
        core.ends_at(end)
        self.plan.sizes = array("Q", map(min, self.plan.sizes, core.present))
        if core.ehdr.e_phnum == elf.PN_XNUM and core.ehdr.e_shoff:
            check_tail(core, engine.replaced.get(core.ehdr.e_shoff, b""))


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

    def write(self, sink: Sink) -> None:
        engine, core = self._engine(sink), self.core
        engine.run(self._steps())
        self._know_the_end(engine.at_end or 0)
        written = array("Q", map(min, self._written, core.present))
        self.plan.sizes = array("Q", map(min, self.plan.sizes, written))
        first = lay_out(core.ehdr, core.table, core.sections, written, core.present, core.end)
        self.layout = self.plan.layout
        end = core.end or 0
        if engine.moved != end - first.cuts.total:
            raise AssertionError("what was written is not what the layout says")
        if core.ehdr.e_phnum == elf.PN_XNUM and core.ehdr.e_shoff:
            at = sink.base + first.cuts.shift(core.ehdr.e_shoff)
            check_tail(core, os.pread(sink.reader, core.ehdr.shdr_size, at) if core.ehdr.e_shoff < end else b"")
        engine.relocate(_moves(first, self.layout, end))
        for source, _, data in self.layout.puts:
            engine.write(self.layout.cuts.shift(source), data, over=True)

    def dry(self) -> None:
        with open(os.devnull, "wb") as nowhere:
            engine = Engine(self.core.source, Sink(nowhere.fileno(), os.devnull, owned=False))
            engine.run(self._steps())
        self._know_the_end(engine.at_end or 0)
        self.layout = self.plan.layout

    def _know_the_end(self, end: int) -> None:
        self.core.ends_at(end)
        self.plan = Plan(self.core, self.wanted, self.rules, self.options.unknown)
        self._stop_if_undecided()

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


def _moves(first: Layout, last: Layout, end: int) -> Iterator[tuple[int, int, int]]:
    """What must move within the output from its first layout to its last, which keeps less."""
    at = 0
    for start, stop in [*last.cuts, (end, end)]:
        if start > at and first.cuts.shift(at) != last.cuts.shift(at):
            yield first.cuts.shift(at), last.cuts.shift(at), start - at
        at = stop


def check_tail(core: Core, raw: bytes) -> None:
    """Hold PN_XNUM's section header 0, which a pipe brings last, against the count that was derived before."""
    if len(raw) < core.ehdr.shdr_size:
        core.warnings.append("section header 0, which repeats the count of segments, is missing")
        return
    sh_info = elf.Shdr(raw, core.ehdr).sh_info
    if sh_info != len(core.table):
        core.warnings.append(elf.mismatch(sh_info, len(core.table)))


def filter_core(
    source: Place,
    output: Place,
    *,
    filter: int | str,
    unknown: str = "keep",
    assume: Sequence[str] = (),
    strict: bool = False,
    sparse: str = "auto",
    engine: str = "auto",
    jobs: int = 1,
    cache: str = "auto",
    sync: bool = True,
    force: bool = False,
    spool: bool = False,
) -> Report:
    """Filter a core into another: paths, ``-``, or descriptors or binary files, which stay open.

    The options are those of ``corefilt filter``. Returns the report; ``report.damaged`` tells that the input
    was. Raises CorefiltError's children.
    """
    wanted, warnings = as_filter(filter)
    options = Options(
        unknown=unknown, assume=assume, strict=strict, sparse=sparse, engine=engine, jobs=jobs, cache=cache,
        sync=sync, force=force,
    )  # fmt: skip
    with open_core(source, spool=spool) as core:
        report = write_filtered(core, wanted, output, options)
        report.notices += warnings
        return report
