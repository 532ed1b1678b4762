"""Writes what was planned beforehand: from a file to anywhere, and from a pipe to a stream."""

from __future__ import annotations

import os
from array import array

from corefilt.classify.payload import MOST_LOOK_AHEAD
from corefilt.corefile.ranges import end_of_segments
from corefilt.filtering.run import FilterRun, check_tail, stop_if_undecided
from corefilt.io.sinks import Sink
from corefilt.io.steps import TO_THE_END, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.filtering.options import Options
    from corefilt.io.engine import Engine
    from corefilt.io.sources import Source
    from corefilt.plan.plan import KeepPlan
    from corefilt.sizes import Limit


class PlannedRun(FilterRun):
    """From a file to anywhere, and from a pipe to a stream: the headers are known before the first byte leaves."""

    def __init__(self, plan: KeepPlan, options: Options) -> None:
        """Lay the output out. Raises UndecidedError and what --fit and --truncate refuse."""
        super().__init__(plan.core, plan.filter, options)
        self.plan = plan
        # Whether what a run in place left behind the last segment was left out.
        self._without = False
        stop_if_undecided(self.plan, self.options)
        self.layout = self._lay_out()
        if options.fit_request is not None:
            from corefilt.plan.fit.choose import fitted

            self.plan, self.fit = fitted(
                plan,
                options.fit_request,
                self.layout.size,
                self.conversion,
                sparse=options.sparse,
                annotate=options.annotate,
                texts=plan.encoded(self.texts),
            )
            self.layout = self.fit.layout or self.layout
        if self.limit is not None:
            from corefilt.plan.rlimit import cut_of_input

            cut = cut_of_input(self.core, self.layout, self.limit)
            if cut is not None:
                self._shorten(cut)

    def _steps(self) -> Iterator[Step]:
        end, overwrite = self.core.end, self.options.overwrite
        steps = self.layout.steps(TO_THE_END if end is None else end)
        return steps if overwrite is None else overwrite.steps(steps)

    def dry(self) -> None:
        """A pipe is read to its end, so that all of it is known; of a file all is, but what is overwritten where."""
        if self.options.overwrite is not None:
            for _ in self._steps():
                continue
        if not self.core.source.seekable:
            with open(os.devnull, "wb") as nowhere:
                self.write(Sink(nowhere.fileno(), os.devnull, owned=False))

    def write(self, sink: Sink) -> None:
        """Carry the layout out; where a pipe ends is known afterwards."""
        core = self.core
        if self.limit is not None and not core.source.seekable:
            engine = self._cut_as_it_passes(core.source, sink, self.limit)
        else:
            engine = self._engine(sink, self.layout.size)
            steps = self._steps()
            if not core.source.seekable:
                steps = self._without_tail(steps, core.source)
            if self.cut is not None:
                from corefilt.plan.rlimit import shortened

                steps = shortened(steps, self.cut.size)
            engine.run(steps)
        if core.end is not None:
            return
        end = engine.at_end if engine.at_end is not None else 0
        core.ends_at(end)
        behind = end_of_segments(core.table, core.table.p_filesz)
        if not self._without and _has_tail(core.gaps, behind, end):
            core.left_behind = end - behind
        self.plan = self.plan.with_sizes(array("Q", map(min, self.plan.sizes, core.present)))
        if core.ehdr.counts_elsewhere:
            check_tail(core, engine.replaced.get(core.ehdr.e_shoff, b""))

    def _without_tail(self, steps: Iterator[Step], source: Source) -> Iterator[Step]:
        """Leave out what a run in place left behind the last segment, where that much can be read ahead."""
        table = self.core.table
        behind = end_of_segments(table, table.p_filesz)
        for step in steps:
            if step.put is not None or step.length != TO_THE_END or step.source > behind:
                yield step
                continue
            from corefilt.corefile.punched import most_behind

            most = most_behind(table, behind)
            if not 0 < most <= MOST_LOOK_AHEAD:
                yield step
                continue
            yield Step(step.source, behind - step.source, step.target)
            target, end = step.target + behind - step.source, behind + len(source.peek(behind, most + 1))
            self._without = end <= behind + most and _has_tail(self.core.gaps_by(end), behind, end)
            if self._without:
                yield Step(end, TO_THE_END, target)
            else:
                yield Step(behind, TO_THE_END, target)

    def _cut_as_it_passes(self, source: Source, sink: Sink, limit: Limit) -> Engine:
        from corefilt.filtering.truncated import CuttingEngine
        from corefilt.plan.rlimit import FROM_A_PIPE, Cut

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


def _has_tail(gaps: list[tuple[int, int]], behind: int, end: int) -> bool:
    """Whether all that stands from ``behind`` to the input's end is a gap."""
    return any(start <= behind < stop == end for start, stop in gaps)
