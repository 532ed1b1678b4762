"""What is filtered once more: the second filter goes by what the first one left, and loses nothing that both keep."""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from support.builder import FileEntry, Image, Load, elf_image, kernel_notes, library, make_core
from support.fitting import pages
from support.instants import in_place
from support.opening import in_memory, in_pipe, opened
from support.run import corefilt as run
from support.run import kept_sizes
from support.samples import PAGE, VDSO_AUXV, VDSO_LOAD, nameless, noise, sample_core
from support.strategies import FILTERS, cores
from support.thinned import one_in

import corefilt
from corefilt.classify.payload import MOST_LOOK_AHEAD
from corefilt.errors import FitError
from corefilt.sizes import show_size

TWELVE = (0x0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x3, 0x11, 0x14, 0x31, 0x33, 0x7F)
WHOLE, READ, MADE_READABLE = 0x10000000, 0x20000000, 0x30000000
STACK = 0x7FFC00000000


def filtered(core: bytes, wanted: int | str, **options: object) -> bytes:
    with in_memory(core) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter=wanted, sync=False, **options)  # type: ignore[arg-type]
        return os.pread(out, os.fstat(out).st_size, 0)


def an_image() -> bytes:
    """Make a whole shared object of twelve pages, whose offsets are its addresses."""
    segments = [
        Image(0, 3 * PAGE, "r--"),
        Image(3 * PAGE, 3 * PAGE, "r-x"),
        Image(6 * PAGE, 2 * PAGE, "r--"),
        Image(8 * PAGE, 4 * PAGE, "rw-"),
    ]
    return elf_image(segments, relro=(8 * PAGE, PAGE)) + noise(11, 7)


def whole_files(*, named: bool = True) -> bytes:
    """Make a core of a process that mapped a whole shared object three times, and did not load it."""
    loads = [
        Load(WHOLE, an_image()),
        Load(READ, an_image(), flags="r--"),
        Load(MADE_READABLE, an_image(), flags="r--"),
        Load(0x40000000, noise(24, 3)),
        Load(STACK, noise(8, 1)),
        VDSO_LOAD,
    ]
    files = [FileEntry(load.vaddr, load.vaddr + 12 * PAGE, 0, "/data/copy.so") for load in loads[:3]]
    pointers = [STACK + 4 * PAGE]
    return make_core(loads, kernel_notes(files if named else None, VDSO_AUXV, stack_pointers=pointers))


def other_files() -> bytes:
    """Make a core of files that are no images, whose kinds stay open, beside an image."""
    loads, files = library(0x7F0000000000, "/opt/lib/libvictim.so.1")
    others = [
        (0x50000000, "rw-", "/data/table", b"table"),
        (0x51000000, "r--", "/data/index", b"index"),
        (0x52000000, "r--", "/data/run", b"#!/bin/sh"),
        (0x53000000, "rw-", "/memfd:x (deleted)", b"memfd"),
        (0x54000000, "r-x", "/data/code", b"\x7fELF"),
    ]
    for address, flags, path, begin in others:
        loads.append(Load(address, begin + noise(4, address)[len(begin) :], flags=flags))
        files.append(FileEntry(address, address + 4 * PAGE, 0, path))
    loads += [Load(STACK, noise(8, 1)), VDSO_LOAD]
    return make_core(loads, kernel_notes(files, VDSO_AUXV, stack_pointers=[STACK + 4 * PAGE]))


def memory_seen_twice() -> bytes:
    """Make a core of shared memory that is mapped writable from its first page on, and its second page only to read."""
    loads, files = library(0x7F0000000000, "/opt/lib/libvictim.so.1")
    for at, path in ((0x50000000, "/SYSV00000000 (deleted)"), (0x51000000, "/memfd:java_heap (deleted)")):
        loads += [Load(at, noise(2, at)), Load(at + 0x10000, noise(1, at), flags="r--")]
        files += [FileEntry(at, at + 2 * PAGE, 0, path), FileEntry(at + 0x10000, at + 0x11000, PAGE, path)]
    loads += [Load(STACK, noise(8, 1)), VDSO_LOAD]
    return make_core(loads, kernel_notes(files, VDSO_AUXV, stack_pointers=[STACK + 4 * PAGE]))


