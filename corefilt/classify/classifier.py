"""Has every rule asked of every mapping of a core, and concludes a finding from what they leave.

Mappings of which the rules see the same share one finding: a core can have a million of them.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left

from corefilt.classify.address_space import Neighbours
from corefilt.classify.candidates import Case
from corefilt.classify.guesses import likeliest
from corefilt.classify.payload import Payload
from corefilt.classify.rules_core import BEFORE_WITNESSES, GATES, RULES
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_R, PF_X
from corefilt.corefile.mappings import NO_FILE
from corefilt.corefile.notes import AT_ENTRY, AT_EXECFN, AT_PLATFORM, AT_RANDOM, AT_SYSINFO_EHDR
from corefilt.errors import UsageError
from corefilt.evidence.assumptions import Assumption
from corefilt.kinds import CURRENT, DUMPERS, NAMES, Finding, Kind, Source, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.elf import Ehdr
    from corefilt.corefile.fdpic import Fdpic
    from corefilt.corefile.images import Image
    from corefilt.corefile.mappings import Mappings
    from corefilt.evidence.evidence import Evidence

DISBELIEVED = "the COREFILT note contradicts the core and is not believed"

# The smallest huge page of a machine; what is not shaped by it cannot be hugetlbfs.
SMALLEST_HUGE = {elf.EM_X86_64: 2 << 20, elf.EM_386: 2 << 20, elf.EM_S390: 1 << 20, elf.EM_PPC: 1 << 14}
SMALLEST_HUGE_ELSEWHERE = 1 << 16

# [vvar] and its companions have up to 6 pages on Linux 6.18; what is larger is none of them.
MOST_VVAR_PAGES = 16


class Rules:
    """All rules over one core. ``payload`` is None where the payload cannot be looked at before it is gone.

    The rules look at whole mappings, ``mappings``; findings are asked for by ``parts``, one a program header.
    """

    def __init__(
        self,
        ehdr: Ehdr,
        mappings: Mappings,
        payload: Payload | None,
        assumptions: list[Assumption] | None = None,
        evidence: Evidence | None = None,
        *,
        fdpic: Fdpic | None = None,
        dumper: str = CURRENT,
    ) -> None:
        """Look over the mappings as a whole; findings are made one by one by ``decide``.

        ``fdpic`` tells what is FDPIC about the core, ``dumper`` by whose rules the filter is read.
        """
        self.ehdr, self.parts, self.mappings, self.payload = ehdr, mappings, mappings.whole, payload
        mappings = mappings.whole
        self.evidence, self.fdpic, self.dumper = evidence, fdpic, dumper
        # Whether the machine has an MMU; None where only FDPIC programs run that tell nothing of it.
        self.mmu = fdpic.mmu if fdpic is not None else True
        self.loaded: list[tuple[int, int]] = []
        self._rules = RULES
        if evidence is not None:
            from corefilt.classify.rules_evidence import WITNESSES

            # Behind what the table proves, and before the conventions that could go against it.
            self._rules = (*RULES[:BEFORE_WITNESSES], *WITNESSES, *RULES[BEFORE_WITNESSES:])
        if fdpic is not None or dumper != CURRENT:
            from corefilt.classify.rules_fdpic import with_fdpic

            self._rules = with_fdpic(self._rules, BEFORE_WITNESSES, fdpic=fdpic is not None, dumper=dumper)
        self.assumptions = assumptions or []
        self.named = mappings.notes.files is not None
        self.neighbours = Neighbours(mappings)
        self.vvar = vvar_candidates(mappings)
        self._executable_stack: bool | None = None
        self._program: bytes | None = None
        self._findings: dict[tuple[object, ...], Finding] = {}
        self._plain: dict[tuple[object, ...] | None, Finding] = {}
        self._behind: dict[Finding, Finding] = {}
        auxv = mappings.notes.auxv
        arguments = [auxv[key] for key in (AT_RANDOM, AT_EXECFN, AT_PLATFORM) if auxv.get(key)]
        # The kernel leaves the loadmaps beside them.
        self.arguments = sorted(arguments + [address for address in (fdpic.loadmaps if fdpic else ()) if address])
        # Where NT_FILE tells memory from files nothing is left for them to tell.
        self.stack_pointers = [] if self.named else sorted(mappings.notes.stack_pointers)
        self.vdso = auxv.get(AT_SYSINFO_EHDR, -1)
        gates = [address for machine, address in GATES if machine == ehdr.e_machine]
        self._marked = sorted([*self.arguments, *self.stack_pointers, *gates, self.vdso])
        self.huge_mask = SMALLEST_HUGE.get(ehdr.e_machine, SMALLEST_HUGE_ELSEWHERE) - 1

    def look_over(self) -> None:
        """Look over the mappings as a whole once more, when more is known of what the dump held."""
        self.neighbours = Neighbours(self.mappings)
        self._plain.clear()

    @property
    def by_files(self) -> bool:
        """Whether the mapped files are held against the payload (--sysroot)."""
        return self.evidence is not None and self.evidence.sysroot is not None

    @property
    def stack_is_executable(self) -> bool:
        """Whether the main thread's stack can be executed, as that of a program with READ_IMPLIES_EXEC can."""
        if self._executable_stack is None:
            maps, at = self.mappings, self.arguments[0] if self.arguments else -1
            holding = (m for m in range(len(maps)) if maps.start(m) <= at < maps.end(m))
            self._executable_stack = any(maps.flags(m) & PF_X for m in holding)
        return self._executable_stack

    @property
    def program(self) -> bytes | None:
        """The file that the program was started from: it is mapped where AT_ENTRY points."""
        if self._program is None:
            maps, at = self.mappings, self.mappings.notes.auxv.get(AT_ENTRY, -1)
            holding = (m for m in range(len(maps)) if maps.start(m) <= at < maps.end(m))
            self._program = next((maps.path(m) or b"" for m in holding), b"")
        return self._program or None

    def like(self, m: int, image: Image) -> list[tuple[int, int]]:
        """Where the neighbours lie that the kernel would have merged with a part of an image, but for what was done."""
        maps = self.mappings
        near = self.neighbours.like(m)
        if maps.file[m] == NO_FILE:
            # Without names, only what lies in one segment is known to be of one file.
            near = [i for i in (m - 1, m + 1) if 0 <= i < len(maps) and self._one_segment(m, i, image)]
        return [(maps.start(i), maps.end(i)) for i in near]

    def _one_segment(self, m: int, other: int, image: Image) -> bool:
        maps, (low, high) = self.mappings, sorted((m, other))
        alike = maps.file[other] == NO_FILE and maps.flags(m) == maps.flags(other)
        return alike and maps.end(low) == maps.start(high) and image.in_one_segment(maps.start(low), maps.end(high))

    def decide(self, m: int) -> Finding:
        """The finding for part ``m`` by all that is known so far. The same evidence gives the same object."""
        return self._of_part(m, self.decide_whole(self.parts.whole_of(m)))

    def decide_whole(self, m: int) -> Finding:
        """The finding for mapping ``m`` by all that is known so far."""
        (plain,) = self._plain_keys((m,))
        return self._decide(m, plain)

    def decide_all(self) -> list[Finding]:
        """The finding for every part."""
        known, decide = self._plain, self._decide
        count = len(self.mappings)
        findings = [known.get(plain) or decide(m, plain) for m, plain in enumerate(self._plain_keys(range(count)))]
        if self.parts is self.mappings:
            return findings
        return [self._of_part(m, findings[self.parts.whole_of(m)]) for m in range(len(self.parts))]

    def _of_part(self, m: int, finding: Finding) -> Finding:
        if m not in self.parts.continues:
            return finding
        if finding not in self._behind:
            self._behind[finding] = finding.behind_first_page()
        return self._behind[finding]

    def _decide(self, m: int, plain: tuple[object, ...] | None) -> Finding:
        if plain is not None and plain in self._plain:
            return self._plain[plain]
        case = self._examine(m)
        finding = self._conclude(case)
        if finding.contradiction and case.record is not None:
            # Where it is the map that contradicts the note, nothing tells which of them is wrong.
            alone = self._conclude(self._examine(m, by_map=False))
            if alone.contradiction:
                finding = self._conclude(self._examine(m, believing=False))
        if plain is not None:
            self._plain[plain] = finding
        return finding

    def _examine(self, m: int, *, believing: bool = True, by_map: bool = True) -> Case:
        """Ask every rule; without ``believing`` or ``by_map``, as if note or map said nothing of this mapping."""
        case = Case(self.mappings, m, self.payload, self.evidence)
        if not by_map:
            case.area = None
        if not believing:
            case.record = None
            case.evidence.append(DISBELIEVED)
        for rule in self._rules:
            rule(self, case)
        return case

    def stated(self, m: int) -> Assumption | None:
        """The first assumption that fits mapping ``m``; all are asked, so that each knows whether it is of use."""
        start, end, path = self.mappings.start(m), self.mappings.end(m), self.mappings.path(m)
        fitting = [assumption for assumption in self.assumptions if assumption.fits(start, end, path)]
        return fitting[0] if fitting else None

    def take_loadmaps(self) -> None:
        """Learn from the loadmaps, once the payload they lie in has been looked at."""
        if self.fdpic is None or self.payload is None:
            return
        from corefilt.corefile.loadmaps import read_piece

        for address, piece in self.payload.held.items():
            try:
                found = read_piece(piece, address, self.ehdr)
            except ValueError:
                # It is told where the core is looked at; what does not hold tells nothing.
                continue
            self.loaded += [(start, size) for start, _, size in found.segments if size]
        self.loaded.sort()

    def proven(self, m: int) -> int:
        """The kinds that nothing but a convention rules out for mapping ``m``."""
        return self.decide_whole(m).proven

    def _plain_keys(self, mappings: Iterable[int]) -> Iterator[tuple[object, ...] | None]:
        """All that the rules look at in mappings without a name that nothing points at, and None for others.

        A core can have a million of them.
        """
        maps, payload, vvar, evidence, loaded = self.mappings, self.payload, self.vvar, self.evidence, self.loaded
        table, phdr, file, given_up, huge_mask = maps.table, maps.phdr, maps.file, maps.given_up, self.huge_mask
        p_vaddr, p_memsz, p_filesz, p_flags = table.p_vaddr, table.p_memsz, table.p_filesz, table.p_flags
        marked, first = self._marked, payload.first if payload else {}
        if self.assumptions or self.neighbours.nameless_images(payload):
            yield from (None for _ in mappings)
            return
        for m in mappings:
            i = phdr[m]
            start, size = p_vaddr[i], p_memsz[i]
            end = start + size
            # As points_into, which would be one more call for each of a million.
            at = bisect_left(marked, start)
            pointed = at < len(marked) and marked[at] < (end if size else start + 1)
            if loaded and not pointed:
                pointed = any(at < end and start < at + length for at, length in loaded)
            if file[m] != NO_FILE or m in vvar or pointed:
                yield None
            else:
                beside = evidence.alike(m) if evidence is not None else None
                held = p_filesz[i] + given_up.get(i, 0) if given_up else p_filesz[i]
                yield p_flags[i], first.get(m), held, size, (start | end) & huge_mask == 0, beside

    def _conclude(self, case: Case) -> Finding:
        # What was proven beats what a convention ruled out before.
        possible, proven, record = case.possible or case.proven, case.proven, case.record
        if not case.dax and not possible & ~Kind.DAX:
            possible = 0
        stated = self.stated(case.m)
        if stated is not None:
            case.evidence.append(f"--assume says {stated.kind}")
            case.sources |= Source.USER
            possible = possible & NAMES[stated.kind] or case.proven & NAMES[stated.kind]
        contradiction = not possible
        if contradiction:
            case.evidence.append("contradiction: nothing is left, so anything is possible")
            possible, proven, certainty = Kind.ALL, Kind.ALL, "assumed"
        elif stated is not None or (record and record.certainty == "stated" and not possible & ~record.possible):
            certainty = "stated"
        elif len(single(possible)) > 1:
            certainty = "assumed"
        else:
            certainty = "exact" if possible == proven else "inferred"
        likely = record.likely if record is not None and possible & record.likely else likeliest(self, case, possible)
        # What was disproved as well, or came back, no convention decides.
        ruled = [(convention, kinds & proven & ~possible) for convention, kinds in case.conventions]
        conventions = tuple((convention, kinds) for convention, kinds in ruled if kinds)
        key = possible, proven, likely, certainty, tuple(case.evidence), case.sources, conventions
        if key not in self._findings:
            finding = self._findings[key] = Finding(*key[:-1], self.dumper, conventions)
            finding.contradiction, finding.disbelieved = contradiction, DISBELIEVED in case.evidence
        return self._findings[key]


