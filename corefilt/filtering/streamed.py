"""Writes what is settled only at the end: from a pipe into a file, where the payload tells of kinds as it passes."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from functools import lru_cache

from corefilt.classify.classifier import compare_files
from corefilt.errors import OutputError, UnstreamableError
from corefilt.filterbits import CoredumpFilter
from corefilt.filtering.run import FilterRun, check_tail, stop_if_undecided
from corefilt.io.engine import Engine
from corefilt.io.relocate import relocate
from corefilt.io.sinks import Sink
from corefilt.io.steps import TO_THE_END, Step
from corefilt.kinds import Kind, level, single
from corefilt.plan.layout import Layout, kept_bytes, lay_out, tag_bytes, tagged_loads
from corefilt.plan.note_slot import place_for_note
from corefilt.plan.plan import KeepPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corefilt.classify.classifier import Classifier
    from corefilt.corefile.corefile import CoreFile
    from corefilt.filtering.options import Options


class StreamedRun(FilterRun):
    """From a pipe to a file: what only the payload can tell is looked at as it passes, the headers come last.

    Of every mapping as much is written as any finding that can still come may keep. When all is known, what
    turned out to be too much is taken out again within the output, before it gets its name.
    """

    def __init__(self, core: CoreFile, wanted: CoredumpFilter, classifier: Classifier, options: Options) -> None:
        super().__init__(core, wanted, options)
        self.classifier = classifier
        if classifier.context.payload is None:
            raise AssertionError("the payload is looked at as it passes")
        self._payload = classifier.context.payload
        self._written = array("Q", core.present)
        # Its length is known from the start, its content at the end.
        texts = int(options.stamp is not None)
        self._note = place_for_note(core, self.conversion, annotate=options.annotate, texts=texts)

    def write(self, sink: Sink) -> None:
        """Write as much as can be wanted, then take out what turned out not to be. Raises UndecidedError."""
        if not sink.seekable:
            raise OutputError(f"{sink.name}: was a file, and is none any more")
        engine, core = self._engine(sink), self.core
        engine.run(self._steps())
        inserted = self._note.grown if self._note is not None else 0
        gaps = core.gaps
        core.ends_at(
            engine.at_end or 0,
            peek=lambda offset, length: os.pread(sink.reader, length, sink.base + offset + inserted),
        )
        written = array("Q", map(min, self._written, core.present))
        end = core.end or 0
        passed = [(start, min(stop, end)) for start, stop in gaps if start < end]
        first = lay_out(core.ehdr, core.table, core.sections, written, core.present, end, passed, self._note)
        if core.gaps != passed:
            # What lies behind the last segment is known now, and with it what the dump held of that.
            self.classifier.look_over()
        reader = _reader(sink, first, written, core)
        self._payload.look_for_textrel(reader)
        if self.classifier.by_files:
            compare_files(core, self.classifier, peek=reader)
        self.classifier.context.take_loadmaps()
        self._settle()
        self.plan = self.plan.with_sizes(array("Q", map(min, self.plan.sizes, written)))
        self.layout = self._lay_out()
        if engine.moved != end - first.cuts.total + first.cuts.inserted:
            raise AssertionError("what was written is not what the layout says")
        if core.ehdr.counts_elsewhere:
            at = sink.base + first.cuts.shift(core.ehdr.e_shoff)
            check_tail(core, os.pread(sink.reader, core.ehdr.shdr_size, at) if core.ehdr.e_shoff < end else b"")
        relocate(sink, _moves(first, self.layout, end))
        for put in self.layout.puts:
            engine.write(put.target, put.put or b"", over=True)
        if self.limit is not None:
            from corefilt.plan.rlimit import FROM_A_PIPE, Cut, OutputMap, cut_at

            size = cut_at(core, self.layout, self.limit.size, OutputMap(sink))
            self._shorten(Cut(self.limit, size, self.layout.size, FROM_A_PIPE))

    def dry(self) -> None:
        """Read the pipe to its end. Raises UndecidedError, or UnstreamableError where only writing tells."""
        if self.limit is not None:
            raise UnstreamableError(
                f"{self.core.source.name}: where a limit cuts what comes from a pipe is found out by writing it"
            )
        with open(os.devnull, "wb") as nowhere:
            engine = Engine(self.core.source, Sink(nowhere.fileno(), os.devnull, owned=False))
            engine.run(self._steps())
        self.core.ends_at(engine.at_end or 0)
        if self.classifier.by_files:
            compare_files(self.core, self.classifier, peek=None)
        self.classifier.context.take_loadmaps()
        self._settle()
        self.layout = self._lay_out()

    def _settle(self) -> None:
        self.plan = KeepPlan(self.core, self.wanted, self.classifier, self.options.unknown)
        stop_if_undecided(self.plan, self.options)

    def _steps(self) -> Iterator[Step]:
        """Decide each segment when the engine has come to it."""
        core = self.core
        table = core.table
        mapping_of = {i: core.maps.whole_of(m) for m, i in enumerate(core.maps.phdr)}
        begins = set(core.maps.whole.phdr)
        load_of = tagged_loads(table)
        run = target = 0
        gaps, passed = list(core.gaps), 0
        looked = {i for m, i in enumerate(core.maps.whole.phdr) if self._payload.wants_of(m)}
        rows = (i for i, size in enumerate(table.p_filesz) if size or i in looked)
        for i in sorted(rows, key=table.p_offset.__getitem__):
            offset, present = table.p_offset[i], table.p_filesz[i]
            while passed < len(gaps) and gaps[passed][0] < offset:
                start, stop = gaps[passed]
                yield Step(run, start - run, target)
                target, run = target + start - run, min(stop, offset)
                if stop > offset:
                    gaps[passed] = offset, stop
                else:
                    passed += 1
            m = mapping_of.get(i)
            note = self._note
            if note is not None and i == note.phdr:
                yield Step(run, note.offset - run, target)
                target += note.offset - run
                yield Step(note.offset, note.replaced, target, note.data)
                target, run = target + len(note.data), note.offset + note.replaced
            if m is not None and i in begins and self._payload.wants_of(m):
                # Also an empty step has the engine pass over what was dropped before, so that it is not held.
                yield Step(run, offset - run, target)
                target, run = target + offset - run, offset
                self._payload.look(m, core.source)
            if m is not None:
                kept = kept_bytes(_ceiling(self.classifier, m, self.wanted), present, core.maps.page_size)
            else:
                kept = tag_bytes(table, self._written, i, load_of[i]) if i in load_of else present
            self._written[i] = kept
            if kept < present:
                if offset + kept > run:
                    yield Step(run, offset + kept - run, target)
                    target += offset + kept - run
                run = offset + present
        for start, stop in gaps[passed:]:
            yield Step(run, start - run, target)
            target, run = target + start - run, stop
        yield Step(run, TO_THE_END, target)


def _reader(sink: Sink, first: Layout, written: array[int], core: CoreFile) -> Callable[[int, int], bytes]:
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


def _ceiling(classifier: Classifier, m: int, wanted: CoredumpFilter) -> int:
    """The most that any finding which can still come may keep of mapping ``m`` (a level)."""
    payload = classifier.context.payload
    if payload is None or payload.pending(m) or classifier.by_files:
        # A statement can contradict what is proven, and then anything is possible.
        kinds = Kind.ALL if classifier.stated(m) else classifier.proven(m) or Kind.ALL
    else:
        kinds = classifier.decide_whole(m).possible
    return _most(kinds, int(wanted), classifier.context.dumper)


@lru_cache(1 << 10)
def _most(kinds: int, wanted: int, dumper: str) -> int:
    return max(level(kind, CoredumpFilter(wanted), dumper) for kind in single(kinds))