SMALL = {
    "a sample": sample_core(),
    "a sample of gdb's": sample_core(layout="gcore"),
    "a sample with many segments": sample_core(xnum=True),
    "whole files": whole_files(),
    "whole files without names": whole_files(named=False),
    "other files": other_files(),
    "memory seen twice": memory_seen_twice(),
    "no names": nameless(*(Load(0x60000000 + n * 16 * PAGE, noise(4, n), flags="rw-") for n in range(3)), named=False),
}


def assert_nothing_is_lost(core: bytes, filters: tuple[int, ...], unsure: Collection[tuple[int, int]] = ()) -> None:
    """Hold every pair of filters against both alone, and every filter twice against once.

    ``unsure`` are address ranges that the second filter may decide anew.
    """

    def sure(addresses: Iterable[int]) -> set[int]:
        return {address for address in addresses if not any(start <= address < end for start, end in unsure)}

    once = {wanted: filtered(core, wanted) for wanted in filters}
    kept = {wanted: sure(pages(out)) for wanted, out in once.items()}
    for first, then in product(filters, repeat=2):
        both = filtered(once[first], then)
        lost = (kept[first] & kept[then]) - pages(both).keys()
        assert not lost, f"{then:#x} of {first:#x} loses {[hex(address) for address in sorted(lost)]}"
        if first == then:
            assert both == once[first] or (unsure and sure(pages(both)) == kept[first]), f"{first:#x} twice is not once"


@pytest.mark.parametrize("name", SMALL)
@one_in(2)
def test_two_filters_in_turn_keep_what_both_keep(name: str, step: int) -> None:
    assert_nothing_is_lost(SMALL[name], TWELVE[::-step])


def decided_anew(core: bytes) -> list[tuple[int, int]]:
    """Return the address ranges of which a filtered core can say more than the whole one said.

    A mapping whose evidence contradicts itself is kept whatever the filter; without what contradicted it, it is decided
    as any other. So is a library's name once no whole copy of the library is left that said something else: then name
    and layout tell that it is private.
    """
    with opened(core) as it:
        found = it.plan("all")
        rows = found.mappings
        headless = {
            row.path for row in rows if (row.path or b"").endswith(b".so") and not row.file_offset and not row.present
        }
        return [
            (row.start, row.end)
            for row, finding in zip(rows, found.findings, strict=True)
            if finding.contradiction or row.path in headless
        ]


@settings(max_examples=40)
@given(core=cores(), first=FILTERS, then=FILTERS)
def test_two_filters_in_turn_keep_of_any_core_what_both_keep(core: bytes, first: int, then: int) -> None:
    """Nothing else is exempt in a core that has such mappings."""
    assert_nothing_is_lost(core, (first, then), decided_anew(core))


@pytest.mark.parametrize("options", [{"annotate": True}, {"truncate": 9 * PAGE}, {"truncate": 14 * PAGE}], ids=str)
@pytest.mark.parametrize("name", ["a sample", "other files"])
@one_in(2)
def test_two_filters_in_turn_over_what_was_annotated_or_cut(name: str, options: dict[str, object], step: int) -> None:
    """What was cut is repaired first, as every filter does."""
    assert_nothing_is_lost(filtered(filtered(SMALL[name], "all", **options), "all"), TWELVE[::-step])


# --- parts of mappings --------------------------------------------------------------------------------------


@lru_cache
def fitted(name: str) -> tuple[bytes, ...]:
    """Make what --minimal, --fit of several sizes, and both in turn make of a small core."""
    core = SMALL[name]
    found = [filtered(core, "all", minimal=True)]
    for size in range(len(found[0]), len(core), 5 * PAGE):
        try:
            found.append(filtered(core, "all", fit=size))
        except FitError:
            continue
    found.append(filtered(found[-1], "all", minimal=True))
    found.append(filtered(core, "all", minimal=True, annotate=True))
    return tuple(found)


WITH_STACKS = ["a sample", "whole files", "whole files without names", "other files"]


