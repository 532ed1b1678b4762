"""corefilt --truncate cuts where the kernel cuts: every length and every byte, at every limit."""

import os
import random
import resource
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from kernel.dumps import FULL, PAGE, Core, corefilt_command, may_change_system, sysctl
from kernel.waiting import ALL, Waiting, around, edges, full_of, masked, waiting

import corefilt
from corefilt.errors import NoCoreError

GIB = 1 << 30

by_filter = pytest.mark.parametrize(
    "coredump_filter",
    [0x33, *(pytest.param(value, marks=pytest.mark.slow) for value in (FULL, 0x1, 0x0))],
    ids=lambda value: f"{value:#x}",
)


@pytest.fixture(scope="module")
def large(waiting_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    """Give a process with 3,000 pages scattered over a gigabyte, every fifth full of zeros."""
    with waiting(waiting_program, tmp_path_factory.mktemp("large"), GIB) as it:
        yield it


@pytest.fixture(scope="module")
def large_full(large: Waiting) -> Core:
    """Dump the large one without a limit."""
    return full_of(large)


def cut_by_corefilt(process: Waiting, full: Core, coredump_filter: int, limit: int) -> Path | None:
    """Filter and cut the full core; None where the kernel would write none."""
    out = process.folder / "cut"
    try:
        corefilt.filter(
            full.path, out, filter=coredump_filter, truncate=limit, maps=str(process.folder / "smaps"),
            force=True, sync=False,
        )  # fmt: skip
    except NoCoreError:
        return None
    return out


def differences(process: Waiting, full: Core, coredump_filter: int, limits: list[int]) -> list[str]:
    """Say of every limit where the kernel and corefilt differ, in length or content, pids and times left out."""
    wrong = []
    for limit in limits:
        # What a file is renamed over, ext4 waits for the disk with.
        for old in (process.folder / "cores" / "theirs", process.folder / "cut"):
            old.unlink(missing_ok=True)
        theirs = process.dump("theirs", coredump_filter, limit)
        mine = cut_by_corefilt(process, full, coredump_filter, limit)
        if theirs is None or mine is None:
            if theirs is not mine:
                wrong.append(f"{limit}: only one of them wrote a core")
            continue
        sizes = theirs.stat().st_size, mine.stat().st_size
        if sizes[0] != sizes[1]:
            wrong.append(f"{limit}: kernel {sizes[0]}, corefilt {sizes[1]} bytes")
        elif not same_content(theirs, mine, full):
            wrong.append(f"{limit}: other content")
    return wrong


def same_content(one: Path, other: Path, full: Core) -> bool:
    """Compare two files of one length, data by data: holes of a gigabyte are not read."""
    length = one.stat().st_size
    with one.open("rb") as a, other.open("rb") as b:
        head = full.phdrs[1].p_offset
        if masked(a.read(head), full) != masked(b.read(head), full):
            return False
        at = head
        while at < length:
            data = min(first_data(a.fileno(), at, length), first_data(b.fileno(), at, length))
            if data >= length:
                return True
            at = min(data + (1 << 16), length)
            if os.pread(a.fileno(), at - data, data) != os.pread(b.fileno(), at - data, data):
                return False
    return True


def first_data(fd: int, at: int, length: int) -> int:
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        return length


# ---- --truncate ------------------------------------------------------------------------------------------


@by_filter
def test_around_every_piece(small: Waiting, small_full: Core, coredump_filter: int, reports: dict[str, str]) -> None:
    """Limits that a piece just fits, just does not, and has a byte to spare; and what leaves no core at all."""
    filtered = small.dump("filtered", coredump_filter)
    assert filtered is not None
    every = edges(Core(filtered))
    limits = [0, 1, 4095, 4096, *(limit for limit in around(every) if limit >= 4096), 1 << 40, (1 << 63) - 1]
    limits += random.Random(coredump_filter).sample(range(4096, every[-1]), max(40, 220 - len(limits)))
    assert len(limits) >= 200
    wrong = differences(small, small_full, coredump_filter, limits)
    title = "limits at which corefilt cuts like the kernel"
    line = f"{coredump_filter:#5x}: {len(limits) - len(wrong)} of {len(limits)} around {len(every)} pieces"
    reports[title] = "\n".join(filter(None, [reports.get(title), line]))
    assert not wrong


@pytest.mark.parametrize(
    "coredump_filter", [0x33, *(pytest.param(value, marks=pytest.mark.slow) for value in (0x1, 0x1FF))], ids=hex
)
def test_a_large_sparse_core(large: Waiting, large_full: Core, coredump_filter: int) -> None:
    """Random limits; the holes of a gigabyte cost nothing."""
    filtered = large.dump("filtered", coredump_filter)
    assert filtered is not None
    every = edges(Core(filtered))
    limits = [*random.Random(coredump_filter).choices(range(4096, every[-1] + PAGE), k=4), *every[-2:], every[-1] + 1]
    assert not differences(large, large_full, coredump_filter, limits)


def test_a_written_page_of_zeros_counts(small: Waiting, small_full: Core) -> None:
    """The test above could not fail without them."""
    with small_full.path.open("rb") as file:
        zeros = [
            at
            for load in small_full.phdrs[1:]
            for at in range(load.p_offset, load.p_offset + load.p_filesz, PAGE)
            if os.lseek(file.fileno(), at, os.SEEK_HOLE) > at and not any(small_full.data[at : at + PAGE])
        ]
    assert len(zeros) >= 3


def test_the_limit_of_the_calling_process(small: Waiting, small_full: Core, tmp_path: Path) -> None:
    """What `ulimit -c` says is what `--truncate rlimit` cuts by."""
    command = corefilt_command("all", small_full.path, "-o", tmp_path / "cut", "--truncate", "rlimit")
    done = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (100_000, ALL)),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = small.dump("theirs", FULL, 100_000)
    assert theirs is not None
    assert theirs.stat().st_size == (tmp_path / "cut").stat().st_size
    assert same_content(theirs, tmp_path / "cut", small_full)
    assert "RLIMIT_CORE = 100000 (--truncate rlimit, this process's soft limit)" in done.stderr


