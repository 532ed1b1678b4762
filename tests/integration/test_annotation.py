"""The COREFILT note: written and read again, put into every layout, and disbelieved where it is wrong."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel.dumps import dumping, only_file
from support.builder import (
    EM_386,
    EM_PPC,
    PT_LOAD,
    PT_NOTE,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_prstatus,
    page,
    parse_core,
    parse_notes,
    parse_sections,
)
from support.maps import Area, saved
from support.opening import in_memory, in_pipe, opened
from support.run import assert_error, corefilt, kept_sizes
from support.samples import ANON, PAGE, SHARED, SHARED_FILE, VDSO, noise, sample_core
from support.strategies import FILTERS, cores

import corefilt as api
from corefilt.classify.classifier import DISBELIEVED
from corefilt.corefile import corefilt_note as annotation
from corefilt.errors import AnnotationError
from corefilt.evidence.note_records import records_by_mapping
from corefilt.kinds import Basis, Classification, Kind, single
from corefilt.plan.note_slot import place_for_note

SHAPES = [(64, True, 62), (64, False, 21), (32, True, 3), (32, False, EM_PPC)]
by_shape = pytest.mark.parametrize(("bits", "little_endian", "machine"), SHAPES)
LAYOUTS = ["kernel", "gcore", "gcore-notes-first"]
A, B = 0x10000, 0x40000
ALL, NONE = 0x1FF, 0
CERTAINTIES = ["exact", "inferred", "assumed", "stated"]
# As docs/annotation.md has it.
NAME, NT_KINDS, VERSION, RECORD = "COREFILT", 0x4B494E44, 1, 24


@dataclass(frozen=True)
class Row:
    start: int
    end: int
    possible: int = Kind.PRIVATE_ANON
    proven: int = Kind.PRIVATE_ANON
    likely: int = 2
    certainty: int = 0
    sources: int = Basis.SMAPS

    def encode(self, order: str = "<") -> bytes:
        fields = (self.start, self.end, self.possible, self.proven, self.likely, self.certainty, self.sources)
        return struct.pack(order + "QQHHBBH", *fields)


def desc_of(
    rows: Sequence[Row], order: str = "<", *, count: int | None = None, version: int = 1, size: int = 24
) -> bytes:
    head = struct.pack(order + "IIII", version, size, len(rows) if count is None else count, 0)
    return head + b"".join(row.encode(order) for row in rows)


def forged(desc: bytes | Sequence[Row], **options: object) -> Note:
    """Make a note that somebody else wrote."""
    return Note(NAME, NT_KINDS, desc if isinstance(desc, bytes) else desc_of(desc, **options))  # type: ignore[arg-type]


def core_with(*notes: Note, loads: Sequence[Load] | None = None, behind: bool = False) -> bytes:
    """Make a core of private memory and a shared file, with more notes before (or behind) the kernel's."""
    loads = loads or [Load(A, noise(2)), Load(B, noise(2, 1))]
    own = kernel_notes([(B, B + 2 * PAGE, 0, "/data/table")])
    return make_core(loads, [*own, *notes] if behind else [*notes, *own])


def rows_in(core: bytes) -> list[Row]:
    """Read the first note by the words of docs/annotation.md."""
    note = parse_notes(core)[0]
    assert (note.name, note.type) == (NAME, NT_KINDS)
    order = "<" if core[5] == 1 else ">"
    version, size, count, reserved = struct.unpack_from(order + "IIII", note.desc)
    assert (version, size, reserved) == (VERSION, RECORD, 0)
    assert not any(note.desc[16 + RECORD * count :])
    return [Row(*row) for row in struct.iter_unpack(order + "QQHHBBH", note.desc[16 : 16 + RECORD * count])]


def filtered(core: bytes, wanted: int = ALL, *, piped: bool = False, **options: object) -> tuple[bytes, api.Report]:
    with (in_pipe if piped else in_memory)(core) as fd, in_memory() as out:
        report = api.filter(fd, out, filter=wanted, sync=False, **options)  # type: ignore[arg-type]
        return os.pread(out, os.fstat(out).st_size, 0), report


def annotated(core: bytes, wanted: int = ALL, **options: object) -> bytes:
    return filtered(core, wanted, annotate=True, **options)[0]


def found(core: bytes, **options: object) -> list[Classification]:
    with opened(core) as it:
        return it.plan("all", **options).findings  # type: ignore[arg-type]


