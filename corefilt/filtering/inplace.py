"""Takes what a filter drops out of the core itself, which stays a valid core at every instant.

The order makes it so. First the headers are rewritten, and nothing else happens before the disk has them: what is
measured by a PT_LOAD (gdb's section headers, memory tag segments), then all program headers. No p_offset moves and
every p_filesz only shrinks, while all payload is still there, so any mix of old and new entries is a valid core. A
disk may tear a long table anywhere between two sectors, but no field, because fields that stand at multiples of
their size never cross a sector; where they do not, as in delve's cores, the halves that matter go first. Then the
dropped ranges become holes, which no header claims any more. Nothing else does: what a header, a note, a section or
a kept segment claims is left alone, and so is what nobody ever claimed. Where a kept byte shares a block with
dropped ones, the block stays.

A damaged core is repaired as a copy of it would be. Section headers that are not there are no longer announced; the
one that PN_XNUM needs is put behind the end when no segment claims that any more, and then announced.

A run that was interrupted is finished by the next one, which finds what the first left behind (corefile.punched).

``--compact`` then cuts a dropped tail off, or, where holes are left in between, puts a copy without them in the
core's place by one rename. FALLOC_FL_COLLAPSE_RANGE would need no copy, but offsets and bytes cannot change in one
step, and between the two the core would be none.
"""

from __future__ import annotations

import errno
import os
import time
from array import array

from corefilt import _fast
from corefilt.corefile.elf import Ehdr, Phdrs, Shdr
from corefilt.corefile.punched import claimed, given_up
from corefilt.corefile.ranges import Cuts, cut_out, joined
from corefilt.errors import CorefiltError, InPlaceError, UsageError
from corefilt.filtering.inplace_file import InPlaceFile, block_of, high_halves, whole_blocks
from corefilt.filtering.inplace_report import InPlaceReport
from corefilt.io.engine import Engine
from corefilt.io.replace import ReplacementSink
from corefilt.io.shared_holders import Holders
from corefilt.io.trim import discard_of
from corefilt.plan.layout import Layout, counts_anew, kept_bytes, section_headers, tagged_loads, taken
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.filtering.inplace_file import Bytes
    from corefilt.filtering.options import Options
    from corefilt.filtering.report import Report
    from corefilt.plan.plan import KeepPlan

# One system call punches no more than this, so that a signal is seen and the bar moves.
PIECE = 1 << 30
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_PUNCH = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.ESPIPE)


def write_in_place(plan: KeepPlan, options: Options, began: float) -> Report:
    """Carry a plan out in the core itself and tell what was done; ``began`` is a monotonic time in seconds.

    Raises UsageError or InPlaceError. Whatever is raised, the core is a valid one.
    """
    return _InPlace(plan, options).run(began)


