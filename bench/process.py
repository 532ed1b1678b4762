"""A real process to be dumped: started, looked at through /proc, and made to crash."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError

ALL_BITS = 0x1FF
"""The filter under which the kernel writes everything that it ever writes."""

_SOURCE = Path(__file__).with_name("crashee.c")
_PATIENCE = 300.0


@dataclass(frozen=True)
class Mapping:
    """One line of /proc/PID/maps: where, and what it is named."""

    start: int
    end: int
    name: str

    @property
    def shared_anonymous(self) -> bool:
        """Whether it is memory that was mapped shared without a file."""
        return self.name.startswith("/dev/zero")


@dataclass(frozen=True)
class Process:
    """One running crashee; its core will land in ``folder``."""

    popen: subprocess.Popen[bytes]
    folder: Path
    mappings: list[Mapping]
    smaps: str

    def set_filter(self, coredump_filter: int) -> None:
        """Write its coredump_filter."""
        Path(f"/proc/{self.popen.pid}/coredump_filter").write_text(hex(coredump_filter))

    def wake(self) -> None:
        """Let it run on if something left it stopped."""
        if self.popen.poll() is not None:
            raise BenchError("the process did not survive what was tried on it")
        self.popen.send_signal(signal.SIGCONT)

    def crash(self, coredump_filter: int) -> Path:
        """Let the kernel dump it under this filter; return the core."""
        self.set_filter(coredump_filter)
        self.popen.send_signal(signal.SIGABRT)
        try:
            self.popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"the kernel did not finish a core in {_PATIENCE:.0f} s") from error
        cores = list(self.folder.iterdir())
        if len(cores) != 1 or cores[0].stat().st_size == 0:
            raise BenchError(f"the kernel left {len(cores)} files of a crash in {self.folder}, not one core")
        return cores[0]


def why_no_cores() -> str | None:
    """Say why a crash would leave no core that can be read here, or None when it would."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern or pattern[0] in "|@" or "/" in pattern:
        return f"core_pattern is {pattern!r}: cores do not land in the working directory"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        return "the hard limit of RLIMIT_CORE is not unlimited"
    if sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return "this machine is not of 64 bits and little-endian"
    return None


def build(folder: Path) -> Path:
    """Compile the crashee into ``folder``, with names of functions that debuggers can show."""
    built = folder / "crashee"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, "-g", "-O1", "-pthread", "-o", str(built), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the C program cannot be built (set CC): {done.stderr.strip()}")
    return built


@contextlib.contextmanager
def running(program: Path, mapped: Path, size: int, folder: Path) -> Iterator[Process]:
    """Start it with ``size`` bytes of memory, wait until all is in place, and end it in any case.

    The C library may give the kernel a word of each thread to note its CPU in (rseq); without that the memory
    stays as it is for as long as the process waits.
    """
    folder.mkdir()
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    with subprocess.Popen(
        [str(program), str(mapped), str(size)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=folder,
        env=environment,
        start_new_session=True,
    ) as popen:
        try:
            _wait_until_ready(popen)
            proc = Path(f"/proc/{popen.pid}")
            yield Process(popen, folder, _mappings((proc / "maps").read_text()), (proc / "smaps").read_text())
        finally:
            popen.kill()


def _mappings(maps: str) -> list[Mapping]:
    found = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in fields[0].split("-"))
        found.append(Mapping(start, end, fields[5] if len(fields) == 6 else ""))
    return found


def _wait_until_ready(popen: subprocess.Popen[bytes]) -> None:
    assert popen.stdout is not None
    until = time.monotonic() + _PATIENCE
    while select.select([popen.stdout], [], [], max(until - time.monotonic(), 0))[0]:
        if popen.stdout.readline() == b"ready\n":
            return
        raise BenchError("the process to be dumped did not start")
    raise BenchError(f"the process to be dumped was not ready in {_PATIENCE:.0f} s")