@pytest.mark.parametrize("name", WITH_STACKS)
def test_of_what_was_cut_to_fit_a_filter_keeps_what_it_keeps_of_all(name: str) -> None:
    """Parts of one mapping are no segments of an image, whatever they begin with."""
    whole = {wanted: pages(filtered(SMALL[name], wanted)).keys() for wanted in TWELVE}
    for cut in fitted(name):
        for wanted in TWELVE:
            lost = (pages(cut).keys() & whole[wanted]) - pages(filtered(cut, wanted)).keys()
            assert not lost, f"{len(cut)} bytes: {wanted:#x} loses {[hex(address) for address in sorted(lost)]}"


@pytest.mark.parametrize("name", WITH_STACKS)
@one_in(2)
def test_two_filters_in_turn_over_what_was_cut_to_fit(name: str, step: int) -> None:
    for cut in fitted(name)[:: max(len(fitted(name)) // 3, 1)]:
        assert_nothing_is_lost(cut, TWELVE[::-step])


def a_split_core() -> bytes:
    """Make a core in which a mapping has three program headers, as only NT_FILE tells."""
    image = an_image()
    parts = [(0, 3), (3, 6), (6, 12)]
    loads = [Load(WHOLE + a * PAGE, image[a * PAGE : b * PAGE]) for a, b in parts]
    return make_core(
        [*loads, Load(STACK, noise(2, 1))], kernel_notes([FileEntry(WHOLE, WHOLE + len(image), 0, "/data/copy.so")])
    )


def test_program_headers_that_one_range_of_a_file_covers_are_one_mapping() -> None:
    with opened(a_split_core()) as core:
        assert core.maps.continues == {1, 2}
        whole = core.maps.whole
        assert [(whole.start(m), whole.end(m) - whole.start(m), whole.dumped(m)) for m in range(len(whole))] == [
            (WHOLE, 12 * PAGE, 12 * PAGE),
            (STACK, 2 * PAGE, 2 * PAGE),
        ]
        kinds = {mapping.kind for mapping in core.mappings[:3]}
    assert len(kinds) == 1
    assert kept_sizes(filtered(a_split_core(), 0x1)) == [3 * PAGE, 3 * PAGE, 6 * PAGE, 2 * PAGE]


@pytest.mark.parametrize("change", ["flags", "gap", "file"])
def test_what_only_lies_side_by_side_is_not_one_mapping(change: str) -> None:
    first = Load(WHOLE, noise(2, 1))
    at = WHOLE + (3 if change == "gap" else 2) * PAGE
    then = Load(at, noise(2, 2), flags="r--" if change == "flags" else "rw-")
    files = [FileEntry(WHOLE, at + 2 * PAGE, 0, "/data/x")]
    if change == "file":
        files = [FileEntry(WHOLE, at, 0, "/data/x"), FileEntry(at, at + 2 * PAGE, 2 * PAGE, "/data/x")]
    with opened(make_core([first, then], kernel_notes(files))) as core:
        assert core.maps.whole is core.maps


def parts_by_note(core: bytes) -> Iterator[int]:
    with opened(core) as it:
        yield from (it.maps.start(m) for m in sorted(it.maps.continues))


def test_the_note_names_the_parts_where_no_file_does() -> None:
    """Side by side, with equal flags and no name, two mappings can be two."""
    core = nameless(Load(0x60000000, noise(40, 1)), Load(0x60000000 + 40 * PAGE, noise(40, 2)), named=False)
    assert not list(parts_by_note(core))
    cut = filtered(core, "all", fit=20 * PAGE)
    assert 0x60000000 + 40 * PAGE not in list(parts_by_note(cut))
    with opened(cut) as it:
        assert len(it.maps.whole) == 2


# --- what a run in place left behind ------------------------------------------------------------------------


def a_core_that_ends_in(pages: int, *, xnum: bool = False) -> bytes:
    """Make a core whose last mapping is shared memory, so that a filter leaves nothing behind it."""
    loads = [Load(0x8000000, noise(2, 1)), Load(WHOLE, noise(pages, 2))]
    files = [FileEntry(WHOLE, WHOLE + pages * PAGE, 0, "/dev/zero (deleted)")]
    return make_core(loads, kernel_notes(files), xnum=xnum)


IN_PLACE = {
    "a sample": SMALL["a sample"],
    "a sample with many segments": SMALL["a sample with many segments"],
    "other files": SMALL["other files"],
    "one page last": a_core_that_ends_in(1),
    "four pages last": a_core_that_ends_in(4),
    "four pages before a section header": a_core_that_ends_in(4, xnum=True),
    "gdb's": SMALL["a sample of gdb's"],
    "cut to fit": filtered(SMALL["whole files"], "all", minimal=True),
}


def piped(core: bytes, wanted: int, *, to_pipe: bool) -> tuple[bytes, corefilt.Report]:
    """Filter what comes through a pipe, into a pipe or into a file."""
    with in_pipe(core) as source, in_memory() as out:
        if not to_pipe:
            report = corefilt.filter(source, out, filter=wanted, sync=False)
            return os.pread(out, os.fstat(out).st_size, 0), report
        reader, writer = os.pipe()
        with open(reader, "rb") as end:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
            try:
                report = corefilt.filter(source, writer, filter=wanted, sync=False)
            finally:
                os.close(writer)
            return end.read(), report


def left_by(core: bytes, wanted: int, folder: Path) -> bytes:
    """Filter a core in place, twice; the second run changes nothing, also of what is on the disk."""
    path = folder / "core"
    path.write_bytes(core)
    in_place(path, wanted)
    left, blocks = path.read_bytes(), path.stat().st_blocks
    in_place(path, wanted)
    assert (path.read_bytes(), path.stat().st_blocks) == (left, blocks)
    return left


@pytest.mark.parametrize("name", IN_PLACE)
@one_in(2)
def test_after_a_run_in_place_a_filter_loses_nothing(name: str, step: int, tmp_path: Path) -> None:
    core = IN_PLACE[name]
    alone = {wanted: pages(filtered(core, wanted)).keys() for wanted in TWELVE}
    for first in TWELVE[::-step]:
        left = left_by(core, first, tmp_path)
        assert pages(left).keys() == alone[first]
        for then in TWELVE:
            assert not (alone[first] & alone[then]) - pages(filtered(left, then)).keys(), f"{then:#x} of {first:#x}"


@pytest.mark.parametrize("name", [name for name in IN_PLACE if name != "gdb's"])
def test_what_it_left_is_taken_out_from_pipes_as_from_files(name: str, tmp_path: Path) -> None:
    for first, then in ((0x0, 0x0), (0x1, 0x33), (0x31, 0x31), (0x31, 0x1), (0x33, 0x7F), (0x10, 0x1FF)):
        left = left_by(IN_PLACE[name], first, tmp_path)
        expected = filtered(left, then)
        held = sum(kept_sizes(expected))
        assert len(expected) <= held + 4 * PAGE
        assert piped(left, then, to_pipe=False)[0] == expected
        packed = tmp_path / "core.gz"
        packed.write_bytes(gzip.compress(left, 1))
        corefilt.filter(packed, tmp_path / "out", filter=then, sync=False, force=True)
        assert (tmp_path / "out").read_bytes() == expected
        streamed, report = piped(left, then, to_pipe=True)
        # A pipe into a pipe keeps what may be header pages; it lets nothing else pass.
        assert len(streamed) - sum(kept_sizes(streamed)) == len(expected) - held
        assert not any("-i dropped" in notice for notice in report.notices)


def test_what_is_too_much_to_read_ahead_is_said(tmp_path: Path) -> None:
    left = left_by(a_core_that_ends_in(MOST_LOOK_AHEAD // PAGE + 1), 0x1, tmp_path)
    left_behind = MOST_LOOK_AHEAD + PAGE
    expected = filtered(left, 0x1)
    (tmp_path / "left").write_bytes(left)
    done = run("0x1", source=tmp_path / "left")
    assert done.code == 0
    assert pages(done.out) == pages(expected)
    assert len(done.out) == len(expected) + left_behind
    assert any(f"{show_size(left_behind)} that -i dropped at the end" in line for line in done.err)
