"""Gaps that a run in place left: which ranges count as such, to the byte."""

from __future__ import annotations

import struct
from array import array

import pytest
from support.builder import Load, kernel_notes, make_core
from support.opening import opened
from support.samples import noise

from corefilt.corefile.elf import PT_AARCH64_MEMTAG_MTE, PT_NOTE, Ehdr, Phdrs, Shdr
from corefilt.corefile.punched import claimed, given_up
from corefilt.corefile.ranges import is_dense

PAGE = 4096
FIRST = 0x2000


def a_table(*rows: tuple[int, int, int], p_type: int = 1) -> tuple[Ehdr, Phdrs]:
    """Make a table of segments: (p_offset, p_filesz, p_memsz)."""
    with opened(make_core([Load(PAGE * (1 + 64 * i), noise(1)) for i in range(len(rows) - 1)], kernel_notes())) as it:
        ehdr, table = it.ehdr, it.table
    table.p_type[:] = array("I", [p_type] * len(rows))
    table.p_offset[:] = array("Q", [row[0] for row in rows])
    table.p_filesz[:] = array("Q", [row[1] for row in rows])
    table.p_memsz[:] = array("Q", [row[2] for row in rows])
    return ehdr, table


def gaps(*rows: tuple[int, int, int], end: int, p_type: int = 1, e_shoff: int = 0) -> dict[int, tuple[int, int]]:
    ehdr, table = a_table(*rows, p_type=p_type)
    ehdr.e_shoff = e_shoff
    return given_up(ehdr, table, [], end, PAGE)


@pytest.mark.parametrize(
    ("memsz", "found"), [(2 * PAGE, True), (2 * PAGE - 1, False), (2 * PAGE + 1, True), (9 * PAGE, True)]
)
def test_a_gap_is_no_longer_than_the_mapping(memsz: int, found: bool) -> None:
    """Before the next segment it may be shorter: the filter that wrote the core had dropped some of it already."""
    rows = (FIRST, 0, memsz), (FIRST + 2 * PAGE, PAGE, PAGE)
    assert gaps(*rows, end=FIRST + 3 * PAGE) == ({0: (FIRST, FIRST + 2 * PAGE)} if found else {})


@pytest.mark.parametrize(("memsz", "found"), [(2 * PAGE, True), (2 * PAGE - 1, False), (2 * PAGE + 1, False)])
def test_behind_the_last_segment_it_is_the_whole_or_a_page(memsz: int, found: bool) -> None:
    rows = (FIRST, PAGE, PAGE), (FIRST + PAGE, 0, memsz)
    assert gaps(*rows, end=FIRST + 3 * PAGE) == ({1: (FIRST + PAGE, FIRST + 3 * PAGE)} if found else {})
    assert gaps(*rows, end=FIRST + 2 * PAGE) == {1: (FIRST + PAGE, FIRST + 2 * PAGE)}
    assert gaps(*rows, end=FIRST + PAGE + 1) == {}
    # What stands behind may be section headers.
    behind = gaps(*rows, end=FIRST + 3 * PAGE + 64, e_shoff=FIRST + 3 * PAGE)
    assert behind == ({1: (FIRST + PAGE, FIRST + 3 * PAGE)} if found else {})


def test_it_begins_where_the_share_of_the_file_ends() -> None:
    rows = (FIRST, PAGE, 3 * PAGE), (FIRST + 3 * PAGE, PAGE, PAGE)
    assert gaps(*rows, end=FIRST + 4 * PAGE) == {0: (FIRST + PAGE, FIRST + 3 * PAGE)}
    assert gaps((FIRST, 3 * PAGE, 3 * PAGE), rows[1], end=FIRST + 4 * PAGE) == {}
    # A share that reaches to the next segment leaves none, though the mapping is longer.
    assert gaps((FIRST, 3 * PAGE, 5 * PAGE), rows[1], end=FIRST + 4 * PAGE) == {}


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1])
def test_a_gap_of_any_size_is_looked_for(size: int) -> None:
    """What a first run takes for a gap, the second does as well, whatever the first one dropped beside it."""
    rows = (FIRST, 0, 2 * PAGE), (FIRST + size, 4 * PAGE, 4 * PAGE)
    assert gaps(*rows, end=FIRST + size + 4 * PAGE) == {0: (FIRST, FIRST + size)}
    _, table = a_table(*rows)
    assert not is_dense(table, FIRST + size + 4 * PAGE)


def test_only_where_nothing_lies_between_segments_no_gap_is_looked_for() -> None:
    rows = (0x200, 0x123, 0), (FIRST, 0, PAGE), (FIRST, 2 * PAGE, 2 * PAGE), (FIRST + 2 * PAGE, PAGE, PAGE)
    _, table = a_table(*rows)
    end = FIRST + 3 * PAGE
    assert not is_dense(table, end)
    table.p_type[0] = PT_NOTE
    assert is_dense(table, end)
    assert is_dense(table, end - 1)
    assert not is_dense(table, end + 1)
    # Segments that share bytes add up to more than what they cover.
    table.p_offset[3] -= PAGE
    assert not is_dense(table, end - PAGE)


def test_it_lies_behind_a_share_that_is_longer_than_all_before_it() -> None:
    """The headers stand before the segment; what ends its gap stands behind its share."""
    rows = (0x100, 0, 0), (0x200, PAGE, 3 * PAGE)
    assert gaps(*rows, end=0x200 + 3 * PAGE) == {1: (0x200 + PAGE, 0x200 + 3 * PAGE)}


