"""Crashes a small program in a folder of its own, and tells what the kernel left there."""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kernel.dumps import compile_c, may_change_system
from support.builds import PATIENCE

import corefilt

NOBODY = 65534


@dataclass
class Crash:
    """What is known of a crash from outside."""

    folder: Path
    executable: Path
    pid: int
    tid: int
    seconds: range
    status: int
    files: list[bytes] = field(default_factory=list)


def need_system() -> None:
    """Skip where this machine is not to be changed."""
    if not may_change_system():
        pytest.skip("sets kernel.core_pattern: needs root and COREFILT_TEST_SYSTEM=1")


def compile_crasher(folder: Path) -> Path:
    """Compile the program, so small that the kernel dumps it in a millisecond."""
    return compile_c("crasher.c", folder / "crasher", "-O1", "-static", "-pthread")


def open_to_all(folder: Path) -> None:
    """Let other users come this far, from where temporary files are."""
    top = Path(tempfile.gettempdir())
    while folder.is_relative_to(top) and folder != top:
        folder.chmod(folder.stat().st_mode | 0o111)
        folder = folder.parent


def limits(
    core: int = resource.RLIM_INFINITY, uid: int | None = None, file_size: int | None = None
) -> Callable[[], None]:
    """Make the function for `preexec_fn`: no mapping is dumped, which takes a millisecond."""

    def setup() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (core, resource.RLIM_INFINITY))
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        Path("/proc/self/coredump_filter").write_text("0x1\n")
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

    return setup


def crash(
    program: Path,
    folder: Path,
    *,
    comm: bytes | None = None,
    who: str = "main",
    called: bytes | None = None,
    prefix: tuple[str, ...] = (),
    **options: int,
) -> Crash:
    """Crash in `folder` (its executable stands beside it, `called` as it is) and list the files that appeared."""
    executable = program
    if called is not None:
        place = folder.parent / f"{folder.name}-bin"
        place.mkdir()
        executable = Path(os.fsdecode(os.path.join(os.fsencode(place), called)))
        shutil.copy(program, executable)
    before = int(time.time())
    done = subprocess.run(
        [*prefix, executable, comm.hex() if comm is not None else "-", who],
        cwd=folder,
        capture_output=True,
        preexec_fn=limits(**options),
        timeout=PATIENCE,
        check=False,
    )
    pid, tid = map(int, done.stdout.split())
    result = Crash(folder, executable, pid, tid, range(before, int(time.time()) + 1), done.returncode)
    result.files = sorted(
        os.path.relpath(os.path.join(at, name), os.fsencode(folder))
        for at, _, names in os.walk(os.fsencode(folder))
        for name in names
    )
    return result


def names_offline(core: Path, template: bytes, folder: Path, given: dict[str, str], uses_pid: str) -> list[bytes]:
    """Name the kernel's own core by a template, as `corefilt --name` does, and list the files that appeared."""
    folder.mkdir()
    for at in range(len(template)):
        if template[at : at + 1] == b"/" and at and template[0] != ord("/"):
            os.makedirs(os.path.join(os.fsencode(folder), template[:at]), exist_ok=True)
    corefilt.filter(
        core, filter="all", name=os.fsdecode(template), directory=str(folder), values=given, uses_pid=uses_pid
    )
    return sorted(
        os.path.relpath(os.path.join(at, name), os.fsencode(folder))
        for at, _, names in os.walk(os.fsencode(folder))
        for name in names
    )
