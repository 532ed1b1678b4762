"""What a run in place did, for a person and for a program."""

from __future__ import annotations

from corefilt.filtering.report import Report
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.filtering.inplace_file import InPlaceFile
    from corefilt.io.engine import Engine
    from corefilt.plan.layout import Layout
    from corefilt.plan.plan import KeepPlan


class InPlaceReport(Report):
    """The report of a run in place: what the file takes of the disk, before and after, in bytes.

    ``freed_bytes`` is the difference, or for a dry run what would be punched of what is on the disk.
    """

    def __init__(
        self,
        plan: KeepPlan,
        layout: Layout,
        engine: Engine | None,
        place: InPlaceFile | None,
        seconds: float,
        *,
        allocated_before: int,
        punched: int,
        discard: str | None,
    ) -> None:
        """Gather what a run knows; ``engine`` is what copied the core, if anything, ``discard`` is on, off or None."""
        super().__init__(plan, layout, engine, place, seconds, moved=engine is not None)
        self.allocated_before, self.punched_bytes, self.discard = allocated_before, punched, discard
        self.freed_bytes = allocated_before - (self.allocated_bytes or 0)
        if engine is None:
            self.engine, self.holes = "punch", "punched"
        # Whether the core was as the filter leaves it already.
        unchanged = not self.changes and self.output_bytes == self.input_bytes
        self._was_done = unchanged and not self.dropped_bytes and not self.freed_bytes

    def as_dict(self) -> dict[str, object]:
        """The report with the stable keys of schema 1, and those of a run in place."""
        more = {
            "allocated_before": self.allocated_before,
            "freed_bytes": self.freed_bytes,
            "punched_bytes": self.punched_bytes,
            "discard": self.discard,
        }
        return {**super().as_dict(), **more}

    def headline(self) -> str:
        """Return the first line of the summary."""
        before = f"corefilt: {printable(self.input)}: "
        if self.output is None:
            return f"{before}{show_size(self.freed_bytes)} of {show_size(self.allocated_before)} on disk would be freed"
        if self._was_done:
            on_disk = f"{show_size(self.allocated_before)} on disk"
            return f"{before}nothing to do: it holds only what the filter keeps: {on_disk}"
        shorter = self.output_bytes != self.input_bytes
        length = f"{show_size(self.input_bytes or 0)} -> {show_size(self.output_bytes)}, " if shorter else ""
        on_disk = f"{show_size(self.allocated_before)} -> {show_size(self.allocated_bytes or 0)} on disk"
        return f"{before}changed in place, {length}{on_disk}"

    def summary(self, *, verbose: bool = False) -> str:
        """Return the summary, a few lines of text."""
        lines = [super().summary(verbose=verbose)]
        unchanged = not self.freed_bytes and self.output_bytes == self.input_bytes
        if self.output is not None and unchanged and not self._was_done:
            lines.append("  note: no space was freed: the dropped bytes were already holes")
        if self.output is not None and (self.allocated_bytes or 0) < self.output_bytes:
            lines.append("  note: plain copies write the holes out as zeros: cp --sparse=always and tar -S keep them")
        told = {
            "on": "on (the device is told which blocks are free)",
            "off": "off (fstrim tells the device later)",
            None: "not known",
        }[self.discard]
        lines.append(f"  discard: {told}")
        return "\n".join(lines)
