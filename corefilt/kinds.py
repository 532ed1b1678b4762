"""The kinds of mapping that the kernel tells apart, and what a filter keeps of each.

A mapping starts with every kind; evidence takes away those that it disproves (classify). The classes are those
of ``vma_dump_size`` in fs/coredump.c by the rules of Linux 5.19 and later (the same in 6.19). Held against dumps
by Linux 6.18 in tests/kernel.
"""

from __future__ import annotations

from corefilt.filterbits import Bit


class Kind:
    """One bit a kind, so that what is still possible is an int.

    A private file mapping is *written* once one of its pages was copied (the kernel's anon_vma); *headed* is
    one whose first page bit 4 keeps: it starts at offset 0, is readable, and its file is executable or ELF.
    """

    SPECIAL = 1 << 0
    EXCLUDED = 1 << 1
    PRIVATE_ANON = 1 << 2
    SHARED_ANON = 1 << 3
    SHARED_FILE = 1 << 4
    PRIVATE_FILE = 1 << 5
    PRIVATE_FILE_HEADED = 1 << 6
    WRITTEN_FILE = 1 << 7
    WRITTEN_FILE_HEADED = 1 << 8
    PRIVATE_HUGE = 1 << 9
    SHARED_HUGE = 1 << 10
    PRIVATE_DAX = 1 << 11
    SHARED_DAX = 1 << 12

    ALL = (1 << 13) - 1
    CLEAN = PRIVATE_FILE | PRIVATE_FILE_HEADED
    WRITTEN = WRITTEN_FILE | WRITTEN_FILE_HEADED
    HEADED = PRIVATE_FILE_HEADED | WRITTEN_FILE_HEADED
    UNHEADED = PRIVATE_FILE | WRITTEN_FILE
    PRIVATE_MAPPED = CLEAN | WRITTEN
    HUGE = PRIVATE_HUGE | SHARED_HUGE
    DAX = PRIVATE_DAX | SHARED_DAX


# The names that people see, and --assume takes.
NAMES = {
    "special": Kind.SPECIAL,
    "not-dumped": Kind.EXCLUDED,
    "private-anonymous": Kind.PRIVATE_ANON,
    "shared-anonymous": Kind.SHARED_ANON,
    "shared-file-backed": Kind.SHARED_FILE,
    "private-file-backed": Kind.CLEAN,
    "private-file-written": Kind.WRITTEN,
    "private-huge": Kind.PRIVATE_HUGE,
    "shared-huge": Kind.SHARED_HUGE,
    "private-dax": Kind.PRIVATE_DAX,
    "shared-dax": Kind.SHARED_DAX,
}

# How much of a mapping stays.
NOTHING, ONE_PAGE, WHOLE = 0, 1, 2

_BITS = {
    Kind.PRIVATE_ANON: Bit.PRIVATE_ANONYMOUS,
    Kind.SHARED_ANON: Bit.SHARED_ANONYMOUS,
    Kind.SHARED_FILE: Bit.SHARED_FILE_BACKED,
    Kind.PRIVATE_FILE: Bit.PRIVATE_FILE_BACKED,
    Kind.PRIVATE_FILE_HEADED: Bit.PRIVATE_FILE_BACKED,
    Kind.WRITTEN_FILE: Bit.PRIVATE_FILE_BACKED | Bit.PRIVATE_ANONYMOUS,
    Kind.WRITTEN_FILE_HEADED: Bit.PRIVATE_FILE_BACKED | Bit.PRIVATE_ANONYMOUS,
    Kind.PRIVATE_HUGE: Bit.PRIVATE_HUGE,
    Kind.SHARED_HUGE: Bit.SHARED_HUGE,
    Kind.PRIVATE_DAX: Bit.PRIVATE_DAX,
    Kind.SHARED_DAX: Bit.SHARED_DAX,
}


