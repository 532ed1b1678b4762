"""Filtering in place: what is changed, in which order, and what is left of it when it ends early."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builder import (
    EM_PPC,
    PT_AARCH64_MEMTAG_MTE,
    PT_LOAD,
    Image,
    Load,
    Phdr,
    elf_image,
    kernel_notes,
    library,
    make_core,
    parse_core,
    parse_sections,
)
from support.instants import (
    SHT_NOBITS,
    allocated,
    assert_done,
    assert_valid,
    copied,
    in_place,
    table_of,
    with_sizes,
)
from support.opening import open_file, opened
from support.run import assert_error, assert_promises, assert_usage, corefilt, listing, without_privileges
from support.samples import PAGE, SHARED, noise, sample_core, tagged
from support.strategies import FILTERS, cores
from support.syscalls import calls_after_opening, need_strace, run_with_fault
from support.thinned import one_in

import corefilt as api
from corefilt.corefile import punched as gaps
from corefilt.corefile.ranges import cut_out, joined
from corefilt.errors import InPlaceError, UndecidedError, UsageError
from corefilt.filtering.inplace_file import whole_blocks

A, B, C, D = 0x10000, 0x40000, 0x80000, 0x100000
SHM = "/dev/zero (deleted)"


def unaligned() -> bytes:
    """Make a core whose payload stands at no multiple of anything."""
    loads = [Load(A, noise(3, 1)), Load(B, noise(5, 2)), Load(C, noise(2, 3)), Load(D, noise(4, 4))]
    files = [(B, B + 5 * PAGE, 0, SHM), (C, C + 2 * PAGE, 0, SHM)]
    offset, placed = 0x1235, []
    for load in loads:
        placed.append(Load(load.vaddr, load.data, offset=offset))
        offset += len(load.data)
    return make_core(placed, kernel_notes(files))


def tail() -> bytes:
    """Make a core that ends with what a filter without shared memory drops."""
    loads = [Load(A, noise(3, 1)), Load(B, noise(5, 2)), Load(C, noise(2, 3))]
    return make_core(loads, kernel_notes([(B, B + 5 * PAGE, 0, SHM), (C, C + 2 * PAGE, 0, SHM)]))


def headed() -> bytes:
    """Make a core of which bit 4 keeps a page of 64 KiB, and of 128 KiB: what a torn number could not say."""
    image = elf_image([Image(0, 0x20000, "r-x")])
    loads = [
        Load(A, image + noise(15, 1), flags="r-x"),
        Load(B, image + noise(31, 2), flags="r-x"),
        Load(C, noise(2, 3)),
    ]
    return make_core(
        loads, kernel_notes([(A, A + 16 * PAGE, 0, "/usr/lib/a.so"), (B, B + 32 * PAGE, 0, "/usr/lib/b.so")])
    )


def narrow() -> bytes:
    """Make a core of 32 bits."""
    shape = {"bits": 32, "little_endian": False, "machine": EM_PPC}
    loads, files = library(0x40000000, "/usr/lib/libvictim.so.1", **shape)
    loads = [Load(A, noise(3, 1)), Load(B, noise(4, 2)), *loads, Load(0x50000000, b"", memsz=PAGE), Load(C, noise(1))]
    return make_core(loads, kernel_notes([(B, B + 4 * PAGE, 0, SHM), *files], **shape), **shape)


SHAPES = {
    "64": sample_core(),
    "32, big": narrow(),
    "pn_xnum": sample_core(xnum=True),
    "gcore": sample_core(layout="gcore"),
    "gcore, notes first": sample_core(layout="gcore-notes-first"),
    "memory tags": tagged(),
    "memory tags in between": tagged(interleaved=True),
    "unaligned": unaligned(),
    "dropped at the end": tail(),
    "header pages": headed(),
}
LAID_OUT_IN_ORDER = [name for name in SHAPES if name != "memory tags in between"]
by_shape = pytest.mark.parametrize("shape", SHAPES)
by_filter = pytest.mark.parametrize("wanted", [0x0, 0x1, 0x11, 0x31], ids=hex)


def written(folder: Path, core: bytes, name: str = "core") -> Path:
    path = folder / name
    path.write_bytes(core)
    return path


# --- what is done -----------------------------------------------------------------------------------------


@by_shape
@by_filter
def test_only_dropped_bytes_and_sizes_change(shape: str, wanted: int, tmp_path: Path) -> None:
    before, path = SHAPES[shape], written(tmp_path, SHAPES[shape])
    least = copied(before, wanted, tmp_path)
    report = in_place(path, wanted)
    after = path.read_bytes()
    assert_done(before, after, least)
    assert report.dropped_bytes == sum(p.p_filesz for p in loads_of(before)) - sum(p.p_filesz for p in loads_of(least))
    assert report.allocated_bytes == allocated(path)


def loads_of(core: bytes) -> list[Phdr]:
    return [phdr for phdr in parse_core(core)[1] if phdr.p_type == PT_LOAD]


@by_filter
@pytest.mark.parametrize("shape", LAID_OUT_IN_ORDER)
def test_a_copy_of_it_is_the_copy_of_the_full_core(shape: str, wanted: int, tmp_path: Path) -> None:
    """The gaps go when a copy is made, whatever filter makes it; from a pipe they are zeros."""
    before, path = SHAPES[shape], written(tmp_path, SHAPES[shape])
    least = copied(before, wanted, tmp_path)
    in_place(path, wanted)
    after = path.read_bytes()
    for again in (wanted, 0x1FF):
        assert copied(after, again, tmp_path) == least
    if "gcore" not in shape:
        piped = corefilt("0x1ff", source=path)
        assert piped.code == 0
        assert_valid(before, piped.out, least)


@by_shape
@by_filter
def test_compact_makes_it_the_copy(shape: str, wanted: int, tmp_path: Path) -> None:
    before, path = SHAPES[shape], written(tmp_path, SHAPES[shape])
    least = copied(before, wanted, tmp_path)
    report = in_place(path, wanted, compact=True)
    assert path.read_bytes() == least
    assert report.output_bytes == len(least)
    assert report.allocated_bytes == allocated(path)
    assert listing(tmp_path).keys() == {"core", "copied.in", "copied.out"}


def test_a_dropped_end_is_cut_off_without_a_copy(tmp_path: Path) -> None:
    path = written(tmp_path, tail())
    number = path.stat().st_ino
    in_place(path, 0x31, compact=True)
    assert path.stat().st_ino == number
    assert path.read_bytes() == copied(tail(), 0x31, tmp_path)


def test_compact_goes_on_where_a_run_without_it_ended(tmp_path: Path) -> None:
    for shape in LAID_OUT_IN_ORDER:
        path = written(tmp_path, SHAPES[shape])
        in_place(path, 0x31)
        in_place(path, 0x31, compact=True)
        assert path.read_bytes() == copied(SHAPES[shape], 0x31, tmp_path), shape


def test_one_filter_after_the_other(tmp_path: Path) -> None:
    """What the second drops goes too, and what the first dropped does not come back."""
    before = sample_core()
    path = written(tmp_path, before)
    in_place(path, 0x33)
    in_place(path, 0x31)
    assert_done(before, path.read_bytes(), copied(copied(before, 0x33, tmp_path), 0x31, tmp_path))


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    for shape, before in SHAPES.items():
        path = written(tmp_path, before)
        in_place(path, 0x31)
        once = path.read_bytes()
        in_place(path, 0x31)
        assert path.read_bytes() == once, shape


def test_all_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, sample_core())
    path.chmod(0o644)
    status = path.stat()
    report = in_place(path, 0x1FF)
    assert path.read_bytes() == sample_core()
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert report.freed_bytes == report.punched_bytes == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(before=cores(), wanted=FILTERS)
def test_any_core_of_the_kernels(before: bytes, wanted: int, tmp_path: Path) -> None:
    path = written(tmp_path, before)
    least = copied(before, wanted, tmp_path)
    in_place(path, wanted)
    once = path.read_bytes()
    assert_done(before, once, least)
    in_place(path, wanted, compact=True)
    assert_promises(once, path.read_bytes())


@pytest.mark.parametrize("places", [[0x2000, 0x3800, 0x2C00], [0x2000, 0x2000, 0x5000], [0x4321, 0x2321, 0x3321]])
def test_overlapping_segments_share_what_any_of_them_keeps(places: list[int], tmp_path: Path) -> None:
    loads = [Load(at, noise(3, i), offset=place) for i, (at, place) in enumerate(zip((A, B, C), places, strict=True))]
    before = make_core(loads, kernel_notes([(B, B + 3 * PAGE, 0, SHM)]))
    path = written(tmp_path, before)
    in_place(path, 0x31)
    after = path.read_bytes()
    assert_valid(before, after, with_sizes(before, [parse_core(before)[1][0].p_filesz, 3 * PAGE, 0, 3 * PAGE]))
    assert parse_core(after)[1][2].p_filesz == 0


def test_section_headers_within_dropped_bytes_stay(tmp_path: Path) -> None:
    """Somebody's core has them there; they are rewritten where they stand."""
    core = bytearray(sample_core(xnum=True))
    ehdr, phdrs = parse_core(bytes(core))
    shared = next(phdr for phdr in phdrs if phdr.p_vaddr == SHARED)
    at = shared.p_offset + PAGE
    core[at : at + 64] = core[ehdr.e_shoff : ehdr.e_shoff + 64]
    core[40:48] = at.to_bytes(8, "little")
    path = written(tmp_path, bytes(core))
    in_place(path, 0x31)
    after = path.read_bytes()
    assert after[at : at + 64] == core[at : at + 64]
    assert parse_core(after)[0].phnum == ehdr.phnum
    assert after[at + PAGE : at + 2 * PAGE] == bytes(PAGE)