class _InPlace:
    """One run over one core."""

    def __init__(self, plan: KeepPlan, options: Options) -> None:
        self.plan, self.core, self.options = plan, plan.core, options
        core = plan.core
        if core.source.compression is not None:
            raise UsageError(
                f"{core.source.name}: is compressed with {core.source.compression}, so holes cannot be punched in it",
                "write another file: -o OUT --compress same; corefilt batch --replace replaces this one",
            )
        source = core.source.file
        if source is None or not source.owned or source.spooled:
            raise UsageError(f"{core.source.name}: only a regular file named by its path can be changed in place")
        self.name, self.end = source.name, source.size
        self.table = core.table.replaced(core.table.p_offset, plan.sizes)
        self.head = self._new_head()
        self.sections = self._new_sections()
        size, raw = core.ehdr.shdr_size, self.sections
        decoded = [Shdr(raw[i : i + size], core.ehdr) for i in range(0, len(raw), size)]
        self.kept = joined(claimed(self.head, core.table, decoded, plan.sizes))
        # Where the file ends then: a section header that is missing is made anew behind all that is there.
        self.grown = max(self.end, self.head.e_shoff + len(raw))
        there = zip(core.table.p_offset, plan.sizes, core.present, strict=True)
        drops = [(offset + size, offset + present) for offset, size, present in there if size < present]
        gaps = list(core.gaps)
        if decoded:
            # A section that follows its segment claims less than before, and the next run would take what it left.
            gaps += given_up(self.head, self.table, decoded, self.end, core.maps.page_size).values()
        self.cuts = cut_out(drops + gaps, self.kept)
        self.allocated_before = 0
        self.punched = 0
        self.discard: str | None = None
        self.held = Holders().of(self.name)
        self._undo: list[tuple[int, Bytes]] = []

    def _new_head(self) -> Ehdr:
        """The ELF header, which announces no section headers that are not there, and PN_XNUM's where it stands."""
        core = self.core
        ehdr, word = core.ehdr, 8 if core.ehdr.wide else 4
        if not counts_anew(ehdr, core.table, core.sections, self.end):
            lost = ehdr.e_shoff and not core.sections
            return Ehdr(ehdr.pack(e_shoff=0, sections=False)) if lost else ehdr
        head, at = ehdr.with_count_elsewhere(), ehdr.e_shoff
        room = at, at + ehdr.shdr_size
        if not at or at % word or at > self.end or taken(ehdr, core.table, core.present, *room):
            head.e_shoff = -(-self.end // word) * word
            if not ehdr.wide and head.e_shoff >> 32:
                raise InPlaceError(
                    f"{self.name}: is too long for the section header that counts its program headers (PN_XNUM)"
                )
        return head

    def _new_sections(self) -> bytes:
        core = self.core
        if not self.head.e_shoff:
            return b""
        new = section_headers(core.ehdr, core.table, core.sections, self.plan.sizes, Cuts([]))
        at = self.head.e_shoff
        if at != core.ehdr.e_shoff:
            return new
        if new != _as_bytes(core.sections)[: len(new)] and taken(
            core.ehdr, core.table, self.plan.sizes, at, at + len(new)
        ):
            raise InPlaceError(f"{self.name}: the section headers at {at:#x} (e_shoff) overlap other data")
        return new

    # --- what stands against it -------------------------------------------------------------------------

    def _objections(self, status: os.stat_result) -> Iterator[tuple[str, str]]:
        """What only -f goes over, each with what to try instead."""
        core, plan = self.core, self.plan
        elsewhere = "-f goes ahead, -o OUT writes another file"
        if core.damaged:
            yield f"is damaged: {core.warnings[0]}", elsewhere
        if status.st_nlink > 1:
            yield f"has {status.st_nlink} hard links, and all of them would change", elsewhere
        if self.held is not None and not self.held.doubt and self._loses():
            yield self.held.reason, f"{self.held.way_out}; -f goes ahead, and they can no longer be restored"
        lost = count = 0
        for m, finding in enumerate(plan.findings):
            if plan.assumed[m]:
                most = kept_bytes(finding.levels(plan.filter)[2], core.present[core.maps.phdr[m]], core.maps.page_size)
                lost, count = lost + most - plan.kept(m), count + (most > plan.kept(m))
        if lost:
            yield (
                f"{show_size(lost)} in {counted(count, 'mapping')} would be dropped on an assumption",
                "--assume SELECTOR=KIND settles them, --unknown keep keeps them, -f goes ahead",
            )

    def _loses(self) -> bool:
        """Whether bytes of a segment go, or move to other offsets."""
        return self.options.compact or self.table.p_filesz != self.core.table.p_filesz

    def _open(self) -> InPlaceFile:
        try:
            place = InPlaceFile(os.open(self.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY), self.name, owned=True)
        except OSError as error:
            raise InPlaceError(f"{self.name}: cannot be changed: {error.strerror}") from None
        try:
            status = os.fstat(place.fd)
            if (status.st_dev, status.st_ino, status.st_size) != (*self.core.source.identity, self.end):
                raise InPlaceError(f"{self.name}: has changed since it was opened", "wait until nobody writes to it")
        except BaseException:
            place.close()
            raise
        return place

    def _refuse(self, status: os.stat_result) -> None:
        ehdr = self.core.ehdr
        word = 8 if ehdr.wide else 4
        if self.head.e_shoff % word:
            raise InPlaceError(
                f"{self.name}: ELF header: e_shoff is {self.head.e_shoff:#x}, not a multiple of {word}: a power "
                "failure could leave half of a number written"
            )
        if not self.options.force:
            for words, hint in self._objections(status):
                raise InPlaceError(f"{self.name}: {words}", hint)

    def _can_punch(self, place: InPlaceFile, block: int) -> bool:
        """Try it behind the end of the file, where there is nothing. Raises InPlaceError where it must be possible."""
        try:
            _fast.punch(place.fd, -(-self.end // block) * block, block)
        except OSError as error:
            if self.options.compact and error.errno in _NO_PUNCH:
                return False
            raise InPlaceError(
                f"{self.name}: holes cannot be punched here: {error.strerror}; nothing was changed",
                "--compact makes a smaller copy in its place, -o OUT writes another file",
            ) from None
        return True

    # --- what is done -----------------------------------------------------------------------------------

    def run(self, began: float) -> Report:
        """Do it, or with --dry-run say what would be done."""
        source = self.core.source
        if self.options.dry_run:
            status = os.fstat(source.fd)
            self.allocated_before = status.st_blocks * 512
            self.discard = discard_of(source.fd)
            report = self._report(None, None, self.grown, began)
            report.freed_bytes = sum(self._data_bytes(block_of(source.fd)))
            report.notices += [f"needs -f: {words}" for words, _ in self._objections(status)]
            report.notices += [self.held.reason] if self.held is not None and self.held.doubt else []
            return report
        place = self._open()
        try:
            status = os.fstat(place.fd)
            self._refuse(status)
            self.allocated_before = place.allocated = place.allocation()
            self.discard = discard_of(place.fd)
            size, engine = self._change(place), None
            if self.options.compact:
                layout = self.plan.layout
                if layout.size < size:
                    size, engine = layout.size, self._replace(place, layout)
            report = self._report(place, engine, size, began)
            report.notices += [self.held.lost] if self.held is not None and self._loses() else []
            return report
        finally:
            place.close()

    def _report(self, place: InPlaceFile | None, engine: Engine | None, size: int, began: float) -> InPlaceReport:
        """What was done; ``size`` is the core's length now in bytes, ``engine`` what copied it, if anything."""
        return InPlaceReport(
            self.plan, Layout(self.cuts, self.table, [], size), engine, place, time.monotonic() - began,
            allocated_before=self.allocated_before, punched=self.punched, discard=self.discard,
        )  # fmt: skip

    def _change(self, place: InPlaceFile) -> int:
        """Headers, tail, holes, in this order; returns how long the file is then, in bytes."""
        block = block_of(place.fd)
        cuts, size = list(self.cuts), self.grown
        punches = self._can_punch(place, block) if cuts else True
        self._rewrite_headers(place)
        if self.options.compact:
            if cuts and cuts[-1][1] == size:
                size = self._cut_tail(place, cuts.pop()[0])
            self._pull_in(place, size)
        if punches:
            self._punch(place, list(whole_blocks(Cuts(cuts), self.kept, block, size)))
        if self.options.sync:
            try:
                os.fdatasync(place.fd)
            except OSError as error:
                raise self._stopped("the disk did not accept all of it", error) from None
        place.allocated = place.allocation()
        if self.options.on_progress is not None:
            self.options.on_progress(self.end - self.punched)
        return size

    def _rewrite_headers(self, place: InPlaceFile) -> None:
        core = self.core
        old = _as_bytes(core.sections)[: len(self.sections)]
        mended = len(old) < len(self.sections) or self.head.e_shoff != core.ehdr.e_shoff
        if self.sections != old and not mended:
            self._rewrite(place, core.ehdr.e_shoff, self.sections, old, "section headers")
        before = core.table
        tags = [i for i in tagged_loads(before) if before.p_filesz[i] != self.table.p_filesz[i]]
        if tags:
            sizes = array("Q", before.p_filesz)
            for i in tags:
                sizes[i] = self.table.p_filesz[i]
            self._rewrite_table(place, before.replaced(before.p_offset, sizes))
        if self.table.p_filesz != before.p_filesz:
            self._rewrite_table(place, self.table)
        if mended and self.sections:
            # Behind the end only now, when no segment claims what is there any more.
            at = self.head.e_shoff
            self._rewrite(place, at, self.sections, place.read(at, len(self.sections)), "section header 0")
        heads = [head.pack(e_shoff=head.e_shoff, sections=True) for head in (self.head, core.ehdr)]
        if heads[0] != heads[1]:
            self._rewrite(place, 0, heads[0], heads[1], "ELF header")

    def _rewrite_table(self, place: InPlaceFile, new: Phdrs) -> None:
        ehdr = self.core.ehdr
        after, before = new.encode(ehdr), place.read(ehdr.e_phoff, len(new) * ehdr.phdr_size)
        first = high_halves(before, after, ehdr)
        if first != before:
            self._rewrite(place, ehdr.e_phoff, first, before, "program headers")
        self._rewrite(place, ehdr.e_phoff, after, before, "program headers")

    def _rewrite(self, place: InPlaceFile, offset: int, new: Bytes, old: Bytes, what: str) -> None:
        self._undo.append((offset, old))
        try:
            place.write_through(offset, new)
        except OSError as error:
            put_back = [place.put_back(at, data) for at, data in self._undo] + [place.cut_back(self.end)]
            state = "nothing was changed" if all(put_back) else "some are old and some new, which is a valid core"
            hint = None
            if error.errno in _NO_ROOM:
                hint = (
                    f"free {show_size(len(new) + (1 << 20))} of its file system, or of the quota: one "
                    "that copies on write needs space even to overwrite (old snapshots hold some)"
                )
            raise InPlaceError(
                f"{self.name}: the {what} cannot be rewritten: {error.strerror}; {state}", hint
            ) from None

    def _cut_tail(self, place: InPlaceFile, size: int) -> int:
        try:
            os.ftruncate(place.fd, size)
        except OSError as error:
            raise self._stopped(f"cannot be cut to {counted(size, 'byte')}", error) from None
        # Whoever reads it now should not take it for one that somebody else cut.
        self.core.source.size = size
        return size

    def _pull_in(self, place: InPlaceFile, size: int) -> None:
        """Have empty segments that point behind the end point at it; where they point means nothing."""
        offsets = self.table.p_offset
        if max(offsets) <= size:
            return
        pairs = zip(offsets, self.table.p_filesz, strict=True)
        self.table = self.table.replaced(
            array("Q", (offset if filesz else min(offset, size) for offset, filesz in pairs)), self.table.p_filesz
        )
        try:
            ehdr = self.core.ehdr
            after, before = self.table.encode(ehdr), place.read(ehdr.e_phoff, len(self.table) * ehdr.phdr_size)
            between = high_halves(before, after, ehdr)
            for data in (between, after) if between != before else (after,):
                place.write_through(ehdr.e_phoff, data)
        except OSError as error:
            raise self._stopped("empty program headers point past the end", error) from None

    def _punch(self, place: InPlaceFile, ranges: list[tuple[int, int]]) -> None:
        block = block_of(place.fd)
        on_progress = self.options.on_progress
        for start, stop in ranges:
            at = start
            while at < stop:
                upto = min(stop, (at + PIECE) // block * block)
                try:
                    _fast.punch(place.fd, at, upto - at)
                except OSError as error:
                    raise self._stopped(f"cannot be punched at byte {at}", error) from None
                self.punched += min(upto, self.end) - at
                if on_progress is not None:
                    on_progress(upto - at)
                at = upto

    def _replace(self, place: InPlaceFile, layout: Layout) -> Engine:
        """Put a copy without gaps in the core's place; returns what moved it."""
        options = self.options
        try:
            sink = ReplacementSink(os.path.realpath(self.name), place.fd)
            try:
                engine = Engine(
                    self.core.source, sink, demand=options.engine, sparse=options.sparse, writeback=options.sync
                )
                engine.run(layout.steps(self.end))
                sink.commit(layout.size, sync=options.sync)
            except BaseException:
                sink.abort()
                raise
        except CorefiltError as error:
            raise InPlaceError(
                f"{self.name}: the dropped bytes are removed, but the file could not be shortened: {error}",
                f"{show_size(layout.size)} of space are needed for the copy; without --compact, no space is needed",
            ) from None
        place.allocated = sink.allocated
        return engine

    def _stopped(self, what: str, error: OSError) -> InPlaceError:
        return InPlaceError(
            f"{self.name}: {what}: {error.strerror}; it is a valid core, {show_size(self.punched)} punched",
            "run the same command again to finish the rest",
        )

    def _data_bytes(self, block: int) -> Iterator[int]:
        """How many bytes of what would be punched are on the disk, range by range."""
        extents = self.core.source.extents()
        for start, stop in whole_blocks(self.cuts, self.kept, block, self.grown):
            yield sum(high - low for low, high in extents.pieces(start, stop))


def _as_bytes(sections: Sequence[Shdr]) -> bytes:
    return b"".join(section.raw for section in sections)