# The FDPIC dumper before Linux 5.10 has rules of its own: what was written to goes by bit 0, whatever it is, and what
# was not by bit 2, special mappings too; it knows no huge pages and no header pages (maydump in
# fs/binfmt_elf_fdpic.c of Linux 5.8).
CURRENT, FDPIC_OLD = DUMPERS = ("current", "fdpic-old")
_OLD_BITS = {
    **_BITS,
    Kind.SPECIAL: Bit.PRIVATE_FILE_BACKED,
    Kind.EXCLUDED: Bit.NONE,
    Kind.WRITTEN_FILE: Bit.PRIVATE_ANONYMOUS,
    Kind.WRITTEN_FILE_HEADED: Bit.PRIVATE_ANONYMOUS,
    Kind.PRIVATE_HUGE: Bit.PRIVATE_ANONYMOUS | Bit.PRIVATE_FILE_BACKED,
    Kind.SHARED_HUGE: Bit.SHARED_ANONYMOUS | Bit.SHARED_FILE_BACKED,
}


# What a filter keeps of each kind, by filter and dumper, as ``kept_by`` gives it: a plan asks of every finding.
_KEPT: dict[tuple[int, str], tuple[int, int]] = {}


def kept_by(wanted: int, dumper: str = CURRENT) -> tuple[int, int]:
    """The kinds that the filter keeps whole, and those of which it keeps the first page."""
    key = int(wanted), dumper
    if key not in _KEPT:
        _KEPT[key] = _kept_by(wanted, dumper)
    return _KEPT[key]


def _kept_by(wanted: int, dumper: str) -> tuple[int, int]:
    bits = _BITS if dumper == CURRENT else _OLD_BITS
    whole = sum(kind for kind, bit in bits.items() if bit & wanted)
    if dumper == FDPIC_OLD:
        return whole, 0
    return whole | Kind.SPECIAL, Kind.HEADED & ~whole if wanted & Bit.ELF_HEADERS else 0


def level(kinds: int, wanted: int, dumper: str = CURRENT) -> int:
    """How much the filter keeps of a mapping of a kind, or the most of several: NOTHING, ONE_PAGE or WHOLE."""
    whole, page = kept_by(wanted, dumper)
    return WHOLE if kinds & whole else ONE_PAGE if kinds & page else NOTHING


def _least(kinds: int, wanted: int, dumper: str = CURRENT) -> int:
    """The least that the filter keeps of a mapping of any of some kinds: NOTHING, ONE_PAGE or WHOLE."""
    whole, page = kept_by(wanted, dumper)
    return NOTHING if kinds & ~(whole | page) else ONE_PAGE if kinds & page else WHOLE


def single(kinds: int) -> list[int]:
    """The kinds of a set, one by one."""
    return [1 << i for i in range(kinds.bit_length()) if kinds >> i & 1]


def name_of(kind: int) -> str:
    """What people call this kind."""
    return next(name for name, kinds in NAMES.items() if kind & kinds)


class Basis:
    """Where reasons come from, one bit each; they stand so in a COREFILT note."""

    CORE = 1 << 0
    MAPS = 1 << 1
    SMAPS = 1 << 2
    FILES = 1 << 3
    SYSROOT = 1 << 4
    USER = 1 << 5


SOURCE_NAMES = {
    Basis.CORE: "the core",
    Basis.MAPS: "maps",
    Basis.SMAPS: "smaps",
    Basis.FILES: "the mapped files of the process",
    Basis.SYSROOT: "the files below --sysroot",
    Basis.USER: "--assume",
}


class Convention:
    """Something that programs are known to do, by which kinds are ruled out that nothing disproves.

    ``name`` is short and stable, ``words`` say it in a sentence.
    """

    __slots__ = ("name", "words")

    def __init__(self, name: str, words: str) -> None:
        self.name, self.words = name, words

    def __repr__(self) -> str:
        return self.name


def certainty_of(possible: int, proven: int) -> str:
    """How well a kind is known that nobody stated: exact, inferred by a convention, or assumed of several."""
    return "assumed" if possible & possible - 1 else "exact" if possible == proven else "inferred"


