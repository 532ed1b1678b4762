"""Whose cores the foreign ones are, held against elfutils: pids, signals and modules of every machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from foreign.test_fdpic_cores import FOLDER as FDPIC
from foreign.test_foreign import LINUX, NOT_OF_A_PROCESS, unpack

from corefilt.corefile.corefile import open_core
from corefilt.crash.command_line import PRPSINFO, STACK
from corefilt.crash.identity import Identity, identify

CORES = [name for name in LINUX if name not in NOT_OF_A_PROCESS]
pytestmark = pytest.mark.skipif(not CORES, reason="no cores: COREFILT_FOREIGN_CORES names no folder with any")

# Of these a filter kept the first page as part of the data segment alone; elfutils says that the module begins there.
BEGINS_LATER = ("pyelftools/core_simple64.elf", "elfutils/testfile61.bz2", "elfutils/testfile_aarch64_core.bz2")
# Cores whose stack is not in them, or so small that it was taken out: NT_PRPSINFO alone tells.
WITHOUT_STACK = (
    "elfutils/testfile-m68k-core.bz2", "elfutils/testfile61.bz2", "elfutils/testfile63.bz2", "elfutils/testfile67.bz2",
    "elfutils/testfile68.bz2", "elfutils/testfile69.core.bz2", "elfutils/testfile70.core.bz2",
    "lldb/gcore_linux-i386.core", "lldb/gcore_linux-x86_64.core", "lldb/linux-s390x.core",
    "lldb/thread_crash_linux-i386.core", "lldb/thread_crash_linux-x86_64.core",
)  # fmt: skip


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def identity(path: Path) -> Identity:
    with open_core(path) as core:
        return identify(core)


@pytest.mark.parametrize("name", CORES)
def test_modules_are_those_of_eu_unstrip(name: str, unpacked: Path) -> None:
    if shutil.which("eu-unstrip") is None:
        pytest.skip("eu-unstrip is not installed")
    path = unpack(name, unpacked)
    done = subprocess.run(["eu-unstrip", "-n", f"--core={path}"], capture_output=True, text=True, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    theirs = {(int(row[0].partition("+")[0], 16), row[1].partition("@")[0]) for row in rows if row[1] != "-"}
    ours = {(module.start, module.build_id.hex()) for module in identity(path).modules if module.build_id is not None}
    if name in BEGINS_LATER:
        assert {build_id for _, build_id in ours} == {build_id for _, build_id in theirs}
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", CORES)
def test_process_and_command_line(name: str, unpacked: Path) -> None:
    found = identity(unpack(name, unpacked))
    assert found.signal is not None and found.signal.number > 0
    assert found.threads and [thread.crashed for thread in found.threads].count(True) == 1
    assert found.writer == ("gdb" if name in ("lldb/linux-ppc64le.core",) or "gcore_" in name else "kernel")
    if name == "lldb/linux-arm.core":  # a single PRSTATUS, and no other note
        assert found.command_line is None
        return
    assert found.command_line is not None and found.pid is not None and found.comm
    assert found.command_line.source == (PRPSINFO if name in WITHOUT_STACK else STACK)
    assert b"".join(found.command_line.arguments)


@pytest.mark.parametrize("path", sorted(FDPIC.glob("*/*-0x33.core")), ids=lambda path: path.name)
def test_fdpic(path: Path) -> None:
    found = identity(path)
    assert found.command_line is not None and found.command_line.source == STACK
    assert found.command_line.arguments[1].endswith(b"0x33")