def facts(findings: Sequence[Classification]) -> list[tuple[object, ...]]:
    """Return all of findings that a note records."""
    return [(each.possible, each.proven, each.likely, each.certainty, each.sources) for each in findings]


def assert_inserted(plain: bytes, out: bytes) -> None:
    """Hold a core with a note against the same without it, by an independent reader."""
    size = len(out) - len(plain)
    note, *others = parse_notes(out)
    assert size > 0 and size % PAGE == 0
    assert 12 + 12 + len(note.desc) == size
    assert others == parse_notes(plain)
    old, old_phdrs = parse_core(plain)
    new, new_phdrs = parse_core(out)
    at = next(phdr.p_offset for phdr in old_phdrs if phdr.p_type == PT_NOTE)
    behind = [size if phdr.p_offset >= at and phdr.p_type != PT_NOTE else 0 for phdr in old_phdrs]
    assert new_phdrs == [
        phdr._replace(p_offset=phdr.p_offset + shift, p_filesz=phdr.p_filesz + size * (phdr.p_type == PT_NOTE))
        for phdr, shift in zip(old_phdrs, behind, strict=True)
    ]
    assert new == old._replace(e_shoff=old.e_shoff + size if old.e_shoff else 0)
    table_end = old.e_phoff + old.phnum * old.e_phentsize
    changed = {*range(old.e_ehsize), *range(old.e_phoff, table_end)}
    changed |= {*range(old.e_shoff, old.e_shoff + old.e_shnum * old.e_shentsize)} if old.e_shoff else set()
    assert all(out[i + size * (i >= at)] == plain[i] for i in range(len(plain)) if i not in changed)
    for was, now in zip(parse_sections(plain), parse_sections(out), strict=True):
        first = was.sh_type == 7 and was.sh_offset == at
        moved = size if was.sh_offset >= at and not first and old.e_phnum != 0xFFFF else 0
        assert now == was._replace(sh_offset=was.sh_offset + moved, sh_size=was.sh_size + size * first)


# --- encoding ---------------------------------------------------------------------------------------------


@by_shape
def test_a_note_holds_what_was_found(bits: int, little_endian: bool, machine: int) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    files = [(B, B + 2 * PAGE, 0, "/data/table")]
    core = make_core([Load(A, noise(2)), Load(B, noise(2, 1))], kernel_notes(files, **shape), **shape)  # type: ignore[arg-type]
    findings = found(core, assume=[f"{B:#x}=shared-file-backed"])
    out = annotated(core, assume=[f"{B:#x}=shared-file-backed"])
    rows = rows_in(out)
    assert [(row.start, row.end) for row in rows] == [(A, A + 2 * PAGE), (B, B + 2 * PAGE)]
    assert [
        (row.possible, row.proven, 1 << row.likely, CERTAINTIES[row.certainty], row.sources) for row in rows
    ] == facts(findings)
    assert [CERTAINTIES[row.certainty] for row in rows] == ["inferred", "stated"]
    with opened(out) as it:
        assert it.notes.warnings == []
        records = [it.notes.records[row.start, row.end] for row in rows]
        assert [(each.possible, each.proven, each.likely, each.certainty, each.sources) for each in records] == facts(
            findings
        )


@settings(max_examples=100)
@given(core=cores())
def test_every_finding_comes_back(core: bytes) -> None:
    findings = found(core)
    note = parse_notes(annotated(core))[0]
    with opened(core) as it:
        records = annotation.decode(note.desc, it.ehdr)
        by_mapping = records_by_mapping(records, it.maps)
        assert list(by_mapping) == list(range(len(it.maps)))
    assert [
        (each.possible, each.proven, each.likely, each.certainty, each.sources) for each in by_mapping.values()
    ] == facts(findings)


@pytest.mark.parametrize("count", [0, 1, 168, 169, 170, 340])
@pytest.mark.parametrize("page_size", [4096, 65536, 1024])
def test_a_note_fills_whole_pages(count: int, page_size: int) -> None:
    size = annotation.note_size(count, page_size)
    whole = max(page_size, 4096)
    assert size % whole == 0
    assert 0 <= size - (12 + 12 + 16 + 24 * count) < whole


