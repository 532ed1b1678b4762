"""Section headers, as `verify` holds them: their number, their contents, and those that nothing can be said of."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, parse_core, parse_sections, patched
from support.samples import noise, sample_core

import corefilt
from corefilt.verify import verify

A, B = 0x10000, 0x40000


def gcore(patch: dict[str, int] | None = None) -> bytes:
    """Make a core of gdb's, whose names of sections stand right behind its notes."""
    loads = [Load(A, noise(2, 1)), Load(B, noise(1, 2))]
    return make_core(loads, kernel_notes(), layout="gcore", patch=patch)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Write a core and a copy that keeps all of it."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(gcore())
    out.write_bytes(gcore())
    assert verify(full, out).holds
    return full, out


def found(full: Path, out: Path) -> list[tuple[str, str]]:
    return [(finding.what, finding.text) for finding in verify(full, out).findings]


@pytest.mark.parametrize("count", [1, 4])
def test_section_headers_that_are_fewer_are_said_to_be(count: int, pair: tuple[Path, Path]) -> None:
    full, out = pair
    out.write_bytes(patched(out.read_bytes(), {"e_shnum": count}))
    assert ("sections", f"the count of section headers is {count}, not 5") in found(full, out)


def test_contents_right_behind_a_segment_are_not_the_segments(pair: tuple[Path, Path]) -> None:
    """The names of sections begin with the byte behind the notes."""
    full, out = pair
    raw = bytearray(out.read_bytes())
    names, notes = parse_sections(raw)[4], parse_core(raw)[1][0]
    assert names.sh_offset == notes.p_offset + notes.p_filesz
    for at in (0, 1, names.sh_size - 1):
        damaged = bytearray(raw)
        damaged[names.sh_offset + at] ^= 1
        out.write_bytes(damaged)
        ((what, text),) = found(full, out)
        assert (what, text[: len("section 4: 1 byte differs")]) == ("sections", "section 4: 1 byte differs"), at


def test_contents_that_no_file_has_are_no_difference(tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    size = len(gcore())
    for offset in (size, size - 1, 1 << 40):
        full.write_bytes(gcore({"shdr[4].sh_offset": offset}))
        corefilt.filter(full, out, filter="all", force=True, sync=False)
        assert verify(full, out).holds, hex(offset)


def test_section_headers_that_stood_in_a_segment_may_be_gone(tmp_path: Path) -> None:
    """They would have had to be written over its bytes; that there are none is told."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(sample_core(layout="gcore", patch={"phdr[13].p_filesz": 1 << 40}))
    corefilt.filter(full, out, filter="all", sync=False)
    verdict = verify(full, out)
    assert not [finding for finding in verdict.findings if finding.what == "sections"], str(verdict)
    assert any(change.startswith("the count of section headers is 0, not ") for change in verdict.changes)