class Classification:
    """What is known of a mapping, shared by all mappings of which the same is known.

    ``possible`` are the kinds that are left, ``proven`` those and what only conventions ruled out, ``likely`` the
    possible one to guess, ``certainty`` one of exact, inferred, assumed, stated, ``evidence`` the reasons in words,
    ``sources`` where they came from, ``conventions`` pairs of a convention and the kinds that it alone ruled out,
    ``kind`` the likely one's name.
    """

    __slots__ = (
        "certainty", "contradiction", "conventions", "disbelieved", "dumper", "evidence", "kind", "likely", "possible",
        "proven", "sources",
    )  # fmt: skip

    def __init__(
        self,
        possible: int,
        proven: int,
        likely: int,
        certainty: str,
        evidence: tuple[str, ...],
        sources: int,
        dumper: str = CURRENT,
        conventions: tuple[tuple[Convention, int], ...] = (),
    ) -> None:
        """Hold them; ``dumper`` says by whose rules the filter is read.

        ``contradiction`` is set where the evidence left nothing, so that anything is possible, and ``disbelieved``
        where the record of a COREFILT note was set aside for that.
        """
        self.contradiction = self.disbelieved = False
        self.possible, self.proven, self.likely, self.certainty = possible, proven, likely, certainty
        self.evidence, self.sources, self.conventions = evidence, sources, conventions
        self.kind, self.dumper = name_of(likely), dumper

    @property
    def uncertain(self) -> bool:
        """Whether several kinds are left; of a kind that is known or stated, the header page can be in doubt."""
        return bool(self.possible & self.possible - 1)

    @property
    def header_in_doubt(self) -> bool:
        """Whether bit 4 keeps the first page is open; the old FDPIC dumper knows no header pages."""
        return bool(self.possible & Kind.HEADED and self.possible & Kind.UNHEADED) and self.dumper == CURRENT

    def others(self) -> list[str]:
        """The names of the kinds that it could be instead."""
        return sorted({name_of(kind) for kind in single(self.possible)} - {self.kind})

    def behind_first_page(self) -> Classification:
        """The finding for a part of a mapping that does not begin with its first page."""
        possible, proven, likely, *ruled = (
            kinds & ~Kind.HEADED | (kinds & Kind.HEADED) >> 1
            for kinds in (self.possible, self.proven, self.likely, *(kinds for _, kinds in self.conventions))
        )
        conventions = tuple(
            (convention, kinds & ~possible)
            for (convention, _), kinds in zip(self.conventions, ruled, strict=True)
            if kinds & ~possible
        )
        certainty = self.certainty if self.certainty == "stated" else certainty_of(possible, proven)
        found = Classification(
            possible, proven, likely, certainty, self.evidence, self.sources, self.dumper, conventions
        )
        found.contradiction, found.disbelieved = self.contradiction, self.disbelieved
        return found

    def levels(self, wanted: int) -> tuple[int, int, int]:
        """The least, the likeliest and the most that the filter may keep of it."""
        possible, dumper = self.possible, self.dumper
        likely = level(self.likely, wanted, dumper)
        return _least(possible, wanted, dumper), likely, level(possible, wanted, dumper)

    def undisproved(self, wanted: int) -> int:
        """The most that the filter may keep of it if no convention holds: NOTHING, ONE_PAGE or WHOLE.

        What was stated needs no convention.
        """
        proven = self.possible if self.certainty == "stated" else self.proven | self.possible
        return level(proven, wanted, self.dumper)

    def dropped_by(self, wanted: int) -> list[Convention]:
        """The conventions without which the filter might keep more of it, each once, in the order of the rules."""
        most = self.levels(wanted)[2]
        found = (convention for convention, kinds in self.conventions if level(kinds, wanted, self.dumper) > most)
        return list(dict.fromkeys(found))