def test_equal_records_are_one_object() -> None:
    """A core can have a million."""
    with opened(core_with()) as it:
        records = annotation.decode(desc_of([Row(i * PAGE, (i + 1) * PAGE) for i in range(9)]), it.ehdr)
    assert len({id(record) for record in records.values()}) == 1


# --- notes that lie ---------------------------------------------------------------------------------------

FIRST = Row(A, A + 2 * PAGE)
MALFORMED = [
    pytest.param(b"", "0 bytes cannot hold a count", id="empty"),
    pytest.param(desc_of([FIRST])[:15], "15 bytes cannot hold a count", id="short"),
    pytest.param(desc_of([FIRST], version=2), "version 2 with records of 24 bytes", id="version"),
    pytest.param(desc_of([FIRST], size=0), "version 1 with records of 0 bytes", id="records of nothing"),
    pytest.param(desc_of([FIRST], size=28), "version 1 with records of 28 bytes", id="longer records"),
    pytest.param(desc_of([FIRST], ">"), "is unknown here", id="the other byte order"),
    pytest.param(desc_of([FIRST], count=2), "count is 2, but 40 bytes can hold only 1", id="count"),
    pytest.param(desc_of([FIRST], count=(1 << 32) - 1), "count is 4294967295, but", id="the largest count"),
    pytest.param(desc_of([FIRST])[:-1], "count is 1, but 39 bytes can hold only 0", id="cut"),
    pytest.param(desc_of([FIRST, FIRST]), "two records for 0x10000-0x12000", id="twice"),
    pytest.param(desc_of([Row(A, B, 0, 0)]), "impossible kinds (0x0, 0x0)", id="no kind"),
    pytest.param(desc_of([Row(A, B, 1 << 13, 1 << 13, 13)]), "impossible kinds", id="no such kind"),
    pytest.param(desc_of([Row(A, B, 4, 0x8004)]), "impossible kinds", id="no such proven kind"),
    pytest.param(desc_of([Row(A, B, 12, 4)]), "impossible kinds (0xc, 0x4)", id="possible but disproved"),
    pytest.param(desc_of([Row(A, B, likely=3)]), "impossible kind or certainty (3, 0)", id="an impossible guess"),
    pytest.param(desc_of([Row(A, B, likely=255)]), "impossible kind or certainty (255, 0)", id="no such guess"),
    pytest.param(desc_of([Row(A, B, certainty=4)]), "impossible kind or certainty (2, 4)", id="no such certainty"),
    pytest.param(desc_of([Row(A, B, 4, 12)]), "claims to be exact, but its kinds are inferred", id="not exact"),
    pytest.param(desc_of([Row(A, B, 12, 12)]), "claims to be exact, but its kinds are assumed", id="not decided"),
    pytest.param(desc_of([Row(A, B, certainty=2)]), "claims to be assumed, but its kinds are exact", id="decided"),
]


@pytest.mark.parametrize(("desc", "words"), MALFORMED)
@pytest.mark.parametrize("piped", [False, True])
def test_a_note_that_cannot_be_read_is_damage_and_not_used(desc: bytes, words: str, piped: bool) -> None:
    core, plain = core_with(forged(desc)), core_with()
    out, report = filtered(core, 0x33, piped=piped)
    (warning,) = report.warnings
    assert warning.startswith("the COREFILT note cannot be used: ")
    assert words in warning
    assert report.damaged
    assert kept_sizes(out) == kept_sizes(filtered(plain, 0x33, piped=piped)[0])
    assert parse_notes(out)[0].desc == desc
    assert facts(found(core)) == facts(found(plain))


def test_a_damaged_note_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(core_with(forged(b"")))
    done = corefilt("0x33", tmp_path / "core", "-o", tmp_path / "out", "-q")
    assert done.code == 3
    assert any("the COREFILT note cannot be used" in line for line in done.err)


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(Note("COREFILT", 1, desc_of([FIRST])), id="another type"),
        pytest.param(Note("CORE", NT_KINDS, desc_of([FIRST])), id="another name"),
        pytest.param(Note("COREFILTER", NT_KINDS, desc_of([FIRST])), id="a longer name"),
        pytest.param(Note("corefilt", NT_KINDS, desc_of([FIRST])), id="small letters"),
    ],
)
def test_only_a_note_of_that_name_and_type_counts(note: Note) -> None:
    with opened(core_with(note)) as it:
        assert (it.notes.records, it.notes.record_at, it.notes.warnings) == ({}, None, [])


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("piped", [False, True])
def test_a_note_counts_wherever_it_stands(behind: bool, piped: bool) -> None:
    with opened(core_with(forged([FIRST]), behind=behind), piped=piped) as it:
        assert list(it.notes.records) == [(A, A + 2 * PAGE)]
        findings = it.plan("all").findings
    assert (findings[0].certainty, findings[0].sources) == ("exact", Basis.CORE | Basis.SMAPS)


