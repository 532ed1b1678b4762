"""Run every rule on every mapping and turn the kinds that remain into a Classification.

Mappings of which the rules see the same share one finding: a core can have a million of them.
"""

from __future__ import annotations

import os
import stat
from array import array

from corefilt import _fast
from corefilt.classify.candidates import Candidates
from corefilt.classify.context import Context, vvar_candidates
from corefilt.classify.findings import Classes, Findings
from corefilt.classify.payload import Payload
from corefilt.classify.rules_core import BEFORE_WITNESSES, GATES, RULES
from corefilt.errors import UsageError
from corefilt.kinds import CURRENT, DUMPERS, NAMES, Basis, Classification, Kind, certainty_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.mappings import Mappings
    from corefilt.evidence.assumptions import Assumption
    from corefilt.evidence.evidence import Evidence

DISBELIEVED = "the COREFILT note contradicts the core and is ignored"


class Classifier:
    """Runs every rule on every mapping and turns the kinds that remain into a Classification.

    The rules look at the whole mappings of the ``context``; findings are asked for by ``parts``, one a program header.
    """

    def __init__(self, context: Context, parts: Mappings, assumptions: list[Assumption] | None = None) -> None:
        self.context, self.parts, self.assumptions = context, parts, assumptions or []
        self._rules = RULES
        if context.evidence is not None:
            from corefilt.classify.rules_evidence import WITNESSES

            # Behind what the table proves, and before the conventions that could go against it.
            self._rules = (*RULES[:BEFORE_WITNESSES], *WITNESSES, *RULES[BEFORE_WITNESSES:])
        if context.fdpic is not None or context.dumper != CURRENT:
            from corefilt.classify.rules_fdpic import with_fdpic

            fdpic, dumper = context.fdpic is not None, context.dumper
            self._rules = with_fdpic(self._rules, BEFORE_WITNESSES, fdpic=fdpic, dumper=dumper)
        self._findings: dict[tuple[object, ...], Classification] = {}
        self._behind: dict[Classification, Classification] = {}
        gates = [address for machine, address in GATES if machine == context.ehdr.e_machine]
        marked = [*context.arguments, *context.stack_pointers, *gates, context.vdso]
        self._marked = array("Q", sorted(address for address in marked if address >= 0))

    def look_over(self) -> None:
        """Look over the mappings as a whole once more, when more is known of what the dump held."""
        self.context.look_over()

    @property
    def by_files(self) -> bool:
        """Whether the mapped files are held against the payload (--sysroot)."""
        return self.context.evidence is not None and self.context.evidence.sysroot is not None

    def decide(self, m: int) -> Classification:
        """The finding for part ``m`` by all that is known so far. The same evidence gives the same object."""
        return self._of_part(m, self.decide_whole(self.parts.whole_of(m)))

    def decide_all(self) -> Findings:
        """The finding for every part."""
        classes = self.classes()
        findings = Findings(classes.numbers, [self.decide_whole(m) for m in classes.first])
        if self.parts is self.context.mappings:
            return findings
        return Findings.each(self._of_part(m, findings[self.parts.whole_of(m)]) for m in range(len(self.parts)))

    def _of_part(self, m: int, finding: Classification) -> Classification:
        if m not in self.parts.continues:
            return finding
        if finding not in self._behind:
            self._behind[finding] = finding.behind_first_page()
        return self._behind[finding]

    def decide_whole(self, m: int) -> Classification:
        """The finding for mapping ``m`` by all that is known so far."""
        candidates = self._examine(m)
        finding = self._conclude(candidates)
        if finding.contradiction and candidates.record is not None:
            # Where it is the map that contradicts the note, nothing tells which of them is wrong.
            alone = self._conclude(self._examine(m, by_map=False))
            if alone.contradiction:
                finding = self._conclude(self._examine(m, believing=False))
        return finding

    def _examine(self, m: int, *, believing: bool = True, by_map: bool = True) -> Candidates:
        """Ask every rule; without ``believing`` or ``by_map``, as if note or map said nothing of this mapping."""
        candidates = Candidates(self.context.mappings, m, self.context.payload, self.context.evidence)
        if not by_map:
            candidates.area = None
        if not believing:
            candidates.record = None
            candidates.evidence.append(DISBELIEVED)
        for rule in self._rules:
            rule(self.context, candidates)
        return candidates

    def stated(self, m: int) -> Assumption | None:
        """The first assumption that fits mapping ``m``; all are asked, so that each knows whether it is of use."""
        if not self.assumptions:
            return None
        maps = self.context.mappings
        start, end, path = maps.start(m), maps.end(m), maps.path(m)
        fitting = [assumption for assumption in self.assumptions if assumption.fits(start, end, path)]
        return fitting[0] if fitting else None

    def proven(self, m: int) -> int:
        """The kinds that nothing but a convention rules out for mapping ``m``."""
        return self.decide_whole(m).proven

    def classes(self) -> Classes:
        """Group the mappings by all that the rules look at: a core can have a million of them."""
        context, maps = self.context, self.context.mappings
        special, marks = self._special()
        table, numbers = maps.table, array("I", bytes(4 * len(maps)))
        first = _fast.group(
            maps.phdr, maps.name, table.p_flags, table.p_vaddr, table.p_memsz, maps.held, maps.offset, marks, special,
            context.huge_mask, int.from_bytes(os.urandom(8), "little"), numbers,
        )  # fmt: skip
        return Classes(numbers, first, bytearray(special[m] == _fast.UNIQUE for m in first))

    def _special(self) -> tuple[array[int], bytearray]:
        """What else than its shape tells a mapping from others, as numbers, and which of them continue a neighbour.

        Where it is too much to say, the mapping is alone in its class.
        """
        context, maps = self.context, self.context.mappings
        payload, address_space = context.payload, context.address_space
        count, alone = len(maps), _fast.UNIQUE
        if self.assumptions or address_space.nameless_images(payload):
            return array("I", [alone]) * count, bytearray(count)
        special = array("I", bytes(4 * count))
        known: dict[tuple[object, ...], int] = {}
        if context.evidence is not None:
            for m in range(count):
                beside = context.evidence.alike(m)
                special[m] = known.setdefault((beside,), len(known)) + alone + 1
        if payload is not None:
            for m, first in payload.first.items():
                special[m] = known.setdefault((special[m], first, payload.zero.get(m)), len(known)) + alone + 1
        table = maps.table
        _fast.point(maps.phdr, table.p_vaddr, table.p_memsz, self._marked, special)
        for m in [*context.vvar, *(payload.wants if payload is not None else ())]:
            special[m] = alone
        if address_space.last >= 0:
            special[address_space.last] = alone
        for m in range(count if context.loaded else 0):
            if context.loaded_in(maps.start(m), maps.end(m)) is not None:
                special[m] = alone
        return special, self._tell_files_apart(special)

    def _tell_files_apart(self, special: array[int]) -> bytearray:
        """Leave each mapping of a file alone whose place in it counts; return which continue a neighbour."""
        context, maps = self.context, self.context.mappings
        payload, address_space = context.payload, context.address_space
        marks = address_space.continuing
        by_shape = marks is not None and not maps.wide and len(self._rules) == len(RULES)
        plain = bytearray(
            by_shape and not address_space.laid_out(k) and not (payload is not None and payload.undecided(path))
            for k, path in enumerate(maps.names)
        )
        _fast.single_out(maps.name, plain, special)
        return marks if marks is not None else bytearray(len(maps))

    def _conclude(self, candidates: Candidates) -> Classification:
        # What was proven beats what a convention ruled out before.
        possible, proven, record = candidates.possible or candidates.proven, candidates.proven, candidates.record
        if not candidates.dax and not possible & ~Kind.DAX:
            possible = 0
        stated = self.stated(candidates.m)
        if stated is not None:
            candidates.evidence.append(f"--assume says {stated.kind}")
            candidates.sources |= Basis.USER
            possible = possible & NAMES[stated.kind] or candidates.proven & NAMES[stated.kind]
        contradiction = not possible
        if contradiction:
            candidates.evidence.append("contradiction: every kind is ruled out, so each one is possible")
            possible, proven, certainty = Kind.ALL, Kind.ALL, "assumed"
        elif stated is not None or (record and record.certainty == "stated" and not possible & ~record.possible):
            certainty = "stated"
        else:
            certainty = certainty_of(possible, proven)
        told = record.likely if record is not None else 0
        likely = told & possible
        if not likely and possible & possible - 1:
            from corefilt.classify.guesses import likeliest

            likely = likeliest(self.context, candidates, possible)
        likely = likely or possible
        # What was disproved or stated as well, or came back, no convention decides.
        undecided = proven & ~possible if certainty != "stated" else 0
        ruled = [(convention, kinds & undecided) for convention, kinds in candidates.conventions]
        conventions = tuple((convention, kinds) for convention, kinds in ruled if kinds)
        key = possible, proven, likely, certainty, tuple(candidates.evidence), candidates.sources, conventions
        if key not in self._findings:
            finding = self._findings[key] = Classification(*key[:-1], self.context.dumper, conventions)
            finding.contradiction, finding.disbelieved = contradiction, DISBELIEVED in candidates.evidence
        return self._findings[key]


