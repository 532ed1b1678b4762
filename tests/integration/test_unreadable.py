"""--unreadable: program headers claim no memory that was cut, and a note tells whose it was."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from support.builder import EM_PPC, EM_X86_64, PT_LOAD, Load, Note, kernel_notes, make_core, parse_core, parse_notes
from support.fitting import pages
from support.opening import open_file
from support.run import assert_usage, corefilt
from support.samples import PAGE, noise
from support.shared import BLOCK, group, sums

import corefilt as api
from corefilt.batching.shared.reduce import share_once
from corefilt.verify import verify

STACK, HEAP, BIG, TABLE = 0x7FFD0000, 0x55550000, 0x60000000, 0x70000000
FITS = 0x46495453


def process(**shape: Any) -> bytes:
    """A core of one thread: its stack, memory that pointers do not lead to, a file, and pages that were not dumped."""
    loads = [
        Load(HEAP, noise(6, 3)),
        Load(BIG, noise(40, 4), memsz=50 * PAGE),
        Load(TABLE, noise(30, 5)),
        Load(STACK, noise(8, 1)),
    ]
    notes = kernel_notes([(TABLE, TABLE + 30 * PAGE, 0, "/var/table.db")], stack_pointers=[STACK + 5 * PAGE], **shape)
    return make_core(loads, notes, **shape)


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Write it."""
    path = tmp_path / "core"
    path.write_bytes(process())
    return path


def cut(core: Path, name: str, **options: Any) -> Path:
    """Filter a core into another beside it."""
    out = core.with_name(name)
    api.filter(core, out, filter=options.pop("filter", "all"), sync=False, **options)
    return out


