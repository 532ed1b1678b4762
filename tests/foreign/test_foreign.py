"""Cores that other kernels, gdb versions and systems wrote go through the filters and come out sound.

The folder is not part of the repository: COREFILT_FOREIGN_CORES names it.
"""

from __future__ import annotations

import bz2
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from support.builder import PN_XNUM, parse_core, parse_sections
from support.fitting import assert_fits
from support.instants import assert_valid
from support.run import (
    MIB,
    Done,
    assert_error,
    assert_promises,
    child_setup,
    corefilt,
    described_end,
    kept_sizes,
)

FOLDER = Path(os.environ.get("COREFILT_FOREIGN_CORES") or Path(__file__).parents[2].parent / "shared" / "foreign-cores")
TOOL_MEMORY = 1024 * MIB
"""Other readers trust what a damaged core says, and would take all the memory there is."""
FILTERS = ("0x33", "all")
OTHER_FILTERS = ("0x0", "0x1", "0x31", "0x7f")

# ELF cores that no Linux kernel wrote of a process: these may be refused, as long as that is said.
NOT_OF_A_PROCESS = {
    "elfutils/testfile62.bz2": "a kdump of the kernel itself, cut short",
    "elfutils/testfile-phdrs.elf.bz2": "66,000 program headers and no notes, made by hand",
}


def names() -> Iterator[str]:
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and path.suffix not in (".tsv", ".maps"):
            yield str(path.relative_to(FOLDER))


NAMES = list(names())
LINUX = [name for name in NAMES if not name.startswith("not-linux/")]
OTHERS = [name for name in NAMES if name.startswith("not-linux/")]
pytestmark = pytest.mark.skipif(not NAMES, reason="no cores: COREFILT_FOREIGN_CORES names no folder with any")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def unpack(name: str, folder: Path) -> Path:
    """Give a core as a plain file, unpacked once in a session."""
    source = FOLDER / name
    if source.suffix != ".bz2":
        return source
    target = folder / name.replace("/", "_").removesuffix(".bz2")
    if not target.exists():
        target.write_bytes(bz2.decompress(source.read_bytes()))
    return target


