"""Backtraces of foreign cores, held against eu-stack's where that reads them by the core alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foreign.test_foreign import NAMES, unpack

from corefilt.corefile.corefile import open_core
from corefilt.crash.identity import identify
from corefilt.crash.signature import Crash, crash_of

pytestmark = pytest.mark.skipif(not NAMES, reason="no cores: COREFILT_FOREIGN_CORES names no folder with any")

# By call frame information in the core: x86-64, i386 and s390x; and after the fallbacks: arm64 and ppc64le.
EQUAL = (
    "lldb/linux-x86_64.core", "lldb/linux-i386.core", "lldb/linux-s390x.core", "pyelftools/core_linux32.elf",
    "elfutils/testfile-backtrace-demangle.core.bz2", "elfutils/linkmap-cut.core.bz2", "elfutils/testfile71.bz2",
    "elfutils/backtrace.aarch64.core.bz2", "elfutils/backtrace.aarch64.fp.core.bz2",
    "elfutils/testfile_aarch64_core.bz2", "elfutils/backtrace.ppc64le.fp.core.bz2",
)  # fmt: skip
UNWOUND = (
    "lldb/linux-x86_64.core", "lldb/linux-i386.core", "lldb/linux-s390x.core",
    "elfutils/testfile-backtrace-demangle.core.bz2",
)  # fmt: skip
PC_ONLY = (
    "elfutils/testfile61.bz2", "lldb/linux-arm.core", "lldb/linux-mips64el-gnuabi64.core",
    "lldb/linux-mipsel-gnuabio32.core", "elfutils/testfile-x32-core.bz2", "elfutils/backtrace.s390.core.bz2",
)  # fmt: skip


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("foreign")


def crash(path: Path, unwinder: str = "auto") -> Crash:
    with open_core(path) as core:
        return crash_of(core, identify(core), unwinder=unwinder)


@pytest.mark.parametrize("name", EQUAL)
def test_frames_are_those_of_eu_stack(name: str, unpacked: Path) -> None:
    if shutil.which("eu-stack") is None:
        pytest.skip("eu-stack is not installed")
    path = unpack(name, unpacked)
    assert crash(path).frames == crash(path, "eu-stack").frames


@pytest.mark.parametrize("name", UNWOUND)
def test_the_core_alone_is_enough(name: str, unpacked: Path) -> None:
    found = crash(unpack(name, unpacked))
    assert found.quality == "unwound" and len(found.frames) == 3


@pytest.mark.parametrize("name", PC_ONLY)
def test_machines_whose_frames_are_not_known(name: str, unpacked: Path) -> None:
    assert crash(unpack(name, unpacked)).quality == "pc-only"
