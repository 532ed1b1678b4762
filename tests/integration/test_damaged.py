"""Damaged cores: what is repaired is repaired for every reader, in place as in a copy, from a pipe as from a file."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.builder import (
    EM_68K,
    EM_PPC,
    EM_X86_64,
    NT_PRSTATUS,
    Load,
    Note,
    kernel_notes,
    make_core,
    parse_core,
    parse_sections,
    patched,
)
from support.damage import damaged
from support.instants import in_place
from support.opening import in_pipe
from support.run import Done, assert_error, corefilt, listing
from support.samples import PAGE, noise, sample_core

import corefilt as corefilt_api
from corefilt.errors import CorefiltError
from corefilt.verify import verify

BY_SHAPE = pytest.mark.parametrize(
    "shape",
    [
        {"bits": 64, "little_endian": True, "machine": EM_X86_64},
        {"bits": 32, "little_endian": False, "machine": EM_PPC},
    ],
    ids=["64", "32, big"],
)
COUNT_MISSING = "section header 0, which repeats the count of segments, is missing"


def counted(shape: dict[str, object], **options: object) -> bytes:
    """Make a PN_XNUM core of three mappings, one of which 0x31 drops."""
    loads = [Load(0x10000, noise(2, 1)), Load(0x20000, noise(2, 2)), Load(0x30000, noise(1, 3))]
    notes = kernel_notes([(0x20000, 0x22000, 0, "/dev/zero (deleted)")], **shape)  # type: ignore[arg-type]
    return make_core(loads, notes, xnum=True, **shape, **options)  # type: ignore[arg-type]


def mended_in_place(path: Path, wanted: int) -> list[str]:
    """Repair a core in place; a second run needs no force, finds nothing and changes nothing."""
    full = path.with_name("full")
    shutil.copy(path, full)
    report = in_place(path, wanted, force=True)
    assert report.damaged
    assert verify(full, path, filter=wanted).holds
    once = path.read_bytes()
    again = in_place(path, wanted)
    assert not again.damaged
    assert path.read_bytes() == once
    return report.changes


@pytest.mark.parametrize("cut", [100, 2 * PAGE, 9 * PAGE + 5])
@pytest.mark.parametrize("wanted", [0x33, 0x1FF])
@pytest.mark.parametrize("layout", ["gcore", "gcore-notes-first"])
def test_a_truncated_gcore_is_repaired_in_place(layout: str, wanted: int, cut: int, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(sample_core(layout=layout)[:-cut])
    size = path.stat().st_size
    changes = mended_in_place(path, wanted)
    ehdr, phdrs = parse_core(path.read_bytes())
    assert (ehdr.e_shoff, ehdr.e_shnum, ehdr.e_shstrndx) == (0, 0, 0)
    assert all(phdr.p_offset + phdr.p_filesz <= size for phdr in phdrs if phdr.p_filesz)
    assert path.stat().st_size == size
    assert "the reference to missing section headers was removed" in changes


@BY_SHAPE
@pytest.mark.parametrize("cut", [1, 64, 65, 100, PAGE + 3, 3 * PAGE])
@pytest.mark.parametrize("wanted", [0x31, 0x1FF])
def test_a_count_that_was_cut_off_is_made_anew_in_place(
    shape: dict[str, object], wanted: int, cut: int, tmp_path: Path
) -> None:
    """Behind the end, where no segment claims it: every reader sees all program headers again."""
    path = tmp_path / "core"
    path.write_bytes(counted(shape)[:-cut])
    changes = mended_in_place(path, wanted)
    after = path.read_bytes()
    ehdr, phdrs = parse_core(after)
    (section,) = parse_sections(after)
    assert (len(phdrs), section.sh_info, section.sh_size) == (4, 4, 1)
    assert ehdr.e_shoff + ehdr.e_shentsize == len(after)
    assert all(phdr.p_offset + phdr.p_filesz <= ehdr.e_shoff for phdr in phdrs if phdr.p_filesz)
    assert "section header 0, which counts 4 program headers (PN_XNUM), was made anew" in changes


@BY_SHAPE
@pytest.mark.parametrize(
    "patch",
    [
        {"e_shoff": 0},
        {"e_shoff": 0, "e_shnum": 0, "e_shentsize": 0},
        {"e_shnum": 0},
        {"e_shentsize": 1},
        {"e_shoff": 64},
        {"e_shoff": 0x1010},
        {"e_shoff": 0x7FFFFFF0},
    ],
)
def test_a_count_that_nothing_leads_to(patch: dict[str, int], shape: dict[str, object], tmp_path: Path) -> None:
    """From file and pipe exit 3, and in place: the output has it."""
    data = patched(counted(shape), patch)
    source, out, piped = (tmp_path / name for name in ("core", "out", "piped"))
    source.write_bytes(data)
    for done in (corefilt("0x31", source, "-o", out), corefilt("0x31", "-o", piped, pipe=data)):
        assert done.code == 3, done.err
        assert any("section header 0" in line for line in done.err), done.err
    assert out.read_bytes() == piped.read_bytes()
    streamed = tmp_path / "streamed"
    done = corefilt("0x31", pipe=data)
    assert done.code == 3, done.err
    streamed.write_bytes(done.out)
    if patch.get("e_shoff") == 0x7FFFFFF0:
        # The header had left when it turned out that nothing is there.
        assert any("corefilt all" in line for line in done.err)
        assert corefilt("all", streamed, "-o", tmp_path / "mended").code == 3
        streamed = tmp_path / "mended"
    for path in (out, streamed):
        after = path.read_bytes()
        assert parse_sections(after)[0].sh_info == len(parse_core(after)[1]) == 4
        assert verify(source, path).holds
    mended_in_place(source, 0x31)
    after = source.read_bytes()
    assert parse_sections(after)[0].sh_info == len(parse_core(after)[1]) == 4


def test_every_reader_sees_as_many_program_headers(tmp_path: Path) -> None:
    """70,000 mappings, a few payload pages, and a disk that was full before the section header."""
    loads = [Load(PAGE * (16 + 2 * i), noise(1, i) if i % 20_000 == 0 else b"", memsz=PAGE) for i in range(70_000)]
    core = tmp_path / "core"
    core.write_bytes(make_core(loads, kernel_notes())[:-64])
    assert corefilt("all", core, "-i", "-f").code == 3
    assert corefilt("all", core, "-i").code == 0
    for reader in ("readelf", "eu-readelf"):
        if shutil.which(reader) is None:
            continue
        shown = subprocess.run([reader, "-lW", core], capture_output=True, text=True, check=True)
        assert shown.stdout.count("LOAD") >= 70_000, (reader, shown.stderr)
        assert not shown.stderr


def test_a_count_of_none(tmp_path: Path) -> None:
    """The table would be empty: one line that names the field, whatever is done."""
    core = tmp_path / "core"
    core.write_bytes(make_core([], (), xnum=True, note_segment=False, patch={"e_phoff": 64}))
    before = listing(tmp_path)

    def refused(done: Done) -> None:
        assert_error(done, "section header 0: sh_info is 0")
        assert listing(tmp_path) == before

    refused(corefilt("0x33", core, "-o", tmp_path / "out"))
    refused(corefilt("0x33", core, "-n"))
    refused(corefilt("0x33", core, "-i"))
    refused(corefilt("inspect", core))
    done = corefilt("batch", "0x33", core, "--to", tmp_path / "small")
    assert done.code == 4
    assert any("sh_info is 0" in line for line in done.err), done.err


def test_no_thread_to_take_loadmaps_from(tmp_path: Path) -> None:
    """The only NT_PRSTATUS has a name that is too long: --format elf says what is missing."""
    shape = {"bits": 32, "little_endian": False, "machine": EM_68K}
    status = Note(b"CORE".ljust(10, b"\0"), NT_PRSTATUS, bytes(162))
    core = tmp_path / "core"
    core.write_bytes(make_core([Load(0x10000, noise(1))], [status, *kernel_notes(None, **shape)[3:]], **shape))  # type: ignore[arg-type]
    before = listing(tmp_path)
    assert_error(corefilt("all", core, "-o", tmp_path / "out", "--format", "elf"), "has no NT_PRSTATUS")
    assert listing(tmp_path) == before


# --- whatever has happened to a core ----------------------------------------------------------------------------------


def filtered_in(way: str, source: Path, out: Path, wanted: int) -> corefilt_api.Report:
    """Filter a damaged core one way; what is refused raises CorefiltError."""
    core = source.read_bytes()
    if way == "in place" or way == "compact":
        out.write_bytes(core)
        return in_place(out, wanted, force=True, sync=False, compact=way == "compact")
    if way == "pipe":
        with in_pipe(core) as fd:
            return corefilt_api.filter(fd, out, filter=wanted, sync=False)
    if way == "compressed":
        packed = source.with_name("core.gz")
        packed.write_bytes(gzip.compress(core, 1))
        return corefilt_api.filter(packed, out.with_name("out"), filter=wanted, sync=False)
    more: dict[str, dict[str, object]] = {
        "file": {}, "annotated": {"annotate": True}, "minimal": {"minimal": True}, "fitted": {"fit": 30_000},
    }  # fmt: skip
    return corefilt_api.filter(source, out, filter=wanted, sync=False, **more[way])  # type: ignore[arg-type]


WAYS = ("file", "pipe", "in place", "compact", "compressed", "annotated", "minimal", "fitted")
# All ways with one input take half a second: a plain run takes the first 8 of these.
SEEDS = [pytest.param(range(i, i + 8), marks=pytest.mark.slow if i else (), id=str(i)) for i in range(0, 400, 8)]
# What has failed.
FOUND = (
    38, 55, 90, 96, 130, 203, 245, 263, 272, 406, 452, 460, 484, 604, 796, 861, 869, 920, 938, 1102, 1176, 2174, 2192,
)  # fmt: skip


@pytest.mark.parametrize("seeds", [pytest.param(FOUND, id="found"), *SEEDS])
def test_no_output_is_broken(seeds: Sequence[int], tmp_path: Path) -> None:
    """Written is written whole: `verify` holds, or the input was refused in words and nothing was touched."""
    done = 0
    for seed in seeds:
        core, words = damaged(seed)
        wanted = (0x0, 0x1, 0x10, 0x31, 0x33, 0x1FF)[seed % 6]
        for way in WAYS:
            for left in tmp_path.iterdir():
                left.unlink()
            source, out = tmp_path / "core", tmp_path / "out"
            source.write_bytes(core)
            try:
                report = filtered_in(way, source, out, wanted)
            except CorefiltError as error:
                assert str(error), words
                assert not out.exists() or out.read_bytes() == core, (way, words)
                continue
            finally:
                assert source.read_bytes() == core, (way, words)
            if way == "in place":
                first = out.read_bytes()
                in_place(out, wanted, force=True, sync=False)
                assert out.read_bytes() == first, f"-i twice, filter {wanted:#x}, {words}"
            report.as_dict()
            report.summary(verbose=True)
            verdict = verify(source, out)
            assert verdict.holds, f"{way}, filter {wanted:#x}, {words}: {verdict}"
            # PN_XNUM's section header, which is made anew at a whole number of words, is all that may come in.
            assert way == "annotated" or out.stat().st_size <= len(core) + (71 if report.damaged else 0), (way, words)
            done += 1
    assert done > len(seeds)
