"""--fit, --minimal, --ladder and --follow: never larger than asked for, never anything that the input has not."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.builder import (
    AT_SYSINFO_EHDR,
    EM_AARCH64,
    EM_PPC,
    EM_RISCV,
    EM_X86_64,
    PN_XNUM,
    PT_AARCH64_MEMTAG_MTE,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    FileEntry,
    Image,
    Load,
    elf_image,
    kernel_notes,
    library,
    make_core,
    mte_tags,
    nt_prstatus,
    parse_core,
    parse_notes,
    payload_at,
)
from support.fitting import assert_fits, pages
from support.opening import open_file
from support.run import assert_error, assert_promises, assert_usage, corefilt
from support.samples import PAGE, VDSO, VDSO_LOAD, noise, sample_core

import corefilt as api
from corefilt.cli import main
from corefilt.corefile.registers import read_threads
from corefilt.errors import FitError, UnstreamableError, UsageError
from corefilt.evidence.gather import gather
from corefilt.plan.fit.backtrace import BacktraceMemory
from corefilt.plan.fit.priority import chunks
from corefilt.plan.fit.request import parse_follow, parse_ladder, parse_limit
from corefilt.plan.fit.signal_frames import MOST_FRAMES
from corefilt.verify import verify

STACK, HEAP, BIG = 0x7FFD00000000, 0x555500000000, 0x600000000000
AT_RANDOM = 25


def write(path: Path, core: bytes, *, sparse: bool = False) -> Path:
    """Write a core, with holes for its pages of zeros or without any."""
    with path.open("wb") as file:
        for at in range(0, len(core), PAGE):
            piece = core[at : at + PAGE]
            if sparse and not any(piece):
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
        file.truncate(len(core))
    return path


def fit(core: Path, **options: Any) -> tuple[bytes, api.Report]:
    """Fit a core into a file beside it; give that file and the report."""
    out = core.with_name("fitted")
    report = api.filter(core, out, filter=options.pop("filter", "all"), force=True, sync=False, **options)
    return out.read_bytes(), report


def a_process(**options: Any) -> bytes:
    """A core of two threads: their stacks, a library, small and large heaps, memory of a file and the vDSO."""
    loads, files = library(0x7F0000000000, "/usr/lib/libvictim.so.1")
    stacks = [Load(STACK, noise(8, 1)), Load(0x7E0000000000, noise(8, 2))]
    return make_core(
        [
            Load(HEAP, noise(6, 3)),
            Load(BIG, noise(200, 4)),
            Load(0x700000000000, noise(30, 5)),
            stacks[1],
            *loads,
            stacks[0],
            VDSO_LOAD,
        ],
        kernel_notes(
            [FileEntry(0x700000000000, 0x700000000000 + 30 * PAGE, 0, "/var/lib/victim/table.db"), *files],
            {AT_SYSINFO_EHDR: VDSO, AT_RANDOM: STACK + 8 * PAGE - 64},
            threads=2,
            stack_pointers=[STACK + 5 * PAGE + 16, 0x7E0000000000 + 6 * PAGE + 32],
        ),
        **options,
    )


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """Write a core of two threads."""
    return write(tmp_path / "core", a_process())


def smallest(core: Path, **options: Any) -> int:
    """The size that the error names."""
    with pytest.raises(FitError) as caught:
        fit(core, fit=0, **options)
    assert f"the smallest size that works is {caught.value.smallest} (" in str(caught.value)
    return caught.value.smallest


# --- what is kept -----------------------------------------------------------------------------------------


def test_minimal_keeps_the_stacks_from_their_pointers_on(process: Path) -> None:
    out, report = fit(process, minimal=True)
    full = process.read_bytes()
    assert_fits(full, out)
    kept = pages(out)
    stack = [n for n in range(8) if STACK + n * PAGE in kept]
    assert stack == [4, 5, 6, 7]  # the red zone of a pointer at the begin of a page lies in the page before
    assert [n for n in range(8) if 0x7E0000000000 + n * PAGE in kept] == [5, 6, 7]
    assert VDSO in kept
    assert 0x7F0000000000 in kept
    assert 0x7F0000005000 in kept
    assert not [address for address in kept if BIG <= address < BIG + 200 * PAGE]
    assert report.fit is not None
    assert (report.fit.threads, report.fit.whole) == (2, 2)


def test_a_red_zone_that_reaches_into_the_page_before(tmp_path: Path) -> None:
    loads = [Load(STACK, noise(8, 1))]
    for offset, first in ((16, 3), (2048, 4)):
        core = make_core(loads, kernel_notes([], stack_pointers=[STACK + 4 * PAGE + offset]))
        out, _ = fit(write(tmp_path / "core", core), minimal=True)
        assert min(pages(out)) == STACK + first * PAGE


def test_no_part_begins_like_an_image(tmp_path: Path) -> None:
    """ld.so leaves the first bytes of libraries on the stack; elfutils takes segments that begin so for libraries."""
    data = [b"\x7fELF" + noise(1, n)[4:] if n in (0, 4, 5, 7) else noise(1, n) for n in range(10)]
    core = make_core([Load(STACK, b"".join(data))], kernel_notes([], stack_pointers=[STACK + 5 * PAGE + 2048]))
    path = write(tmp_path / "core", core)
    out, _ = fit(path, minimal=True)
    assert min(pages(out)) == STACK + 3 * PAGE
    least = smallest(path)
    for size in range(least, len(core), PAGE):
        out, _ = fit(path, fit=size)
        assert_fits(core, out)
        assert len(out) <= size
        parts = [phdr for phdr in parse_core(out)[1] if phdr.p_filesz and phdr.p_vaddr != STACK]
        assert not [phdr for phdr in parts if out[phdr.p_offset :][:4] == b"\x7fELF"]


def test_the_smallest_size_works_and_one_byte_less_does_not(process: Path) -> None:
    least = smallest(process)
    out, report = fit(process, fit=least)
    assert_fits(process.read_bytes(), out)
    assert len(out) <= least
    assert report.as_dict()["fit"]["threads_whole"] == 2  # type: ignore[index]
    with pytest.raises(FitError, match=f"works is {least}"):
        fit(process, fit=least - 1)


def test_a_stack_that_ran_over_is_kept_whole(tmp_path: Path) -> None:
    """The pointer stands in the guard below."""
    guard = Load(STACK - PAGE, b"", memsz=PAGE, flags="---")
    core = make_core([guard, Load(STACK, noise(40, 1))], kernel_notes([], stack_pointers=[STACK - 100]))
    out, _ = fit(write(tmp_path / "core", core), minimal=True)
    assert len(pages(out)) == 40


def test_a_signal_handlers_stack_leads_to_the_interrupted_one(tmp_path: Path) -> None:
    """On an alternate stack stands a pointer into the main thread's."""
    handler = bytearray(noise(16, 2))
    struct.pack_into("<Q", handler, 8 * PAGE + 1000 // 8 * 8, STACK + 11 * PAGE + 2000)
    core = make_core(
        [Load(HEAP, bytes(handler)), Load(STACK, noise(32, 1))],
        kernel_notes([], {AT_RANDOM: STACK + 32 * PAGE - 64}, stack_pointers=[HEAP + 8 * PAGE + 600]),
    )
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    assert [n for n in range(32) if STACK + n * PAGE in kept] == list(range(11, 32))
    assert [n for n in range(16) if HEAP + n * PAGE in kept] == list(range(8, 16))


ALTERNATE, ELSEWHERE = 8 * PAGE, 0x700000000000


@pytest.mark.parametrize(("interrupted", "first"), [(STACK + 3 * PAGE + 600, 3), (ELSEWHERE + 5 * PAGE + 600, 5)])
def test_a_signal_frame_tells_what_it_interrupted(interrupted: int, first: int, tmp_path: Path) -> None:
    """An alternate stack can be a part of the thread's own, and what it interrupted a coroutine's."""
    stack = bytearray(noise(32, 1))
    frame = struct.pack("<QQQ15QQ", STACK + ALTERNATE, 0, 16 * PAGE, *[0] * 15, interrupted)
    stack[ALTERNATE + 4 * PAGE : ALTERNATE + 4 * PAGE + len(frame)] = frame
    core = make_core(
        [Load(ELSEWHERE, noise(32, 2)), Load(STACK, bytes(stack))],
        kernel_notes([], {AT_RANDOM: STACK + 32 * PAGE - 64}, stack_pointers=[STACK + ALTERNATE + 3 * PAGE + 600]),
    )
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    home = interrupted // (32 * PAGE) * (32 * PAGE)
    assert [n for n in range(32) if home + n * PAGE in kept] == list(range(first, 32))


def test_a_stack_of_nothing_but_signal_frames_ends(tmp_path: Path) -> None:
    """Wherever one begins, its stack pointer is that stack's, too; few are followed."""
    frame = struct.pack("<QQQ", STACK, 0, 16 * PAGE)
    core = make_core([Load(STACK, frame * (8 * PAGE // len(frame)))], kernel_notes([], stack_pointers=[STACK + 600]))
    with open_file(write(tmp_path / "core", core)) as opened:
        threads = read_threads(opened.source, opened.ehdr, opened.table)
        stacks = BacktraceMemory(opened, opened.memory(1 << 20), threads).stacks
    assert [len(own) for own in stacks] == [1 + MOST_FRAMES]


@pytest.mark.parametrize(
    "other", [STACK - PAGE, STACK, STACK - 2 * PAGE + 64], ids=["guard", "beginning", "another stack below"]
)
def test_what_points_near_a_stack_is_not_where_it_was_interrupted(other: int, tmp_path: Path) -> None:
    """Thread libraries write down where a stack and its guard begin, and another stack can end below that."""
    handler = bytearray(noise(16, 2))
    struct.pack_into("<QQ", handler, 8 * PAGE + 1000, other, STACK + 11 * PAGE + 2000)
    below = [Load(STACK - 4 * PAGE, noise(3, 4)), Load(STACK - PAGE, b"", memsz=PAGE, flags="---")]
    core = make_core(
        [Load(HEAP, bytes(handler)), *below, Load(STACK, noise(32, 1))],
        kernel_notes([], {AT_RANDOM: STACK + 32 * PAGE - 64}, stack_pointers=[HEAP + 8 * PAGE + 600]),
    )
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    assert [n for n in range(32) if STACK + n * PAGE in kept] == list(range(11, 32))


@pytest.mark.parametrize("thread", [0, 1])
def test_only_other_threads_have_their_stacks_where_their_storage_is(thread: int, tmp_path: Path) -> None:
    """The main thread's storage lies elsewhere; what points there is no stack pointer."""
    storage, handler = 0x710000000000, bytearray(noise(16, 2))
    struct.pack_into("<Q", handler, 8 * PAGE + 1000, storage + 2 * PAGE + 600)
    _, *notes = kernel_notes([])
    status = nt_prstatus(4242 + thread, stack_pointer=HEAP + 8 * PAGE + 600, thread_pointer=storage + 28 * PAGE)
    core = make_core([Load(HEAP, bytes(handler)), Load(storage, noise(32, 1))], [status, *notes])
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    expected = range(2, 32) if thread else range(27, 29)
    assert [n for n in range(32) if storage + n * PAGE in kept] == list(expected)


def test_a_large_mapping_is_no_stack_to_its_end(tmp_path: Path) -> None:
    core = make_core([Load(HEAP, noise(300, 2))], kernel_notes([], stack_pointers=[HEAP + 10 * PAGE]))
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    assert len(kept) == 1 + 64


def test_code_that_stacks_return_to_is_kept_where_no_file_has_it(tmp_path: Path) -> None:
    stack = bytearray(noise(4, 2))
    struct.pack_into("<Q", stack, 2 * PAGE, HEAP + 5 * PAGE + 17)
    loads = [Load(HEAP, noise(20, 1), flags="r-x"), Load(STACK, bytes(stack))]
    core = make_core(loads, kernel_notes([], stack_pointers=[STACK + 1 * PAGE]))
    kept = pages(fit(write(tmp_path / "core", core), minimal=True)[0])
    assert [n for n in range(20) if HEAP + n * PAGE in kept] == [5]


def test_small_memory_before_large(process: Path) -> None:
    out, _ = fit(process, fit=smallest(process) + 12 * PAGE)
    kept = pages(out)
    assert all(HEAP + n * PAGE in kept for n in range(6))
    assert not any(0x700000000000 + n * PAGE in kept for n in range(30))


def test_what_registers_point_at_before_the_rest(tmp_path: Path) -> None:
    """The nearest chunk of a mapping too large for the whole is the target's."""
    stack = Load(STACK, noise(2, 1))
    core = make_core([Load(BIG, noise(400, 4)), stack], kernel_notes([], stack_pointers=[STACK + 600]))
    at = core.index(struct.pack("<Q", STACK + 600))
    core = core[: at - 8 * 15] + struct.pack("<Q", BIG + 333 * PAGE + 5) + core[at - 8 * 15 + 8 :]
    path = write(tmp_path / "core", core)
    kept = pages(fit(path, fit=smallest(path) + 20 * PAGE)[0])
    there = [n for n in range(400) if BIG + n * PAGE in kept]
    assert 333 in there
    assert there[-1] - there[0] < 40


def test_holes_come_last(tmp_path: Path) -> None:
    """Where the file has none, zeros are as good as anything."""
    content = noise(10, 1) + bytes(100 * PAGE) + noise(10, 2)
    core = make_core([Load(HEAP, content), Load(STACK, noise(2, 3))], kernel_notes([], stack_pointers=[STACK + 600]))
    path = write(tmp_path / "core", core, sparse=True)
    limit = smallest(path) + 24 * PAGE
    kept = pages(fit(path, fit=limit)[0])
    assert all(HEAP + n * PAGE in kept for n in (*range(10), *range(110, 120)))
    kept = pages(fit(write(tmp_path / "core", core), fit=limit)[0])
    assert HEAP + 119 * PAGE not in kept


def test_the_filter_comes_first(process: Path) -> None:
    """--minimal keeps no stack that the filter drops, and says so."""
    out, report = fit(process, filter="none", minimal=True)
    assert set(pages(out)) <= {VDSO}
    assert any("no whole stack for" in notice for notice in report.notices)


def test_everything_fits(process: Path) -> None:
    """Then nothing is done beyond the filter, and nothing is noted."""
    plain = process.with_name("plain")
    api.filter(process, plain, filter=0x33)
    for limit in (plain.stat().st_size, 1 << 40, 1 << 63, "unlimited"):
        out, report = fit(process, filter=0x33, fit=limit)
        assert out == plain.read_bytes()
        assert report.fit is not None
        assert report.fit.cut == {}
    assert fit(process, filter=0x33, fit=plain.stat().st_size - 1)[0] != plain.read_bytes()


def test_the_report_counts_what_was_cut(process: Path) -> None:
    out, report = fit(process, fit="700K")
    there, kept = len(pages(process.read_bytes())), len(pages(out))
    told = report.as_dict()["fit"]
    assert isinstance(told, dict)
    assert told["cut_bytes"] == (there - kept) * PAGE == sum(told["cut"].values()) == report.dropped_bytes
    assert told["segments"] == len(parse_core(out)[1])
    assert told["size"] == len(out) == report.output_bytes
    assert "cut to fit: private-anonymous" in report.summary()
    assert "cut into parts" not in "".join(report.changes)
    _, report = fit(process, minimal=True)
    assert re.search(r"program headers became \d+: \d+ mappings? (was|were) cut into parts", "\n".join(report.changes))


def test_allocated_counts_no_holes(tmp_path: Path) -> None:
    content = b"".join(noise(1, n) + bytes(63 * PAGE) for n in range(40))
    core = make_core([Load(HEAP, content), Load(STACK, noise(2, 3))], kernel_notes([], stack_pointers=[STACK + 600]))
    path = write(tmp_path / "core", core, sparse=True)
    for limit in (60 << 10, 100 << 10, 150 << 10, 1 << 20):
        out, report = fit(path, fit=limit, fit_allocated=True)
        assert path.with_name("fitted").stat().st_blocks * 512 <= limit
        assert report.fit is not None
    assert out == core
    assert len(fit(path, fit=150 << 10, fit_allocated=True)[0]) > 1 << 20


def test_pages_of_memory_tags_go_with_their_mapping(tmp_path: Path) -> None:
    """aarch64's tags of a part that is kept are those of that part."""
    loads = [Load(HEAP, noise(64, 1)), Load(STACK, noise(64, 2))]
    tags = [Load(load.vaddr, bytes([n]) * 128 * 64, flags="", memsz=64 * PAGE, align=0, type=PT_AARCH64_MEMTAG_MTE)
            for n, load in enumerate(loads, 1)]  # fmt: skip
    assert tags[0].data[:1] != mte_tags(loads[0]).data[:1]
    core = make_core(
        loads,
        kernel_notes([], machine=EM_AARCH64, stack_pointers=[STACK + 60 * PAGE]),
        machine=EM_AARCH64,
        extra_phdrs=tags,
    )
    path = write(tmp_path / "core", core)
    out, _ = fit(path, minimal=True)
    assert_fits(core, out)
    found = [phdr for phdr in parse_core(out)[1] if phdr.p_type == PT_AARCH64_MEMTAG_MTE]
    there = {(phdr.p_vaddr, phdr.p_memsz, phdr.p_filesz) for phdr in found if phdr.p_filesz}
    assert there == {(STACK + 59 * PAGE, 5 * PAGE, 5 * 128)}
    assert out[found[-1].p_offset :][: 5 * 128] == bytes([2]) * 5 * 128


# --- the arithmetic ---------------------------------------------------------------------------------------


@st.composite
def processes(draw: st.DrawFn) -> bytes:
    """Draw a core of some mappings, with stack pointers into some of them."""
    bits, little_endian, machine = draw(st.sampled_from([(64, True, EM_X86_64)] * 3 + [(32, False, EM_PPC)]))
    loads, files, address = [], [], 0x10000000
    for _ in range(draw(st.integers(1, 7))):
        address += draw(st.sampled_from([0, PAGE, 1 << 20]))
        count = draw(st.integers(0, 40))
        zeros = draw(st.sets(st.integers(0, 40), max_size=6))
        content = b"".join(bytes(PAGE) if n in zeros else noise(1, address + n) for n in range(count))
        memsz = count * PAGE + draw(st.sampled_from([0, PAGE, 1 << 18])) or PAGE
        loads.append(Load(address, content, memsz=memsz, flags=draw(st.sampled_from(["rw-", "rw-", "r--", "r-x"]))))
        if draw(st.booleans()):
            files.append(FileEntry(address, address + memsz, 0, draw(st.sampled_from(["/lib/a", "/data/b"]))))
        address += memsz
    places = [load.vaddr + draw(st.integers(0, load.memsz or 1)) for load in loads[:3]]
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    notes = kernel_notes(files, threads=len(places), stack_pointers=places, **shape)
    return make_core(loads, notes, **shape)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(core=processes(), sparse=st.booleans(), annotate=st.booleans(), data=st.data())
def test_never_larger_and_more_room_only_adds(
    core: bytes, sparse: bool, annotate: bool, data: st.DataObject, tmp_path: Path
) -> None:
    path = write(tmp_path / "core", core, sparse=sparse)
    options: dict[str, Any] = {"annotate": annotate}
    if data.draw(st.booleans()):
        options["follow"] = "2:64K"
    if len(core) == len(fit(path, minimal=True, annotate=annotate)[0]):
        return
    least = smallest(path, **options)
    before: set[int] = set()
    limits = data.draw(st.lists(st.integers(least, len(core) + PAGE), min_size=1, max_size=4).map(sorted))
    for limit in limits:
        out, report = fit(path, fit=limit, **options)
        assert len(out) <= limit
        assert report.fit is not None
        assert report.fit.size == len(out) == report.output_bytes
        assert_fits(core, out)
        kept = set(pages(out))
        assert before <= kept
        before = kept
        with path.with_name("fitted").open("rb") as file:
            loaded = ELFFile(file)
            assert loaded.num_segments() == len(parse_core(out)[1])
            assert sum(segment.header.p_filesz for segment in loaded.iter_segments("PT_LOAD")) == sum(
                map(len, pages(out).values())
            )
        again, _ = fit(write(path.with_name("again"), out), fit=len(out))
        assert again == out


@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 1 << 30), max_size=4).map(sorted))
def test_chunks_cover_a_mapping_once(size: int, targets: list[int]) -> None:
    targets = [target for target in targets if target < size]
    found = list(chunks(size, PAGE, targets))
    assert all(a % PAGE == 0 and a < b for a, b in found)
    at = 0
    for a, b in sorted(found):
        assert a == at
        at = b
    assert at == size
    if targets:
        assert any(found[0][0] <= target < found[0][1] for target in targets)


def test_a_fitted_core_is_filtered_like_any_other(process: Path) -> None:
    fitted, _ = fit(process, fit="600K")
    small = write(process.with_name("small"), fitted)
    out = process.with_name("again")
    api.filter(small, out, filter=0x31)
    assert_promises(fitted, out.read_bytes())


# --- what a fitted core tells of its mappings ----------------------------------------------------------------


def kinds(core: Path) -> dict[int, tuple[str, str]]:
    """The kind of every mapping and how certain it is."""
    with open_file(core) as it:
        return {mapping.start: (mapping.kind, mapping.certainty) for mapping in it.mappings}


def test_what_was_cut_is_no_evidence(process: Path) -> None:
    """One page of a mapping is what bit 4 leaves, but not here: it was cut to fit."""
    table = 0x700000000000
    least = smallest(process)
    for limit in range(least, least + 300 * PAGE, PAGE):
        out, _ = fit(process, fit=limit)
        if table in pages(out):
            break
    assert [address for address in pages(out) if table <= address < table + 30 * PAGE] == [table]
    small = write(process.with_name("small"), out)
    assert kinds(small)[table] == kinds(process)[table]
    assert kinds(small)[table][1] == "assumed"
    mark = out.index(b"COREFILT")
    small.write_bytes(out[: mark - 4] + b"\x01" + out[mark - 3 :])
    assert kinds(small)[table] != kinds(process)[table]


def test_annotated_parts_have_records(process: Path) -> None:
    out, report = fit(process, minimal=True, annotate=True)
    small = write(process.with_name("small"), out)
    whole = kinds(process)
    for start, (kind, certainty) in kinds(small).items():
        first = max(address for address in whole if address <= start)
        assert (kind, certainty) == whole[first]
    assert any("COREFILT note of" in change for change in report.changes)
    with open_file(small) as core:
        assert len(core.notes.records) == len(core.maps)


def test_records_are_made_anew_for_the_parts(process: Path) -> None:
    """A note that was there already speaks of mappings that are no more."""
    annotated = process.with_name("annotated")
    api.filter(process, annotated, filter="all", annotate=True)
    out, _ = fit(annotated, minimal=True)
    with open_file(write(process.with_name("small"), out)) as core:
        evidence = gather(core)
        assert evidence is not None
        assert not evidence.notices
        assert len(evidence.records) == len(core.maps.whole)
    assert [note.type for note in parse_notes(out) if note.name == "COREFILT"] == [0x4B494E44, 0x46495453]


# --- ladder and follow --------------------------------------------------------------------------------------


def test_the_richest_filter_that_fits(process: Path) -> None:
    """It is kept whole, and what room is left is filled up."""
    settled = {"assume": ["*/table.db=shared-file-backed"]}
    sizes = {}
    for rung in ("0x7", "none,+shared-file-backed"):
        api.filter(process, process.with_name("rung"), filter=rung, force=True, **settled)
        sizes[rung] = process.with_name("rung").stat().st_size
    for limit, rung in ((sizes["0x7"] + 8 * PAGE, "0x7"), (sizes["0x7"] - 8 * PAGE, "none,+shared-file-backed")):
        out, report = fit(process, fit=limit, ladder="0x7,none,+shared-file-backed,minimal", **settled)
        assert report.fit is not None
        assert report.fit.rung == rung
        assert len(out) <= limit
        api.filter(process, process.with_name("rung"), filter=rung, force=True, **settled)
        assert set(pages(process.with_name("rung").read_bytes())) <= set(pages(out))
    assert limit - len(out) < 2 * PAGE
    _, report = fit(process, fit=smallest(process) + PAGE, ladder="0x7")
    assert report.fit is not None
    assert report.fit.rung is None
    assert any("ladder" in notice for notice in report.notices)


def test_the_ladder_is_not_used_where_all_fits(process: Path) -> None:
    _, report = fit(process, fit=1 << 30, ladder="0x33,minimal")
    assert report.fit is not None
    assert report.fit.rung is None
    assert list(report.fit.lines()) == ["fit: at most 1.00 GiB; nothing had to be cut"]


def test_no_rung_keeps_what_the_filter_drops(process: Path) -> None:
    settled = ["*/table.db=shared-file-backed"]
    out, _ = fit(process, filter=0x1, fit=120 * PAGE, ladder=["all", "0x8"], assume=settled)
    assert not any(0x700000000000 <= address < 0x700000000000 + 30 * PAGE for address in pages(out))


def chain(tmp_path: Path) -> tuple[Path, list[int]]:
    """A core with a chain of objects, each on a page of its own; the first one's address is on the stack."""
    order = random.Random(7).sample(range(0, 200, 2), 20)
    heap = bytearray(200 * PAGE)
    for here, following in pairwise(order):
        struct.pack_into("<Q", heap, here * PAGE + 64, HEAP + following * PAGE + 64)
    stack = bytearray(2 * PAGE)
    struct.pack_into("<Q", stack, PAGE + 800, HEAP + order[0] * PAGE + 64)
    loads = [Load(HEAP, bytes(heap)), Load(STACK, bytes(stack))]
    core = make_core(loads, kernel_notes([], stack_pointers=[STACK + PAGE + 600]))
    return write(tmp_path / "core", core), order


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_follow_goes_so_many_levels_deep(levels: int, tmp_path: Path) -> None:
    path, order = chain(tmp_path)
    kept = pages(fit(path, minimal=True, follow=levels)[0])
    assert [n for n in range(200) if HEAP + n * PAGE in kept] == sorted(order[:levels])


def test_follow_promises_no_frames_of_a_runtime(tmp_path: Path) -> None:
    path, _ = chain(tmp_path)
    said = fit(path, minimal=True, follow=2)[1].summary()
    assert "follow: 2 levels; that promises no frames of Java, Python or Go (--runtime does)" in said
    assert "follow:" not in fit(path, minimal=True)[1].summary()


def test_follow_stays_within_its_budget(tmp_path: Path) -> None:
    path, order = chain(tmp_path)
    kept = pages(fit(path, minimal=True, follow="20:16K")[0])
    assert [n for n in range(200) if HEAP + n * PAGE in kept] == sorted(order[:4])


def test_an_object_near_the_end_of_a_page_has_the_next_one(tmp_path: Path) -> None:
    stack = bytearray(2 * PAGE)
    struct.pack_into("<Q", stack, PAGE + 800, HEAP + 10 * PAGE - 16)
    loads = [Load(HEAP, noise(20, 1)), Load(STACK, bytes(stack))]
    core = make_core(loads, kernel_notes([], stack_pointers=[STACK + PAGE + 600]))
    kept = pages(fit(write(tmp_path / "core", core), minimal=True, follow=1)[0])
    assert [n for n in range(20) if HEAP + n * PAGE in kept] == [9, 10]


# --- more program headers than e_phnum can say ---------------------------------------------------------------


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Fit a core whose stack points at every other page of a large mapping: 70,000 parts."""
    folder = tmp_path_factory.mktemp("scattered")
    count = 70_000
    pointers = b"".join(struct.pack("<Q", BIG + 2 * n * PAGE + 64) for n in range(count))
    pointers += bytes(-len(pointers) % PAGE + PAGE)
    size = 2 * count * PAGE
    loads = [Load(STACK, pointers), Load(BIG, b"", memsz=size, filesz=size)]
    auxv = {AT_RANDOM: STACK + len(pointers) - 64}
    core = make_core(loads, kernel_notes([], auxv, stack_pointers=[STACK + 512]))
    path = folder / "core"
    with path.open("wb") as file:
        file.write(core)
        file.truncate(len(core) + size)
    out = folder / "out"
    api.filter(path, out, filter="all", minimal=True, follow="1:1G", sync=False)
    yield out
    shutil.rmtree(folder)


def test_many_parts_make_it_pn_xnum(scattered: Path) -> None:
    with scattered.open("rb") as file:
        loaded = ELFFile(file)
        assert loaded.header.e_phnum == PN_XNUM
        assert loaded.num_segments() == 70_000 + 2
        last = loaded.get_segment(loaded.num_segments() - 1).header
        assert (last.p_vaddr, last.p_filesz, last.p_memsz) == (BIG + 2 * 69_999 * PAGE, PAGE, 2 * PAGE)
        assert loaded.header.e_shoff + 64 == scattered.stat().st_size
    with open_file(scattered) as core:
        assert len(core.table) == 70_000 + 2
        assert not core.warnings


@pytest.mark.parametrize("reader", ["readelf", "eu-readelf"])
def test_other_readers_count_the_parts_too(scattered: Path, reader: str) -> None:
    if not shutil.which(reader):
        pytest.skip(f"no {reader} in PATH")
    done = subprocess.run([reader, "-hl", scattered], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "65535 (70002" in done.stdout
    assert sum(line.split()[:1] == ["LOAD"] for line in done.stdout.splitlines()) == 70_001


# --- limits and options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["0", "1", "4095", "4096"])
def test_too_small_names_the_smallest(limit: str, process: Path) -> None:
    done = corefilt("all", process, "--fit", limit, "-o", process.with_name("out"))
    assert_error(done, f"{limit} byte", f"smallest size that works is {smallest(process)}")
    assert os.listdir(process.parent) == [process.name]


@pytest.mark.parametrize("limit", ["--fit=-1", "--fit=nonsense", "--fit=", "--fit=1.5", "--fit=10Q"])
def test_what_is_no_size_is_refused(limit: str, process: Path) -> None:
    assert_usage(corefilt("all", process, limit, "-o", process.with_name("out")), "size")


@pytest.mark.parametrize("limit", [str(1 << 63), "unlimited"])
def test_more_than_any_file_has_is_no_limit(limit: str, process: Path) -> None:
    assert main(["all", str(process), "-q", "--fit", limit, "-o", str(process.with_name("out"))]) == 0
    assert process.with_name("out").read_bytes() == process.read_bytes()


def test_rlimit_is_that_of_this_process(process: Path) -> None:
    command = f'ulimit -S -c 600 && exec "$0" -m corefilt all {process} --fit rlimit -o {process.with_name("out")}'
    subprocess.run(["bash", "-c", command, sys.executable], check=True, capture_output=True)
    size = process.with_name("out").stat().st_size
    assert 600 * 1024 - 2 * PAGE < size <= 600 * 1024


def test_limits_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for soft, expected in ((resource.RLIM_INFINITY, None), (0, 0), (4097, 4097)):
        monkeypatch.setattr("resource.getrlimit", lambda which, soft=soft: (soft, resource.RLIM_INFINITY))
        assert parse_limit("rlimit") == expected
    assert (parse_limit("64K"), parse_limit(5), parse_limit("unlimited")) == (65536, 5, None)
    with pytest.raises(UsageError):
        parse_limit(-1)
    assert parse_follow("2") == parse_follow(2) == (2, 16 << 20)
    assert parse_follow("3:1M") == (3, 1 << 20)
    for text in ("0", "101", "", "-1", "two", "1:", "9" * 30):
        with pytest.raises(UsageError):
            parse_follow(text)
    assert parse_ladder("0x3f,default,-shared-anonymous,minimal") == ["0x3f", "default,-shared-anonymous", "minimal"]
    for text in ("", "0x3f,", "nonsense", "0x3f,-nonsense"):
        with pytest.raises(UsageError):
            parse_ladder(text)


@pytest.mark.parametrize(
    "options",
    [
        ("--fit-allocated",),
        ("--ladder", "all"),
        ("--follow", "1"),
        ("--minimal", "--fit", "1M", "--ladder", "all"),
        ("--minimal", "--follow", "0"),
        ("--fit", "1M", "--ladder", "nonsense"),
    ],
)
def test_options_that_mean_nothing_together(options: tuple[str, ...], process: Path) -> None:
    assert_usage(corefilt("all", process, "-o", process.with_name("out"), *options))
    assert os.listdir(process.parent) == [process.name]


@pytest.mark.parametrize("options", [("--fit", "600K"), ("--minimal",)])
def test_a_pipe_is_refused_with_what_to_do(options: tuple[str, ...], process: Path) -> None:
    done = corefilt("all", *options, pipe=process.read_bytes())
    assert_error(done, "pipe", "--spool")
    done = corefilt("all", *options, "--spool", pipe=process.read_bytes())
    assert done.code == 0
    assert_fits(process.read_bytes(), done.out)


def test_disk_use_of_a_pipe_is_unknown(process: Path) -> None:
    assert_usage(corefilt("all", process, "--fit", "600K", "--fit-allocated"), "--fit-allocated")


def test_to_a_pipe_as_to_a_file(process: Path) -> None:
    out, _ = fit(process, fit="600K")
    assert corefilt("all", process, "--fit", "600K").out == out


def test_a_dry_run_tells_the_same(process: Path) -> None:
    out, _ = fit(process, fit="600K")
    done = corefilt("all", process, "--fit", "600K", "-n", "--json")
    assert f'"output_bytes": {len(out)}' in done.out.decode()


def test_a_pipe_from_python(process: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, process.read_bytes()[:65536])
    os.close(writer)
    try:
        with pytest.raises(UnstreamableError):
            api.filter(reader, process.with_name("out"), filter="all", minimal=True)
    finally:
        os.close(reader)


@pytest.mark.parametrize("layout", ["gcore", "gcore-notes-first"])
def test_cores_by_gdb(layout: str, tmp_path: Path) -> None:
    """Their section headers are left out, and the report says so."""
    path = write(tmp_path / "core", a_process(layout=layout))
    out, report = fit(path, fit="600K")
    assert_fits(path.read_bytes(), out)
    assert parse_core(out)[0].e_shnum == 0
    assert any("section headers" in change for change in report.changes)


def test_a_core_that_is_cut_short(tmp_path: Path) -> None:
    core = sample_core()
    path = write(tmp_path / "core", core[: len(core) - 5 * PAGE - 100])
    out, report = fit(path, minimal=True)
    old = pages(core)
    assert all(old[address][: len(content)] == content for address, content in pages(out).items())
    assert report.damaged


def test_segments_over_each_other_do_not_grow(tmp_path: Path) -> None:
    loads = [Load(STACK, noise(64, 1)), *(Load(STACK + n * 64 * PAGE, b"", memsz=64 * PAGE, filesz=64 * PAGE)
             for n in range(1, 50))]  # fmt: skip
    pointers = [STACK + n * 64 * PAGE + 8 * PAGE for n in range(50)]
    core = make_core(loads, kernel_notes([], threads=50, stack_pointers=pointers))
    patch = {f"phdr[{n}].p_offset": parse_core(core)[1][1].p_offset for n in range(2, 51)}
    core = make_core(loads, kernel_notes([], threads=50, stack_pointers=pointers), patch=patch)
    done = corefilt("all", write(tmp_path / "core", core), "--minimal", "-o", tmp_path / "out")
    assert_error(done, "its segments overlap")


def test_garbage_in_notes_and_images_is_survived(tmp_path: Path) -> None:
    """Every chain that is followed can lead anywhere."""
    core = bytearray(a_process())
    rng = random.Random(3)
    phdrs = parse_core(core)[1]
    starts = [phdr.p_vaddr for phdr in phdrs if phdr.p_type == PT_LOAD]
    for _ in range(40):
        mangled = bytearray(core)
        for _ in range(200):
            at = rng.randrange(phdrs[0].p_offset, len(core) - 8) // 8 * 8
            struct.pack_into(
                "<Q", mangled, at, rng.choice([rng.choice(starts) + rng.randrange(PAGE), rng.getrandbits(64)])
            )
        done = corefilt(
            "all", write(tmp_path / "core", bytes(mangled)), "--minimal", "--follow", "3", "-f", "-o", tmp_path / "out"
        )
        assert done.code in (0, 1, 3), done.err
        assert not any("Traceback" in line for line in done.err)


def test_payload_is_where_it_was(process: Path) -> None:
    """An address reads the same in both."""
    out, _ = fit(process, fit="600K")
    address = STACK + 6 * PAGE + 123
    assert payload_at(out, address, 64) == payload_at(process.read_bytes(), address, 64)
    assert sum(phdr.p_type == PT_NOTE for phdr in parse_core(out)[1]) == 1


# --- never larger, and never a part that agents refuse --------------------------------------------------------------


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("tasks", [1, 3, 40])
def test_minimal_makes_no_core_of_small_segments_larger(tasks: int, little_endian: bool, tmp_path: Path) -> None:
    """As ESP-IDF writes them: a task's control block and its stack, each some hundred bytes at any address."""
    shape = {"bits": 32, "little_endian": little_endian, "machine": EM_RISCV}
    loads = []
    for task in range(tasks):
        at = 0x4080E960 + task * 0x1000
        loads += [Load(at + 0x400, noise(1)[:336], paddr=at), Load(at, noise(1, 1 + task)[: 224 + 16 * task])]
    notes = kernel_notes(None, stack_pointers=[load.vaddr + 32 for load in loads[1::2]], **shape)  # type: ignore[arg-type]
    whole = make_core(loads, notes, layout="gcore-notes-first", **shape)  # type: ignore[arg-type]
    core = write(tmp_path / "core", make_core(loads, notes, page_size=4, **shape))  # type: ignore[arg-type]
    for path in (core, write(tmp_path / "sections", whole)):
        out, report = fit(path, minimal=True)
        assert len(out) <= path.stat().st_size
        assert report.fit is not None
        assert report.fit.whole == tasks
        assert {at: out_page for at, out_page in pages(out).items() if pages(path.read_bytes())[at] != out_page} == {}
    least = smallest(core)
    assert least <= core.stat().st_size
    assert len(fit(core, fit=least)[0]) <= least


def test_minimal_makes_no_core_of_many_parts_larger(tmp_path: Path) -> None:
    """Nothing can be left out but program headers come in: the plain core is the smaller one."""
    core = write(tmp_path / "core", make_core([Load(STACK, noise(1))], kernel_notes([], stack_pointers=[STACK + 64])))
    out, report = fit(core, minimal=True)
    assert out == core.read_bytes()
    assert report.fit is not None
    assert (report.fit.whole, report.fit.cut) == (1, {})


def a_library(pages_of_text: int, pages_of_relro: int) -> tuple[list[Load], list[FileEntry]]:
    """A library whose unwritable mappings are as long as asked for, and whose dynamic section ends its RELRO."""
    base, text = 0x7F0000000000, 0x1000 * pages_of_text
    relro = 0x1000 * pages_of_relro
    head = elf_image(
        [
            Image(0, 0x2000, "r--"),
            Image(0x2000, text, "r-x"),
            Image(0x2000 + text, relro + 0x1000, "rw-"),
            Image(0x2000 + text + relro - 64, 64, "rw-", type=PT_DYNAMIC),
            Image(0x800, 36, "r--", type=PT_NOTE),
        ],
        relro=(0x2000 + text, relro),
    )
    parts = [
        (0, head + noise(1, 1), "r--"),
        (0x2000, noise(pages_of_text, 2), "r-x"),
        (0x2000 + text, noise(pages_of_relro, 3)[:-64] + struct.pack("<QQQQ", 5, base, 14, 0x1800) + bytes(32), "r--"),
        (0x2000 + text + relro, noise(1, 4), "rw-"),
    ]
    loads = [Load(base + at, data, flags=flags) for at, data, flags in parts]
    return loads, [FileEntry(base + at, base + at + len(data), at, "/opt/a.so") for at, data, _ in parts]


def of_files(core: bytes) -> list[tuple[int, int]]:
    """What is kept of every unwritable mapping of the library: the bytes of each program header that begins in it."""
    return [
        (phdr.p_vaddr, phdr.p_filesz)
        for phdr in parse_core(core)[1]
        if phdr.p_type == PT_LOAD and phdr.p_vaddr >> 40 == 0x7F and phdr.p_filesz and not phdr.p_flags & 2
    ]


@pytest.mark.parametrize(("text", "relro"), [(4, 3), (40, 3), (40, 40), (3, 40)])
def test_an_unwritable_mapping_of_a_file_is_kept_whole_or_by_its_first_page(
    text: int, relro: int, tmp_path: Path
) -> None:
    """OpenJDK's agent refuses the whole core otherwise (ps_core_common.c: 'address conflict')."""
    loads, files = a_library(text, relro)
    registers = [loads[1].vaddr + 2 * PAGE + 8, STACK + 2 * PAGE]
    core = write(
        tmp_path / "core",
        make_core(
            [Load(HEAP, noise(6, 9)), *loads, Load(STACK, noise(4, 8))],
            kernel_notes(files, stack_pointers=[registers[1]]),
        ),
    )
    sizes = {load.vaddr: {PAGE, len(load.data)} for load in loads}
    whole, least = core.stat().st_size, smallest(core)
    outs = [fit(core, minimal=True)[0], *(fit(core, fit=size)[0] for size in range(least, whole, PAGE))]
    outs.append(fit(core, fit=whole - PAGE, ladder="0x33,minimal")[0])
    for out in outs:
        kept = of_files(out)
        assert all(vaddr in sizes and size in sizes[vaddr] for vaddr, size in kept), kept
    # Rounded down: only the page with the headers and the build-id of a large one, and no text.
    assert dict(of_files(outs[0])) == {loads[0].vaddr: 2 * PAGE, loads[2].vaddr: relro * PAGE}
    required = dict(of_files(outs[1]))
    assert required.pop(loads[0].vaddr) in (PAGE, 2 * PAGE)
    assert required == ({loads[2].vaddr: relro * PAGE} if relro <= 16 else {})
    # With more room there is more, in steps of whole mappings.
    assert loads[1].vaddr in dict(of_files(outs[-2])) or text == 40
    assert {kept for out in outs for vaddr, kept in of_files(out) if vaddr == loads[1].vaddr} <= {PAGE, text * PAGE}


def test_what_is_kept_whole_or_by_its_first_page_has_its_holes_too(tmp_path: Path) -> None:
    """A data segment is wanted, and its RELRO with it: a hole in that one does not make it less than whole."""
    loads, files = a_library(3, 60)
    relro = bytearray(loads[2].data)
    relro[5 * PAGE : 55 * PAGE] = bytes(50 * PAGE)
    loads[2] = replace(loads[2], data=bytes(relro))
    core = make_core([*loads, Load(STACK, noise(4, 8))], kernel_notes(files, stack_pointers=[STACK + 2 * PAGE]))
    path = write(tmp_path / "core", core, sparse=True)
    assert path.stat().st_blocks * 512 < path.stat().st_size - 40 * PAGE
    assert dict(of_files(fit(path, minimal=True)[0]))[loads[2].vaddr] == 60 * PAGE


def headless(relro: int) -> tuple[list[Load], list[FileEntry]]:
    """A library whose first page, and its headers with that, is not in the core."""
    loads, files = a_library(3, relro)
    return [replace(loads[0], data=b"", memsz=len(loads[0].data)), *loads[1:]], files


def test_relro_is_not_minimal_where_no_headers_tell_of_it(tmp_path: Path) -> None:
    """What is writable of such an image is its data, and that a debugger wants."""
    loads, files = headless(20)
    core = make_core([*loads, Load(STACK, noise(4, 8))], kernel_notes(files, stack_pointers=[STACK + 2 * PAGE]))
    out = fit(write(tmp_path / "core", core), minimal=True)[0]
    assert of_files(out) == []
    assert loads[3].vaddr in pages(out)


@pytest.mark.parametrize("sparse", ["auto", "never"])
def test_an_unwritable_mapping_has_its_turn_by_its_worth(sparse: str, tmp_path: Path) -> None:
    """What only the process had comes before what it shared, though it is kept whole or not at all."""
    loads, files = headless(20)
    shared = Load(BIG, noise(200, 4))
    notes = kernel_notes([*files, (BIG, BIG + 200 * PAGE, 0, "/dev/shm/table")], stack_pointers=[STACK + 2 * PAGE])
    path = write(tmp_path / "core", make_core([shared, *loads, Load(STACK, noise(4, 8))], notes))
    out = fit(path, fit=smallest(path) + 40 * PAGE, sparse=sparse)[0]
    assert of_files(out) == [(load.vaddr, len(load.data)) for load in loads[1:3]]
    assert BIG in pages(out)


def test_a_build_id_behind_the_first_page_stays(tmp_path: Path) -> None:
    """As patchelf puts it there: rounded down, the module would lose its name."""
    base, pages_of_head = 0x7F0000000000, 40
    note = struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(20))
    head = elf_image([Image(0, 0x1000 * pages_of_head, "r--"), Image(0x9000, len(note), "r--", type=PT_NOTE)])
    data = bytearray(head + noise(pages_of_head - 1, 1))
    data[0x9000 : 0x9000 + len(note)] = note
    core = write(
        tmp_path / "core",
        make_core(
            [Load(base, bytes(data), flags="r--"), Load(HEAP, noise(60, 3)), Load(STACK, noise(4, 8))],
            kernel_notes([FileEntry(base, base + len(data), 0, "/opt/a.so")], stack_pointers=[STACK + 2 * PAGE]),
        ),
    )
    out = fit(core, minimal=True)[0]
    assert payload_at(out, base + 0x9000, len(note)) == note
    assert of_files(out) == [(base, len(data))]


def test_what_is_no_memory_is_not_kept(tmp_path: Path) -> None:
    """p_filesz of a hostile core can be larger than p_memsz, with data behind a hole there."""
    loads = [Load(STACK, noise(4, 8)), Load(HEAP, noise(1) + bytes(64 * PAGE) + noise(1, 2), memsz=2 * PAGE)]
    core = write(tmp_path / "core", make_core(loads, kernel_notes([], stack_pointers=[STACK + 64])), sparse=True)
    whole = core.stat().st_size
    for size in range(smallest(core), whole, 8 * PAGE):
        out, report = fit(core, fit=size)
        assert all(phdr.p_filesz <= phdr.p_memsz for phdr in parse_core(out)[1] if phdr.p_type == PT_LOAD)
        assert len(out) <= size
        assert report.fit is not None


@pytest.mark.parametrize("paddr", [1 << 20, (1 << 64) - PAGE])
def test_physical_addresses_add_up_as_addresses_do(paddr: int, tmp_path: Path) -> None:
    loads = [Load(STACK, noise(8, 8), paddr=paddr), Load(HEAP, noise(40))]
    core = write(tmp_path / "core", make_core(loads, kernel_notes([], stack_pointers=[STACK + 6 * PAGE])))
    out = fit(core, minimal=True)[0]
    found = {phdr.p_vaddr: phdr.p_paddr for phdr in parse_core(out)[1] if phdr.p_filesz and phdr.p_paddr}
    assert found == {STACK + 5 * PAGE: (paddr + 5 * PAGE) % (1 << 64)}
    assert verify(core, core.with_name("fitted")).holds
