"""Cores that a limit or a full disk cut: what is there is made loadable, and what is missing is told."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kernel.dumps import (
    FULL,
    PN_XNUM,
    CannotCompileError,
    Core,
    compile_c,
    may_change_system,
    only_file,
    run_program,
    sysctl,
    twin_folders,
)
from kernel.waiting import ALL, Waiting, edges, waiting
from support.builds import PATIENCE
from support.run import corefilt as corefilt_command

import corefilt

# ---- what a limit or a full disk left --------------------------------------------------------------------


def mended(cut: Path, out: Path, *options: str) -> dict[str, object]:
    """Make a cut core loadable; the report, after the promises have been held against it."""
    report = out.with_suffix(".json")
    done = corefilt_command("all", cut, "-o", out, f"--json={report}", *options)
    assert done.code == 3, done
    before, after = Core(cut), Core(out)
    assert len(after.data) == len(before.data)
    for was, now in zip(before.phdrs, after.phdrs, strict=True):
        assert now.p_filesz <= was.p_filesz
        assert now.p_offset + now.p_filesz <= len(after.data)
        assert (now.p_vaddr, now.p_memsz, now.p_flags) == (was.p_vaddr, was.p_memsz, was.p_flags)
        there = after.data[now.p_offset : now.p_offset + now.p_filesz]
        assert there == before.data[was.p_offset : was.p_offset + now.p_filesz]
    told = json.loads(report.read_text())
    lost = {
        row["start"]: (row["missing"], row["present"], row["kept"]) for row in told["mappings"] if row.get("missing")
    }
    assert lost == {
        f"{was.p_vaddr:#x}": (was.p_filesz - now.p_filesz, now.p_filesz, now.p_filesz)
        for was, now in zip(before.phdrs[1:], after.phdrs[1:], strict=True)
        if now.p_filesz < was.p_filesz
    }
    first = next(iter(lost), None)
    assert first is None or any(line.startswith(f"  missing: {first[2:]}-") for line in done.err), done
    return told


def gdb_says(program: Path, core: Path) -> str:
    """Return what gdb says of a core's only thread."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb in PATH")
    command = ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", "p $pc", program, core]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("limit", [5000, 14_000, 60_000, 200_000])
def test_a_core_cut_by_its_limit(
    small: Waiting, small_full: Core, waiting_program: Path, tmp_path: Path, limit: int
) -> None:
    """Cut among the notes or in the payload: gdb opens what was mended, and misses nothing."""
    cut = small.dump("cut", FULL, limit)
    assert cut is not None
    assert cut.stat().st_size < len(small_full.data)
    mended(cut, tmp_path / "fixed")
    said = gdb_says(waiting_program, tmp_path / "fixed")
    assert re.search(r"\$1 = .*<main\+\d+>", said), said
    assert "truncated" not in said
    assert "past end of file" not in said


@pytest.mark.parametrize("size", [2_900, 17_000, 20_480, 500_001])
def test_a_core_cut_by_the_limit_of_a_file(
    small: Waiting, small_full: Core, waiting_program: Path, tmp_path: Path, size: int
) -> None:
    """RLIMIT_FSIZE cuts at any byte."""
    cut = small.dump("cut", FULL, file_size=size)
    assert cut is not None
    assert cut.stat().st_size == size
    mended(cut, tmp_path / "fixed")
    assert re.search(r"\$1 = .*<main\+\d+>", gdb_says(waiting_program, tmp_path / "fixed"))