@pytest.mark.parametrize("way", ["into a pipe", "from a pipe", "pipe to pipe"])
def test_pipes(small: Waiting, small_full: Core, tmp_path: Path, way: str) -> None:
    """Into a pipe the cut is the file's; from one, pages of zeros are holes, and that is said."""
    for limit in (4096, 60_000, 150_000, 300_000):
        source = ("cat", small_full.path) if way != "into a pipe" else ("true",)
        command = corefilt_command("0x1ff", *(["-"] if source[0] == "cat" else [small_full.path]), "--truncate", limit)
        with (tmp_path / "out").open("wb") as out, subprocess.Popen(source, stdout=subprocess.PIPE) as before:
            if way == "from a pipe":
                done = subprocess.run(command, stdin=before.stdout, stdout=out, stderr=subprocess.PIPE, check=True)
            else:
                with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out) as behind:
                    done = subprocess.run(
                        command, stdin=before.stdout, stdout=behind.stdin, stderr=subprocess.PIPE, check=True
                    )
        theirs = small.dump("theirs", FULL, limit)
        assert theirs is not None
        mine = (tmp_path / "out").read_bytes()
        if way == "into a pipe":
            assert masked(mine, small_full) == masked(theirs.read_bytes(), small_full)
            assert b"guess" not in done.stderr
        else:
            assert small_full.data[: len(mine)] == mine
            assert len(mine) >= theirs.stat().st_size
            assert b"where the kernel would have cut is a guess" in done.stderr


# ---- the order of core_sort_vma --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sorted_full(small: Waiting) -> Iterator[Core]:
    """Dump the small one with its segments in the order of their sizes."""
    if not may_change_system():
        pytest.skip("needs kernel.core_sort_vma set: only with COREFILT_TEST_SYSTEM=1 and as root")
    if not Path("/proc/sys/kernel/core_sort_vma").exists():
        pytest.skip("this kernel has no kernel.core_sort_vma (6.14)")
    with sysctl("kernel/core_sort_vma", 1):
        core = small.dump("sorted")
        assert core is not None
        (small.folder / "smaps").write_bytes(small.smaps)
        yield Core(core)


@by_filter
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_the_order_of_sizes_is_kept(
    small: Waiting, sorted_full: Core, tmp_path: Path, coredump_filter: int, way: str
) -> None:
    """Not by address, and under another filter not sorted anew: the order is the input's."""
    order = [load.p_vaddr for load in sorted_full.phdrs[1:]]
    assert order != sorted(order)
    sizes = [load.p_filesz for load in sorted_full.phdrs[1:]]
    assert sizes == sorted(sizes)
    maps = str(small.folder / "smaps")
    with subprocess.Popen(["cat", sorted_full.path], stdout=subprocess.PIPE) as cat:
        source = sorted_full.path if way == "file" else cat.stdout
        corefilt.filter(source, tmp_path / "out", filter=coredump_filter, maps=maps)
    mine = Core(tmp_path / "out")
    assert [load.p_vaddr for load in mine.phdrs[1:]] == order
    unsorted = small.dump("unsorted", coredump_filter)
    assert unsorted is not None
    assert mine.sizes() == Core(unsorted).sizes()
    for address in order:
        assert mine.kept(address) == sorted_full.kept(address)[: len(mine.kept(address))]
    places = [(load.p_offset, load.p_offset + load.p_filesz) for load in mine.phdrs[1:]]
    assert all(end == start for (_, end), (start, _) in pairwise(places))


def test_the_order_of_sizes_changes_no_kind(small_full: Core, sorted_full: Core) -> None:
    """What is known of a mapping does not hang on where in the table it stands."""
    kinds = []
    for core in (small_full, sorted_full):
        with corefilt.open(core.path) as it:
            kinds.append({mapping.start: (mapping.kind, mapping.certainty) for mapping in it.mappings})
    assert kinds[0] == kinds[1]


def test_sorted_cores_are_cut_like_the_kernel_cuts_them(small: Waiting, sorted_full: Core) -> None:
    """Small mappings first, so that a limit loses the large ones."""
    limits = around(edges(sorted_full)[20:300:4])
    assert not differences(small, sorted_full, FULL, [limit for limit in limits if limit >= 4096])