def test_of_two_notes_the_first_counts() -> None:
    core = core_with(forged([FIRST]), forged([Row(B, B + 2 * PAGE)]))
    with opened(core) as it:
        assert list(it.notes.records) == [(A, A + 2 * PAGE)]
        assert not it.warnings


def test_a_note_that_reaches_past_its_segment() -> None:
    own = Note(NAME, NT_KINDS, desc_of([FIRST]), descsz=1 << 30)
    with opened(core_with(own, behind=True)) as it:
        assert it.notes.records == {}
        assert "past its segment" in it.notes.warnings[0]


@settings(max_examples=200)
@given(desc=st.one_of(st.binary(max_size=120), st.binary(max_size=48).map(lambda tail: desc_of([], count=2) + tail)))
def test_any_bytes_are_records_or_an_error(desc: bytes) -> None:
    with opened(core_with(forged(desc))) as it:
        assert len(it.notes.warnings) == (0 if it.notes.records or desc_of([]) == desc[:16] else 1)
        it.plan("all")


def test_records_of_no_mapping_are_told(tmp_path: Path) -> None:
    core = core_with(forged([FIRST, Row(A, A + PAGE), Row(0x99000, 0x9A000)]))
    out, report = filtered(core, 0x33)
    assert "2 records of the COREFILT note match no mapping" in report.notices
    assert not report.damaged
    # The one that fits still counts.
    assert found(out)[0].sources & Basis.SMAPS


def test_a_record_that_contradicts_the_core_is_reported_and_not_believed(tmp_path: Path) -> None:
    core = core_with(forged([FIRST, Row(B, B + 2 * PAGE)]))
    (tmp_path / "core").write_bytes(core)
    for wanted in range(0, 0x200, 7):
        assert kept_sizes(filtered(core, wanted)[0])[1] == kept_sizes(filtered(core_with(), wanted)[0])[1]
    report = filtered(core, 0x33)[1]
    assert "the COREFILT note was ignored where it contradicts the core: 1 mapping" in report.notices
    done = corefilt("inspect", tmp_path / "core", "-v")
    assert done.code == 0
    assert DISBELIEVED in done.out.decode()


def test_a_note_that_calls_everything_not_dumped_loses_nothing() -> None:
    """Promise 1: what the kernel would have kept is kept, whatever a note says against the core."""
    row = Row(A, A + 2 * PAGE, Kind.EXCLUDED, Kind.EXCLUDED, 1)
    assert kept_sizes(filtered(core_with(forged([row])), 0x1)[0])[0] == 2 * PAGE


# --- where it is put --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wanted", [ALL, 0x33, 0x1, NONE])
def test_the_note_comes_first_and_nothing_else_changes(layout: str, wanted: int) -> None:
    core = sample_core(layout=layout)
    assert_inserted(filtered(core, wanted)[0], annotated(core, wanted))


@by_shape
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wanted", [ALL, 0x1])
def test_in_every_shape(bits: int, little_endian: bool, machine: int, layout: str, wanted: int) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    core = make_core(
        [Load(A, noise(3)), Load(B, noise(2, 1))],
        kernel_notes([(A, A + 3 * PAGE, 0, "/dev/zero (deleted)")], **shape),  # type: ignore[arg-type]
        layout=layout,
        **shape,  # type: ignore[arg-type]
    )
    out = annotated(core, wanted)
    assert_inserted(filtered(core, wanted)[0], out)
    assert [CERTAINTIES[row.certainty] for row in rows_in(out)] == ["inferred", "inferred"]


@pytest.mark.parametrize("wanted", [ALL, 0x1])
@pytest.mark.parametrize("piped", [False, True])
def test_with_pn_xnum(wanted: int, piped: bool) -> None:
    core = make_core(
        [Load(A, noise(3)), Load(B, noise(2, 1))],
        kernel_notes([(A, A + 3 * PAGE, 0, "/dev/zero (deleted)")]),
        xnum=True,
    )
    out = annotated(core, wanted, piped=piped)
    assert_inserted(filtered(core, wanted)[0], out)
    assert parse_sections(out)[0].sh_info == 3


