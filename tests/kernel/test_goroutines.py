"""Cores of Go programs, cut by --minimal: how much is kept beside the pages that delve reads of the whole core.

gdb and elfutils show the same of them, too, also where threads are C's.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel import stacks
from kernel.programs import CannotStartError, need
from kernel.stacks import said
from kernel.test_fit import shown
from support.builder import PT_LOAD, parse_core
from support.fitting import pages
from support.samples import PAGE
from support.syscalls import need_strace

import corefilt

pytestmark = pytest.mark.slow

# What is kept of memory, by the pages of it that delve reads.
BAR = 1.2


@dataclass(frozen=True)
class Program:
    """A build of stacks.go, and how it runs: half of the goroutines beyond the first few find a partner, and end."""

    sizes: tuple[int, int, int]
    how: str
    build: tuple[str, ...] = ()
    c: bool = False
    bar: float = BAR


PROGRAMS = {
    "308 goroutines, SIGSEGV": Program((600, 6, 8), "segv"),
    "308 goroutines, SIGABRT": Program((600, 6, 8), "wait"),
    "308 goroutines, a panic": Program((600, 6, 8), "panic"),
    "308 goroutines, position-independent": Program((600, 6, 8), "wait", ("-buildmode=pie",)),
    "5,008 goroutines": Program((10_000, 4, 2), "wait"),
    "314 goroutines and C, SIGSEGV": Program((600, 6, 8), "segv", c=True),
    "314 goroutines and C, SIGABRT": Program((600, 6, 8), "wait", c=True),
    "5,014 goroutines and C": Program((10_000, 4, 2), "wait", c=True),
    # The lists of threads are in the program's own data.
    "314 goroutines and C, static": Program(
        (600, 6, 8), "segv", ("-ldflags=-linkmode external -extldflags -static",), c=True, bar=1.4
    ),
}


def delve(program: str, core: Path, before: list[str] | None = None) -> str:
    """What delve shows of all goroutines."""
    commands = core.with_name("commands")
    commands.write_text("goroutines -t 50\nexit\n")
    options = ["--allow-non-terminal-interactive=true", "--init", str(commands)]
    return said([*(before or []), "dlv", "core", program, str(core), *options], core)


def pages_read(program: str, core: Path) -> tuple[str, set[int]]:
    """What delve shows, and the pages of the process's memory that it reads of the core for that."""
    log = core.with_name("strace.log")
    trace = ["strace", "-f", "-qq", "-o", str(log), "-P", str(core), "-e", "signal=none", "-e", "trace=pread64"]
    text = delve(program, core, trace)
    loads = [phdr for phdr in parse_core(core.read_bytes())[1] if phdr.p_type == PT_LOAD]
    found = set[int]()
    # A call that another thread's interrupts ends on a line of its own.
    for length, offset in re.findall(r"(?m), (\d+), (\d+)\) += [1-9]\d*$", log.read_text()):
        first = int(offset)
        for load in loads:
            if load.p_offset <= first < load.p_offset + load.p_filesz:
                start = load.p_vaddr + first - load.p_offset
                found.update(range(start // PAGE, (start + int(length) - 1) // PAGE + 1))
    return text, found


@pytest.mark.parametrize("name", PROGRAMS)
def test_little_is_kept_beside_what_delve_reads(name: str, cores: None, tmp_path: Path) -> None:
    """Every goroutine and its frames, and every thread's frames, in little more than the pages that delve reads."""
    need_strace()
    made = PROGRAMS[name]
    try:
        need("dlv")
        # Each thread takes some pages, and there are as many as the machine has CPUs.
        before = ["env", "GOMAXPROCS=2"]
        program, core = stacks.go(tmp_path, made.sizes, made.how, before, build=made.build, c=made.c)
    except CannotStartError as error:
        pytest.skip(str(error))
    full, read = pages_read(program, core)
    small = core.with_name("small")
    report = corefilt.filter(core, small, filter="all", minimal=True, sysroot="/", sync=False)
    (walk,) = report.fit.runtimes
    goroutines = len(re.findall(r"(?m)^[* ] Goroutine \d+", full))
    assert walk.threads == goroutines > made.sizes[0] // 2
    assert delve(program, small) == full
    kept = {address // PAGE for address in pages(small.read_bytes())}
    print(f"{name}: {goroutines} goroutines, {len(read)} pages read, {len(kept)} kept: {len(kept) / len(read):.3f}")
    assert read <= kept
    assert len(kept) <= made.bar * len(read)
    if shutil.which("gdb") or shutil.which("eu-stack"):
        assert shown(program, small) == shown(program, core)