def test_a_share_that_is_whole_leaves_none_though_it_ends_within_a_page() -> None:
    rows = (FIRST, PAGE, PAGE), (FIRST + PAGE, 100, 100)
    assert gaps(*rows, end=FIRST + 2 * PAGE) == {}
    assert gaps(rows[0], (FIRST + PAGE, 99, 100), end=FIRST + 2 * PAGE) == {1: (FIRST + PAGE + 99, FIRST + 2 * PAGE)}


def test_the_notes_alone_may_end_before_what_follows() -> None:
    """Whether they are followed by one segment or by several."""
    for rows, dense in (
        (((0x200, 0x123, 0), (FIRST, PAGE, PAGE)), True),
        (((0x200, 0x123, 0), (FIRST, PAGE, PAGE), (FIRST + PAGE, PAGE, PAGE)), True),
        (((0x200, 0x123, 0), (FIRST, 0, PAGE), (FIRST + PAGE, PAGE, PAGE)), False),
    ):
        _, table = a_table(*rows)
        table.p_type[0] = PT_NOTE
        assert is_dense(table, rows[-1][0] + PAGE) == dense


def test_what_is_empty_before_one_that_is_there_gave_nothing_up() -> None:
    """A reserved range stands where the next mapping has its bytes."""
    rows = (FIRST, 0, 9 * PAGE), (FIRST, PAGE, PAGE), (FIRST + PAGE, 0, PAGE), (FIRST + 2 * PAGE, PAGE, PAGE)
    assert gaps(*rows, end=FIRST + 3 * PAGE) == {2: (FIRST + PAGE, FIRST + 2 * PAGE)}


def test_it_lies_between_the_headers_and_the_end() -> None:
    ehdr, table = a_table((0, 0, PAGE), (PAGE, PAGE, PAGE))
    head = ehdr.e_phoff + 2 * ehdr.phdr_size
    for at, found in ((head, True), (head - 1, False), (64, False), (0, False)):
        table.p_offset[:] = array("Q", [at, at + PAGE])
        assert bool(given_up(ehdr, table, [], at + 2 * PAGE, PAGE)) == found
    rows = (FIRST, PAGE, PAGE), (FIRST + PAGE, 0, PAGE)
    assert gaps(*rows, end=FIRST + PAGE) == {}
    assert gaps(*rows, end=FIRST + PAGE - 1) == {}
    # A file that was cut has a gap only as far as it goes.
    cut = (FIRST, 0, 2 * PAGE), (FIRST + 2 * PAGE, PAGE, PAGE)
    assert gaps(*cut, end=FIRST + PAGE) == {0: (FIRST, FIRST + PAGE)}


def test_of_several_at_one_place_the_last_has_it() -> None:
    rows = (FIRST, 0, PAGE), (FIRST, 0, PAGE), (FIRST + PAGE, PAGE, PAGE)
    assert gaps(*rows, end=FIRST + 2 * PAGE) == {1: (FIRST, FIRST + PAGE)}


def test_segments_out_of_order_have_none() -> None:
    rows = (FIRST + PAGE, PAGE, PAGE), (FIRST, 0, PAGE)
    assert gaps(*rows, end=FIRST + 2 * PAGE) == {}
    assert gaps(*reversed(rows), end=FIRST + 2 * PAGE) == {0: (FIRST, FIRST + PAGE)}


@pytest.mark.parametrize(("tags", "found"), [(128, True), (127, False)])
def test_memory_tags_take_a_32nd_of_their_mapping(tags: int, found: bool) -> None:
    rows = (FIRST, 0, 32 * tags), (FIRST + 128, 128, PAGE)
    there = gaps(*rows, end=FIRST + 256, p_type=PT_AARCH64_MEMTAG_MTE)
    assert there == ({0: (FIRST, FIRST + 128)} if found else {})


def test_a_share_that_the_file_does_not_have_leaves_no_gap() -> None:
    """The last segment claims more than there is, and less than its mapping."""
    rows = (FIRST, PAGE, PAGE), (FIRST + PAGE, 2 * PAGE, 4 * PAGE)
    assert gaps(*rows, end=FIRST + 2 * PAGE) == {}


def test_contents_of_sections_end_a_gap_and_are_claimed() -> None:
    """But not those of a section without bytes, of no type or of no length."""
    ehdr, table = a_table((FIRST, PAGE, PAGE), (FIRST + PAGE, 0, PAGE))
    strings = FIRST + 2 * PAGE
    section = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings, 10, 0, 0, 1, 0)
    for at, changed in ((0, b""), (4, bytes(4)), (4, b"\x08\0\0\0"), (32, bytes(8))):
        raw = section[:at] + changed + section[at + len(changed) :]
        sections = [Shdr(raw, ehdr)]
        counts = not changed
        found = given_up(ehdr, table, sections, strings + 100, PAGE)
        assert found == ({1: (FIRST + PAGE, strings)} if counts else {})
        claims = claimed(ehdr, table, sections, table.p_filesz)
        assert ((strings, strings + 10) in claims) == counts
        assert claims[:3] == [(0, 64), (ehdr.e_phoff, ehdr.e_phoff + 2 * 56), (FIRST, FIRST + PAGE)]
    ehdr.e_shoff, ehdr.e_shnum = strings + 16, 0
    assert (strings + 16, strings + 80) in claimed(ehdr, table, [], table.p_filesz)
    ehdr.e_shnum = 3
    assert (strings + 16, strings + 16 + 3 * 64) in claimed(ehdr, table, [], table.p_filesz)


def test_notes_give_nothing_up() -> None:
    assert gaps((FIRST, 0, PAGE), (FIRST + PAGE, PAGE, PAGE), end=FIRST + 2 * PAGE, p_type=PT_NOTE) == {}
    assert gaps((FIRST, 0, PAGE), (FIRST + 1, PAGE, PAGE), end=FIRST + 2 * PAGE, p_type=PT_NOTE) == {}
