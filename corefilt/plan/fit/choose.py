"""``--fit``, ``--minimal``, ``--ladder``: which pages are kept, so that the core is never larger than asked for.

Everything that could be kept is put into one order that does not depend on the limit: what a backtrace needs, what
pointers lead to, then the rest by its worth. What is kept is as much from its beginning as fits. So a larger limit
only adds, except that what a runtime needs is kept whole or not at all; the smallest that works is the size of what a
backtrace needs.
"""

from __future__ import annotations

from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile.corefile import MOST_READ
from corefilt.corefile.elf import PF_W, PT_NOTE
from corefilt.corefile.registers import read_threads
from corefilt.errors import DamagedCoreError, FitError
from corefilt.filterbits import parse_filter
from corefilt.kinds import Kind
from corefilt.plan.fit.backtrace import BacktraceMemory
from corefilt.plan.fit.chosen import Fit
from corefilt.plan.fit.pages import SMALL_HOLE, Holes, Selection, within
from corefilt.plan.fit.priority import by_worth, chunks, follow
from corefilt.plan.fit.request import FOLLOWED, MINIMAL, FitRequest
from corefilt.plan.fit.split_layout import SplitPhdr, fit_note, lay_out_pieces
from corefilt.plan.layout import kept_bytes
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.plan.fit.backtrace import Range
    from corefilt.plan.fit.runtimes.scene import Walk
    from corefilt.plan.format import Conversion
    from corefilt.plan.plan import KeepPlan

# Kinds that pointers are followed into: what the process itself wrote.
WRITTEN = Kind.PRIVATE_ANON | Kind.WRITTEN | Kind.SHARED_ANON | Kind.PRIVATE_HUGE


def fitted(
    plan: KeepPlan,
    request: FitRequest,
    plain_size: int,
    conversion: Conversion | None,
    *,
    sparse: str,
    annotate: bool,
    texts: bytes = b"",
) -> tuple[KeepPlan, Fit]:
    """Choose what is kept of all that the plan keeps: a plan with less, and how it was chosen.

    ``plain_size`` is the length in bytes of the output with nothing chosen; ``sparse`` and ``annotate`` are options of
    ``corefilt filter``. Raises FitError where the limit is too small, and DamagedCoreError for an input whose
    segments lie over each other so that the output would exceed it.
    """
    if not request.minimal and (request.limit is None or plain_size <= request.limit):
        return plan, Fit(request, None, plain_size)
    return _Fitting(plan, request, plain_size, conversion, sparse=sparse, annotate=annotate, texts=texts).choose()


