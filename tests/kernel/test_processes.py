"""Cores of processes that are unusual as a whole: many threads, too many mappings, 32 bits."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from kernel.dumps import (
    FULL,
    PAGE,
    PN_XNUM,
    CannotCompileError,
    Core,
    changed_bytes,
    compile_c,
    dumping,
    may_change_system,
    only_file,
    run_corefilt,
    run_program,
    sysctl,
    twin_folders,
)
from support.builds import PATIENCE
from support.run import corefilt
from support.syscalls import calls_after_opening, need_strace, run_with_fault
from support.thinned import one_in

MANY = 66_000


def compile_or_skip(source: str, folder: Path, *options: str) -> Path:
    """Compile a program of this folder, or skip with the compiler's own words."""
    try:
        return compile_c(source, folder / "program", *options)
    except CannotCompileError as error:
        pytest.skip(str(error))


# ---- threads ---------------------------------------------------------------------------------------------


def backtraces(program: Path, core: Path) -> str:
    """Return what gdb shows of every thread."""
    commands = ["set debuginfod enabled off", "set width 0", "thread apply all bt"]
    arguments = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-nx", "-batch", *arguments, program, core],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gdb_shows_the_same_threads(cores: None, tmp_path: Path) -> None:
    """Shared memory taken away afterwards costs no thread and no frame."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb in PATH")
    program = compile_or_skip("threads.c", tmp_path, "-O0", "-pthread")
    (name,) = twin_folders(tmp_path, (0x33,))
    with dumping():
        subprocess.run([program, tmp_path, name], check=False, timeout=PATIENCE)
    full = only_file(tmp_path / name)
    small = run_corefilt(full, 0x31, tmp_path / "small").core
    assert small.path.stat().st_size < full.stat().st_size
    shown = backtraces(program, full)
    assert len(re.findall(r"^Thread \d+ ", shown, re.MULTILINE)) == 5
    assert len(re.findall(r" in wait_forever ", shown)) >= 2 * (2 + 10)
    assert backtraces(program, small.path) == shown


@one_in(3)
def test_gdb_shows_the_same_threads_of_a_core_filtered_in_place(cores: None, step: int, tmp_path: Path) -> None:
    """After the run, and after runs that were killed at each step, before another one finishes them."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb in PATH")
    need_strace()
    program = compile_or_skip("threads.c", tmp_path, "-O0", "-pthread")
    (name,) = twin_folders(tmp_path, (0x33,))
    with dumping():
        subprocess.run([program, tmp_path, name], check=False, timeout=PATIENCE)
    full = only_file(tmp_path / name)
    shown = backtraces(program, full)
    copy = run_corefilt(full, 0x31, tmp_path / "copy").core
    core = tmp_path / "core"

    def filtered() -> Core:
        shutil.copy(full, core)
        assert corefilt("0x31", core, "-i", "-q").code == 0
        return Core(core)

    whole = filtered()
    assert backtraces(program, core) == backtraces(program, copy.path).replace(str(copy.path), str(core)) == shown
    assert whole.sizes() == copy.sizes()
    assert not changed_bytes(Core(full), whole)
    shutil.copy(full, core)
    calls = calls_after_opening(core, "0x31", core, "-i", "-q")
    for call, count in (*calls[:-1:step], calls[-1]):
        shutil.copy(full, core)
        run_with_fault("signal=KILL", call, count, "0x31", core, "-i", "-q")
        assert backtraces(program, core) == shown, call
        assert corefilt("0x31", core, "-i", "-q").code == 0
        assert Core(core).data[:] == whole.data[:]


# ---- more program headers than e_phnum can say ------------------------------------------------------------


@pytest.fixture(scope="module")
def many(cores: None, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Core]:
    """Dump a process with 66,000 mappings."""
    if not may_change_system():
        pytest.skip("needs vm.max_map_count raised: only with COREFILT_TEST_SYSTEM=1 and as root")
    folder = tmp_path_factory.mktemp("many")
    program = compile_or_skip("many.c", folder, "-O1")
    names = twin_folders(folder, (FULL, 0x0))
    with sysctl("vm/max_map_count", MANY + 4096):
        run_program([str(program), str(MANY), str(folder), *names])
    return {int(name, 16): Core(only_file(folder / name)) for name in names}


