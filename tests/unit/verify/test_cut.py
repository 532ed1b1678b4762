"""``corefilt verify --truncate``: what a limit cut holds, where the kernel would have cut it and nowhere else."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from support.builder import (
    EM_68K,
    EM_ARM,
    Load,
    kernel_notes,
    make_core,
    note_bytes,
    nt_prstatus,
    parse_core,
    patched,
)
from support.limited import PATTERNS, SHAPES, A, B, patterned, write_sparse
from support.run import assert_usage, corefilt
from support.samples import PAGE, noise, sample_core
from support.thinned import one_in

import corefilt as api
from corefilt.verify import Verdict, proof, verify


def broken(verdict: Verdict) -> str:
    assert not verdict.holds
    return str(verdict)


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at files in this process: none is cut meanwhile, and a child for each look would take the longest."""
    monkeypatch.setattr(proof, "guarded", lambda work, *_, **__: work())


@one_in(3)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("unguarded")
def test_what_a_limit_cuts_holds_and_nothing_else_does(shape: str, step: int, tmp_path: Path) -> None:
    rand = random.Random(shape)
    core, holes = patterned(rand.choices(PATTERNS, k=7), **dict(SHAPES[shape]))
    full, uncut, cut = tmp_path / "full", tmp_path / "uncut", tmp_path / "cut"
    write_sparse(full, core, holes)
    for wanted in ("all", "0x1"):
        api.filter(full, uncut, filter=wanted, unknown="drop", force=True, sync=False)
        whole = uncut.stat().st_size
        for limit in (4096, *rand.sample(range(4096, whole), 6)[::step], whole - 1, whole, whole + 1):
            api.filter(full, cut, filter=wanted, unknown="drop", truncate=limit, force=True, sync=False)
            size = cut.stat().st_size
            verdict = verify(full, cut, truncate=limit)
            assert verdict.holds, (limit, str(verdict))
            assert [f"cut at {size} bytes" in change for change in verdict.changes] == [True] * (size < whole)
            if size == whole:
                continue
            os.truncate(cut, size - 1)
            assert f"the file ends at {size - 1}, and under" in broken(verify(full, cut, truncate=limit))
            os.truncate(cut, size)
            assert not verify(full, cut).holds


def test_pages_are_as_long_as_the_process_was_told(tmp_path: Path) -> None:
    """By AT_PAGESZ, where p_align is another: m68k's is 8192 (ELF_EXEC_PAGESIZE), and its pages are of 4096 bytes."""
    full, out = tmp_path / "full", tmp_path / "out"
    shape = {"bits": 32, "machine": EM_68K, "little_endian": False}
    loads = [Load(A, noise(4, 1), align=8192), Load(B, noise(1, 2), align=8192)]
    core = make_core(loads, kernel_notes(**shape), **shape)  # type: ignore[arg-type]
    full.write_bytes(core)
    start = parse_core(core)[1][1].p_offset
    for count in range(1, 5):
        api.filter(full, out, filter="all", truncate=start + count * PAGE + 100, force=True, sync=False)
        assert out.stat().st_size == start + count * PAGE
        verdict = verify(full, out, truncate=start + count * PAGE + 100)
        assert verdict.holds, verdict


def test_what_follows_the_notes_counts(tmp_path: Path) -> None:
    """It takes room under the limit, though it is no note; what pads notes takes none."""
    full, out = tmp_path / "full", tmp_path / "out"
    notes, rest = kernel_notes(), b"rest of it"
    core = make_core([Load(A, noise(4, 1))], note_bytes(notes) + rest)
    full.write_bytes(core)
    first, load = parse_core(core)[1]
    out.write_bytes(core[: load.p_offset + 2 * PAGE])
    counted = first.p_offset + sum(12 + len(note.name) + 1 + len(note.desc) for note in notes) + len(rest)
    limits = (counted + 2 * PAGE - 1, counted + 2 * PAGE, counted + 3 * PAGE - 1, counted + 3 * PAGE)
    assert [verify(full, out, truncate=limit).holds for limit in limits] == [False, True, True, False]


