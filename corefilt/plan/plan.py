"""What a filter keeps of every mapping of a core: the plan, before anything is written."""

from __future__ import annotations

# Not by collections, which is loaded for nothing else (corefilt/startup.py).
from _collections_abc import Mapping as Record
from array import array

from corefilt import _fast
from corefilt.classify.classifier import Classifier, classifier_for
from corefilt.corefile import corefilt_note as annotation
from corefilt.corefile.mappings import flags_text
from corefilt.errors import SelectorError, UsageError
from corefilt.filterbits import as_filter
from corefilt.kinds import CURRENT
from corefilt.plan.layout import Layout, Note, kept_bytes, lay_out, tag_bytes, tagged_loads
from corefilt.plan.note_slot import place_for_note
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final, Self

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.mappings import Mappings
    from corefilt.kinds import Classification, Convention
    from corefilt.plan.format import Conversion

UNKNOWN = ("keep", "guess", "drop")


# What a mapping tells as a record, in this order.
RECORD = (
    "start", "end", "flags", "path", "file_offset", "present", "missing", "kind", "certainty", "evidence",
)  # fmt: skip


class Mapping(Record[str, object]):
    """One mapping: addresses, ``flags`` (rwx), file, ``present`` bytes, and its kind.

    ``missing`` are further bytes that p_filesz claims and a truncated core lacks. It is also a record, a mapping of
    these names to their values; pandas.DataFrame takes a list of them.
    """

    __slots__ = ("end", "file_offset", "finding", "flags", "missing", "path", "present", "start")

    def __init__(self, mappings: Mappings, m: int, finding: Classification, there: int) -> None:
        """Copy what the tables say of mapping ``m``, of which ``there`` bytes are in the core."""
        self.start, self.end = mappings.start(m), mappings.end(m)
        self.flags, self.present, self.missing = flags_text(mappings.flags(m)), there, mappings.present(m) - there
        self.path, self.file_offset = mappings.path(m), mappings.file_offset(m)
        self.finding = finding

    @property
    def kind(self) -> str:
        """The (likeliest) kind's name."""
        return self.finding.kind

    @property
    def certainty(self) -> str:
        """exact, inferred, assumed or stated."""
        return self.finding.certainty

    @property
    def evidence(self) -> tuple[str, ...]:
        """The reasons, in words."""
        return self.finding.evidence

    def __getitem__(self, name: str) -> object:
        if name not in RECORD:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(RECORD)

    def __len__(self) -> int:
        return len(RECORD)

    def __repr__(self) -> str:
        path = f" {printable(self.path)}" if self.path is not None else ""
        about = f"{self.kind} ({self.certainty}), {show_size(self.present)}"
        return f"<corefilt.Mapping {self.start:#x}-{self.end:#x} {self.flags}{path}: {about}>"

    # Of a dictionary these two would go by the content; a mapping is itself.
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class KeepPlan:
    """What a filter keeps of every mapping: ``findings``, and ``sizes`` in bytes for every program header.

    For every mapping ``assumed`` has the bytes that are kept or dropped on an assumption, ``inferred`` those that
    only a convention drops. A plan does not change once it is made; ``with_sizes`` makes another.
    """

    def __init__(self, core: CoreFile, wanted: int, classifier: Classifier, unknown: str) -> None:
        """Decide every mapping by the rules; ``unknown`` says what becomes of what stays open."""
        if unknown not in UNKNOWN:
            raise UsageError(f"unknown is {unknown!r}", f"it can be {', '.join(UNKNOWN)}")
        self.core: Final = core
        self.filter: Final = wanted
        self.classifier: Final = classifier
        self.unknown: Final = unknown
        self.findings: Final = classifier.decide_all()
        unused = [a.text for a in classifier.assumptions if not a.used]
        if unused:
            raise SelectorError(f"--assume {unused[0]!r} matches no mapping of this core")
        self.sizes: Final = array("Q", core.present)
        self.assumed: Final = array("Q", bytes(8 * len(self.findings)))
        self.inferred: Final = array("Q", bytes(8 * len(self.findings)))
        self._mappings: tuple[int | None, Sequence[Mapping]] | None = None
        self._decide_sizes()
        for tag, load in tagged_loads(core.table).items():
            self.sizes[tag] = min(self.sizes[tag], tag_bytes(core.table, self.sizes, tag, load))

    @classmethod
    def of(
        cls,
        core: CoreFile,
        filter: int | str,
        *,
        unknown: str = "keep",
        assume: Sequence[str] = (),
        maps: str | None = None,
        pid: int | None = None,
        sysroot: str | None = None,
        dumper: str = CURRENT,
    ) -> Self:
        """Return what the filter leaves of a core, by what can be known before it is written.

        The options are those of ``corefilt filter``. Raises FilterError, UsageError, EvidenceError, or SelectorError
        for an assumption that matches nothing.
        """
        from corefilt.evidence.gather import gather

        wanted = as_filter(filter)[0]
        evidence = gather(core, maps=maps, pid=pid, sysroot=sysroot)
        return cls(core, wanted, classifier_for(core, assume, evidence=evidence, dumper=dumper), unknown)

    def _decide_sizes(self) -> None:
        levels = bytearray()
        for finding in self.findings.of_class:
            least, likely, most = finding.levels(self.filter)
            wanted = {"keep": most, "guess": likely, "drop": least}[self.unknown]
            levels += bytes((wanted, least, most, finding.undisproved(self.filter)))
        core, numbers = self.core, self.findings.numbers
        _fast.spread(
            core.maps.phdr, numbers, levels, core.present, core.maps.page_size, self.sizes, self.assumed, self.inferred
        )

    def with_sizes(self, sizes: array[int], assumed: array[int] | None = None) -> Self:
        """The same plan with other sizes in bytes, one a program header, and ambiguous ones, one a mapping."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, sizes=sizes, _mappings=None)
        if assumed is not None:
            other.__dict__["assumed"] = assumed
        return other

    @property
    def mappings(self) -> Sequence[Mapping]:
        """The mappings, made when they are first looked at, and once more when a pipe has ended."""
        made, end = self._mappings, self.core.end
        if made is None or made[0] != end:
            maps, there = self.classifier.parts, self.core.present
            rows = [Mapping(maps, m, finding, there[maps.phdr[m]]) for m, finding in enumerate(self.findings)]
            made = self._mappings = end, rows
        return made[1]

    @property
    def layout(self) -> Layout:
        """The output's layout."""
        return self.laid_out()

    def laid_out(self, note: Note | None = None) -> Layout:
        """The output's layout with a note put in."""
        core = self.core
        return lay_out(core.ehdr, core.table, core.sections, self.sizes, core.present, core.end, core.gaps, note)

    def note(
        self, conversion: Conversion | None, *, annotate: bool, texts: Sequence[tuple[int, bytes]] = ()
    ) -> Note | None:
        """What becomes of the notes: records of the findings come in, or all are converted, or neither (None).

        ``texts``, notes by their types that tell how the core is made, come before all. Raises AnnotationError.
        """
        note = place_for_note(self.core, conversion, annotate=annotate, texts=len(texts))
        if note is None:
            return None
        maps, made, records = self.core.maps, self.encoded(texts), b""
        if annotate:
            findings = [(maps.start(m), maps.end(m), finding) for m, finding in enumerate(self.findings)]
            records = annotation.encode(self.core.ehdr, findings, annotation.note_size(len(maps), maps.page_size))
        note.data = made + records + note.data[len(made) + len(records) :]
        return note

    def encoded(self, texts: Sequence[tuple[int, bytes]]) -> bytes:
        """Notes with texts, a page each."""
        ehdr, size = self.core.ehdr, annotation.text_size(self.core.maps.page_size)
        return b"".join(annotation.encode_text(ehdr, n_type, text, size) for n_type, text in texts)

    def kept(self, m: int) -> int:
        """Bytes of mapping ``m`` that stay."""
        return self.sizes[self.core.maps.phdr[m]]

    def bounds(self) -> dict[int, tuple[int, int]]:
        """The least and the most bytes that may stay of every mapping and of its memory tags, by program header."""
        core, page = self.core, self.core.maps.page_size
        bounds: dict[int, tuple[int, int]] = {}
        for finding, i in zip(self.findings, core.maps.phdr, strict=True):
            least, _, most = finding.levels(self.filter)
            there = core.present[i]
            bounds[i] = kept_bytes(least, there, page), kept_bytes(most, there, page)
        for tag, load in tagged_loads(core.table).items():
            sizes = core.table.p_filesz[:]
            tags = []
            for size in bounds[load]:
                sizes[load] = size
                tags.append(min(core.present[tag], tag_bytes(core.table, sizes, tag, load)))
            bounds[tag] = tags[0], tags[1]
        return bounds

    def by_kind(self) -> Iterator[tuple[str, int, int, int]]:
        """For every kind that is there: its name, and bytes kept, dropped and decided by an assumption."""
        sums: dict[str, tuple[int, int, int]] = {}
        findings, rows = self.findings, self.core.maps.phdr
        columns = findings.sums(self.sizes, rows), findings.sums(self.core.present, rows), findings.sums(self.assumed)
        for finding, kept, present, assumed in zip(findings.of_class, *columns, strict=True):
            before = sums.get(finding.kind, (0, 0, 0))
            sums[finding.kind] = before[0] + kept, before[1] + present - kept, before[2] + assumed
        for name, (kept, dropped, assumed) in sorted(sums.items()):
            yield name, kept, dropped, assumed

    def by_convention(self) -> list[tuple[Convention, int]]:
        """The conventions that drop bytes, with the bytes that each helps to drop, most first.

        Several can help to drop the same bytes.
        """
        sums: dict[Convention, int] = {}
        for finding, size in zip(self.findings.of_class, self.findings.sums(self.inferred), strict=True):
            for convention in finding.dropped_by(self.filter) if size else ():
                sums[convention] = sums.get(convention, 0) + size
        return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0].name))
