"""Cores of language runtimes, cut by --minimal: the runtimes' own tools show the same of them as of the whole cores.

The processes differ in what a walk could depend on: threads, depth, the heap, how they ended. None of them is one that
the rules were made on.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel import stacks
from kernel.programs import CannotStartError, need, need_system
from kernel.stacks import said
from support.fitting import pages

import corefilt

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Process:
    """A program of a runtime, and its core."""

    runtime: str
    program: str
    core: Path


# --- CPython ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pystack(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """pystack, fetched where there is none."""
    found = shutil.which("pystack")
    if found:
        return [found]
    try:
        need_system()
    except CannotStartError as error:
        pytest.skip(str(error))
    packages = tmp_path_factory.mktemp("pystack")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--target", str(packages)]
    done = subprocess.run([*install, "pystack"], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"no pystack: {done.stderr.strip().splitlines()[-1:]}")
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pystack.__main__ import main; sys.exit(main())"
    return [sys.executable, "-c", start, str(packages)]


def py_bt(program: str, core: Path) -> str:
    """What the macros of python3-dbg show."""
    trusted = "-iex=add-auto-load-safe-path /usr/share/gdb"
    return said(["gdb", "-nx", "-batch", trusted, "-ex=thread apply all py-bt", program, str(core)], core)


PYTHON = {
    "two threads that crash": (2, 13, 3, "segv"),
    "thirty threads": (30, 17, 40, "wait"),
    "one thread": (0, 90, 1, "abort"),
    "a large heap": (5, 6, 300, "segv"),
}


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.parametrize("locals_too", [False, True], ids=["frames", "locals"])
def test_pystack(name: str, locals_too: bool, pystack: list[str], cores: None, tmp_path: Path) -> None:
    """Every frame, and every local, of the interpreter that is Debian's."""
    program, process = python(name, tmp_path)
    command = [*pystack, "core", *(["--locals"] if locals_too else [])]
    full = said([*command, str(process.core), program], process.core)
    small, report = cut(process, tmp_path)
    assert full.count("(Python) File") == report.fit.runtimes[0].frames > PYTHON[name][0] + PYTHON[name][1]
    assert said([*command, str(small), program], small) == full


@pytest.mark.parametrize("name", PYTHON)
def test_py_bt(name: str, cores: None, tmp_path: Path) -> None:
    """gdb with python3-dbg's macros."""
    if not shutil.which("gdb") or not list(Path("/usr/share/gdb/auto-load/usr/bin").glob("python3.*-gdb.py")):
        pytest.skip("no gdb, or no python3-dbg")
    program, process = python(name, tmp_path)
    small, report = cut(process, tmp_path)
    full = py_bt(program, process.core)
    assert full.count("  File ") == report.fit.runtimes[0].frames
    assert py_bt(program, small) == full


def python(name: str, folder: Path) -> tuple[str, Process]:
    """A process of the system's CPython."""
    *sizes, how = PYTHON[name]
    program, core = dumped(lambda: stacks.python(folder, sizes, how))
    return program, Process("python", program, core)


def dumped(start: Callable[[], tuple[str, Path]]) -> tuple[str, Path]:
    """A program and its core, or a skipped test."""
    try:
        return start()
    except CannotStartError as error:
        pytest.skip(str(error))


def cut(process: Process, folder: Path) -> tuple[Path, corefilt.Report]:
    """The core as --minimal leaves it."""
    small = folder / "small"
    report = corefilt.filter(process.core, small, filter="all", minimal=True, sysroot="/", sync=False)
    (walk,) = report.fit.runtimes
    assert (walk.name, walk.kept, walk.missing) == (process.runtime, True, [])
    return small, report


# --- Go -----------------------------------------------------------------------------------------------------

GO = {
    "1,000 goroutines": (1000, 6, 8, "wait"),
    "a few that crash": (7, 40, 30, "segv"),
    "a panic": (60, 25, 2, "panic"),
    "a large heap": (16, 3, 400, "segv"),
    "5,000 goroutines": (10_000, 4, 2, "wait"),  # half of them find a partner, and end
}


def goroutines(program: str, core: Path, folder: Path) -> str:
    """What delve shows of all goroutines."""
    (folder / "commands").write_text("goroutines -t 50\nexit\n")
    options = ["--allow-non-terminal-interactive=true", "--init", str(folder / "commands")]
    return said(["dlv", "core", program, str(core), *options], core)


@pytest.mark.parametrize("name", GO)
def test_delve(name: str, cores: None, tmp_path: Path) -> None:
    """Every goroutine and its frames."""
    program, process = go(name, tmp_path)
    full = goroutines(program, process.core, tmp_path)
    small, report = cut(process, tmp_path)
    assert len(re.findall(r"(?m)^[* ] Goroutine \d+", full)) > GO[name][0] // 2
    assert report.fit.runtimes[0].threads == len(re.findall(r"(?m)^[* ] Goroutine \d+", full))
    assert goroutines(program, small, tmp_path) == full


