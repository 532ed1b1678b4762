"""What a verification found, for a person and for a program."""

from __future__ import annotations

from corefilt import __version__
from corefilt.sizes import show_size
from corefilt.text import counted, printable

# Findings that are told one by one to a person; JSON has them all.
MOST_SHOWN = 20


class Finding:
    """One promise that is broken.

    ``what`` is header, segment, payload, notes, sections, unclaimed or filter; ``segment`` is the number of a program
    header of the full core, or None; ``address`` where it begins in memory, or None; ``bytes`` how many are concerned,
    or None; ``text`` says it in words.
    """

    __slots__ = ("address", "bytes", "segment", "text", "what")

    def __init__(
        self, what: str, text: str, *, segment: int | None = None, address: int | None = None, bytes: int | None = None
    ) -> None:
        self.what, self.text, self.segment, self.address, self.bytes = what, text, segment, address, bytes

    def as_dict(self) -> dict[str, object]:
        """The finding with the keys of its attributes; the address is a hex string."""
        return {
            "what": self.what,
            "segment": self.segment,
            "address": None if self.address is None else f"{self.address:#x}",
            "bytes": self.bytes,
            "text": self.text,
        }

    def __str__(self) -> str:
        return f"{self.what}: {self.text}"

    def __repr__(self) -> str:
        return f"<corefilt.verify.Finding {printable(str(self))}>"


class Verdict:
    """The outcome: ``findings`` are broken promises, ``changes`` what an option changed and what -i left behind.

    ``segments`` counts the full core's program headers; ``kept_bytes`` and ``dropped_bytes`` are payload of the full
    core that is in the filtered one, and that is not. ``short`` tells that the filtered one's headers claim more of the
    file than there is, as when a limit has cut it, and ``fitted`` that a note says that more was cut, so that only the
    most that a filter keeps was compared. ``damage`` says what is wrong with the compressed stream that holds the full
    core, of which only what could be decoded was compared; None for nothing.
    """

    __slots__ = (
        "changes", "damage", "dropped_bytes", "filter", "filtered", "findings", "fitted", "full", "kept_bytes",
        "overwritten_bytes", "segments", "short",
    )  # fmt: skip

    def __init__(self, full: str, filtered: str) -> None:
        self.full, self.filtered = full, filtered
        self.findings: list[Finding] = []
        self.changes: list[str] = []
        self.filter: str | None = None
        self.damage: str | None = None
        self.segments = self.kept_bytes = self.dropped_bytes = 0
        self.short = self.fitted = False
        # What a report of corefilt scrub lists, where one was given.
        self.overwritten_bytes: int | None = None

    @property
    def holds(self) -> bool:
        """Whether every promise is kept."""
        return not self.findings

    def as_dict(self) -> dict[str, object]:
        """The verdict with the stable keys of schema 1, sizes in bytes."""
        return {
            "schema": 1,
            "version": __version__,
            "full": self.full,
            "filtered": self.filtered,
            "filter": self.filter,
            "holds": self.holds,
            "segments": self.segments,
            "kept_bytes": self.kept_bytes,
            "dropped_bytes": self.dropped_bytes,
            **({} if self.overwritten_bytes is None else {"overwritten_bytes": self.overwritten_bytes}),
            **({} if self.damage is None else {"damage": self.damage}),
            "changes": self.changes,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def __repr__(self) -> str:
        outcome = "holds" if self.holds else f"broken in {counted(len(self.findings), 'place')}"
        return f"<corefilt.verify.Verdict {printable(self.full)} -> {printable(self.filtered)}: {outcome}>"

    def __str__(self) -> str:
        head = f"{printable(self.full)} -> {printable(self.filtered)}: "
        amounts = f"{show_size(self.kept_bytes)} kept, {show_size(self.dropped_bytes)} dropped"
        about = f"{counted(self.segments, 'segment')}, {amounts}"
        if self.holds:
            expected = f", as filter {self.filter} leaves it" if self.filter is not None else ""
            if expected and self.fitted:
                expected = f", nothing is kept that filter {self.filter} drops, and more was cut, as a note says"
            but = (
                ""
                if self.overwritten_bytes is None
                else f" but {counted(self.overwritten_bytes, 'byte')} that the report lists"
            )
            lines = [f"{head}holds: every kept byte{but} is the same, and none was invented{expected} ({about})"]
        else:
            count = len(self.findings)
            lines = [f"{head}BROKEN in {counted(count, 'place')} ({about})"]
        lines += [f"  {printable(str(finding))}" for finding in self.findings[:MOST_SHOWN]]
        if len(self.findings) > MOST_SHOWN:
            lines.append(f"  and {len(self.findings) - MOST_SHOWN} more (--json has them all)")
        lines += [f"  changed: {printable(change)}" for change in self.changes]
        if self.damage is not None:
            lines.append(f"  damaged: {printable(self.full)}: {printable(self.damage)}")
        return "\n".join(lines)