def tool(*command: str | Path, cwd: Path) -> tuple[int, list[str], list[str]]:
    """Run another reader: exit code, lines on standard output, lines on standard error."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(cwd), "DEBUGINFOD_URLS": ""}
    done = subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, encoding="latin-1",
        preexec_fn=child_setup(memory=TOOL_MEMORY), timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def assert_readable(before: Path, after: Path, *, damaged: bool) -> None:
    """Let readelf and pyelftools read the output; readelf may complain only where it did before."""
    code, text, complaints = tool("readelf", "-lW", after, cwd=after.parent)
    assert code == 0
    if damaged:
        _, _, known = tool("readelf", "-lW", before, cwd=after.parent)
        assert len(complaints) <= len(known), complaints
    else:
        assert not complaints
    assert any("CORE (Core file)" in line for line in text)
    with after.open("rb") as stream:
        assert ELFFile(stream)["e_type"] == "ET_CORE"
        stream.seek(0)
        elf = ELFFile(stream)
        if elf.header["e_phnum"] != PN_XNUM:  # 66,000 of them take pyelftools seconds, and readelf has seen them
            sizes = [segment["p_filesz"] for segment in elf.iter_segments("PT_LOAD")]
            assert sizes == kept_sizes(after.read_bytes())


def assert_sound(done: Done, before: bytes, after: bytes, flt: str, *, damaged: bool, streamed: bool = False) -> None:
    """Hold one filtered core against the promises, and against the input where everything is kept."""
    said = "\n".join(done.err)
    assert done.code == (3 if damaged else 0), said
    assert_promises(before, after, header_final=not (damaged and streamed))
    if flt == "all" and not damaged:
        end = described_end(*parse_core(before))
        assert after[:end] == before[:end]
        assert after[end:] in (b"", before[end:])
    elif flt == "all" and streamed:
        assert before.startswith(after[: len(after)])


@pytest.mark.parametrize("name", LINUX)
def test_minimal(name: str, unpacked: Path, tmp_path: Path) -> None:
    """What a backtrace needs, of every machine: nothing else than the input has, and no larger."""
    source, out = unpack(name, unpacked), tmp_path / "out"
    before = source.read_bytes()
    ehdr, phdrs = parse_core(before)
    done = corefilt("all", source, "--minimal", "--follow", "2", "-o", out, "--no-sync")
    if name in NOT_OF_A_PROCESS and done.code == 1:
        assert_error(done)
        return
    damaged = described_end(ehdr, phdrs) > len(before)
    assert done.code == (3 if damaged else 0), "\n".join(done.err)
    if "nothing had to be cut" not in "\n".join(done.err):
        assert_fits(before, out.read_bytes())
    assert_readable(source, out, damaged=damaged)


@pytest.mark.parametrize(
    "filters", [pytest.param(FILTERS, id="some"), pytest.param(OTHER_FILTERS, id="others", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", LINUX)
def test_filters(name: str, filters: Sequence[str], unpacked: Path, tmp_path: Path) -> None:
    """File to file, pipe to file and pipe to pipe."""
    source = unpack(name, unpacked)
    before = source.read_bytes()
    ehdr, phdrs = parse_core(before)
    damaged = described_end(ehdr, phdrs) > len(before)
    for flt in filters:
        out = tmp_path / f"file-{flt}"
        done = corefilt(flt, source, "-o", out, "--no-sync")
        if name in NOT_OF_A_PROCESS and done.code == 1:
            assert_error(done)
            continue
        assert_sound(done, before, out.read_bytes(), flt, damaged=damaged)
        assert_readable(source, out, damaged=damaged)

        piped, spooled = tmp_path / f"pipe-{flt}", False
        done = corefilt(flt, "-", "-o", piped, "--no-sync", source=source)
        if ehdr.e_shoff and done.code == 1:
            # gdb's layout: what stands at the end is needed at the beginning.
            assert_error(done, "--spool")
            assert not piped.exists()
            spooled = True
            done = corefilt(flt, "-", "-o", piped, "--spool", "--no-sync", source=source)
        if damaged:
            assert_sound(done, before, piped.read_bytes(), flt, damaged=True)
            assert_readable(source, piped, damaged=True)
        else:
            assert done.code == 0
            assert piped.read_bytes() == out.read_bytes()

        done = corefilt(flt, *(["-", "--spool"] if spooled else []), source=source)
        assert_sound(done, before, done.out, flt, damaged=damaged, streamed=True)
        if not damaged:
            assert ELFFile(io.BytesIO(done.out)).num_segments() == ehdr.phnum
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", LINUX)
def test_in_place(name: str, unpacked: Path, tmp_path: Path) -> None:
    """Sizes and dropped bytes change, nothing else; a copy of it, and --compact, make what the full core makes."""
    source = unpack(name, unpacked)
    before = source.read_bytes()
    end = described_end(*parse_core(before))
    damaged = end > len(before)
    core, copy, again = (tmp_path / word for word in ("core", "copy", "again"))
    for flt in ("0x31", "0x0") if len(before) < 1 << 20 else ("0x31",):
        core.write_bytes(before)
        if name in NOT_OF_A_PROCESS and corefilt(flt, core, "-i", "-n").code == 1:
            pytest.skip(NOT_OF_A_PROCESS[name])
        code = 3 if damaged else 0
        assert corefilt(flt, source, "-o", copy, "-f", "--no-sync").code == code
        assert corefilt(flt, core, "-i", *(["-f"] if damaged else [])).code == code
        if damaged:
            # Sizes say what is there, and what is not there is not said to be.
            old, new = parse_core(before)[1], parse_core(core.read_bytes())[1]
            assert all(now.p_filesz <= was.p_filesz for was, now in zip(old, new, strict=True))
            assert all(now.p_offset + now.p_filesz <= len(before) for now in new if now.p_filesz)
            continue
        assert_valid(before, core.read_bytes(), copy.read_bytes())
        assert kept_sizes(core.read_bytes()) == kept_sizes(copy.read_bytes())
        if end < len(before):
            # Behind the last segment stands what nobody claims: what the segment gave up cannot be told from it.
            core.write_bytes(before)
        else:
            assert corefilt("all", core, "-o", again, "-f", "--no-sync").code == 0
            assert again.read_bytes() == copy.read_bytes()
        assert corefilt(flt, core, "-i", "--compact").code == 0
        assert core.read_bytes() == copy.read_bytes()
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", OTHERS)
def test_other_systems_are_refused(name: str, unpacked: Path, tmp_path: Path) -> None:
    source = unpack(name, unpacked)
    out = tmp_path / "out"
    assert_error(corefilt("0x33", source, "-o", out), "Linux")
    assert_error(corefilt("0x33", "-o", out, source=source), "Linux")
    assert_error(corefilt("0x33", source=source), "Linux")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_system_is_named(name: str, unpacked: Path) -> None:
    assert_error(corefilt("inspect", unpack(name, unpacked)), "NetBSD")


def test_a_dump_of_a_kernel_is_named(unpacked: Path, tmp_path: Path) -> None:
    name = "elfutils/testfile62.bz2"
    if name not in NAMES:
        pytest.skip(f"the collection has no {name}")
    source = unpack(name, unpacked)
    assert_error(corefilt("0x33", source, "-o", tmp_path / "out"), "dump of a kernel", "VMCOREINFO", "makedumpfile")
    assert_error(corefilt("0x33", FOLDER / name), "dump of a kernel", "VMCOREINFO")


def opened_by_gdb(core: Path, folder: Path) -> tuple[int, list[str]]:
    """List the threads and registers that gdb finds, and whether it takes the file at all."""
    code, text, _ = tool(
        "gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off",
        "-ex", "info registers", "-c", core, cwd=folder,
    )  # fmt: skip
    lines = [line for line in text if re.match(r"\[New LWP|Core was generated|Program terminated|\w+ +0x", line)]
    return code, lines


def opened_by_readelf(core: Path, folder: Path) -> tuple[int, list[str]]:
    """List the notes that elfutils decodes; only the place of the segment may differ."""
    code, text, _ = tool("eu-readelf", "-n", core, cwd=folder)
    return code, [line for line in text if not line.startswith("Note segment of")]


# Each reader takes half a second; what it needs stands with or without the rest.
@pytest.mark.parametrize("flt", ["0x33", pytest.param("0x0", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LINUX)
def test_debuggers_open_what_they_opened(name: str, flt: str, unpacked: Path, tmp_path: Path) -> None:
    """The same threads, registers and notes before and after, or the same refusal."""
    readers = [opened_by_readelf] if shutil.which("eu-readelf") else []
    if shutil.which("gdb") and "phdrs" not in name:  # 66,000 empty segments take gdb all the memory there is
        readers.append(opened_by_gdb)
    if not readers:
        pytest.skip("neither gdb nor eu-readelf is installed")
    source = unpack(name, unpacked)
    expected = [opened(source, tmp_path) for opened in readers]
    out = tmp_path / "out"
    done = corefilt(flt, source, "-o", out, "--no-sync")
    if name in NOT_OF_A_PROCESS and done.code == 1:
        pytest.skip(NOT_OF_A_PROCESS[name])
    assert [opened(out, tmp_path) for opened in readers] == expected


def test_the_collection_has_what_the_tests_are_for() -> None:
    """A folder that lost its gcore files or its XNUM file would pass without testing them."""
    if not (FOLDER / "index.tsv").exists():
        pytest.skip("COREFILT_FOREIGN_CORES has no index.tsv: a collection of someone's own")
    assert len(LINUX) >= 50
    assert len(OTHERS) >= 7
    sections = [name for name in LINUX if name.startswith("lldb/gcore")]
    assert all(parse_sections((FOLDER / name).read_bytes()) for name in sections)
    assert sections