def test_what_nobody_claims_stays(tmp_path: Path) -> None:
    """Between segments and behind them; the empty mapping before it could have held a page of it, but did not."""
    loads = [
        Load(A, noise(2, 1)),
        Load(B, b"", memsz=PAGE),
        Load(C, noise(2, 2), offset=0x6000),
        Load(D, b"", memsz=PAGE, offset=0x8000),
    ]
    before = make_core(loads, kernel_notes([]), tail=b"signed by someone" * 100)
    path = written(tmp_path, before)
    for _ in range(2):
        in_place(path, 0x0)
        after = path.read_bytes()
        assert after[0x8000:] == before[0x8000:]
        assert not any(after[0x6000:0x8000])


# --- arithmetic -------------------------------------------------------------------------------------------

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda r: (r[0], r[0] + r[1])), max_size=6)


@given(drops=RANGES, keeps=RANGES, block=st.sampled_from([1, 2, 4, 16]), more=st.integers(0, 9))
def test_whole_blocks_hold_no_kept_byte(
    drops: list[tuple[int, int]], keeps: list[tuple[int, int]], block: int, more: int
) -> None:
    """Every block without a kept byte goes as far as it was dropped, every other stays, by going over all bytes."""
    kept, cuts = joined(keeps), cut_out(drops, keeps)
    end = max([stop for _, stop in drops + keeps] + [0]) + more
    gone = {at for start, stop in whole_blocks(cuts, kept, block, end) for at in range(start, stop)}
    held = {at // block for start, stop in kept for at in range(start, stop)}
    dropped = {at for start, stop in cuts for at in range(start, stop)}
    assert {at for at in gone if at < end} == {at for at in dropped if at // block not in held}
    assert not {at for at in gone if at >= end and at // block not in {place // block for place in dropped}}


def test_gaps_are_found_only_where_a_segment_could_have_held_them(tmp_path: Path) -> None:
    """A gap larger than the mapping, one of a mapping that is whole, one out of order: all somebody else's."""
    first = parse_core(make_core([Load(A, noise(1))], kernel_notes([])))[1][1].p_offset
    notes = kernel_notes([])
    for loads in (
        [Load(A, b"", memsz=PAGE), Load(B, noise(1), offset=first + 2 * PAGE)],
        [Load(A, noise(1)), Load(B, noise(1), offset=first + 2 * PAGE)],
        [Load(A, noise(1), offset=first + 2 * PAGE), Load(B, b"", memsz=PAGE, offset=first)],
    ):
        path = written(tmp_path, make_core(loads, notes))
        with open_file(path) as core:
            assert core.gaps == []
    path = written(tmp_path, make_core([Load(A, b"", memsz=PAGE), Load(B, noise(1), offset=first + PAGE)], notes))
    with open_file(path) as core:
        assert core.gaps == [(first, first + PAGE)]


def test_of_several_segments_at_one_offset_the_last_gave_up(tmp_path: Path) -> None:
    before = make_core(
        [Load(A, b"", memsz=4 * PAGE), Load(B, noise(2, 1)), Load(C, noise(1, 2))],
        kernel_notes([(B, B + 2 * PAGE, 0, SHM)]),
    )
    path = written(tmp_path, before)
    in_place(path, 0x31)
    with open_file(path) as core:
        assert core.maps.given_up == {2: 2 * PAGE}
        assert [core.maps.dumped(m) for m in range(3)] == [0, 2 * PAGE, PAGE]


def test_gaps_do_not_hide_what_a_header_came_to_claim() -> None:
    """Claims are ranges of the file, those of the headers themselves included."""
    core = sample_core(layout="gcore")
    with_gaps = written_in_memory(core)
    ehdr, sections = parse_core(core)[0], parse_sections(core)
    assert (0, 64) in with_gaps
    assert (ehdr.e_shoff, ehdr.e_shoff + 64 * len(sections)) in with_gaps
    strings = sections[-1]
    assert (strings.sh_offset, strings.sh_offset + strings.sh_size) in with_gaps


def written_in_memory(core: bytes) -> list[tuple[int, int]]:
    with opened(core) as it:
        return gaps.claimed(it.ehdr, it.table, it.sections, it.table.p_filesz)


# --- when it ends early -----------------------------------------------------------------------------------


def field_size(core: bytes) -> int:
    return 8 if parse_core(core)[0].bits == 64 else 4


@by_shape
@pytest.mark.parametrize(
    "wanted", [0x0, 0x31, *(pytest.param(each, marks=pytest.mark.slow) for each in (0x1, 0x8, 0x11))], ids=hex
)
@one_in(4)
def test_headers_torn_at_any_field(shape: str, wanted: int, step: int, tmp_path: Path) -> None:
    """A power cut leaves the first part of the table new: that is a valid core, and the next run finishes it.

    Fields are aligned, so that no sector ends within one. What is measured by other headers is on the disk before them.
    """
    before = SHAPES[shape]
    least = copied(before, wanted, tmp_path)
    path = written(tmp_path, before)
    in_place(path, wanted)
    after = path.read_bytes()
    for old, new in pairwise(stages(before, after)):
        first = next((at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other), len(old))
        for at in range(first // 8 * 8, len(old), step * field_size(before)):
            torn = new[:at] + old[at:]
            if torn == new:
                break
            assert_valid(before, torn, least)
            if shape in LAID_OUT_IN_ORDER:
                path.write_bytes(torn)
                in_place(path, wanted)
                assert path.read_bytes() == after, f"torn at {at:#x}"


def stages(before: bytes, after: bytes) -> list[bytes]:
    """Return the core as it is when each of the tables is on the disk: sections, memory tags, all segments."""
    ehdr, phdrs = parse_core(before)
    sections = before
    if ehdr.e_shoff:
        end = ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize
        sections = before[: ehdr.e_shoff] + after[ehdr.e_shoff : end] + before[end:]
    new = [phdr.p_filesz for phdr in parse_core(after)[1]]
    tags = [
        size if phdr.p_type == PT_AARCH64_MEMTAG_MTE else phdr.p_filesz for phdr, size in zip(phdrs, new, strict=True)
    ]
    return [before, sections, with_sizes(sections, tags), with_sizes(sections, new)]


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "header pages"])
def test_headers_torn_at_any_byte(shape: str, tmp_path: Path) -> None:
    """Where segments go as a whole, not even a torn number is wrong: it is smaller than before."""
    before = SHAPES[shape]
    path = written(tmp_path, before)
    in_place(path, 0x0)
    at, new = table_of(path.read_bytes())
    least = copied(before, 0x0, tmp_path)
    for length in range(len(new) + 1):
        assert_valid(before, before[:at] + new[:length] + before[at + length :], least)


@by_shape
def test_any_mix_of_sectors_is_a_core(shape: str, tmp_path: Path) -> None:
    """Old and new headers by sector, in any mix; then all new headers with any mix of holes."""
    before, draw = SHAPES[shape], random.Random(4)
    least = copied(before, 0x11, tmp_path)
    path = written(tmp_path, before)
    in_place(path, 0x11)
    after = path.read_bytes()
    at, table = table_of(before)
    head = before[: at + len(table)]
    for _ in range(40):
        mixed = bytearray(before)
        for start in range(0, len(before), 512):
            if draw.random() < 0.5 and (start < len(head) or start >= parse_core(before)[0].e_shoff > 0):
                mixed[start : start + 512] = after[start : start + 512]
        assert_valid(before, bytes(mixed), least)
        holed = bytearray(after)
        for start in range(0, len(before), 512):
            if draw.random() < 0.5 and start >= len(head):
                holed[start : start + 512] = before[start : start + 512]
        if not parse_core(before)[0].e_shoff:
            assert_valid(before, bytes(holed), least)
            if shape in LAID_OUT_IN_ORDER:
                path.write_bytes(holed)
                in_place(path, 0x11)
                assert path.read_bytes() == after


@pytest.mark.parametrize("shape", ["gcore", "gcore, notes first"])
def test_gdbs_section_headers_go_first(shape: str, tmp_path: Path) -> None:
    """A run that ended between the two tables is finished by the next."""
    before = SHAPES[shape]
    path = written(tmp_path, before)
    in_place(path, 0x11)
    after = path.read_bytes()
    at = parse_core(before)[0].e_shoff
    between = before[:at] + after[at:]
    assert_valid(before, between, copied(before, 0x11, tmp_path))
    path.write_bytes(between)
    in_place(path, 0x11)
    assert path.read_bytes() == after
    gone = [section for section in parse_sections(after) if section.sh_type == SHT_NOBITS]
    assert gone


def steps(folder: Path, core: bytes, *args: str, everything: bool = False) -> list[tuple[str, int]]:
    need_strace()
    return calls_after_opening(written(folder, core, "traced"), "0x31", folder / "traced", *args, everything=everything)


@pytest.mark.parametrize(
    ("core", "args", "expected"),
    [
        (SHAPES["64"], ("-i",), ["fallocate", "pwritev2", *["fallocate"] * 2, "fdatasync"]),
        (SHAPES["64"], ("-i", "--no-sync"), ["fallocate", "pwritev2", *["fallocate"] * 2]),
        (SHAPES["gcore"], ("-i",), ["fallocate", *["pwritev2"] * 2, *["fallocate"] * 2, "fdatasync"]),
        (tail(), ("-i", "--compact"), ["fallocate", "pwritev2", "ftruncate", "pwritev2", "fdatasync"]),
    ],
    ids=["holes", "no-sync", "gcore", "tail"],
)
def test_the_order_of_steps(core: bytes, args: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    """First a hole behind the end, to see whether it can be; then headers, each synced, also with --no-sync."""
    assert [name for name, _ in steps(tmp_path, core, *args, "-q")] == expected


WAYS = pytest.mark.parametrize(
    ("core", "args"),
    [
        pytest.param(SHAPES["64"], ("-i",), id="holes"),
        pytest.param(SHAPES["gcore"], ("-i",), id="gcore"),
        pytest.param(SHAPES["dropped at the end"], ("-i", "--compact"), id="tail"),
        pytest.param(SHAPES["64"], ("-i", "--compact"), id="replaced"),
    ],
)


@WAYS
@one_in(3)
def test_killed_at_any_system_call(core: bytes, args: tuple[str, ...], step: int, tmp_path: Path) -> None:
    """SIGKILL at each call from the one that opens the core for writing; the same command then finishes it.

    Where two ways differ only in what they write, those that change nothing are tried in one of them.
    """
    everything = core == SHAPES["64"] and args == ("-i",)
    least = copied(core, 0x31, tmp_path)
    path = written(tmp_path, core)
    assert corefilt("0x31", path, *args, "-q").code == 0
    after = path.read_bytes()
    killed = 0
    calls = steps(tmp_path, core, *args, "-q", everything=everything)
    for name, count in calls[::step]:
        path.write_bytes(core)
        done = run_with_fault("signal=KILL", name, count, "0x31", path, *args, "-q")
        killed += done.code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert_valid(core, path.read_bytes(), least)
        assert corefilt("0x31", path, *args, "-q").code == 0
        assert path.read_bytes() == after, f"{name} {count}"
    assert killed * step >= (20 if everything else 4)


@WAYS
@pytest.mark.parametrize(
    "fault", ["ENOSPC", *(pytest.param(each, marks=pytest.mark.slow) for each in ("EIO", "EDQUOT"))]
)
@one_in(2)
def test_an_error_at_any_step(core: bytes, args: tuple[str, ...], fault: str, step: int, tmp_path: Path) -> None:
    """The core stays valid, nothing is left beside it, and the exit code is 1 unless the step was one of courtesy."""
    least = copied(core, 0x31, tmp_path)
    path = written(tmp_path, core)
    assert corefilt("0x31", path, *args, "-q").code == 0
    after = path.read_bytes()
    folder = listing(tmp_path).keys()
    codes = set()
    for name, count in steps(tmp_path, core, *args, "-q")[::step]:
        (tmp_path / "traced").unlink()
        path.write_bytes(core)
        done = run_with_fault(f"error={fault}", name, count, "0x31", path, *args, "-q")
        codes.add(done.code)
        left = path.read_bytes()
        assert_valid(core, left, least)
        assert listing(tmp_path).keys() == folder
        if done.code == 1:
            assert_error(done)
            if "nothing was changed" in done.err[0]:
                assert left == core
        else:
            assert done.code == 0, done.err
            assert left == after
        assert corefilt("0x31", path, *args, "-q").code == 0
        assert path.read_bytes() == after, f"{name} {count}"
        written(tmp_path, core, "traced")
    assert 1 in codes


@pytest.mark.parametrize(("fault", "hint"), [("ENOSPC", "free"), ("EIO", "-o OUT")])
def test_headers_that_cannot_be_written(fault: str, hint: str, tmp_path: Path) -> None:
    need_strace()
    for core in (SHAPES["64"], SHAPES["gcore"]):
        path = written(tmp_path, core)
        done = run_with_fault(f"error={fault}", "pwritev2", 1, "0x31", path, "-i")
        assert_error(done, "nothing was changed", hint)
        assert path.read_bytes() == core


def test_headers_that_the_disk_does_not_take_are_put_back(tmp_path: Path) -> None:
    """gdb's section headers were written when the program headers could not be."""
    need_strace()
    path = written(tmp_path, SHAPES["gcore"])
    done = run_with_fault("error=EIO", "pwritev2", 2, "0x31", path, "-i")
    assert_error(done, "the program headers cannot be rewritten", "nothing was changed")
    assert path.read_bytes() == SHAPES["gcore"]


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_signal_ends_it_between_two_holes(number: str, tmp_path: Path) -> None:
    need_strace()
    core = SHAPES["64"]
    path = written(tmp_path, core)
    done = run_with_fault(f"signal={number}", "fallocate", 2, "0x31", path, "-i")
    assert done.code in (-getattr(signal, f"SIG{number}"), 128 + getattr(signal, f"SIG{number}"))
    assert_valid(core, path.read_bytes(), copied(core, 0x31, tmp_path))
    assert corefilt("0x31", path, "-i", "-q").code == 0
    assert_done(core, path.read_bytes(), copied(core, 0x31, tmp_path))


# --- what stands against it -------------------------------------------------------------------------------


def test_no_holes_here(tmp_path: Path) -> None:
    """A file system that cannot punch says so before anything is changed; a copy in its place needs no holes."""
    need_strace()
    path = written(tmp_path, SHAPES["64"])
    done = run_with_fault("error=EOPNOTSUPP", "fallocate", 1, "0x31", path, "-i")
    assert_error(done, "holes cannot be punched", "nothing was changed", "--compact", "-o")
    assert path.read_bytes() == SHAPES["64"]
    done = run_with_fault("error=EOPNOTSUPP", "fallocate", 1, "0x31", path, "-i", "--compact", "-q")
    assert done.code == 0
    assert path.read_bytes() == copied(SHAPES["64"], 0x31, tmp_path)


@pytest.mark.parametrize(
    "args",
    [("-i", "-o", "out"), ("-i", "-o", "-"), ("--compact",), ("--compact", "-o", "out")],
    ids=" ".join,
)
def test_options_that_do_not_go_together(args: tuple[str, ...], core: Path) -> None:
    assert_usage(corefilt("0x31", core, *args, cwd=core.parent), "-i")
    assert listing(core.parent) == {"core": sample_core()}


def test_standard_input_is_only_read(core: Path) -> None:
    with core.open("rb") as file:
        assert_usage(corefilt("0x31", "-i", stdin=file), "-i changes CORE", "name the core")
    assert core.read_bytes() == sample_core()
    fifo = core.with_name("fifo")
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR)
    try:
        os.write(fd, sample_core()[:60000])
        assert_usage(corefilt("0x31", "-i", f"/dev/fd/{fd}", pass_fds=[fd]), "regular file")
    finally:
        os.close(fd)
    with core.open("rb") as file, open_file(file) as it, pytest.raises(UsageError, match="named by its path"):
        from corefilt.filtering.options import Options
        from corefilt.filtering.write import write_filtered

        write_filtered(it, api.CoredumpFilter(0x31), "-", Options(in_place=True))


def test_a_hard_link_needs_force(core: Path) -> None:
    other = core.with_name("other")
    os.link(core, other)
    assert_error(corefilt("0x31", core, "-i"), "2 hard links", "-f")
    assert core.read_bytes() == sample_core()
    assert corefilt("0x31", core, "-i", "-f").code == 0
    assert_done(sample_core(), core.read_bytes(), copied(sample_core(), 0x31, core.parent))
    assert other.samefile(core)


@pytest.mark.parametrize("shape", ["64", "pn_xnum", "gcore"])
def test_damage_needs_force(shape: str, tmp_path: Path) -> None:
    """What is missing is not made again; sizes say what is there, and the exit code is 3."""
    before = SHAPES[shape][: -2 * PAGE - 100]
    path = written(tmp_path, before)
    assert_error(corefilt("0x31", path, "-i"), "is damaged", "-f")
    assert path.read_bytes() == before
    done = corefilt("0x31", path, "-i", "-f")
    assert done.code == 3, done.err
    after = path.read_bytes()
    # Section header 0 of PN_XNUM is made anew, behind all that is there.
    assert len(after) == (len(before) if shape != "pn_xnum" else -(-len(before) // 8) * 8 + 64)
    if shape != "gcore":
        for was, now in zip(parse_core(before)[1], parse_core(after)[1], strict=True):
            assert now.p_offset == was.p_offset
            assert not now.p_filesz or now.p_offset + now.p_filesz <= len(after)
            kept = slice(now.p_offset, now.p_offset + now.p_filesz)
            assert after[kept] == before[kept]


@pytest.mark.parametrize("unknown", ["guess", "drop"])
def test_an_assumption_that_drops_needs_force(unknown: str, tmp_path: Path) -> None:
    """Under keep nothing is lost on an assumption, and what was stated is none."""
    before = make_core([Load(A, noise(4)), Load(B, noise(2))], kernel_notes([(A, A + 4 * PAGE, 0, "/data/a")]))
    wanted = "none" if unknown == "guess" else "private-anonymous"
    wanted = "shared-file-backed" if unknown == "drop" else "private-file-backed"
    path = written(tmp_path, before)
    assert_error(
        corefilt(wanted, path, "-i", "--unknown", unknown), "would be dropped on an assumption", "--assume", "-f"
    )
    assert path.read_bytes() == before
    assert corefilt(wanted, path, "-i", "--unknown", "keep").code == 0
    path.write_bytes(before)
    kind = "private-file-written" if unknown == "drop" else "shared-file-backed"
    assert corefilt(wanted, path, "-i", "--assume", f"{A:#x}={kind}").code == 0
    assert not any(path.read_bytes()[PAGE : PAGE + 4 * PAGE])
    path.write_bytes(before)
    assert corefilt(wanted, path, "-i", "--unknown", unknown, "-f").code == 0
    assert parse_core(path.read_bytes())[1][1].p_filesz == 0


def test_strict_changes_nothing_while_bytes_are_undecided(core: Path) -> None:
    done = corefilt("0x31", core, "-i", "--strict", "-f")
    assert_error(done, "depend on an assumption", code=4)
    assert core.read_bytes() == sample_core()
    with pytest.raises(UndecidedError):
        in_place(core, 0x31, strict=True)


def test_a_core_that_may_only_be_read(core: Path) -> None:
    core.chmod(0o444)
    done = corefilt("0x31", core, "-i", prefix=without_privileges())
    assert_error(done, "cannot be changed", "Permission denied", "-o OUT")
    assert core.read_bytes() == sample_core()


def test_a_core_that_somebody_else_still_writes(core: Path) -> None:
    from corefilt.filtering.options import Options
    from corefilt.filtering.write import write_filtered

    with open_file(core) as it:
        with core.open("ab") as file:
            file.write(b"more")
        with pytest.raises(InPlaceError, match="has changed since it was opened"):
            write_filtered(it, api.CoredumpFilter(0x31), "-", Options(in_place=True))
    assert core.read_bytes() == sample_core() + b"more"


def test_section_headers_at_odd_places_are_left_alone(tmp_path: Path) -> None:
    """A number that two sectors share could be torn."""
    core = bytearray(sample_core(layout="gcore"))
    ehdr = parse_core(bytes(core))[0]
    headers = bytes(core[ehdr.e_shoff :])
    core[ehdr.e_shoff :] = b"\0" + headers
    core[40:48] = (ehdr.e_shoff + 1).to_bytes(8, "little")
    path = written(tmp_path, bytes(core))
    with pytest.raises(InPlaceError, match="e_shoff"):
        in_place(path, 0x31, force=True)
    assert path.read_bytes() == core


def test_section_headers_over_kept_bytes_are_refused(tmp_path: Path) -> None:
    core = bytearray(sample_core(layout="gcore"))
    ehdr, phdrs = parse_core(bytes(core))
    headers = bytes(core[ehdr.e_shoff :])
    at = -(-phdrs[1].p_offset // 8) * 8
    core[at : at + len(headers)] = headers
    core[40:48] = at.to_bytes(8, "little")
    path = written(tmp_path, bytes(core))
    with pytest.raises(InPlaceError, match="overlap other data"):
        in_place(path, 0x31, force=True)
    assert path.read_bytes() == core


def test_a_symlink_leads_to_what_is_changed(core: Path) -> None:
    link = core.with_name("link")
    link.symlink_to(core.name)
    for args in (("-i",), ("-i", "--compact")):
        assert corefilt("0x31", link, *args).code == 0
        assert link.is_symlink()
    assert core.read_bytes() == copied(sample_core(), 0x31, core.parent)


# --- a copy in its place ----------------------------------------------------------------------------------


def test_the_copy_takes_over_what_belongs_to_the_file(core: Path) -> None:
    core.chmod(0o640)
    os.utime(core, ns=(10**18, 10**18 + 1))
    attributes = True
    try:
        os.setxattr(core, "user.case", b"4711")
    except OSError:
        attributes = False
    if os.geteuid() == 0:
        os.chown(core, 1234, 4321)
    number = core.stat().st_ino
    in_place(core, 0x31, compact=True)
    status = core.stat()
    assert status.st_ino != number
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_uid == (1234 if os.geteuid() == 0 else os.geteuid())
    assert not attributes or os.getxattr(core, "user.case") == b"4711"


def test_a_copy_of_somebody_elses_core_is_for_nobody_else(core: Path) -> None:
    """Who may not give files away gets a copy that nobody else may read."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a file that belongs to someone else")
    core.chmod(0o666)
    core.parent.chmod(0o777)
    os.chown(core, 1234, 4321)
    done = corefilt("0x31", core, "-i", "--compact", prefix=("setpriv", "--bounding-set=-chown", "--inh-caps=-all"))
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    assert done.code == 0, done.err
    status = core.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)


def test_no_room_for_the_copy(core: Path) -> None:
    """What was dropped is punched all the same, and said to be."""
    need_strace()
    done = run_with_fault("error=ENOSPC", "linkat", 1, "0x31", core, "-i", "--compact")
    assert_error(done, "the dropped bytes are removed", "could not be shortened", "space")
    assert_done(sample_core(), core.read_bytes(), copied(sample_core(), 0x31, core.parent))
    assert listing(core.parent).keys() == {"core", "copied.in", "copied.out"}


# --- what is said -----------------------------------------------------------------------------------------


def test_the_report(core: Path) -> None:
    before = allocated(core)
    done = corefilt("0x31", core, "-i", "--json")
    report = json.loads(done.out)
    assert (report["input"], report["output"]) == (str(core), str(core))
    assert (report["engine"], report["holes"]) == ("punch", "punched")
    assert report["output_bytes"] == report["input_bytes"] == len(sample_core())
    assert report["allocated_before"] == before
    assert report["allocated_bytes"] == allocated(core)
    assert report["freed_bytes"] == before - allocated(core)
    assert report["punched_bytes"] == report["dropped_bytes"]
    assert report["discard"] in ("on", "off", None)
    said = "\n".join(done.err)
    assert "changed in place" in said
    assert "plain copies write the holes out" in said
    assert "discard: " in said
    assert "no space was freed" not in said
    assert corefilt("0x31", core, "-i", "-q").err == ()
    assert "nothing to do" in corefilt("0x31", core, "-i").err[0]


def test_a_dry_run_says_what_would_be_freed_and_what_needs_force(core: Path) -> None:
    os.link(core, core.with_name("other"))
    done = corefilt("0x31", core, "-i", "-n", "--json")
    report = json.loads(done.out)
    assert core.read_bytes() == sample_core()
    assert report["output"] is None
    assert report["allocated_before"] == allocated(core)
    assert report["freed_bytes"] == report["dropped_bytes"]
    assert [warning for warning in report["warnings"] if "needs -f" in warning and "2 hard links" in warning]
    assert "would be freed" in done.err[0]


def test_a_copy_tells_that_it_left_gaps_out(core: Path) -> None:
    in_place(core, 0x31)
    done = corefilt("all", core, "-o", core.with_name("out"), "--json")
    assert any("of gaps, as -i leaves them" in change for change in json.loads(done.out)["changes"])


def test_the_kinds_are_those_of_the_full_core(core: Path) -> None:
    """A page that a run in place left is no header page that the kernel left alone."""
    before = make_core(
        [
            Load(A, elf_image([Image(0, 0x4000, "r-x")]) + noise(3, 1), flags="r-x"),
            Load(B, noise(2, 2)),
            Load(C, noise(2, 3), flags="r--"),
        ],
        kernel_notes([(A, A + 4 * PAGE, 0, "/usr/lib/a.so"), (C, C + 2 * PAGE, 0, "/data/c")]),
    )
    core.write_bytes(before)
    with open_file(core) as it:
        kinds = [mapping.kind for mapping in it.plan(0x11).mappings]
    in_place(core, 0x11)
    with open_file(core) as it:
        assert it.maps.present(0) == PAGE
        assert [mapping.kind for mapping in it.plan(0x11).mappings] == kinds


def test_progress_comes_to_the_whole(core: Path) -> None:
    told: list[int] = []
    in_place(core, 0x31, on_progress=told.append)
    assert sum(told) == len(sample_core())
