"""Notes and memory tags, as `verify` holds them: any byte that others wrote, wherever corefilt's own notes stand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.builder import (
    EM_AARCH64,
    EM_ARM,
    Load,
    Note,
    kernel_notes,
    make_core,
    mte_tags,
    note_bytes,
    nt_prstatus,
    parse_core,
    parse_notes,
    patched,
)
from support.samples import noise, tagged
from support.thinned import one_in

import corefilt
from corefilt.verify import Verdict, note_segments, proof, verify

A, B, PAGE = 0x10000, 0x40000, 4096
LOADS = [Load(A, noise(2, 1)), Load(B, noise(1, 2))]
NOTES = kernel_notes([(A, A + 2 * PAGE, 0, "/data")], threads=2)


@pytest.fixture
def annotated(tmp_path: Path) -> tuple[Path, Path]:
    """Write a full core and what --annotate makes of it."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(make_core(LOADS, NOTES))
    corefilt.filter(full, out, filter="all", annotate=True, sync=False)
    return full, out


def ours_first(own: Note, others: list[Note]) -> list[Note]:
    return [own, *others]


def ours_between(own: Note, others: list[Note]) -> list[Note]:
    return [*others[:3], own, *others[3:]]


def ours_last(own: Note, others: list[Note]) -> list[Note]:
    return [*others, own]


def ours_twice(own: Note, others: list[Note]) -> list[Note]:
    return [own, *others[:2], own, *others[2:]]


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at files in this process: none is cut meanwhile, and a child for each look would take the longest."""
    monkeypatch.setattr(proof, "guarded", lambda work, *_, **__: work())


@one_in(3)
@pytest.mark.parametrize("order", [ours_first, ours_between, ours_last, ours_twice])
@pytest.mark.usefixtures("unguarded")
def test_a_damaged_note_of_an_annotated_core_is_found(
    order: Callable[[Note, list[Note]], list[Note]], step: int, annotated: tuple[Path, Path]
) -> None:
    """One byte of a header, a name, a descriptor or padding: of the first note, of the last, and of each between."""
    full, out = annotated
    found = parse_notes(out.read_bytes())
    own = next(note for note in found if note.name == "COREFILT")
    ordered = order(own, list(NOTES))
    out.write_bytes(make_core(LOADS, ordered))
    assert verify(full, out).holds
    assert verify(out, full).holds
    whole = out.read_bytes()
    at = parse_core(whole)[1][0].p_offset
    places: list[tuple[int, int]] = []
    for note in ordered:
        length = len(note.encode())
        if note is not own:
            places += [(note.type, at + place) for place in (8, 12, 12 + len(note.name) + 1 + 4, length - 1)]
        at += length
    # Four of a note: every third is each of them in turn.
    for kind, place in (*places[:4], *places[4:-4:step], *places[-4:]):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        out.write_bytes(damaged)
        verdict = verify(full, out)
        assert [finding.what for finding in verdict.findings] == ["notes"], (kind, place)


@pytest.mark.parametrize("length", range(1, 5))
def test_names_and_descriptors_of_every_length_are_padded_alike(length: int, annotated: tuple[Path, Path]) -> None:
    """Behind any of them, corefilt's own note is found."""
    full, out = annotated
    own = next(note for note in parse_notes(out.read_bytes()) if note.name == "COREFILT")
    for odd in (Note("X", 7, b"x" * length), Note("X" * length, 7, b"x" * 4)):
        full.write_bytes(make_core(LOADS, [odd, *NOTES]))
        out.write_bytes(make_core(LOADS, [odd, own, *NOTES]))
        verdict = verify(full, out)
        assert verdict.holds, verdict
        assert any("of kinds (--annotate)" in change for change in verdict.changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda notes: notes[:-1], "is missing"),
        (lambda notes: [*notes, notes[-1]], "is not in the full core"),
        (lambda notes: [notes[0], notes[2], notes[1], *notes[3:]], "stands for"),
    ],
    ids=["one less", "one more", "swapped"],
)
def test_other_notes_in_an_annotated_core(
    change: Callable[[list[Note]], list[Note]], words: str, annotated: tuple[Path, Path]
) -> None:
    full, out = annotated
    own = next(note for note in parse_notes(out.read_bytes()) if note.name == "COREFILT")
    out.write_bytes(make_core(LOADS, [own, *change(list(NOTES))]))
    assert words in str(verify(full, out))
    assert not verify(full, out).holds