def test_a_page_more_than_the_kernel_leaves(tmp_path: Path) -> None:
    full, cut = tmp_path / "full", tmp_path / "cut"
    full.write_bytes(sample_core())
    api.filter(full, cut, filter="0x33", truncate="24K")
    api.filter(full, tmp_path / "more", filter="0x33", truncate="28K")
    assert "the file ends at 28672, and under RLIMIT_CORE = 24576" in broken(
        verify(full, tmp_path / "more", truncate="24K")
    )
    assert "the file ends at 24576, and under RLIMIT_CORE = 28672" in broken(verify(full, cut, truncate="28K"))
    api.filter(full, cut, filter="0x33", force=True)
    assert "ends it at 24576" in broken(verify(full, cut, truncate="24K"))
    assert verify(full, cut, truncate="1M").holds


@one_in(3)
@pytest.mark.usefixtures("unguarded")
def test_every_flipped_bit_of_what_is_left_is_found(step: int, tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core())
    notes = parse_core(sample_core())[1][0].p_offset
    for limit in ("32K", str(notes + 3000)):
        api.filter(full, out, filter="0x33", truncate=limit if limit[-1] == "K" else max(int(limit), 4096), force=True)
        limit = limit if limit[-1] == "K" else str(max(int(limit), 4096))
        assert verify(full, out, truncate=limit).holds
        before = out.read_bytes()
        phdrs = parse_core(before)[1]
        behind = {
            0x40 + 56 * i + k for i, phdr in enumerate(phdrs) if phdr.p_offset >= len(before) for k in range(8, 40)
        }
        for at in [*range(0, 0x1000, 131 * step), *range(0x1000, len(before), 2 * PAGE + 31)]:
            # Where what is cut off would have been, and how much of it, nothing tells any more.
            if at in behind or at >= len(before):
                continue
            raw = bytearray(before)
            raw[at] ^= 1 << at % 8
            out.write_bytes(raw)
            assert not verify(full, out, truncate=limit).holds, f"{limit}: byte {at:#x}"