class _Fitting:
    """One choice in the making."""

    def __init__(
        self,
        plan: KeepPlan,
        request: FitRequest,
        plain_size: int,
        conversion: Conversion | None,
        *,
        sparse: str,
        annotate: bool,
        texts: bytes,
    ) -> None:
        self._texts = texts
        core, self._conversion = plan.core, conversion
        self._plan, self._request, self._core, self._plain_size = plan, request, core, plain_size
        self._memory = core.memory(MOST_READ + 2 * request.budget)
        self._unit = max(core.maps.page_size, 4096)
        self._holes = Holes(plan, self._unit) if sparse == "auto" else None
        self._counts_holes = request.allocated and self._holes is not None
        self._annotate = annotate or bool(core.notes.records)
        # What p_filesz has beyond p_memsz is no memory.
        memory = core.table.p_memsz
        self._sizes = {i: size for i in core.maps.phdr if (size := min(plan.sizes[i], memory[i]))}
        likely = zip(core.maps.phdr, (finding.likely for finding in plan.findings), strict=True)
        written = {i for i, kind in likely if kind & Kind.WRITTEN and core.table.p_flags[i] & PF_W}
        threads = read_threads(core.source, core.ehdr, core.table)
        self._needs = BacktraceMemory(core, self._memory, threads, written)
        self._walks: list[Walk] = []
        if request.runtimes:
            from corefilt.plan.fit.runtimes.walks import walk_runtimes

            self._walks = walk_runtimes(plan, self._memory, threads, self._needs.stacks, request.runtimes)
            self._needs.end_stacks(there for walk in self._walks for there in walk.stacks)

    def choose(self) -> tuple[KeepPlan, Fit]:
        """Fill up in order."""
        request, selection = self._request, self._fresh()
        self._require(selection)
        smallest = selection.size_with()
        if request.limit is not None and smallest > request.limit:
            raise FitError(
                f"{self._core.source.name}: {counted(request.limit, 'byte')} cannot hold what a backtrace "
                f"needs; the smallest size that works is {smallest} ({show_size(smallest)})",
                smallest,
            )
        rung = None
        if request.ladder:
            rung, selection = self._climbed(selection)
        for walk in self._walks:
            self._keep_whole(selection, walk)
        if all(self._fill(selection, there, request.limit) for there in self._first(selection)) and not request.minimal:
            self._fill_up(selection)
        return self._finished(selection, smallest, rung)

    def _fresh(self) -> Selection:
        old = self._core.notes.record_at
        notes = len(self._texts)
        if self._conversion is not None:
            notes += len(self._conversion.data) - self._core.present[self._conversion.phdr]
        elif self._annotate and old is not None:
            notes -= old[1]
        holes = self._holes if self._counts_holes else None
        return Selection(self._plan, notes, holes, annotated=self._annotate, unreadable=self._request.unreadable)

    def _require(self, selection: Selection) -> None:
        for there in self._needs.required:
            for i, a, b in self._memory.pieces(*there):
                selection.fill(i, a, b, None, needed=there in self._needs.essential)

    def _keep_whole(self, selection: Selection, walk: Walk) -> None:
        """Keep all that a walk found, or, where that is more than the limit allows, nothing."""
        if walk.reason is not None:
            return
        before = selection.mark()
        for there in walk.ranges:
            self._fill(selection, there, None)
        size, limit = selection.size_with(), self._request.limit
        walk.kept = limit is None or size <= limit
        if not walk.kept:
            walk.reason = f"it takes {show_size(size)} to show its stacks, and --fit allows {show_size(limit or 0)}"
            selection.back_to(before)

    def _fill(self, selection: Selection, there: Range, limit: int | None) -> bool:
        """Keep a range of addresses without its large holes."""
        for i, a, b in self._memory.pieces(*there):
            apart = b - a > SMALL_HOLE and i in self._sizes and not selection.undivided(i)
            ranges = within(self._data(i), a, b) if apart else [(a, b)]
            if not all(selection.fill(i, *part, limit) for part in ranges):
                return False
        return True

    def _data(self, i: int) -> list[tuple[int, int]]:
        """The parts of a mapping that are worth more than its holes; where holes cost nothing, all of it."""
        if self._holes is None or self._counts_holes:
            return [(0, self._sizes[i])]
        return list(self._holes.large(i))

    def _first(self, selection: Selection) -> Iterator[Range]:
        """What comes right behind the required, in order."""
        request = self._request
        # Without a limit the aim is a small core, so a walk's ranges stand for the data segments that it covers.
        covered = {there for walk in self._walks if walk.kept and request.minimal for there in walk.data}
        yield from (there for there in self._needs.wanted if there not in covered)
        worth = {i: self._sizes[i] for i in self._followed()} if request.levels or not request.minimal else {}
        if worth:
            levels, budget = (request.levels, request.budget) if request.levels else (0, FOLLOWED)
            page = self._core.maps.page_size

            def at_hand(i: int, at: int) -> bool:
                return selection.holds(i, at, min(at + page, self._sizes[i]))

            yield from follow(self._memory, self._needs, levels, budget, page, worth, at_hand)

    def _followed(self) -> Iterator[int]:
        """The mappings that pointers are followed into: what the process wrote."""
        for m, finding in enumerate(self._plan.findings):
            i = self._core.maps.phdr[m]
            if i in self._sizes and finding.likely & WRITTEN and self._core.table.p_flags[i] & PF_W:
                yield i

    def _fill_up(self, selection: Selection) -> None:
        """The rest by its worth, and holes last."""
        order = by_worth(self._plan, {i: sum(b - a for a, b in self._data(i)) for i in self._sizes})
        targets = self._targets()
        for i in order:
            data = self._data(i)
            if selection.undivided(i) and data != [(0, self._sizes[i])]:
                # Its holes would have to come with it.
                continue
            if not self._take(selection, i, data, targets.get(i, [])):
                return
        for i in order:
            if not self._take(selection, i, [(0, self._sizes[i])], targets.get(i, [])):
                return

    def _take(self, selection: Selection, i: int, ranges: list[tuple[int, int]], targets: list[int]) -> bool:
        """Keep parts of a mapping, whole if they fit, else chunk by chunk; tells whether all fitted."""
        limit = self._request.limit
        parts = [selection.whole(i, a, b) for a, b in ranges]
        changes = [selection.trial(i, a, b) for a, b in parts if a < b]
        sums = [sum(column) for column in zip(*changes, strict=True)] or [0, 0, 0]
        if limit is None or selection.size_with((sums[0], sums[1], sums[2])) <= limit:
            return all(selection.fill(i, a, b, limit) for a, b in parts)
        if selection.undivided(i):
            return selection.fill(i, 0, self._sizes[i], limit)
        pieces = (there for part in chunks(self._sizes[i], self._unit, targets) for there in within(ranges, *part))
        return all(selection.fill(i, a, b, limit) for a, b in pieces)

    def _targets(self) -> dict[int, list[int]]:
        """Where stack pointers and other registers point to, by mapping: sorted offsets."""
        found: dict[int, list[int]] = {}
        for value in {value for thread in self._needs.threads for value in thread.registers}:
            i = self._memory.find(value)
            if i is not None and i in self._sizes:
                found.setdefault(i, []).append(value - self._memory.start(i))
        return {i: sorted(offsets) for i, offsets in found.items()}

    def _climbed(self, required: Selection) -> tuple[str | None, Selection]:
        """The filter of the ladder that keeps most and fits, and what is kept with it."""
        best: tuple[int, str | None, Selection] = (-1, None, required)
        for rung in self._request.ladder:
            selection = self._fresh()
            self._require(selection)
            for there in self._needs.wanted if rung == MINIMAL else ():
                self._fill(selection, there, None)
            for i, size in self._rung_sizes(rung):
                selection.fill(i, 0, size, None)
            size = selection.size_with()
            if best[0] < size <= (self._request.limit or 0):
                best = size, rung, selection
        return best[1], best[2]

    def _rung_sizes(self, rung: str) -> Iterator[tuple[int, int]]:
        if rung == MINIMAL:
            return
        plan, core = self._plan, self._core
        wanted = parse_filter(rung)[0]
        for m, finding in enumerate(plan.findings):
            i = core.maps.phdr[m]
            if i in self._sizes:
                least, likely, most = finding.levels(wanted)
                level = {"keep": most, "guess": likely, "drop": least}[plan.unknown]
                yield i, min(self._sizes[i], kept_bytes(level, core.present[i], core.maps.page_size))

    def _finished(self, selection: Selection, smallest: int, rung: str | None) -> tuple[KeepPlan, Fit]:
        plan, request = self._plan, self._request
        complete = all(selection.kept(i) == size for i, size in self._sizes.items())
        if complete and (request.limit is None or request.allocated or self._plain_size <= request.limit):
            done = Fit(request, None, self._plain_size)
        else:
            done = self._laid_out(selection)
            if request.limit is None and done.layout is not None and done.layout.size >= self._plain_size:
                # Program headers for parts, and whole pages, can take more than what they leave out.
                done = Fit(request, None, self._plain_size)
        done.smallest, done.rung, done.runtimes = smallest, rung, self._walks
        done.notices += [walk.warning() for walk in self._walks if walk.reason is not None]
        if request.minimal and done.layout is not None:
            from corefilt.plan.fit.runtimes.unwalked import unwalked

            done.notices += unwalked(self._plan.core.maps.whole, [walk.name for walk in self._walks])
        if request.ladder and rung is None:
            done.notices.append("no filter of the ladder fits")
        stacks = self._needs.stacks
        done.tell_threads(
            self._needs, sum(bool(own) and all(self._has(selection, there) for there in own) for own in stacks)
        )
        if self._memory.budget <= 0:
            done.notices.append("the search stopped at its limit; some of what pointers lead to may be missing")
        if done.layout is None:
            return plan, done
        sizes = plan.sizes[:]
        for m, finding in enumerate(plan.findings):
            i = self._core.maps.phdr[m]
            cut = plan.sizes[i] - selection.kept(i)
            if cut:
                done.cut[finding.kind] = done.cut.get(finding.kind, 0) + cut
                sizes[i] -= cut
        return plan.with_sizes(sizes), done

    def _laid_out(self, selection: Selection) -> Fit:
        core = self._core
        pieces = list(selection.pieces())
        kept = sum(piece.size for piece in pieces)
        if core.end is not None and kept > core.end:
            raise DamagedCoreError(
                f"{core.source.name}: its segments overlap: {show_size(kept)} of them are more than its "
                f"{show_size(core.end)}"
            )
        has_notes = any(
            p_type == PT_NOTE and there for p_type, there in zip(core.table.p_type, core.present, strict=True)
        )
        if not has_notes:
            raise DamagedCoreError(f"{core.source.name}: has no notes to record that it was cut to fit")
        size = selection.mark_size()
        # Without any part that continues a mapping, an earlier note says already that some were cut.
        notes = fit_note(core, pieces, size) if size else b""
        if self._annotate:
            notes = self._annotation(pieces, selection.annotation_size()) + notes
        notes = self._texts + notes
        without = core.notes.record_at if self._annotate else None
        layout = lay_out_pieces(
            core.ehdr, core.table, pieces, notes=notes, without=without, unit=selection.align,
            conversion=self._conversion,
        )  # fmt: skip
        done = Fit(self._request, layout, selection.size_with() if self._counts_holes else layout.size)
        done.segments = len(pieces)
        done.unreadable = sum(piece.memsz < piece.extent for piece in pieces) if self._request.unreadable else 0
        done.tell_changes(core, selection)
        return done

    def _has(self, selection: Selection, there: Range) -> bool:
        return all(selection.holds(i, a, b) for i, a, b in self._memory.pieces(*there))

    def _annotation(self, pieces: list[SplitPhdr], size: int) -> bytes:
        core = self._core
        findings = dict(zip(core.maps.phdr, self._plan.findings, strict=True))
        records = []
        for piece in pieces:
            if piece.phdr in findings:
                start = core.table.p_vaddr[piece.phdr] + piece.at
                finding = findings[piece.phdr]
                records.append((start, start + piece.extent, finding.behind_first_page() if piece.at else finding))
        return annotation.encode(core.ehdr, records, size)
