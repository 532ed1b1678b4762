"""Runtimes of another system in a directory (COREFILT_TEST_ROOT, docs: tests/README.md), such as the next Debian.

Processes and tools run there by chroot; corefilt has the directory as its --sysroot.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.programs import SOURCES, CannotStartError, need_system, output_of
from kernel.stacks import core_of, said

import corefilt

pytestmark = pytest.mark.slow

ROOT = Path(os.environ.get("COREFILT_TEST_ROOT") or "/nonexistent")
PYSTACK = "import sys; from pystack.__main__ import main; sys.exit(main())"


@pytest.fixture
def folder(cores: None) -> Iterator[Path]:
    """A folder below the root."""
    if not (ROOT / "proc/self").exists():
        pytest.skip("COREFILT_TEST_ROOT names no directory with a system, in which /proc is mounted")
    try:
        need_system()
    except CannotStartError as error:
        pytest.skip(str(error))
    made = Path(tempfile.mkdtemp(dir=ROOT / "tmp"))
    yield made
    shutil.rmtree(made)


def there(path: Path) -> str:
    """A path as it is called there."""
    return "/" + str(path.relative_to(ROOT))


def within(folder: Path, *command: str) -> list[str]:
    """A command that runs there, in a folder."""
    return ["chroot", str(ROOT), "env", "-C", there(folder), *command]


def found(pattern: str) -> str:
    """The first program of a pattern, or a skipped test."""
    path = next(iter(sorted(ROOT.glob(pattern))), None)
    if path is None:
        pytest.skip(f"no {pattern} below COREFILT_TEST_ROOT")
    return there(path)


def cut(core: Path) -> tuple[Path, corefilt.Report]:
    """The core as --minimal leaves it, beside it."""
    small = core.with_name("small")
    report = corefilt.filter(core, small, filter="all", minimal=True, sysroot=ROOT, sync=False)
    return small, report


PYTHON = {
    "a crash": (3, 14, 5, "segv"),
    "killed": (30, 17, 40, "wait"),
    "an abort": (1, 90, 1, "abort"),
    "a large heap": (5, 6, 100, "segv"),
}


@pytest.mark.parametrize("name", PYTHON)
def test_pystack(name: str, folder: Path) -> None:
    """Every frame, and every local."""
    program, _ = found("usr/bin/python3.[0-9][0-9]"), found("opt/pystack/pystack")
    shutil.copy(SOURCES / "stacks.py", folder)
    *sizes, how = PYTHON[name]
    (folder / "crash").mkdir()
    command = within(folder / "crash", program, there(folder / "stacks.py"), *map(str, sizes))
    core = core_of(folder, command, how)
    small, report = cut(core)

    def shown(core: Path, *options: str) -> str:
        command = within(folder, "PYTHONPATH=/opt/pystack", program, "-c", PYSTACK, "core", there(core), program)
        return said([*command, *options], core).replace(there(core), "CORE")

    full = shown(core)
    assert full.count("(Python) File") == report.fit.runtimes[0].frames > sizes[0] + sizes[1]
    assert shown(small) == full
    assert shown(small, "--locals") == shown(core, "--locals")


JAVA = {
    "G1, SIGSEGV": (["-Xmx192m", "-XX:+UseG1GC"], (11, 13, 20, "segv")),
    "G1, a large heap": (["-Xmx1g", "-XX:+UseG1GC"], (30, 25, 300, "wait")),
    "Parallel, deadlocked": (["-Xmx192m", "-XX:+UseParallelGC"], (8, 9, 24, "deadlock")),
    "Serial, no shared archive": (["-Xmx192m", "-XX:+UseSerialGC", "-Xshare:off"], (14, 11, 16, "segv")),
    "ZGC": (["-Xmx256m", "-XX:+UseZGC"], (10, 16, 16, "segv")),
    "ZGC that moves objects": (["-Xmx128m", "-XX:+UseZGC"], (9, 14, 24, "segv")),
    "out of memory": (["-Xmx96m", "-XX:+UseSerialGC", "-XX:+CrashOnOutOfMemoryError"], (6, 12, 16, "oom")),
}


@pytest.mark.parametrize("name", JAVA)
def test_jhsdb(name: str, folder: Path) -> None:
    """Every frame of every thread, with their names and locks."""
    program, reader, compiler = (found(f"usr/lib/jvm/*/bin/{name}") for name in ("java", "jhsdb", "javac"))
    shutil.copy(SOURCES / "Stacks.java", folder)
    output_of(within(folder, compiler, "-nowarn", "-d", ".", "Stacks.java"))
    options, (*sizes, how) = JAVA[name]
    options = [*options, "-XX:-UsePerfData", "-XX:ErrorFile=../error", "-cp", ".."]
    (folder / "crash").mkdir()
    core = core_of(folder, within(folder / "crash", program, *options, "Stacks", *map(str, sizes)), how)
    small, report = cut(core)

    def shown(core: Path) -> str:
        command = within(folder, reader, "jstack", "--exe", program, "--core", there(core))
        out = said(command, core).replace(there(core), "CORE")
        return out[out.find('"main" #1') :].partition("\nsun.jvm.hotspot")[0].rstrip()

    full = shown(core)
    assert full.count(" - Stacks") > sizes[0]
    assert report.fit.runtimes[0].frames == len(re.findall(r"(?m)^ - ", full))
    assert shown(small) == full
    assert small.stat().st_size < 8 << 20