@pytest.mark.parametrize("name", ["a few that crash"])
def test_go_without_its_file(name: str, cores: None, tmp_path: Path) -> None:
    """allgs is found by what it is where no symbol tells of it: all of it is kept, and the program's data too."""
    program, process = go(name, tmp_path)
    small, report = cut(process, tmp_path)
    (tmp_path / "nothing").mkdir()
    alone = tmp_path / "alone"
    without = corefilt.filter(process.core, alone, filter="all", minimal=True, sysroot=tmp_path / "nothing", sync=False)
    assert without.fit.runtimes[0].threads == report.fit.runtimes[0].threads
    assert pages(small.read_bytes()).items() <= pages(alone.read_bytes()).items()
    assert goroutines(program, alone, tmp_path) == goroutines(program, small, tmp_path)


def go(name: str, folder: Path) -> tuple[str, Process]:
    """A program of Go."""
    *sizes, how = GO[name]
    program, core = dumped(lambda: need("dlv") and stacks.go(folder, sizes, how))
    return program, Process("go", program, core)


# --- HotSpot ------------------------------------------------------------------------------------------------

JAVA = {
    "G1, SIGSEGV": (["-Xmx192m", "-XX:+UseG1GC"], (9, 14, 24, "segv")),
    "G1, a large heap": (["-Xmx1g", "-XX:+UseG1GC"], (30, 25, 600, "wait")),
    "Parallel, deadlocked": (["-Xmx192m", "-XX:+UseParallelGC"], (8, 9, 24, "deadlock")),
    "Serial, no shared archive": (["-Xmx192m", "-XX:+UseSerialGC", "-Xshare:off"], (14, 11, 16, "segv")),
    "ZGC": (["-Xmx256m", "-XX:+UseZGC"], (10, 16, 16, "segv")),
    "ZGC that moves objects": (["-Xmx128m", "-XX:+UseZGC"], (9, 14, 24, "segv")),
    "out of memory": (["-Xmx96m", "-XX:+UseSerialGC", "-XX:+CrashOnOutOfMemoryError"], (6, 12, 16, "oom")),
}


def jstack(program: str, core: Path) -> str:
    """What jhsdb shows of all threads."""
    out = said(["jhsdb", "jstack", "--exe", program, "--core", str(core)], core)
    # What the search for deadlocks did not find stands on standard error, behind the rest.
    return out[out.find('"main" #1') :].partition("\nsun.jvm.hotspot")[0].rstrip()


@pytest.mark.parametrize("name", JAVA)
def test_jhsdb(name: str, cores: None, tmp_path: Path) -> None:
    """Every frame of every thread, with their names and locks; only the search for deadlocks wants all classes."""
    options, (*sizes, how) = JAVA[name]
    program, core = dumped(lambda: need("jhsdb") and stacks.java(tmp_path, options, sizes, how))
    full = jstack(program, core)
    assert full.count(" - Stacks") > sizes[0]
    small, report = cut(Process("java", program, core), tmp_path)
    assert report.fit.runtimes[0].frames == len(re.findall(r"(?m)^ - ", full))
    assert jstack(program, small) == full
    assert small.stat().st_size < 8 << 20


OTHERWISE = {
    "followed": {"minimal": True, "follow": 3},
    "8 MiB": {"fit": "8M"},
    "a ladder": {"fit": "32M", "ladder": "0x33,minimal"},
    "unreadable": {"minimal": True, "unreadable": True},
}


@pytest.fixture(scope="module")
def crashed_jvm(cores: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """A JVM that crashed, and what jhsdb shows of it."""
    folder = tmp_path_factory.mktemp("jvm")
    options = ["-Xmx96m", "-XX:+UseG1GC"]
    program, core = dumped(lambda: need("jhsdb") and stacks.java(folder, options, (4, 12, 8), "segv"))
    return program, core, jstack(program, core)


@pytest.mark.parametrize("how", OTHERWISE)
def test_jhsdb_attaches_to_what_is_cut_otherwise(how: str, crashed_jvm: tuple[str, Path, str], tmp_path: Path) -> None:
    program, core, full = crashed_jvm
    small = tmp_path / "small"
    corefilt.filter(core, small, filter="all", sysroot="/", sync=False, **OTHERWISE[how])
    assert full.count(" - Stacks") > 4
    assert jstack(program, small) == full


def test_tools_of_unreadable_cores(pystack: list[str], cores: None, tmp_path: Path) -> None:
    """pystack and delve show all of a core whose program headers claim no more than there is."""
    for name in ("python", "go"):
        (tmp_path / name).mkdir()
    program, process = python("a large heap", tmp_path / "python")
    small = tmp_path / "small"
    corefilt.filter(process.core, small, filter="all", minimal=True, unreadable=True, sysroot="/", sync=False)
    command = [*pystack, "core", "--locals"]
    assert said([*command, str(small), program], small) == said([*command, str(process.core), program], process.core)
    program, process = go("a few that crash", tmp_path / "go")
    corefilt.filter(
        process.core, small, filter="all", minimal=True, unreadable=True, sysroot="/", sync=False, force=True
    )
    assert goroutines(program, small, tmp_path) == goroutines(program, process.core, tmp_path)