@settings(max_examples=80)
@given(core=cores(), wanted=FILTERS, unknown=st.sampled_from(["keep", "guess", "drop"]))
def test_any_core_can_be_annotated(core: bytes, wanted: int, unknown: str) -> None:
    plain, out = filtered(core, wanted, unknown=unknown)[0], annotated(core, wanted, unknown=unknown)
    assert_inserted(plain, out)
    assert all(phdr.p_offset % PAGE == 0 for phdr in parse_core(out)[1] if phdr.p_type == PT_LOAD)
    assert annotated(core, wanted, unknown=unknown, piped=True) == out


@settings(max_examples=60)
@given(core=cores(), wanted=FILTERS)
def test_a_second_time_changes_nothing(core: bytes, wanted: int) -> None:
    assume(not any(finding.contradiction for finding in found(core)))
    once = annotated(core, wanted)
    assert filtered(once, wanted)[0] == once
    assert annotated(once, wanted) == once


@settings(max_examples=60)
@given(core=cores(), first=FILTERS, then=FILTERS, unknown=st.sampled_from(["keep", "guess", "drop"]))
def test_what_was_filtered_is_filtered_later_as_the_whole_would_have_been(
    core: bytes, first: int, then: int, unknown: str
) -> None:
    # What contradicts itself is kept, and whether it still does may have been dropped.
    assume(not any(finding.contradiction for finding in found(core)))
    first |= then
    once = annotated(core, first, unknown="keep")
    later = kept_sizes(filtered(once, then, unknown=unknown)[0])
    assert later == kept_sizes(filtered(core, then, unknown=unknown)[0])


def test_files_and_pipes_are_written_alike(tmp_path: Path) -> None:
    """Of a core that nothing in the payload tells more of, and with evidence that settles the rest."""
    areas = [
        Area(A, A + 2 * PAGE, "rw-p", "[heap]"),
        Area(B, B + 2 * PAGE, "rw-s", "/data/table", 0, (8, 1), 7),
    ]
    core = tmp_path / "core"
    core.write_bytes(core_with())
    options = ["--annotate", "--maps", saved(tmp_path, areas)]
    for wanted in ("all", "0x1", "0x8", "none"):
        outs = [tmp_path / f"file-{wanted}", tmp_path / f"pipe-{wanted}"]
        assert corefilt(wanted, core, "-o", outs[0], *options).code == 0
        assert corefilt(wanted, "-", "-o", outs[1], *options, pipe=core.read_bytes()).code == 0
        both = corefilt(wanted, *options, pipe=core.read_bytes())
        down = corefilt(wanted, core, *options)
        assert both.code == down.code == 0
        assert outs[0].read_bytes() == outs[1].read_bytes() == both.out == down.out


@pytest.mark.parametrize("wanted", [0x33, 0x10, NONE])
def test_from_a_pipe_into_a_file_the_payload_tells_the_same(wanted: int) -> None:
    core = sample_core()
    assert annotated(core, wanted, piped=True) == annotated(core, wanted)


def test_the_report_names_the_change() -> None:
    core = sample_core()
    out, report = filtered(core, 0x33, annotate=True)
    assert report.changes == ["a COREFILT note of 4096 bytes was added"]
    assert report.output_bytes == len(out)
    assert filtered(out, 0x33, annotate=True)[1].changes == ["a COREFILT note of 4096 bytes was replaced"]
    assert filtered(core, 0x33)[1].changes == []
    assert filtered(out, 0x33)[1].changes == []


def test_a_dry_run_tells_the_size(core: Path, tmp_path: Path) -> None:
    plain, out = filtered(core.read_bytes(), 0x33)[0], annotated(core.read_bytes(), 0x33)
    assert len(out) == len(plain) + PAGE
    for piped in (False, True):
        data = core.read_bytes() if piped else None
        done = corefilt("0x33", "-" if piped else core, "-n", "--annotate", "--json", pipe=data)
        assert done.code == 0
        assert f'"output_bytes": {len(out)}' in done.out.decode()