def test_pipes(tmp_path: Path) -> None:
    """What comes down a pipe has zeros for holes, or holes for zeros; either is where the kernel may have cut."""
    full, out = tmp_path / "full", tmp_path / "out"
    core, holes = patterned(["x0.x", "..x.", "xx..", "x", "0x0x", "...", "0"])
    write_sparse(full, core, holes)
    for limit in range(4096, len(core), 3 * PAGE + 5):
        with subprocess.Popen(["cat", full], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            api.filter(cat.stdout, out, filter="all", truncate=limit, force=True, sync=False)
        verdict = verify(full, out, truncate=limit)
        assert verdict.holds, (limit, str(verdict))
    out.write_bytes(corefilt("all", "--truncate", "24K", source=full).out)
    assert verify(full, out, truncate="24K").holds


def test_a_table_that_is_cut(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(make_core([Load(A + 0x10000 * i, noise(1, i)) for i in range(100)], kernel_notes()))
    api.filter(full, out, filter="all", truncate=4096)
    assert out.stat().st_size == 64 + 72 * 56 == 4096
    assert verify(full, out, truncate=4096).holds
    assert "the file ends at 4096" in broken(verify(full, out, truncate=8192))
    raw = out.read_bytes()
    for change in ({"phdr[70].p_vaddr": 0}, {"phdr[70].p_flags": 7}, {"e_phnum": 72}, {"e_phnum": 102}):
        out.write_bytes(patched(raw + bytes(PAGE), change)[:4096])
        broken(verify(full, out, truncate=4096))


@one_in(3)
@pytest.mark.usefixtures("unguarded")
def test_notes_that_are_cut(step: int, tmp_path: Path) -> None:
    """Of a note that is cut, and of one of corefilt's own, the beginning must be right."""
    full, out = tmp_path / "full", tmp_path / "out"
    notes = [*kernel_notes([(A, A + PAGE, 0, "/data")], threads=9), *kernel_notes(threads=30)[4:]]
    full.write_bytes(make_core([Load(A, noise(2, 1)), Load(B, noise(2, 2))], notes))
    start, size = parse_core(full.read_bytes())[1][0][2], parse_core(full.read_bytes())[1][0].p_filesz
    assert size > 2 * PAGE
    for options in ({}, {"annotate": True}):
        lengths = set()
        for limit in range(4096, start + size + 2000, 977 * step):
            api.filter(full, out, filter="all", truncate=limit, force=True, sync=False, **options)  # type: ignore[arg-type]
            lengths.add(out.stat().st_size)
            verdict = verify(full, out, truncate=limit)
            assert verdict.holds, (options, limit, str(verdict))
            raw = bytearray(out.read_bytes())
            raw[-1] ^= 1
            out.write_bytes(raw)
            if not options:
                assert any(finding.what == "notes" for finding in verify(full, out, truncate=limit).findings), limit
        assert len(lengths) > 10 // step


def test_another_format_that_is_cut(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    shape = {"bits": 32, "machine": EM_ARM}
    notes = [nt_prstatus(1, 32, machine=EM_ARM, size=156), *kernel_notes(None, **shape)[1:4]]  # type: ignore[arg-type]
    full.write_bytes(make_core([Load(A, noise(4, 1)), Load(B, noise(1, 2))], notes, **shape))  # type: ignore[arg-type]
    api.filter(full, out, filter="all", format="elf", truncate="12K")
    verdict = verify(full, out, truncate="12K")
    assert verdict.holds, str(verdict)
    assert any("two words less" in change for change in verdict.changes)


def test_section_headers_that_are_cut_off(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    for layout in ("gcore", "gcore-notes-first"):
        full.write_bytes(make_core([Load(A, noise(3, 1)), Load(B, noise(3, 2))], kernel_notes(), layout=layout))
        whole = full.stat().st_size
        for limit in (4096, 9000, 5 * PAGE, whole - 1, whole):
            api.filter(full, out, filter="all", truncate=limit, force=True, sync=False)
            verdict = verify(full, out, truncate=limit)
            assert verdict.holds, (layout, limit, str(verdict))
    full.write_bytes(make_core([Load(A, noise(2, 1)), Load(B, noise(1))], kernel_notes(), xnum=True))
    api.filter(full, out, filter="all", truncate=full.stat().st_size - 10, force=True)
    assert verify(full, out, truncate=full.stat().st_size - 10).holds
    raw = out.read_bytes()
    for change in ({"e_shoff": parse_core(raw)[0].e_shoff + 64}, {"e_shnum": 2}):
        out.write_bytes(patched(raw, change))
        assert "section headers" in broken(verify(full, out, truncate=full.stat().st_size - 10))


@pytest.mark.parametrize("layout", ["gcore", "gcore-notes-first"])
def test_what_sections_hold_moves_with_their_headers_cut_off(layout: str, tmp_path: Path) -> None:
    """The names of sections stand in no segment, and without their headers they stand in no section."""
    full, out = tmp_path / "full", tmp_path / "out"
    notes = kernel_notes([(A, A + 3 * PAGE, 0, "/dev/zero (deleted)")])
    full.write_bytes(make_core([Load(A, noise(3, 1)), Load(B, noise(3, 2))], notes, layout=layout))
    api.filter(full, out, filter="0x1", sync=False)
    at = out.read_bytes().index(b"note0")
    assert full.read_bytes().index(b"note0") - at == 3 * PAGE
    limit = out.stat().st_size - 4 * 64
    api.filter(full, out, filter="0x1", truncate=limit, force=True, sync=False)
    assert parse_core(out.read_bytes() + bytes(PAGE))[0].e_shoff < out.stat().st_size < limit + 4 * 64
    verdict = verify(full, out, truncate=limit)
    assert verdict.holds, verdict
    out.write_bytes(out.read_bytes().replace(b"note0", b"note1"))
    assert [finding.what for finding in verify(full, out, truncate=limit).findings] == ["unclaimed"]


def test_a_filter_is_asked_for_too(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core())
    api.filter(full, out, filter="0x33", truncate="24K")
    assert verify(full, out, filter="0x33", truncate="24K").holds
    assert "filter 0x31 leaves 0" in broken(verify(full, out, filter="0x31", truncate="24K"))


def test_command(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core())
    assert corefilt("0x33", full, "-o", out, "-q", "--truncate", "24K").code == 0
    done = corefilt("verify", full, out, "--truncate", "24K", "--json")
    assert (done.code, json.loads(done.out)["holds"]) == (0, True)
    done = corefilt("verify", full, out)
    assert done.code == 4
    assert "--truncate SIZE" in done.err[-1]
    assert b"past the end of the file" in done.out
    assert corefilt("verify", full, out, "--truncate", "unlimited").code == 4
    assert_usage(corefilt("verify", full, out, "--truncate", "much"), "'much'")
