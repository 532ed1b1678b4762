"""What ``corefilt show`` says of a process, held against the core that the kernel then writes of it."""

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.dumps import FULL, CannotCompileError, Core, dumping
from kernel.programs import HarmedError, Visit, compile_forker, load_sizes, open_folder, visit_zoo
from support.run import corefilt

from corefilt import _fast
from corefilt.corefile.elf import PF_X
from corefilt.doctor.live import Live
from corefilt.procfs.pid import ProcFolder

# Memory of several kinds, and then it waits.
SCRIPT = """
import mmap
shared, private = mmap.mmap(-1, 1 << 20), bytearray(b"x" * (1 << 20))
shared[0] = 1
print("ready", flush=True)
input()
"""
# Private mappings of the zoo that were written to, although no page tells so any more: the kernel keeps them whole.
FORGOTTEN = {"anon-dontneed", "anon-thp-read", "anon-split-high", "file-private-written-dontneed"}


@pytest.fixture(scope="module")
def zoo(zoo_program: Path) -> Iterator[tuple[Visit, Live]]:
    """Look at a twin of the zoo before it dies; the other twins have died under every filter."""
    with open_folder() as folder:
        try:
            with visit_zoo(zoo_program, compile_forker(folder), folder / "visit") as visited:
                with ProcFolder(visited.pid) as proc:
                    live = Live(proc)
                saved = visited
        except (CannotCompileError, HarmedError) as error:
            pytest.skip(str(error))
        yield saved, live


def test_every_mapping_of_the_zoo_under_every_filter(zoo: tuple[Visit, Live]) -> None:
    """What is decided is what the kernel writes, what is not lies between the least and the most."""
    visited, live = zoo
    starts = [phdr.p_vaddr for phdr in visited.twins[FULL].phdrs if phdr.p_type == 1]
    assert starts == list(live.areas.start)
    undecided = set()
    for value, twin in visited.twins.items():
        for m, there in enumerate(load_sizes(twin)):
            share = live.share(m, value)
            label = visited.labels.get(starts[m], hex(starts[m]))
            assert share.kept - share.undecided <= there <= share.kept, (label, hex(value))
            if share.undecided:
                undecided.add(label)
                assert live.areas.resident[m] == 0 or live.areas.nature[m].copied is False, label
    assert undecided >= FORGOTTEN
    assert len(undecided) < len(starts) / 5
    assert live.filter in visited.twins


def test_what_is_data_and_what_is_a_hole(zoo: tuple[Visit, Live]) -> None:
    """Of anonymous memory the pages that smaps counts are data; of all else no more than it is long."""
    visited, live = zoo
    core = Core(visited.full)
    loads = [phdr for phdr in core.phdrs if phdr.p_type == 1]
    for m, phdr in enumerate(loads):
        share = live.share(m, FULL)
        data = data_bytes(visited.full, phdr.p_offset, phdr.p_offset + phdr.p_filesz)
        label = visited.labels.get(phdr.p_vaddr, hex(phdr.p_vaddr))
        assert data <= share.data, label
        if phdr.p_flags == PF_X and has_protection_keys():
            continue
        if live.findings[m].kind == "private-anonymous" and live.areas.nature[m].what == "memory":
            assert data == share.data, label


def has_protection_keys() -> bool:
    """Tell whether the kernel cannot read memory that may only be executed.

    mprotect(2) gives it a protection key that denies reading (Linux v4.9, execute_only_pkey()), and what a dump
    asks for goes through it (check_vma_flags() in mm/gup.c): the pages are holes.
    """
    return "ospke" in Path("/proc/cpuinfo").read_text()


def data_bytes(path: Path, start: int, end: int) -> int:
    """Count the bytes of a range that are no hole."""
    total = 0
    with path.open("rb") as file:
        while start < end:
            extent = _fast.data_extent(file.fileno(), start)
            if extent is None or extent[0] >= end:
                break
            total += min(extent[1], end) - max(extent[0], start)
            start = extent[1]
    return total


@pytest.mark.parametrize("coredump_filter", ["0x33", "0x1", "0x0", "0x1ff", "0x12"])
def test_a_process_that_was_shown_then_set_then_crashed(cores: None, tmp_path: Path, coredump_filter: str) -> None:
    """By the commands themselves: what show says is what lies in the core, mapping by mapping."""
    program = shutil.which("python3")
    if program is None:
        pytest.skip("no python3 in PATH")

    def unlimited() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    command, pipes = [program, "-I", "-S", "-c", SCRIPT], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with dumping(), subprocess.Popen(command, cwd=tmp_path, preexec_fn=unlimited, **pipes) as process:
        process.stdout.readline()
        assert corefilt("set", coredump_filter, str(process.pid)).code == 0
        done = corefilt("show", str(process.pid), "--json")
        process.send_signal(signal.SIGABRT)
        process.wait(60)
    (report,) = json.loads(done.out)["processes"]
    assert report["filter"] == coredump_filter
    (path,) = (tmp_path / name for name in os.listdir(tmp_path))
    there = {phdr.p_vaddr: phdr.p_filesz for phdr in Core(path).phdrs if phdr.p_type == 1}
    assert len(report["mappings"]) == len(there)
    decided = 0
    for mapping in report["mappings"]:
        size = there[int(mapping["start"], 16)]
        assert mapping["kept"] - mapping["undecided"] <= size <= mapping["kept"], mapping
        decided += mapping["undecided"] == 0
    assert decided > len(there) * 3 / 4