def loads(core: Path) -> list[tuple[int, int, int]]:
    """Addresses, p_filesz and p_memsz in pages."""
    phdrs = parse_core(core.read_bytes())[1]
    return [(p.p_vaddr, p.p_filesz // PAGE, p.p_memsz // PAGE) for p in phdrs if p.p_type == PT_LOAD]


def mappings(core: Path) -> list[tuple[str, str, str, int]]:
    """Every mapping as inspect has it."""
    report = json.loads(corefilt("inspect", core, "--json").out)
    return [(m["start"], m["end"], m["kind"], m["present"]) for m in report["mappings"]]


def test_no_program_header_claims_what_was_cut(core: Path) -> None:
    small = cut(core, "small", minimal=True, unreadable=True)
    plain = cut(core, "plain", minimal=True)
    assert pages(small.read_bytes()) == pages(plain.read_bytes())
    assert loads(plain) == [
        (HEAP, 0, 6), (BIG, 0, 50), (TABLE, 0, 30), (STACK, 0, 4), (STACK + 4 * PAGE, 4, 4)
    ]  # fmt: skip
    assert loads(small) == [
        (HEAP, 0, 0), (BIG, 0, 0), (TABLE, 0, 0), (STACK, 0, 0), (STACK + 4 * PAGE, 4, 4)
    ]  # fmt: skip


def test_what_a_filter_drops_is_claimed_as_by_the_kernel(core: Path) -> None:
    """A file's clean pages, which debuggers read from the file, and what the kernel did not dump."""
    small = cut(core, "small", filter="private-anonymous", fit=28 << 10, unreadable=True, unknown="drop")
    assert loads(small)[2] == (TABLE, 0, 30)
    whole = cut(core, "whole", fit=260 << 10, unreadable=True)
    assert (BIG, 40, 50) in loads(whole)


def test_mappings_are_inspected_as_they_were(core: Path) -> None:
    small = cut(core, "small", minimal=True, unreadable=True)
    assert mappings(small) == mappings(cut(core, "plain", minimal=True))
    with open_file(small) as it:
        assert [(m.start, m.end) for m in it.mappings][1] == (BIG, BIG + 50 * PAGE)


def test_verify_tells_of_it(core: Path) -> None:
    small = cut(core, "small", fit=80 << 10, unreadable=True)
    verdict = verify(core, small)
    assert verdict.holds
    assert "p_memsz of 2 segments shows less memory than there was, as a note records (--unreadable)" in verdict.changes


def test_a_claim_that_no_note_excuses_is_found(core: Path) -> None:
    small = cut(core, "small", minimal=True, unreadable=True)
    raw = bytearray(small.read_bytes())
    at = raw.find(b"COREFILT\0") - 12
    extents = raw.index(struct.pack("<QQ", BIG, 50 * PAGE), at)
    for address, size, words in ((BIG, 49, "ends at"), (BIG + PAGE, 50, "ends at"), (BIG, 51, "ends at")):
        other = raw[:extents] + struct.pack("<QQ", address, size * PAGE) + raw[extents + 16 :]
        small.write_bytes(other)
        verdict = verify(core, small)
        assert not verdict.holds
        assert any(words in finding.text for finding in verdict.findings)
    # A part that has more bytes than memory.
    n = next(n for n, phdr in enumerate(parse_core(bytes(raw))[1]) if phdr.p_filesz and phdr.p_type == PT_LOAD)
    struct.pack_into("<Q", raw, 64 + 56 * n + 40, PAGE)
    small.write_bytes(raw)
    assert any("more bytes than memory" in finding.text for finding in verify(core, small).findings)


def test_filtered_again_it_stays_as_it_is(core: Path) -> None:
    """Headers change by no option that does not say so; what they stand for is the same."""
    small = cut(core, "small", fit=80 << 10, unreadable=True)
    again = cut(small, "again", filter="shared-file-backed", unknown="guess")
    assert [(start, memsz) for start, _, memsz in loads(again)] == [(start, memsz) for start, _, memsz in loads(small)]
    assert [m[:2] for m in mappings(again)] == [m[:2] for m in mappings(small)]
    assert verify(small, again).holds
    assert verify(core, again).holds


@pytest.mark.parametrize("unreadable", [False, True])
def test_cut_again(core: Path, unreadable: bool) -> None:
    small = cut(core, "small", fit=100 << 10, unreadable=True)
    again = cut(small, "again", minimal=True, unreadable=unreadable)
    assert pages(again.read_bytes()) == pages(cut(core, "plain", minimal=True).read_bytes())
    assert mappings(again) == mappings(core.with_name("plain"))
    assert verify(small, again).holds
    assert verify(core, again).holds
    memory = {start: memsz for start, _, memsz in loads(again)}
    assert memory[HEAP] == (0 if unreadable else 6)


def test_in_place(core: Path) -> None:
    small = cut(core, "small", fit=80 << 10, unreadable=True)
    before, whole = mappings(small), small.read_bytes()
    corefilt("none", "-i", "-f", small)
    assert [m[:3] for m in mappings(small)] == [m[:3] for m in before]
    copy = core.with_name("copy")
    copy.write_bytes(whole)
    assert verify(copy, small).holds


def test_shared_memory_that_stands_once(tmp_path: Path) -> None:
    """Cores that gave blocks up to others have the same mappings as before, and come back as they were."""
    small = [
        cut(path, f"small.{n}", fit=700 << 10, unreadable=True)
        for n, path in enumerate(group(tmp_path, 3, changes=False))
    ]

    def whole(path: Path) -> list[tuple[int, int]]:
        with open_file(path) as core:
            maps = core.maps.whole
            return [(maps.start(m), maps.end(m)) for m in range(len(maps))]

    before, sums_before = [whole(path) for path in small], sums(small)
    assert len(share_once(small).reduced) == 2
    assert [whole(path) for path in small] == before
    assert any((phdr.p_filesz, phdr.p_memsz) == (0, 5 * BLOCK) for phdr in parse_core(small[1].read_bytes())[1])
    (manifest,) = tmp_path.glob("corefilt-shared-*.json")
    assert corefilt("restore", manifest).code == 0
    assert sums(small) == sums_before


def test_records_have_the_true_extents(core: Path) -> None:
    small = cut(core, "small", minimal=True, unreadable=True, annotate=True, assume=[f"{BIG:#x}=shared-anonymous"])
    assert "shared-anonymous" in [kind for _, _, kind, _ in mappings(small)]


@pytest.mark.parametrize(
    "shape", [{}, {"bits": 32, "little_endian": False, "machine": EM_PPC}, {"machine": EM_X86_64, "xnum": True}]
)
def test_of_any_shape(shape: dict[str, Any], tmp_path: Path) -> None:
    """Sizes are kept to the byte: no output is larger than SIZE."""
    options = {key: value for key, value in shape.items() if key != "xnum"}
    loads_, notes = (
        [Load(BIG + n * 16 * PAGE, noise(9, n)) for n in range(4)],
        kernel_notes([], stack_pointers=[BIG + 5 * PAGE], **options),
    )
    core = tmp_path / "core"
    core.write_bytes(make_core(loads_, notes, **shape))
    for size in range(60 << 10, 170 << 10, 20 << 10):
        out = cut(core, f"out{size}", fit=size, unreadable=True, runtime="none")
        assert out.stat().st_size <= size
        assert verify(core, out).holds
        assert [m[:2] for m in mappings(out)] != []


def fits_note(desc: bytes) -> Note:
    return Note("COREFILT", FITS, desc)


@pytest.mark.parametrize(
    ("extents", "end"),
    [
        ([(BIG, 8 * PAGE)], BIG + 8 * PAGE),
        ([(BIG, 16 * PAGE)], BIG + 16 * PAGE),
        ([(BIG, 17 * PAGE)], BIG + 2 * PAGE),
        ([(BIG, PAGE)], BIG + 2 * PAGE),
        ([(BIG, (1 << 64) - 1)], BIG + 2 * PAGE),
        ([(BIG + PAGE, 8 * PAGE)], BIG + 2 * PAGE),
    ],
    ids=["more", "up to the next", "over the next", "less", "past the end of memory", "of none"],
)
def test_what_a_note_says_counts_where_it_can_be(extents: list[tuple[int, int]], end: int, tmp_path: Path) -> None:
    desc = struct.pack("<IIQ", 1, 0, len(extents)) + b"".join(struct.pack("<QQ", *pair) for pair in extents)
    core = tmp_path / "core"
    core.write_bytes(
        make_core([Load(BIG, noise(2)), Load(BIG + 16 * PAGE, noise(2))], [*kernel_notes([]), fits_note(desc)])
    )
    with open_file(core) as it:
        assert it.mappings[0].end == end
        assert not it.warnings


def test_a_note_that_counts_more_than_it_has(tmp_path: Path) -> None:
    core = tmp_path / "core"
    desc = struct.pack("<IIQQQ", 1, 0, 1 << 60, BIG, PAGE)
    core.write_bytes(make_core([Load(BIG, noise(2))], [*kernel_notes([]), fits_note(desc)]))
    with open_file(core) as it:
        assert "extents" in it.warnings[0]
    assert verify(core, core).holds


def test_it_goes_with_what_cuts(core: Path) -> None:
    assert_usage(corefilt("all", core, "-o", core.with_name("out"), "--unreadable"), "needs --minimal or --fit")
    assert_usage(corefilt("all", "-i", core, "--unreadable"), "-i cannot move anything, and --unreadable does")


def test_the_report_says_so(core: Path) -> None:
    report = api.filter(core, core.with_name("out"), filter="all", minimal=True, unreadable=True, sync=False)
    assert report.as_dict()["fit"]["unreadable"] == 4  # type: ignore[index]
    assert "p_memsz of 4 program headers ends where the kept bytes end (--unreadable)" in report.summary()
    notes = parse_notes(core.with_name("out").read_bytes())
    assert len([note for note in notes if note.name == "COREFILT"]) == 1
