"""One mapping under examination: what is known of it, and the kinds that the rules have left."""

from __future__ import annotations

from corefilt.corefile.elf import PF_W
from corefilt.kinds import Basis, Convention, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.payload import Payload
    from corefilt.corefile.corefilt_note import Record
    from corefilt.corefile.mappings import Mappings
    from corefilt.evidence.evidence import Area, Evidence

DELETED = b" (deleted)"


class Candidates:
    """One mapping under examination; the rules narrow ``proven`` and ``possible``."""

    __slots__ = (
        "area", "conventions", "dax", "doubt", "end", "evidence", "file_offset", "first", "flags", "m", "page_size",
        "path", "possible", "present", "proven", "record", "settled", "sources", "start",
    )  # fmt: skip

    def __init__(self, mappings: Mappings, m: int, payload: Payload | None, evidence: Evidence | None = None) -> None:
        self.m = m
        self.start, self.end = mappings.start(m), mappings.end(m)
        self.flags, self.present = mappings.flags(m), mappings.dumped(m)
        self.path, self.file_offset = mappings.path(m), mappings.file_offset(m)
        self.page_size = mappings.page_size
        self.first = payload.first.get(m) if payload else None
        self.proven = self.possible = Kind.ALL
        self.area: Area | None = evidence.area(m) if evidence is not None else None
        self.record: Record | None = evidence.records.get(m) if evidence is not None else None
        self.evidence: list[str] = []
        self.conventions: list[tuple[Convention, int]] = []
        self.sources = 0
        # What makes it likely that something was written although no program should, in words.
        self.doubt = ""
        # Whether anything speaks for DAX: it is not what is left when all else is disproved.
        self.settled = self.dax = False

    def rule_out(self, kinds: int, why: str, *, convention: Convention | None = None, source: int = Basis.CORE) -> None:
        """Take kinds away; ``why`` is noted if that changed anything. A convention never takes the last one."""
        if convention and (not self.possible & ~kinds or (self.settled and source == Basis.CORE)):
            return
        before = self.possible, self.proven
        if convention is None:
            self.proven &= ~kinds
        elif self.possible & kinds:
            self.conventions.append((convention, self.possible & kinds))
        self.possible &= ~kinds
        if before != (self.possible, self.proven):
            self.sources |= source
            if why and why not in self.evidence:
                self.evidence.append(why)

    def only(self, kinds: int, why: str, *, convention: Convention | None = None, source: int = Basis.CORE) -> None:
        """Take all other kinds away."""
        self.rule_out(Kind.ALL & ~kinds, why, convention=convention, source=source)

    def add(self, kinds: int, why: str) -> None:
        """Take kinds back in that what was asked before cannot tell from those that are left."""
        if kinds & ~self.possible:
            self.possible |= kinds
            self.proven |= kinds
            self.evidence.append(why)

    def header_page(
        self, kept: bool, why: str, *, convention: Convention | None = None, source: int = Basis.CORE
    ) -> None:
        """Say whether bit 4 keeps the first page, if that is still open."""
        if not self.possible & Kind.HEADED or not self.possible & Kind.UNHEADED:
            return
        # Only private file mappings have one; what else the mapping may be, it stays.
        self.rule_out(Kind.UNHEADED if kept else Kind.HEADED, why, convention=convention, source=source)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.end - self.start

    @property
    def writable(self) -> bool:
        """PF_W."""
        return bool(self.flags & PF_W)

    @property
    def deleted(self) -> bool:
        """Whether the name says that its link is gone (or the name is just like that)."""
        return self.path is not None and self.path.endswith(DELETED)