def test_own_notes_are_changes(annotated: tuple[Path, Path]) -> None:
    """New, taken out, and the same in both; one of another type is a stranger's."""
    full, out = annotated
    size = next(24 + len(note.desc) for note in parse_notes(out.read_bytes()) if note.name == "COREFILT")
    assert verify(full, out).changes == [f"a COREFILT note of kinds (--annotate) of {size} bytes is new"]
    assert verify(out, full).changes == ["a COREFILT note of kinds (--annotate) was removed"]
    assert verify(out, out).changes == []
    out.write_bytes(make_core(LOADS, [Note("COREFILT", 7, b"x"), *NOTES]))
    assert not verify(full, out).holds


def test_behind_the_notes_counts_too(tmp_path: Path) -> None:
    """What is too short for a note is held against the full core as well, by its bytes and its length."""
    full, out = tmp_path / "full", tmp_path / "out"
    raw = note_bytes(NOTES)
    full.write_bytes(make_core(LOADS, raw + b"rest of it"))
    for other, words in ((b"rest of iT", "1 byte after the notes differs"), (b"rest", "the notes take")):
        out.write_bytes(make_core(LOADS, raw + other))
        assert words in str(verify(full, out))


@pytest.mark.parametrize("chunk", [21, 64, 152, 160, 168, 176, 333])
def test_notes_are_found_wherever_what_is_read_at_a_time_ends(
    chunk: int, annotated: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of many threads has more notes than are read at a time."""
    full, out = annotated
    own = next(note for note in parse_notes(out.read_bytes()) if note.name == "COREFILT")
    monkeypatch.setattr(note_segments, "_CHUNK", chunk)
    for order in (ours_first, ours_between, ours_last):
        out.write_bytes(make_core(LOADS, order(own, list(NOTES))))
        verdict = verify(full, out)
        assert verdict.holds, verdict
        assert any("of kinds (--annotate)" in change for change in verdict.changes)


def test_what_is_not_claimed_is_as_the_note_of_a_fit_tells(tmp_path: Path) -> None:
    """Of every part how much memory it stands for; a note of other makers tells nothing."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(make_core([Load(A, noise(40)), Load(B, noise(8, 1))], NOTES))
    for annotate in (False, True):
        corefilt.filter(full, out, filter="all", fit=20 * PAGE, unreadable=True, annotate=annotate, force=True)
        verdict = verify(full, out)
        assert verdict.holds, verdict
        assert any("shows less memory than there was, as a note records" in change for change in verdict.changes)
    for name, holds in (("COREFILT", True), ("OTHER", False)):
        told = Note(name, note_segments.FITS, struct.pack("<IIQQQ", 1, 0, 1, A, 2 * PAGE))
        full.write_bytes(make_core(LOADS, [told, *NOTES]))
        shorter = [replace(LOADS[0], data=noise(1, 1), memsz=PAGE), *LOADS[1:]]
        out.write_bytes(make_core(shorter, [told, *NOTES]))
        verdict = verify(full, out)
        assert (not any("p_memsz is another" in finding.text for finding in verdict.findings)) == holds, verdict


def test_notes_are_paired_where_other_program_headers_come_before_them(tmp_path: Path) -> None:
    """Cores of delve's have them last, and a fit makes more program headers."""
    full, out = tmp_path / "full", tmp_path / "out"
    in_the_middle = kernel_notes([], threads=2, stack_pointers=[A + 30 * PAGE])
    full.write_bytes(make_core([Load(A, noise(40)), Load(B, noise(8, 1))], in_the_middle, layout="delve"))
    corefilt.filter(full, out, filter="all", minimal=True)
    places = [[phdr.p_type for phdr in parse_core(path.read_bytes())[1]].index(4) for path in (full, out)]
    assert places[0] < places[1]
    assert verify(full, out).holds
    whole = bytearray(out.read_bytes())
    whole[parse_core(whole)[1][places[1]].p_offset + parse_core(whole)[1][places[1]].p_filesz - 40] ^= 1
    out.write_bytes(whole)
    assert [finding.what for finding in verify(full, out).findings] == ["notes"]


@pytest.mark.parametrize("sizes", [(148,), (148, 148), (148, 156)])
@pytest.mark.parametrize("last", ["NT_FILE", "NT_PRSTATUS"])
def test_what_format_fdpic_leaves_out_is_counted(sizes: tuple[int, ...], last: str, tmp_path: Path) -> None:
    """The notes that the FDPIC dumper does not write may be the last ones, and a thread may be wide already."""
    full, out = tmp_path / "full", tmp_path / "out"
    shape = {"bits": 32, "machine": EM_ARM}
    _, *others = kernel_notes([(A, A + 2 * PAGE, 0, "/data")], **shape)  # type: ignore[arg-type]
    threads = [nt_prstatus(n, 32, machine=EM_ARM, size=size) for n, size in enumerate(sizes, 1)]
    ordered = [*threads, *others] if last == "NT_FILE" else [*others, *threads]
    full.write_bytes(make_core(LOADS, ordered, **shape))  # type: ignore[arg-type]
    corefilt.filter(full, out, filter="all", format="fdpic", loadmaps=(0, 0))
    verdict = verify(full, out)
    assert verdict.holds, verdict
    count = "1 thread" if len(sizes) == 1 else f"{len(sizes)} threads"
    words = f"NT_PRSTATUS of {count} has two words more, and 2 notes were left out (--format)"
    assert words in verdict.changes
    out.write_bytes(out.read_bytes().replace(b"victim --now", b"victim --how"))
    assert not verify(full, out).holds


# --- memory tags by a filter ----------------------------------------------------------------------------------------


def of_tags(core: bytes) -> list[int]:
    """The program headers with memory tags that are there."""
    return [i for i, phdr in enumerate(parse_core(core)[1]) if phdr.p_type == 0x70000002 and phdr.p_filesz]


def judged(full: Path, out: Path, wanted: int) -> Verdict:
    return verify(full, out, filter=wanted)


@pytest.mark.parametrize("wanted", [0x0, 0x1, 0x2, 0x3, 0x1FF])
@pytest.mark.usefixtures("unguarded")
def test_memory_tags_are_as_the_filter_leaves_them(wanted: int, tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(tagged())
    corefilt.filter(full, out, filter=wanted, sync=False)
    assert judged(full, out, wanted).holds
    whole = out.read_bytes()
    for i in of_tags(whole):
        size = parse_core(whole)[1][i].p_filesz
        for less in (size - 1, size // 2, 0):
            out.write_bytes(patched(whole, {f"phdr[{i}].p_filesz": less}))
            findings = [finding for finding in judged(full, out, wanted).findings if finding.what == "filter"]
            assert [(finding.segment, finding.bytes) for finding in findings] == [(i, size - less)]


def test_memory_tags_that_the_filter_drops_are_too_many(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.write_bytes(tagged())
    findings = [finding for finding in judged(full, full, 0x0).findings if finding.what == "filter"]
    sizes = {i: parse_core(tagged())[1][i].p_filesz for i in of_tags(tagged())}
    assert {f.segment: f.bytes for f in findings if f.segment in sizes} == sizes


@pytest.mark.parametrize("unknown", ["keep", "drop"])
def test_memory_tags_of_what_is_ambiguous_may_stay_or_go(unknown: str, tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    load = Load(B, noise(2, 1))
    notes = kernel_notes([(B, B + 2 * PAGE, 0, "/data")], machine=EM_AARCH64)
    full.write_bytes(make_core([load], notes, machine=EM_AARCH64, extra_phdrs=[mte_tags(load)]))
    corefilt.filter(full, out, filter="shared-file-backed", unknown=unknown, sync=False)
    assert bool(of_tags(out.read_bytes())) == (unknown == "keep")
    assert judged(full, out, 0x8).holds


def test_what_a_filter_leaves_of_memory_is_one_number(tmp_path: Path) -> None:
    """Of a file whose kind is open it is a range, and both cores lie in it."""
    full = tmp_path / "full"
    full.write_bytes(make_core(LOADS, NOTES))
    texts = [finding.text for finding in verify(full, full, filter="shared-file-backed").findings]
    assert texts == [f"segment 2 ({B:#x}-{B + PAGE:#x}) has {PAGE} bytes; filter 0x8 leaves 0"]
    out = tmp_path / "out"
    out.write_bytes(make_core([Load(A, b"", memsz=2 * PAGE), Load(B, b"", memsz=PAGE)], NOTES))
    texts = [finding.text for finding in verify(full, out, filter="private-anonymous").findings]
    assert texts == [f"segment 2 ({B:#x}-{B + PAGE:#x}) has 0 bytes; filter 0x1 leaves {PAGE}"]


def test_what_a_filter_leaves_of_what_is_ambiguous_is_a_range(tmp_path: Path) -> None:
    """Text that may have been written to: its header page, or all of it."""
    full, out = tmp_path / "full", tmp_path / "out"
    notes = kernel_notes([(B, B + 3 * PAGE, 0, "/data")])
    full.write_bytes(make_core([Load(B, b"\x7fELF" + noise(3)[4:], flags="r-x")], notes))
    for there in range(4):
        kept = Load(B, (b"\x7fELF" + noise(3)[4:])[: there * PAGE], memsz=3 * PAGE, flags="r-x")
        out.write_bytes(make_core([kept], notes))
        found = [(finding.text, finding.bytes) for finding in verify(full, out, filter=0x11).findings]
        says = f"segment 1 ({B:#x}-{B + 3 * PAGE:#x}) has 0 bytes; filter 0x11 leaves {PAGE} to {3 * PAGE}"
        assert found == ([] if there else [(says, PAGE)])
