"""What --fit and --minimal chose, for the report and for a person."""

from __future__ import annotations

from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.plan.fit.backtrace import BacktraceMemory
    from corefilt.plan.fit.pages import Selection
    from corefilt.plan.fit.request import FitRequest
    from corefilt.plan.fit.runtimes.scene import Walk
    from corefilt.plan.fit.split_layout import FittedLayout


class Fit:
    """What was chosen: the ``layout``, and what the report tells of it, sizes in bytes.

    ``smallest`` is the smallest limit that works, ``rung`` the filter of the ladder that was taken whole, ``cut`` what
    the filter would have kept and was cut, by kind; ``threads`` are those found, ``whole`` those that have their whole
    stacks, ``segments`` the program headers of the output, ``unreadable`` those that claim less memory than they had.
    """

    def __init__(self, request: FitRequest, layout: FittedLayout | None, size: int) -> None:
        self.request, self.layout, self.size = request, layout, size
        self.smallest: int | None = None
        self.rung: str | None = None
        self.cut: dict[str, int] = {}
        self.threads = self.whole = self.segments = self.unreadable = 0
        self.changes: list[str] = []
        self.notices: list[str] = []
        self.runtimes: list[Walk] = []

    def as_dict(self) -> dict[str, object]:
        """For the report."""
        return {
            "limit": self.request.limit,
            "allocated": self.request.allocated,
            "minimal": self.request.minimal,
            "size": self.size,
            "smallest": self.smallest,
            "rung": self.rung,
            "segments": self.segments,
            "unreadable": self.unreadable,
            "threads": self.threads,
            "threads_whole": self.whole,
            "cut_bytes": sum(self.cut.values()),
            "cut": self.cut,
            "runtimes": [walk.as_dict() for walk in self.runtimes],
        }

    def tell_changes(self, core: CoreFile, selection: Selection) -> None:
        """Put the changes to headers and notes into words."""
        split = sum(1 for runs in selection.runs.values() if len(runs) > 1 or runs[0][0])
        parts = f": {counted(split, 'mapping was', 'mappings were')} cut into parts" if split else ""
        if parts or self.segments != len(core.table):
            self.changes.append(f"{counted(len(core.table), 'program header')} became {self.segments}{parts}")
        if self.unreadable:
            self.changes.append(
                f"p_memsz of {counted(self.unreadable, 'program header')} ends where the kept bytes end "
                "(--unreadable); a note has the true extents"
            )
        if not core.notes.fitted:
            self.changes.append("a COREFILT note was added, which records that mappings were cut")
        if selection.annotation_size():
            self.changes.append(f"a COREFILT note of {selection.annotation_size()} bytes was added or replaced")
        if core.sections:
            self.changes.append("the section headers were left out")

    def tell_threads(self, needs: BacktraceMemory, whole: int) -> None:
        """Take how many threads were found, and how many have their whole stacks."""
        self.threads, self.whole = len(needs.threads), whole
        if not any(thread.sp for thread in needs.threads):
            self.notices.append(
                "no stack pointer was found in the notes, or this machine's registers are not known here"
            )
        elif whole < self.threads:
            lacking = f"{self.threads - whole} of {counted(self.threads, 'thread')}"
            self.notices.append(f"no whole stack for {lacking}: the core lacks it, or FILTER drops it")

    def lines(self) -> Iterator[str]:
        """For a person."""
        limit = "no limit" if self.request.limit is None else f"at most {show_size(self.request.limit)}"
        rung = f"; of the ladder, {self.rung}" if self.rung is not None else ""
        if self.layout is None:
            yield f"fit: {limit}; nothing had to be cut{rung}"
            return
        smallest = f" (smallest possible: {show_size(self.smallest)})" if self.smallest is not None else ""
        stacks = f"{self.whole} of {counted(self.threads, 'thread')}"
        yield f"fit: {limit}{smallest}; full stacks for {stacks}; {counted(self.segments, 'segment')}{rung}"
        yield from (walk.line() for walk in self.runtimes if walk.kept)
        if self.request.levels:
            levels = self.request.levels
            yield f"follow: {counted(levels, 'level')}; that promises no frames of Java, Python or Go (--runtime does)"
        if self.cut:
            yield "cut to fit: " + ", ".join(f"{name} {show_size(size)}" for name, size in sorted(self.cut.items()))