def classifier_for(
    core: CoreFile,
    assume: Sequence[str] = (),
    *,
    evidence: Evidence | None = None,
    dumper: str = CURRENT,
    with_payload: bool | None = None,
) -> Classifier:
    """Return the classifier of a core; the payload is looked at beforehand where the input can be sought.

    The options are those of ``corefilt filter``. Raises UsageError or SelectorError.
    """
    if dumper not in DUMPERS:
        raise UsageError(f"dumper is {dumper!r}", f"it can be {', '.join(DUMPERS)}")
    assumptions = read_assumptions(assume) if assume else []
    seekable = core.source.seekable
    maps = evidence.mappings if evidence is not None and evidence.mappings is not None else core.maps
    payload, vvar = None, vvar_candidates(maps.whole)
    if seekable if with_payload is None else with_payload:
        payload = Payload(maps.whole, vvar, core.loadmap_pieces())
    context = Context(core.ehdr, maps.whole, payload, evidence, vvar=vvar, fdpic=core.fdpic, dumper=dumper)
    classifier = Classifier(context, maps, assumptions)
    if payload is not None and seekable:
        payload.read_from(core.source)
        context.take_loadmaps()
    if classifier.by_files and (seekable or payload is None):
        compare_files(core, classifier, peek=core.source.peek if seekable else None)
    return classifier


def read_assumptions(texts: Sequence[str]) -> list[Assumption]:
    """Return what --assume states. Raises UsageError."""
    from corefilt.evidence.assumptions import Assumption

    return [Assumption(text) for text in texts]


def compare_files(core: CoreFile, classifier: Classifier, *, peek: Callable[[int, int], bytes] | None) -> None:
    """Compare the mapped files below --sysroot with the payload, which ``peek`` reads by its offset in the core."""
    from corefilt.evidence.file_compare import compare

    if classifier.context.evidence is None:
        return
    status = os.fstat(core.source.origin.fd)
    compare(
        classifier.context.evidence,
        classifier.context.mappings,
        classifier.proven,
        peek=peek,
        data=core.data if core.source.seekable and peek is not None else None,
        dumped_ns=status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None,
    )