def test_a_core_cut_by_a_full_disk(waiting_program: Path, tmp_path: Path) -> None:
    """A tmpfs of 200 KiB holds a part of it."""
    if not may_change_system():
        pytest.skip("needs a tmpfs mounted: only with COREFILT_TEST_SYSTEM=1 and as root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk], check=True)
    try:
        with waiting(waiting_program, disk / "here") as it:
            cut = it.dump("cut")
            assert cut is not None
            shutil.copy(cut, tmp_path / "cut")
    finally:
        subprocess.run(["umount", disk], check=True)
    mended(tmp_path / "cut", tmp_path / "fixed")
    assert re.search(r"\$1 = .*<main\+\d+>", gdb_says(waiting_program, tmp_path / "fixed"))


def test_a_mended_core_is_whole(small: Waiting, small_full: Core, tmp_path: Path) -> None:
    """Filtered once more, it changes no more."""
    cut = small.dump("cut", FULL, 120_000)
    assert cut is not None
    mended(cut, tmp_path / "fixed")
    again = corefilt.filter(tmp_path / "fixed", tmp_path / "again", filter="all")
    assert (again.damaged, again.changes) == (False, [])
    assert (tmp_path / "again").read_bytes() == (tmp_path / "fixed").read_bytes()


# ---- more program headers than e_phnum can say, and the count lost ---------------------------------------

MANY = 66_000


# Sets a hard limit and becomes the program, without random addresses.
LIMITED = """
import ctypes, os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (int(sys.argv[1]),) * 2)
ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def many(cores: None, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Dump a process of 66,000 mappings: in full, under a limit among the pages, and under one a byte too low."""
    if not may_change_system():
        pytest.skip("needs vm.max_map_count raised: only with COREFILT_TEST_SYSTEM=1 and as root")
    folder = tmp_path_factory.mktemp("many")
    try:
        program = compile_c("many.c", folder / "program", "-O1", "-static")
    except CannotCompileError as error:
        pytest.skip(str(error))

    def dumped(limit: int) -> Path:
        (folder / str(limit)).mkdir()
        names = twin_folders(folder / str(limit), (FULL,))
        with sysctl("vm/max_map_count", MANY + 4096):
            command = [sys.executable, "-c", LIMITED, limit, program, MANY, folder / str(limit), *names]
            run_program([str(word) for word in command])
        return only_file(folder / str(limit) / names[0])

    full = dumped(ALL)
    brim = edges(Core(full))[-1] + 64
    return {ALL: full, **{limit: dumped(limit) for limit in (5_000_000, brim - 1, brim)}}


@pytest.mark.parametrize(
    "which", [pytest.param(1, id="among the pages", marks=pytest.mark.slow), pytest.param(2, id="by one byte")]
)
def test_a_lost_count_is_written_again(many: dict[int, Path], tmp_path: Path, which: int) -> None:
    """The section header at the end is the last piece, so any limit that cuts at all cuts it off."""
    full, cut = Core(many[ALL]), list(many.values())[which]
    size = cut.stat().st_size
    assert size < full.ehdr["e_shoff"]
    report = tmp_path / "report"
    done = corefilt_command("all", cut, "-o", tmp_path / "fixed", f"--json={report}")
    assert done.code == 3, done
    fixed = Core(tmp_path / "fixed")
    assert fixed.ehdr["e_phnum"] == PN_XNUM
    assert fixed.xnum == full.xnum
    assert len(fixed.phdrs) == len(full.phdrs)
    assert fixed.ehdr["e_shoff"] + 64 == len(fixed.data) == size + 64
    assert all(phdr.p_offset + phdr.p_filesz <= size for phdr in fixed.phdrs)
    told = json.loads(report.read_text())
    claimed = sum(load.p_filesz for load in full.phdrs[1:])
    there = sum(load.p_filesz for load in fixed.phdrs[1:])
    assert sum(row.get("missing", 0) for row in told["mappings"]) == claimed - there > 0
    words = f"section header 0, which counts {len(full.phdrs)} program headers (PN_XNUM), was made anew"
    assert words in told["changes"]
    if shutil.which("readelf"):
        said = subprocess.run(["readelf", "-h", tmp_path / "fixed"], capture_output=True, text=True, check=True)
        assert said.stderr == ""
        assert f"65535 ({len(full.phdrs)})" in said.stdout


def test_the_count_is_a_piece(many: dict[int, Path], tmp_path: Path) -> None:
    """A limit of what is written leaves it all; one byte less, and the section header is refused."""
    full = Core(many[ALL])
    assert list(many.values())[-1].stat().st_size == len(full.data)
    for limit, theirs in many.items():
        corefilt.filter(many[ALL], tmp_path / "cut", filter="all", truncate=limit % (1 << 64), force=True)
        assert (tmp_path / "cut").stat().st_size == theirs.stat().st_size