@pytest.mark.parametrize("way", ["file", "pipe-to-file", "pipe-to-pipe"])
def test_too_many_mappings_for_e_phnum(many: dict[int, Core], tmp_path: Path, way: str) -> None:
    """The count stands in a section header behind the data, and moves with its end."""
    full = many[FULL]
    small = run_corefilt(full.path, 0x0, tmp_path / "small", way=way).core
    assert small.ehdr["e_phnum"] == full.ehdr["e_phnum"] == PN_XNUM
    assert small.ehdr["e_shoff"] < full.ehdr["e_shoff"]
    last = small.phdrs[-1]
    assert small.ehdr["e_shoff"] == last.p_offset + last.p_filesz
    assert len(small.data) == small.ehdr["e_shoff"] + small.ehdr["e_shentsize"]
    assert small.xnum == full.xnum
    assert len(small.phdrs) == len(full.phdrs) > MANY
    assert not changed_bytes(full, small)
    short = [address for address, size in many[0x0].sizes().items() if small.loads[address].p_filesz < size]
    assert not short


def test_too_many_mappings_in_place(many: dict[int, Core], tmp_path: Path) -> None:
    """The section header at the very end stays where it is, or moves up with a copy in the core's place."""
    full = many[FULL]
    core = tmp_path / "core"
    shutil.copy(full.path, core)
    small = run_corefilt(full.path, 0x0, tmp_path / "small").core
    assert corefilt("0x0", core, "-i").code == 0
    punched = Core(core)
    assert punched.ehdr == full.ehdr
    assert punched.xnum == full.xnum
    assert punched.sizes() == small.sizes()
    assert not changed_bytes(full, punched)
    assert core.stat().st_blocks < full.path.stat().st_blocks
    assert corefilt("0x0", core, "-i", "--compact").code == 0
    assert core.read_bytes() == small.data[:]


def test_readelf_counts_them_all(many: dict[int, Core], tmp_path: Path) -> None:
    """A reader that we did not write finds the count."""
    if not shutil.which("readelf"):
        pytest.skip("no readelf in PATH")
    small = run_corefilt(many[FULL].path, 0x0, tmp_path / "small").core
    done = subprocess.run(["readelf", "-h", small.path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert f"65535 ({len(small.phdrs)})" in done.stdout


# ---- 32 bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["keep", "guess"])
def test_a_32_bit_process(cores: None, tmp_path: Path, unknown: str) -> None:
    """ELF32 has other field widths, other field orders and a vDSO of its own."""
    bare = ("-nostdlib", "-static", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector")
    program = compile_or_skip("i386.c", tmp_path, "-m32", "-O1", *bare)
    filters = (FULL, 0x0, 0x1, 0x2, 0x4, 0x10, 0x31, 0x33)
    run_program([str(program), str(tmp_path), *twin_folders(tmp_path, filters)])
    twins = {value: Core(only_file(tmp_path / f"{value:#x}")) for value in filters}
    full = twins.pop(FULL)
    assert not full.wide
    for value, kernel in twins.items():
        mine = run_corefilt(full.path, value, tmp_path / f"out-{value:#x}", "--unknown", unknown).core
        assert (mine.ident, mine.ehdr, mine.phdrs) == (kernel.ident, kernel.ehdr, kernel.phdrs), f"{value:#x}"
        assert mine.notes == full.notes
        assert len(mine.data) == len(kernel.data)
        assert not changed_bytes(full, mine)
    shared = [load for load in full.loads.values() if load.p_memsz == 6 * PAGE]
    assert len(shared) == 1
    assert full.kept(shared[0].p_vaddr) == b"i" * 6 * PAGE
