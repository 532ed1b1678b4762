"""The promises as properties of any core: filters in turn, a filter twice, and every engine."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.builder import FileEntry, Image, Load, elf_image, kernel_notes, make_core, parse_core
from support.opening import in_memory, opened
from support.run import assert_promises, kept_sizes
from support.samples import PAGE, VDSO, noise, sample_core, vvar_core
from support.strategies import FILTERS, cores

import corefilt

LAYOUTS = [sample_core(), sample_core(xnum=True), sample_core(layout="gcore"), sample_core(layout="gcore-notes-first")]
ENGINES = ["readwrite", "copy_file_range", "sendfile"]


def filtered(core: bytes, wanted: int, **options: object) -> bytes:
    with in_memory(core) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter=wanted, sync=False, **options)  # type: ignore[arg-type]
        return os.pread(out, os.fstat(out).st_size, 0)


def contradicts(core: bytes) -> bool:
    """Tell whether evidence of a mapping leaves no kind, so that it is kept whatever the filter."""
    with opened(core) as it:
        return any(finding.contradiction for finding in it.plan("all").findings)


@settings(max_examples=60)
@given(core=st.one_of(cores(), st.sampled_from(LAYOUTS)), first=FILTERS, then=FILTERS)
def test_of_two_filters_in_turn_the_smaller_part_of_every_mapping_stays(core: bytes, first: int, then: int) -> None:
    """With the kinds written down; where the second filter is a part of the first, it is as if it had been alone."""
    assume(not contradicts(core))
    fixed = filtered(core, 0x1FF, annotate=True)
    one, other = kept_sizes(filtered(fixed, first)), kept_sizes(filtered(fixed, then))
    both = filtered(filtered(fixed, first), then)
    assert kept_sizes(both) == [min(pair) for pair in zip(one, other, strict=True)]
    assert_promises(fixed, both)
    assert filtered(filtered(fixed, first | then), then) == filtered(fixed, then)


def test_twice_is_once_where_an_image_stands_twice() -> None:
    """And one of them without its first page: while the other has it, what the second has can be shared; later, too."""
    segments = [("r--", 1), ("r-x", 2), ("r--", 1), ("r--", 1), ("rw-", 1)]
    loads, files, address = [], [], 0x10000000
    for copy in range(2):
        offset = 0
        for number, (flags, pages) in enumerate(segments):
            first = elf_image([Image(0, PAGE, "r--"), Image(PAGE, 2 * PAGE, "r-x"), Image(3 * PAGE, PAGE, "r--"),
                               Image(4 * PAGE, 2 * PAGE, "rw-")], relro=(4 * PAGE, PAGE))  # fmt: skip
            content = first if number == copy == 0 else noise(pages, 7 * copy + number)
            content = b"" if number == 0 and copy == 1 else content
            loads.append(Load(address, content, memsz=pages * PAGE, flags=flags))
            files.append(FileEntry(address, address + pages * PAGE, offset, "/opt/lib.so"))
            address, offset = address + pages * PAGE, offset + pages * PAGE
        loads.append(Load(address, noise(1, 50 + copy)))
        address += PAGE
    core = make_core(loads, kernel_notes(files))
    once = filtered(core, 0x8)
    assert len(kept_sizes(once)) == len(loads)
    assert kept_sizes(once)[-3:] == [PAGE, PAGE, 0]
    assert filtered(once, 0x8) == once


@settings(max_examples=60)
@given(core=st.one_of(cores(), st.sampled_from(LAYOUTS)), wanted=FILTERS)
def test_twice_is_once(core: bytes, wanted: int) -> None:
    """Byte for byte, also where a mapping that is there in part tells its filter and is dropped with the first run."""
    assume(not contradicts(core))
    once = filtered(core, wanted)
    assert filtered(once, wanted) == once


@settings(max_examples=60)
@given(core=st.one_of(cores(), st.sampled_from(LAYOUTS)), wanted=FILTERS)
def test_twice_is_once_where_the_kinds_are_written_down(core: bytes, wanted: int) -> None:
    assume(not contradicts(core))
    once = filtered(core, wanted, annotate=True)
    assert filtered(once, wanted, annotate=True) == once


@pytest.mark.parametrize("content", [b"", b"x"])
@pytest.mark.parametrize("left", [1, PAGE - 1, PAGE, 3 * PAGE + 1])
def test_what_is_left_of_a_cut_mapping_is_looked_at(content: bytes, left: int) -> None:
    """The first run knows what the second one sees: whether all that is there of a mapping beside [vdso] is zero."""
    core = vvar_core(content)
    (before,) = (phdr for phdr in parse_core(core)[1] if phdr.p_vaddr == VDSO - 4 * PAGE)
    once = filtered(core[: before.p_offset + left], 0x100)
    assert sum(kept_sizes(once)) == (0 if content else left)
    assert filtered(once, 0x100) == once


@pytest.mark.parametrize("wanted", [0x0, 0x1, 0x10, 0x31, 0x33])
def test_sections_without_bytes_keep_their_size(wanted: int) -> None:
    """gdb's: one that a filter emptied stands where another segment has its bytes now."""
    core = sample_core(layout="gcore")
    once = filtered(core, wanted)
    assert filtered(once, wanted) == once


@settings(max_examples=30)
@given(core=cores(), wanted=FILTERS, unknown=st.sampled_from(["keep", "guess", "drop"]))
def test_every_engine_gives_the_same_bytes(core: bytes, wanted: int, unknown: str) -> None:
    outs = {filtered(core, wanted, unknown=unknown, engine=engine) for engine in ENGINES}
    outs |= {filtered(core, wanted, unknown=unknown, sparse=sparse) for sparse in ("auto", "never", "always")}
    outs.add(filtered(core, wanted, unknown=unknown, threads=2, engine="readwrite"))
    assert len(outs) == 1