def rules_for(
    core: CoreFile,
    assume: Sequence[str] = (),
    *,
    evidence: Evidence | None = None,
    dumper: str = CURRENT,
    with_payload: bool | None = None,
) -> Rules:
    """Return the rules over a core; the payload is looked at beforehand where the input can be sought.

    The options are those of ``corefilt filter``. Raises UsageError or SelectorError.
    """
    if dumper not in DUMPERS:
        raise UsageError(f"dumper is {dumper!r}", f"it can be {', '.join(DUMPERS)}")
    assumptions = [Assumption(text) for text in assume]
    seekable = core.source.seekable
    maps = evidence.mappings if evidence is not None and evidence.mappings is not None else core.maps
    rules = Rules(core.ehdr, maps, None, assumptions, evidence, fdpic=core.fdpic, dumper=dumper)
    if seekable if with_payload is None else with_payload:
        rules.payload = Payload(rules.mappings, rules.vvar, core.loadmap_pieces())
        if seekable:
            rules.payload.read_from(core.source)
            rules.take_loadmaps()
    if rules.by_files and (seekable or rules.payload is None):
        compare_files(core, rules, peek=core.source.peek if seekable else None)
    return rules


def compare_files(core: CoreFile, rules: Rules, *, peek: Callable[[int, int], bytes] | None) -> None:
    """Compare the mapped files below --sysroot with the payload, which ``peek`` reads by its offset in the core."""
    from corefilt.evidence.file_compare import compare

    if rules.evidence is None:
        return
    status = os.fstat(core.source.origin.fd)
    compare(
        rules.evidence,
        rules.mappings,
        rules.proven,
        peek=peek,
        data=core.data if core.source.seekable and peek is not None else None,
        dumped_ns=status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None,
    )


def vvar_candidates(mappings: Mappings) -> set[int]:
    """The nameless, unwritable, small mappings that touch [vdso] in one chain: [vvar] and its companions."""
    most = MOST_VVAR_PAGES * mappings.page_size
    vdso = mappings.notes.auxv.get(AT_SYSINFO_EHDR)
    if not vdso:
        return set()
    nameless = {
        mappings.start(m): m
        for m in range(len(mappings))
        if mappings.file[m] == NO_FILE and mappings.flags(m) == PF_R and mappings.end(m) - mappings.start(m) <= most
    }
    by_end = {mappings.end(m): m for m in nameless.values()}
    chain: set[int] = set()
    at = vdso
    while at in by_end and by_end[at] not in chain:
        chain.add(by_end[at])
        at = mappings.start(by_end[at])
    at = next((mappings.end(m) for m in range(len(mappings)) if mappings.start(m) == vdso), 0)
    while at in nameless and nameless[at] not in chain:
        chain.add(nameless[at])
        at = mappings.end(nameless[at])
    return chain