def test_a_plan_can_be_annotated(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(sample_core())
    with api.open(tmp_path / "core") as it:
        it.plan(0x33).write(tmp_path / "out", annotate=True)
    assert (tmp_path / "out").read_bytes() == annotated(sample_core(), 0x33)


# --- cores that are odd -------------------------------------------------------------------------------------


def test_mappings_at_the_end_of_the_address_space() -> None:
    """The last page ends at 2**64, which no field of 8 bytes holds."""
    core = make_core([Load((1 << 64) - PAGE, page(b"x")), Load(A, page(b"y"))], kernel_notes([]))
    out = annotated(core)
    assert len(rows_in(out)) == 2
    assert annotated(out) == out


def test_two_segments_at_one_address() -> None:
    """Whoever writes a note must be able to read it."""
    core = make_core([Load(A, page(b"x")), Load(A, page(b"y")), Load(B, page(b"z"))], kernel_notes([]))
    try:
        out, report = filtered(core, annotate=True)
    except AnnotationError:
        return
    assert not report.damaged
    assert not filtered(out)[1].damaged


def test_a_core_without_mappings() -> None:
    core = make_core([], kernel_notes([]))
    out = annotated(core)
    assert rows_in(out) == []
    assert annotated(out) == out


def test_a_note_larger_than_a_window_of_notes() -> None:
    core = make_core([Load(A + i * 2 * PAGE, b"", memsz=PAGE) for i in range(6000)], kernel_notes([]))
    out = annotated(core)
    assert len(rows_in(out)) == 6000
    assert annotated(out) == out
    with opened(out) as it:
        assert len(it.notes.records) == 6000
        assert it.notes.files is not None


@pytest.mark.parametrize(
    "core",
    [
        pytest.param(make_core([Load(A, page(b"x"))], note_segment=False), id="no segment"),
        pytest.param(make_core([Load(A, page(b"x"))], []), id="an empty segment"),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_a_core_without_notes_has_no_place_for_one(core: bytes, piped: bool, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="has no notes to insert another one before"):
        filtered(core, annotate=True, piped=piped)
    (tmp_path / "core").write_bytes(core)
    done = corefilt("0x33", tmp_path / "core", "-o", tmp_path / "out", "--annotate")
    assert_error(done, "has no notes", "leave out --annotate")
    assert not (tmp_path / "out").exists()


def test_a_segment_over_the_notes_leaves_no_place() -> None:
    notes = parse_core(core_with())[1][0].p_offset
    over = make_core([Load(A, filesz=PAGE, memsz=PAGE, offset=notes), Load(B, noise(2))], kernel_notes([]))
    with pytest.raises(AnnotationError, match=r"program header 1 overlaps the notes \(program header 0\)"):
        filtered(over, annotate=True)


@pytest.mark.parametrize("cut", [1, 13, 200])
def test_notes_that_are_cut_can_be_put_before(cut: int) -> None:
    core = make_core([Load(A, noise(2))], kernel_notes([]), layout="gcore")
    note = next(phdr for phdr in parse_core(core)[1] if phdr.p_type == PT_NOTE)
    short = core[: note.p_offset + note.p_filesz - cut]
    out, report = filtered(short, annotate=True)
    assert report.damaged
    assert len(rows_in(out)) == 1
    assert out[-len(short[note.p_offset :]) :] == short[note.p_offset :]


def test_a_truncated_core_can_be_annotated(tmp_path: Path) -> None:
    core = sample_core()[: -3 * PAGE]
    for piped in (False, True):
        out, report = filtered(core, 0x33, annotate=True, piped=piped)
        assert report.damaged
        plain = filtered(core, 0x33, piped=piped)[0]
        assert_inserted(plain, out)


def test_a_note_in_the_second_segment_of_notes() -> None:
    extra = Load(0, forged([FIRST]).encode(), flags="", type=PT_NOTE)
    core = make_core([Load(A, noise(2))], kernel_notes([]), extra_phdrs=[extra])
    with opened(core) as it:
        assert list(it.notes.records) == [(A, A + 2 * PAGE)]
    out = annotated(core)
    assert rows_in(out)[0].sources & Basis.SMAPS
    assert parse_core(out)[1][2].p_filesz == len(extra.data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_note_among_others_is_replaced_where_it_stands(layout: str) -> None:
    size = annotation.note_size(2, PAGE)
    other = forged(desc_of([Row(A, A + 2 * PAGE, 4, 4, sources=Basis.FILES)]).ljust(size - 24, b"\0"))
    notes = kernel_notes([(B, B + 2 * PAGE, 0, "/data/table")])
    core = make_core([Load(A, noise(2)), Load(B, noise(2, 1))], [*notes[:2], other, *notes[2:]], layout=layout)
    for wanted in (ALL, NONE):
        out, report = filtered(core, wanted, annotate=True)
        assert report.changes == [f"a COREFILT note of {size} bytes was replaced"]
        names = [note.name for note in parse_notes(out)]
        assert names == ["CORE", "CORE", NAME, *["CORE"] * (len(notes) - 2)]
        with opened(out) as it:
            assert list(it.notes.records) == [(A, A + 2 * PAGE), (B, B + 2 * PAGE)]
            assert it.notes.records[A, A + 2 * PAGE].sources & Basis.FILES
        assert len(out) == len(filtered(core, wanted)[0])


# --- later ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["keep", "guess", "drop"])
def test_the_note_stands_in_for_the_map(unknown: str, tmp_path: Path) -> None:
    core = sample_core()
    with opened(core) as it:
        mappings = it.mappings
    areas = [
        Area(
            mapping.start,
            mapping.end,
            mapping.flags + ("s" if mapping.start in (SHARED, SHARED_FILE) else "p"),
            mapping.path or ("[vdso]" if mapping.start == VDSO else ""),
            mapping.file_offset or 0,
            (8, 1) if mapping.path else (0, 0),
            7 if mapping.path else 0,
            "rd wr sh mr mw me ms" if mapping.start in (SHARED, SHARED_FILE) else "rd wr mr mw me ac",
            4 if mapping.start == ANON else 0,
        )
        for mapping in mappings
        if mapping.flags != "--x"
    ]
    maps = saved(tmp_path, areas, detailed=True)
    note = annotated(core, maps=maps)
    for wanted in (*(1 << bit for bit in range(9)), 0x33, 0x31, NONE):
        by_map = kept_sizes(filtered(core, wanted, maps=maps, unknown=unknown)[0])
        assert kept_sizes(filtered(note, wanted, unknown=unknown)[0]) == by_map
        smaller = annotated(core, wanted | 0x33, maps=maps)
        assert kept_sizes(filtered(smaller, wanted, unknown=unknown)[0]) == by_map
    # Which is another answer than without.
    assert kept_sizes(filtered(core, 0x5, unknown="keep")[0]) != kept_sizes(filtered(core, 0x5, maps=maps)[0])


def test_what_a_user_said_is_remembered_as_such() -> None:
    core = core_with()
    note = annotated(core, assume=["/data/*=private-file-written"])
    finding = found(note)[1]
    assert (finding.kind, finding.certainty, finding.sources & Basis.USER) == ("private-file-written", "stated", 32)
    assert kept_sizes(filtered(note, 0x1)[0]) == [2 * PAGE, 2 * PAGE]
    # And said otherwise later on.
    assert found(note, assume=["/data/*=shared-file-backed"])[1].contradiction or (
        found(note, assume=["/data/*=shared-file-backed"])[1].kind == "shared-file-backed"
    )


def test_new_evidence_goes_before_an_old_convention(tmp_path: Path) -> None:
    note = annotated(core_with(), assume=["/data/*=private-file-written"])
    areas = [Area(A, A + 2 * PAGE, "rw-p"), Area(B, B + 2 * PAGE, "rw-s", "/data/table", 0, (8, 1), 7)]
    finding = found(note, maps=saved(tmp_path, areas))[1]
    assert finding.kind == "shared-file-backed"


# --- other readers ----------------------------------------------------------------------------------------


def test_elftools_reads_all_notes(tmp_path: Path) -> None:
    plain, out = tmp_path / "plain", tmp_path / "annotated"
    for layout in LAYOUTS:
        plain.write_bytes(sample_core(layout=layout))
        out.write_bytes(annotated(sample_core(layout=layout)))
        notes = []
        for path in (plain, out):
            with path.open("rb") as file:
                elf = ELFFile(file)
                (segment,) = (segment for segment in elf.iter_segments() if segment["p_type"] == "PT_NOTE")
                notes.append([(note["n_name"], note["n_type"], note["n_descdata"]) for note in segment.iter_notes()])
        assert notes[1][1:] == notes[0]
        assert notes[1][0][0] == NAME


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Dump a process: its program, the core, and the core with a note."""
    program = shutil.which("sleep")
    if program is None:
        pytest.skip("sleep is not installed")
    folder = tmp_path_factory.mktemp("dumps")
    where = folder / "here"
    where.mkdir()

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    with dumping() as reason:
        if reason:
            pytest.skip(reason)
        with subprocess.Popen([program, "60"], cwd=where, preexec_fn=unlimited) as process:
            try:
                wait_until(lambda: b"libc" in Path(f"/proc/{process.pid}/maps").read_bytes())
            finally:
                process.send_signal(signal.SIGABRT)
    core = only_file(where)
    out = folder / "annotated"
    api.filter(core, out, filter=0x33, annotate=True)
    plain = folder / "plain"
    api.filter(core, plain, filter=0x33)
    return Path(program), plain, out


def wait_until(condition: Callable[[], bool]) -> None:
    import time

    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def told_by(tool: str, *args: str, core: Path) -> tuple[str, str]:
    """Return what a tool says of a core, on standard output and standard error, without the core's name."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [tool, *args, core], capture_output=True, text=True, errors="replace", timeout=120, check=False,
        env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
    )  # fmt: skip
    return tuple(text.replace(str(core), "CORE") for text in (done.stdout, done.stderr))  # type: ignore[return-value]


def test_gdb_does_not_mind(dumps: tuple[Path, Path, Path]) -> None:
    program, plain, out = dumps
    commands = ["backtrace", "info registers", "info auxv", "info proc mappings", "info threads", "x/4i $pc"]
    args = ["-nx", "-batch", *(word for command in commands for word in ("-ex", command)), str(program)]
    said = told_by("gdb", *args, core=plain)
    assert "#0" in said[0]
    assert "Program terminated with signal SIGABRT" in said[0]
    assert told_by("gdb", *args, core=out) == said


def test_gdb_finds_the_same_sections(dumps: tuple[Path, Path, Path]) -> None:
    """In the file they stand further behind."""
    program, plain, out = dumps
    args = ["-nx", "-batch", "-ex", "info files", str(program)]
    said = told_by("gdb", *args, core=plain)
    assert said[0].count("load") > 5
    assert told_by("gdb", *args, core=out) == said


@pytest.mark.parametrize("tool", ["readelf", "eu-readelf"])
def test_readelf_does_not_mind(tool: str, dumps: tuple[Path, Path, Path]) -> None:
    _, plain, out = dumps
    before, after = told_by(tool, "-h", "-n", core=plain), told_by(tool, "-h", "-n", core=out)
    assert after[1] == before[1]
    assert NAME in after[0]
    assert [line for line in after[0].splitlines() if "CORE " in line and NAME not in line] == [
        line for line in before[0].splitlines() if "CORE " in line
    ]
    kept = set(after[0].splitlines())
    lost = [line for line in before[0].splitlines() if line not in kept and "of length" not in line]
    assert not [line for line in lost if not re.search(r"Displaying notes|Note segment of", line)]


def test_eu_readelf_reads_the_core_of_the_annotated(dumps: tuple[Path, Path, Path]) -> None:
    _, plain, out = dumps
    assert told_by("eu-stack", "--core", core=out) == told_by("eu-stack", "--core", core=plain)


def test_prstatus_stays_the_first_of_the_kernels(dumps: tuple[Path, Path, Path]) -> None:
    _, _, out = dumps
    names = [(note.name, note.type) for note in parse_notes(out.read_bytes())]
    own = [n_type for name, n_type in names if name == NAME]
    assert own in ([NT_KINDS], [annotation.NT_COREFILT_SIGNATURE, NT_KINDS])
    assert names[len(own)] == ("CORE", nt_prstatus(1).type)


def test_kinds_fit_into_a_record() -> None:
    assert len(single(Kind.ALL)) == 13
    assert list(annotation.CERTAINTIES) == CERTAINTIES


def test_32_bits_that_cannot_tell_where_segments_would_go() -> None:
    core = make_core([Load(A, page(b"x"))], kernel_notes([], bits=32, machine=EM_386), bits=32, machine=EM_386)
    with opened(core) as it:
        it.table.p_offset[1] = 0xFFFFF000
        with pytest.raises(AnnotationError, match="past what 32 bits can address"):
            place_for_note(it, None, annotate=True)
