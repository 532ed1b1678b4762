"""Writes what is settled only at the end: from a pipe into a file, where the payload tells of kinds as it passes."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from itertools import chain

from corefilt import _fast
from corefilt.classify.classifier import compare_files
from corefilt.corefile.ranges import in_file_order
from corefilt.errors import OutputError
from corefilt.filtering.run import FilterRun, check_tail, stop_if_undecided
from corefilt.io.engine import Engine
from corefilt.io.relocate import relocate
from corefilt.io.sinks import Sink
from corefilt.io.steps import TO_THE_END, Step
from corefilt.kinds import WHOLE, Kind, level
from corefilt.plan.layout import cuts_of, kept_bytes, tag_bytes, tagged_loads
from corefilt.plan.note_slot import place_for_note
from corefilt.plan.plan import KeepPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corefilt.classify.classifier import Classifier
    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.ranges import Cuts
    from corefilt.filtering.options import Options


class StreamedRun(FilterRun):
    """From a pipe to a file: what only the payload can tell is looked at as it passes, the headers come last.

    Of every mapping as much is written as any finding that can still come may keep. When all is known, what
    turned out to be too much is taken out again within the output, before it gets its name.
    """

    def __init__(self, core: CoreFile, wanted: int, classifier: Classifier, options: Options) -> None:
        super().__init__(core, wanted, options)
        self.classifier = classifier
        if classifier.context.payload is None:
            raise AssertionError("the payload is looked at as it passes")
        self._payload = classifier.context.payload
        self._written = array("Q", core.present)
        # What was found out of classes of mappings, before and after all that speaks of them has been looked at.
        self._ceilings: dict[tuple[int, bool], int] = {}
        # Its length is known from the start, its content at the end.
        texts = int(options.stamp is not None)
        self._note = place_for_note(core, self.conversion, annotate=options.annotate, texts=texts)
        # The ELF header and the table where it follows that, in bytes: they are written last, and not twice.
        ehdr = core.ehdr
        self._headers = ehdr.size + len(core.table) * ehdr.phdr_size if ehdr.e_phoff == ehdr.size else 0

    def write(self, sink: Sink) -> None:
        """Write as much as can be wanted, then take out what turned out not to be. Raises UndecidedError."""
        if not sink.seekable:
            raise OutputError(f"{sink.name}: was a file and is not one now")
        engine, core = self._engine(sink), self.core
        engine.run(self._steps())
        inserted = self._note.grown if self._note is not None else 0
        gaps = core.gaps
        core.ends_at(
            engine.at_end or 0,
            peek=lambda offset, length: os.pread(sink.reader, length, sink.base + offset + inserted),
        )
        written = array("Q", core.present)
        _fast.smaller(self._written, core.present, written)
        end = core.end or 0
        passed = [(start, min(stop, end)) for start, stop in gaps if start < end]
        first = cuts_of(core.ehdr, core.table, core.sections, written, core.present, end, passed, self._note)
        if core.gaps != passed:
            # What lies behind the last segment is known now, and with it what the dump held of that.
            self.classifier.look_over()
        reader = _reader(sink, first, written, core)
        self._payload.look_for_textrel(reader)
        if self.classifier.by_files:
            compare_files(core, self.classifier, peek=reader)
        self.classifier.context.take_loadmaps()
        self._settle()
        sizes = array("Q", written)
        _fast.smaller(self.plan.sizes, written, sizes)
        self.plan = self.plan.with_sizes(sizes)
        self.layout = self._lay_out()
        if self._headers + engine.moved != end - first.total + first.inserted:
            raise AssertionError("what was written is not what the layout says")
        if core.ehdr.counts_elsewhere:
            at = sink.base + first.shift(core.ehdr.e_shoff)
            check_tail(core, os.pread(sink.reader, core.ehdr.shdr_size, at) if core.ehdr.e_shoff < end else b"")
        relocate(sink, _moves(first, self.layout.cuts, end))
        for put in self.layout.puts:
            engine.write(put.target, put.put or b"", over=True)
        if self.limit is not None:
            from corefilt.plan.rlimit import FROM_A_PIPE, Cut, OutputMap, cut_at

            size = cut_at(core, self.layout, self.limit.size, OutputMap(sink))
            self._shorten(Cut(self.limit, size, self.layout.size, FROM_A_PIPE))

    def dry(self) -> None:
        """Read the pipe to its end. Raises UndecidedError, or UnstreamableError where only writing tells."""
        if self.limit is not None:
            raise self.core.source.refused(f"-n cannot tell where a limit cuts {self.core.source.passing}")
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
        """Decide each segment when the engine has come to it, if the payload before it can tell anything of it."""
        core = self.core
        table, maps, note = core.table, core.maps, self._note
        load_of = tagged_loads(table)
        run = target = self._headers
        yield Step(0, run, 0, b"")
        gaps, passed = list(core.gaps), 0
        known = self._decide_known()
        rows, at = self._rows(), 0
        while at < len(rows):
            at += _fast.kept_whole(rows, at, known, self._written, table.p_filesz) if not gaps else 0
            if at == len(rows):
                break
            i, at = rows[at], at + 1
            offset, present = table.p_offset[i], table.p_filesz[i]
            while passed < len(gaps) and gaps[passed][0] < offset:
                start, stop = gaps[passed]
                yield Step(run, start - run, target)
                target, run = target + start - run, min(stop, offset)
                if stop > offset:
                    gaps[passed] = offset, stop
                else:
                    passed += 1
            part = maps.of_row(i)
            m = maps.whole_of(part) if part is not None else None
            if note is not None and i == note.phdr:
                yield Step(run, note.offset - run, target)
                target += note.offset - run
                yield Step(note.offset, note.replaced, target, note.data)
                target, run = target + len(note.data), note.offset + note.replaced
            if m is not None and maps.whole.phdr[m] == i and self._payload.wants_of(m):
                # Also an empty step has the engine pass over what was dropped before, so that it is not held.
                yield Step(run, offset - run, target)
                target, run = target + offset - run, offset
                self._payload.look(m, core.source)
            if known[i]:
                kept = self._written[i]
            elif m is not None:
                kept = kept_bytes(self._ceiling(m), present, maps.page_size)
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

    def _rows(self) -> array[int]:
        """The program headers that have bytes, or mappings of which a run in place left some, in the file's order."""
        table, whole = self.core.table, self.core.maps.whole
        rows, _ = in_file_order(table)
        looked = {whole.phdr[m] for m in self._payload.wanted}
        beside = [i for i in looked if not table.p_filesz[i]]
        return array("I", sorted([*rows, *beside], key=table.p_offset.__getitem__)) if beside else rows

    def _decide_known(self) -> bytearray:
        """Decide what no payload that has yet to come can tell more of; return a byte for each program header."""
        core, maps = self.core, self.core.maps
        known = bytearray(len(core.table))
        classes = self._classes = self.classifier.classes()
        if maps.whole is not maps or self.classifier.by_files:
            return known
        sure = bytearray(not alone for alone in classes.alone)
        levels = bytearray()
        for c, m in enumerate(classes.first):
            if sure[c] and self._payload.pending(m):
                sure[c] = 0
            levels += bytes(4 * (self._ceiling(m) if sure[c] else WHOLE,))
        nothing = array("Q", bytes(8 * len(maps)))
        rows, present = maps.phdr, core.table.p_filesz
        _fast.spread(rows, classes.numbers, levels, present, maps.page_size, self._written, nothing, nothing)
        _fast.scatter(rows, classes.numbers, sure, known)
        return known

    def _ceiling(self, m: int) -> int:
        """The most that any finding which can still come may keep of mapping ``m`` (a level)."""
        classifier, payload = self.classifier, self._payload
        pending = payload.pending(m) or classifier.by_files
        number = self._classes.numbers[m]
        alone = self._classes.alone[number] or classifier.context.address_space.nameless_images(payload)
        key = None if alone else (number, pending)
        if key is not None and key in self._ceilings:
            return self._ceilings[key]
        if pending:
            # A statement can contradict what is proven, and then anything is possible.
            kinds = Kind.ALL if classifier.stated(m) else classifier.proven(m) or Kind.ALL
        else:
            kinds = classifier.decide_whole(m).possible
        found = level(kinds, self.wanted, classifier.context.dumper)
        if key is not None:
            self._ceilings[key] = found
        return found


def _reader(sink: Sink, first: Cuts, written: array[int], core: CoreFile) -> Callable[[int, int], bytes]:
    """Reads the core's payload by its offset in the core, out of the output; what was not written reads as zeros."""
    table, rows = core.table, array("I")

    def peek(offset: int, length: int) -> bytes:
        if not rows:
            rows.extend(in_file_order(table)[0])
        at = bisect_right(rows, offset, key=table.p_offset.__getitem__) - 1
        i = rows[max(at, 0)]
        start = table.p_offset[i]
        length = max(0, min(length, start + core.present[i] - offset)) if start <= offset else 0
        there = max(0, min(length, start + written[i] - offset))
        data = os.pread(sink.reader, there, sink.base + first.shift(offset)) if there else b""
        return data + bytes(length - len(data))

    return peek


def _moves(first: Cuts, last: Cuts, end: int) -> Iterator[tuple[int, int, int]]:
    """What must move within the output from its first layout to its last, which keeps less."""
    at = 0
    for start, stop in chain(last, ((end, end),)):
        if start > at and first.shift(at) != last.shift(at):
            yield first.shift(at), last.shift(at), start - at
        at = stop
