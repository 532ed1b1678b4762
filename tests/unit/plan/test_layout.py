"""From sizes to a layout: cuts against a naive model, and the promise that the output is the input minus cuts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import (
    EM_AARCH64,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    Image,
    Load,
    elf_image,
    kernel_notes,
    make_core,
    mte_tags,
    page,
    parse_core,
    parse_sections,
)
from support.opening import opened
from support.run import assert_promises, kept_sizes
from support.samples import noise, sample_core, tagged
from support.strategies import cores

from corefilt.corefile.ranges import Cuts, cut_out
from corefilt.filterbits import Bit
from corefilt.io.steps import TO_THE_END
from corefilt.kinds import NOTHING, ONE_PAGE, WHOLE
from corefilt.plan.layout import Layout, Note, cuts_of, kept_bytes, lay_out, taken
from corefilt.plan.note_slot import place_for_note
from corefilt.plan.plan import KeepPlan

PAGE = 4096
A, B, C, D = 0x10000, 0x40000, 0x80000, 0xC0000
FILE, SHARED = "/data/table", "/dev/zero (deleted)"
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted).map(tuple), max_size=8)
Range = tuple[int, int]


def bytes_of(ranges: Sequence[Range]) -> set[int]:
    return {at for start, end in ranges for at in range(start, end)}


# --- cuts -------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(drops=RANGES, keeps=RANGES)
def test_what_is_cut_is_what_is_dropped_and_not_kept(drops: list[Range], keeps: list[Range]) -> None:
    cuts = cut_out(list(drops), list(keeps))
    ranges = list(cuts)
    assert bytes_of(ranges) == bytes_of(drops) - bytes_of(keeps)
    assert cuts.total == len(bytes_of(ranges))
    assert all(start < end for start, end in ranges)
    assert all(end < start for (_, end), (start, _) in pairwise(ranges))


@settings(max_examples=200)
@given(drops=RANGES)
def test_a_byte_moves_up_by_what_was_cut_before_it(drops: list[Range]) -> None:
    cuts = cut_out(list(drops), [])
    gone = bytes_of(drops)
    for at in range(70):
        assert cuts.shift(at) == sum(1 for before in range(at) if before not in gone)


def test_neighbouring_cuts_are_one() -> None:
    cuts = Cuts([(0, 2), (2, 5), (5, 5), (7, 9)])
    assert list(cuts) == [(0, 5), (7, 9)]
    assert (cuts.total, cuts.shift(6), cuts.shift(100)) == (7, 1, 93)


def test_without_cuts_nothing_moves() -> None:
    assert [Cuts([]).shift(at) for at in (0, 5, 1 << 63)] == [0, 5, 1 << 63]
    assert (list(Cuts([])), Cuts([]).total) == ([], 0)


@pytest.mark.parametrize(
    ("level", "there", "kept"),
    [(NOTHING, 9999, 0), (ONE_PAGE, 9999, 4096), (ONE_PAGE, 100, 100), (ONE_PAGE, 0, 0), (WHOLE, 9999, 9999)],
)
def test_no_more_is_kept_than_is_there(level: int, there: int, kept: int) -> None:
    assert kept_bytes(level, there, 4096) == kept


@settings(max_examples=200)
@given(drops=RANGES, at=st.integers(0, 60), inserted=st.integers(1, 20))
def test_what_comes_in_moves_what_stands_behind_it(drops: list[Range], at: int, inserted: int) -> None:
    gone = bytes_of(drops) - {at - 1, at}
    cuts = cut_out(sorted(drops), [(max(at - 1, 0), at + 1)])
    cuts.at, cuts.inserted = at, inserted
    for offset in range(70):
        moved = offset - sum(1 for before in gone if before < offset)
        assert cuts.shift(offset) == moved + inserted * (offset >= at)
    assert cuts.total == len(gone)


# --- layouts ----------------------------------------------------------------------------------------------


def written(core: bytes, layout: Layout) -> bytes:
    """Carry out a layout's steps, which must come in the order of the output and leave no gap."""
    out = b""
    for step in layout.steps(len(core)):
        assert step.target == len(out)
        length = len(core) - step.source if step.length == TO_THE_END else step.length
        out += core[step.source : step.source + length] if step.put is None else step.put
    assert len(out) == layout.size
    return out


def planned(core: bytes, wanted: int | str, **options: str) -> bytes:
    """Filter by the plan alone."""
    with opened(core) as it:
        return written(core, it.plan(wanted, **options).layout)


def assert_minus_cuts(core: bytes, layout: Layout, out: bytes) -> None:
    """Hold the output against the input minus what was cut, but for the headers that are put."""
    changed = bytes_of([(put.target, put.target + len(put.put or b"")) for put in layout.puts])
    left = bytearray()
    at = 0
    for start, end in [*layout.cuts, (len(core), len(core))]:
        left += core[at:start]
        at = end
    assert len(out) == len(left)
    first = max(changed, default=-1) + 1
    assert all(out[i] == left[i] for i in range(first) if i not in changed)
    assert out[first:] == bytes(left[first:])


@settings(max_examples=100)
@given(core=cores(), wanted=st.integers(0, 0x1FF), unknown=st.sampled_from(["keep", "guess", "drop"]))
def test_the_output_is_the_input_minus_what_was_cut(core: bytes, wanted: int, unknown: str) -> None:
    with opened(core) as it:
        layout = it.plan(wanted, unknown=unknown).layout
    out = written(core, layout)
    assert_minus_cuts(core, layout, out)
    assert_promises(core, out)


@settings(max_examples=100)
@given(core=cores(), wanted=st.integers(0, 0x1FF))
def test_offsets_are_running_sums_as_the_kernel_writes_them(core: bytes, wanted: int) -> None:
    """A dropped segment's offset is where the next one begins."""
    loads = [phdr for phdr in parse_core(planned(core, wanted))[1] if phdr.p_type == PT_LOAD]
    offset = next(phdr.p_offset for phdr in parse_core(core)[1] if phdr.p_type == PT_LOAD)
    for load in loads:
        assert load.p_offset == offset
        offset += load.p_filesz


@settings(max_examples=60)
@given(core=cores())
def test_all_of_a_core_is_the_core(core: bytes) -> None:
    assert planned(core, "all") == core


def overlapping(data: bytes, sizes: Sequence[int], offsets: Sequence[int]) -> bytes:
    """Make a core whose segments lie anywhere in the data."""
    start = 2 * PAGE
    loads = [Load(A, data, offset=start, flags="r--")]
    loads += [
        Load(B + i * D, filesz=size, memsz=max(size, 1), offset=start + offset)
        for i, (size, offset) in enumerate(zip(sizes, offsets, strict=True))
    ]
    return make_core(loads, kernel_notes())


@settings(max_examples=100)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=5
    ),
    first=st.integers(0, 4000),
)
def test_overlapping_segments_share_what_any_of_them_keeps(places: list[tuple[int, int, int]], first: int) -> None:
    """The sizes are anything, as no rule would have it; what one segment drops another may keep."""
    core = overlapping(noise(1)[:4000], [size for _, size, _ in places], [offset for offset, _, _ in places])
    with opened(core) as it:
        present = it.present
        sizes = array("Q", [present[0], min(first, present[1])])
        sizes.extend(min(kept, there) for (_, _, kept), there in zip(places, present[2:], strict=True))
        layout = lay_out(it.ehdr, it.table, it.sections, sizes, present, it.end)
        assert list(cuts_of(it.ehdr, it.table, it.sections, sizes, present, it.end)) == list(layout.cuts)
    out = written(core, layout)
    assert_promises(core, out, overlapping=True)
    assert [phdr.p_filesz for phdr in parse_core(out)[1]] == list(sizes)


def test_what_lies_between_and_behind_segments_stays() -> None:
    """Only payload that a filter drops is ever left out."""
    core = make_core(
        [Load(A, page(b"a"), offset=0x2000), Load(B, page(b"b"), offset=0x5000)],
        kernel_notes([(A, A + PAGE, 0, SHARED)]),
        tail=b"behind",
    )
    core = core[:0x3800] + b"between" + core[0x3807:]
    out = planned(core, 0x1)
    assert kept_sizes(out) == [0, PAGE]
    assert out[0x2800:0x2807] == b"between"
    assert out.endswith(b"behind")
    assert len(out) == len(core) - PAGE


def test_segments_in_any_order() -> None:
    """Program headers by address, bytes in another order."""
    core = make_core(
        [Load(A, page(b"a"), offset=0x5000), Load(B, page(b"b"), offset=0x2000), Load(C, page(b"c"), offset=0x4000)],
        kernel_notes([(B, B + PAGE, 0, SHARED)]),
    )
    out = planned(core, 0x1)
    assert_promises(core, out)
    assert [phdr.p_offset for phdr in parse_core(out)[1][1:]] == [0x4000, 0x2000, 0x3000]


def test_an_unaligned_core_stays_unaligned() -> None:
    core = make_core(
        [Load(A, b"a" * 1001), Load(B, b"b" * 77), Load(C, b"c" * 3)],
        kernel_notes([(A, A + 1001, 0, SHARED)]),
        layout="gcore",
    )
    out = planned(core, 0x1)
    assert_promises(core, out)
    assert kept_sizes(out) == [0, 77, 3]
    assert len(core) - len(out) == 1001


# --- notes that come in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["kernel", "gcore", "gcore-notes-first"])
@pytest.mark.parametrize("wanted", [0x1FF, 0x1, 0x0])
def test_a_note_comes_in_where_the_notes_begin(layout: str, wanted: int) -> None:
    core = sample_core(layout=layout)
    with opened(core) as it:
        plan = it.plan(wanted)
        plain = written(core, plan.layout)
        note = place_for_note(it, None, annotate=True)
        assert note is not None
        note.data = b"n" * len(note.data)
        out = written(core, plan.laid_out(note))
    at = next(phdr.p_offset for phdr in parse_core(plain)[1] if phdr.p_type == PT_NOTE)
    new = next(phdr for phdr in parse_core(out)[1] if phdr.p_type == PT_NOTE)
    assert new.p_offset == at
    assert out[at : at + len(note.data)] == note.data
    # The section headers, at the end, tell of other places.
    behind = (parse_core(plain)[0].e_shoff or len(plain)) - at
    assert out[at + len(note.data) :][:behind] == plain[at:][:behind]
    assert len(out) == len(plain) + len(note.data)


@pytest.mark.parametrize("layout", ["kernel", "gcore"])
@pytest.mark.parametrize("wanted", [0x1FF, 0x0])
def test_a_note_takes_the_place_of_another(layout: str, wanted: int) -> None:
    core = sample_core(layout=layout)
    with opened(core) as it:
        plan = it.plan(wanted)
        plain = written(core, plan.layout)
        first = next(i for i, p_type in enumerate(it.table.p_type) if p_type == PT_NOTE)
        inside = 100
        out = written(core, plan.laid_out(Note(first, it.table.p_offset[first] + inside, 8, b"8 bytes!")))
    at = next(phdr.p_offset for phdr in parse_core(plain)[1] if phdr.p_type == PT_NOTE) + inside
    assert out == plain[:at] + b"8 bytes!" + plain[at + 8 :]


@pytest.mark.parametrize("layout", ["kernel", "gcore", "gcore-notes-first"])
@pytest.mark.parametrize("left", [0, 8, 3000])
def test_notes_that_become_shorter_by_more_than_stands_before_them(layout: str, left: int) -> None:
    """--format elf takes eight bytes a thread: of many threads that is more than headers take."""
    empty = Load(C, memsz=PAGE)
    core = make_core([Load(A, noise(2)), Load(B, noise(1, 1)), empty], kernel_notes(threads=40), layout=layout)
    with opened(core) as it:
        first = next(i for i, p_type in enumerate(it.table.p_type) if p_type == PT_NOTE)
        at, size = it.table.p_offset[first], it.table.p_filesz[first]
        assert size > 3 * PAGE
        note = Note(first, at, size, b"n" * left, size=left)
        out = written(core, it.plan("all").laid_out(note))
    before, after = parse_core(core)[1], parse_core(out)[1]
    moved = size - left
    assert (after[first].p_offset, after[first].p_filesz) == (at, left)
    assert out[at : at + left] == note.data
    for old, new in zip(before, after, strict=True):
        if old.p_type == PT_LOAD:
            assert out[new.p_offset : new.p_offset + new.p_filesz] == core[old.p_offset :][: old.p_filesz]
            assert new.p_offset in (old.p_offset, max(old.p_offset - moved, at))
    assert len(out) == len(core) - moved
    assert [section.sh_offset for section in parse_sections(out)[1 : 2 + len(before)] if section.sh_type == 7] == [
        at for _ in range(layout != "kernel")
    ]


# --- what follows the segments ------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("wanted", "sizes"), [(0x0, [0, 0, 0]), (0x1, [0, 256, 0]), (0x3, [512, 256, 0])])
def test_memory_tags_follow_their_mapping(wanted: int, sizes: list[int], interleaved: bool) -> None:
    core = tagged(interleaved=interleaved)
    out = planned(core, wanted)
    assert_promises(core, out)
    assert [phdr.p_filesz for phdr in parse_core(out)[1][4:]] == sizes


def test_memory_tags_of_a_header_page_shrink_in_proportion() -> None:
    image = elf_image([Image(0, 0x1000), Image(0x1000, 0x3000)], size=4 * PAGE)
    load = Load(A, image, flags="r--")
    notes = kernel_notes([(A, A + 4 * PAGE, 0, "/data/lib")], machine=EM_AARCH64)
    core = make_core([load], notes, machine=EM_AARCH64, extra_phdrs=[mte_tags(load)])
    out = planned(core, 0x10, unknown="guess")
    assert kept_sizes(out) == [PAGE]
    assert parse_core(out)[1][2].p_filesz == 128


@pytest.mark.parametrize(("bits", "little_endian"), [(64, True), (64, False), (32, True), (32, False)])
def test_the_section_header_of_pn_xnum_moves_up(bits: int, little_endian: bool) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": 20 if bits == 32 else 62}
    core = make_core(
        [Load(A, noise(3)), Load(B, noise(1, 1))],
        kernel_notes([(A, A + 3 * PAGE, 0, SHARED)], **shape),
        xnum=True,
        **shape,
    )
    out = planned(core, 0x1)
    assert_promises(core, out)
    ehdr, phdrs = parse_core(out)
    assert (ehdr.e_phnum, len(phdrs)) == (PN_XNUM, 3)
    assert ehdr.e_shoff == parse_core(core)[0].e_shoff - 3 * PAGE == len(out) - ehdr.e_shentsize
    assert parse_sections(out) == parse_sections(core)


@pytest.mark.parametrize("layout", ["gcore", "gcore-notes-first"])
@pytest.mark.parametrize(("bits", "little_endian"), [(64, True), (32, False)])
def test_gdbs_sections_follow_their_segments(layout: str, bits: int, little_endian: bool) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": 20 if bits == 32 else 62}
    image = elf_image([Image(0, 0x1000), Image(0x1000, 0x1000)], size=2 * PAGE, **shape)
    core = make_core(
        [Load(A, noise(3)), Load(B, image, flags="r--"), Load(C, noise(1, 1))],
        kernel_notes([(A, A + 3 * PAGE, 0, SHARED), (B, B + 2 * PAGE, 0, FILE)], **shape),
        layout=layout,
        **shape,
    )
    out = planned(core, 0x11, unknown="guess")
    assert_promises(core, out)
    before, after = parse_sections(core), parse_sections(out)
    loads = {phdr.p_vaddr: phdr for phdr in parse_core(out)[1] if phdr.p_type == PT_LOAD}
    assert [load.p_filesz for load in loads.values()] == [0, PAGE, PAGE]
    sections = {section.sh_addr: section for section in after if section.sh_addr}
    no_bits = 8
    assert (sections[A].sh_type, sections[A].sh_size) == (no_bits, 3 * PAGE)
    assert (sections[B].sh_type, sections[B].sh_size) == (1, PAGE)
    assert (sections[C].sh_type, sections[C].sh_size) == (1, PAGE)
    assert all(sections[address].sh_offset == load.p_offset for address, load in loads.items())
    note = next(phdr for phdr in parse_core(out)[1] if phdr.p_type == PT_NOTE)
    assert (after[1].sh_offset, after[1].sh_size) == (note.p_offset, note.p_filesz)
    assert out[after[-1].sh_offset :][: after[-1].sh_size] == core[before[-1].sh_offset :][: before[-1].sh_size]


@pytest.mark.parametrize(
    ("address", "inside", "size", "sh_type", "left"),
    [
        pytest.param(B, 0, 2 * PAGE, 1, PAGE, id="all of the mapping"),
        pytest.param(B + 0x800, 0x800, PAGE, 1, 0x800, id="over the end of what is kept"),
        pytest.param(B + PAGE, PAGE, PAGE, 8, PAGE, id="behind what is kept"),
        pytest.param(5, 0x800, PAGE, 1, 0x800, id="over the end, by its place alone"),
        pytest.param(5, 0x1800, 0x100, 8, 0x100, id="behind it, by its place alone"),
    ],
)
def test_a_section_anywhere_in_a_mapping_has_what_is_kept_of_it(
    address: int, inside: int, size: int, sh_type: int, left: int
) -> None:
    image = elf_image([Image(0, 0x1000), Image(0x1000, 0x1000)], size=2 * PAGE)
    load = Load(B, image, flags="r--")
    place = {"sh_addr": address, "sh_offset": 64 + 2 * 56 + inside, "sh_size": size}
    core = make_core(
        [load],
        kernel_notes([(B, B + 2 * PAGE, 0, FILE)]),
        layout="gcore",
        patch={f"shdr[2].{name}": value for name, value in place.items()},
    )
    assert parse_core(core)[1][1].p_offset == 64 + 2 * 56
    out = planned(core, 0x11, unknown="guess")
    assert kept_sizes(out) == [PAGE]
    section = parse_sections(out)[2]
    assert (section.sh_type, section.sh_size) == (sh_type, left)


def test_sections_of_mappings_in_one_place_go_by_their_addresses() -> None:
    """One is dropped, and its bytes stay for the other."""
    core = make_core(
        [Load(A, noise(3)), Load(B, filesz=3 * PAGE, memsz=3 * PAGE, offset=64 + 3 * 56)],
        kernel_notes([(A, A + 3 * PAGE, 0, SHARED)]),
        layout="gcore",
    )
    out = planned(core, 0x1)
    assert kept_sizes(out) == [0, 3 * PAGE]
    assert [(section.sh_addr, section.sh_type) for section in parse_sections(out)[2:4]] == [(A, 8), (B, 1)]


def test_the_header_counts_no_sections_where_there_are_none() -> None:
    core = sample_core(layout="gcore")
    cut = core[: parse_core(core)[0].e_shoff]
    ehdr = parse_core(planned(cut, "all"))[0]
    assert (ehdr.e_shoff, ehdr.e_shnum, ehdr.e_shstrndx) == (0, 0, 0)


# --- section headers that lie -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "e_shoff",
    [pytest.param(0, id="nowhere"), pytest.param(64, id="in the table"), pytest.param(0x1010, id="in a payload")],
)
def test_pn_xnum_with_its_section_header_in_a_false_place(e_shoff: int) -> None:
    """The count follows from the table; where the section header would stand is no reason to write there."""
    core = make_core([Load(A, noise(2)), Load(B, noise(1, 1))], kernel_notes(), xnum=True, patch={"e_shoff": e_shoff})
    out = planned(core, "all")
    table = slice(64, 64 + 3 * 56)
    assert out[:16] == core[:16]
    assert out[table] == core[table]
    assert out[PAGE : 4 * PAGE] == core[PAGE : 4 * PAGE]


def test_a_section_header_is_not_written_over_the_payload_that_it_would_reach_into() -> None:
    core = make_core([Load(A, noise(2))], kernel_notes(), xnum=True, patch={"e_shoff": PAGE - 63})
    out = planned(core, "all")
    ehdr, phdrs = parse_core(out)
    assert out[phdrs[1].p_offset :][: 2 * PAGE] == noise(2)
    assert ehdr.e_shoff == len(out) - 64
    assert parse_sections(out)[0].sh_info == 2


@pytest.mark.parametrize(
    "patch",
    [{"e_shnum": 3}, {"e_shnum": 3, "shdr[0].sh_info": 9}, {"e_shnum": 0}, {"e_shentsize": 0}, {"e_shoff": 0}],
    ids=str,
)
def test_the_one_section_header_of_pn_xnum_is_announced_as_one(patch: dict[str, int]) -> None:
    """Where the header counts more than there are, its readers would look for what is not in the file."""
    core = make_core([Load(A, noise(2)), Load(B, noise(1, 1))], kernel_notes(), xnum=True, patch=patch)
    out = planned(core, "all")
    ehdr = parse_core(out)[0]
    assert (ehdr.e_shnum, ehdr.e_shentsize, ehdr.e_shoff) == (1, 64, len(out) - 64)
    assert [section.sh_info for section in parse_sections(out)] == [3]


def test_a_header_that_counts_sections_without_a_place_stays_as_it_is() -> None:
    core = make_core([Load(A, noise(2))], kernel_notes(), patch={"e_shnum": 7, "e_shstrndx": 3})
    assert planned(core, "all") == core


@pytest.mark.parametrize(("sh_type", "gone"), [(0, 3 * PAGE), (1, 0), (7, 0), (8, 3 * PAGE)])
def test_only_a_section_with_contents_keeps_what_a_filter_drops(sh_type: int, gone: int) -> None:
    """Of SHT_NULL and SHT_NOBITS the file has no bytes, wherever they are said to stand."""
    core = make_core(
        [Load(A, noise(3)), Load(B, noise(1, 1))],
        kernel_notes([(A, A + 3 * PAGE, 0, SHARED)]),
        layout="gcore",
        patch={"shdr[2].sh_type": sh_type, "shdr[2].sh_addr": 0},
    )
    out = planned(core, 0x1)
    assert kept_sizes(out) == [0, PAGE]
    assert len(core) - len(out) == gone


def test_the_section_of_a_dropped_mapping_is_not_taken_for_that_of_the_notes() -> None:
    """Where the notes follow it, both stand in one place: a note that comes in moves the one and grows the other."""
    core = make_core([Load(A, noise(1)), Load(B, memsz=PAGE)], kernel_notes(), layout="gcore")
    with opened(core) as it:
        note = place_for_note(it, None, annotate=True)
        assert note is not None
        out = written(core, it.plan("all").laid_out(note))
    before, after = parse_sections(core), parse_sections(out)
    assert (after[1].sh_offset, after[1].sh_size) == (before[1].sh_offset, before[1].sh_size + len(note.data))
    assert (after[3].sh_addr, after[3].sh_size) == (B, 0)
    assert after[3].sh_offset == parse_core(out)[1][2].p_offset


def test_a_section_at_the_last_offset_of_32_bits_does_not_stop_a_note_from_coming_in() -> None:
    last = (1 << 32) - 1
    shape = {"bits": 32, "machine": 3}
    core = make_core(
        [Load(A, noise(1))], kernel_notes(**shape), layout="gcore", patch={"shdr[3].sh_offset": last}, **shape
    )
    with opened(core) as it:
        note = place_for_note(it, None, annotate=True)
        assert note is not None
        out = written(core, it.plan("all").laid_out(note))
    assert parse_sections(out)[3].sh_offset == last


def test_section_headers_that_a_segment_lies_over_make_no_output_larger() -> None:
    """They would have to stand at the end, where nothing was cut that could make room for them."""
    core = sample_core(layout="gcore", patch={"phdr[13].p_filesz": 1 << 40})
    out = planned(core, "all")
    assert len(out) <= len(core)
    ehdr = parse_core(out)[0]
    assert (ehdr.e_shoff, ehdr.e_shnum) == (0, 0)
    assert_promises(core, out, overlapping=True)


# --- plans ------------------------------------------------------------------------------------------------


def test_a_truncated_core_is_laid_out_by_what_is_there() -> None:
    core = make_core([Load(A, noise(3)), Load(B, noise(2, 1)), Load(C, noise(1, 2))], kernel_notes())
    cut = core[: parse_core(core)[1][2].p_offset + 100]
    out = planned(cut, "all")
    assert kept_sizes(out) == [3 * PAGE, 100, 0]
    assert_promises(cut, out)
    assert parse_core(out)[1][3].p_offset == len(out)


def test_what_a_truncated_core_lacks_is_told_of_each_mapping() -> None:
    core = make_core([Load(A, noise(3)), Load(B, noise(2, 1)), Load(C, noise(1, 2))], kernel_notes())
    with opened(core[: parse_core(core)[1][2].p_offset + 100]) as it:
        plan = it.plan("all")
        there = [(mapping.present, mapping.missing) for mapping in plan.mappings]
        assert there == [(3 * PAGE, 0), (100, 2 * PAGE - 100), (0, PAGE)]
        # A mapping equals itself alone, and is found again.
        assert [plan.mappings.index(mapping) for mapping in plan.mappings] == [0, 1, 2]


def test_a_plan_counts_bytes_by_kind() -> None:
    core = make_core([Load(A, noise(3)), Load(B, noise(2, 1))], kernel_notes([(A, A + 3 * PAGE, 0, SHARED)]))
    with opened(core) as it:
        plan = it.plan(0x1)
        assert isinstance(plan, KeepPlan)
        assert list(plan.by_kind()) == [
            ("private-anonymous", 2 * PAGE, 0, 0),
            ("shared-anonymous", 0, 3 * PAGE, 0),
        ]
        assert plan.filter == Bit.PRIVATE_ANONYMOUS


def test_undecided_bytes_are_what_an_assumption_decides() -> None:
    """Of a file mapping that could be shared or private, by the filter in question."""
    core = make_core([Load(A, noise(3))], kernel_notes([(A, A + 3 * PAGE, 0, FILE)]))
    with opened(core) as it:
        undecided = {wanted: sum(it.plan(wanted).assumed) for wanted in (0x0, 0x1, 0x4, 0x8, 0xC, 0xD, 0x1FF)}
    assert undecided == {0x0: 0, 0x1: 3 * PAGE, 0x4: 3 * PAGE, 0x8: 3 * PAGE, 0xC: 0, 0xD: 0, 0x1FF: 0}


@pytest.mark.parametrize("start", [0, 63, 64])
@pytest.mark.parametrize("e_phoff", [64, 3 * PAGE])
def test_headers_under_a_dropped_segment_stay_to_the_last_byte(e_phoff: int, start: int) -> None:
    """A hostile segment can claim the whole file, the ELF header's first byte and the table's last included."""
    core = make_core([Load(A, noise(4))], kernel_notes())
    with opened(core) as it:
        ehdr, table = it.ehdr, it.table
    ehdr.e_phoff = e_phoff
    size = 5 * PAGE
    whole = table.replaced(array("Q", [0, start]), array("Q", [0, size - start]))
    layout = lay_out(ehdr, whole, [], array("Q", [0, 0]), array("Q", [0, size - start]), size)
    kept = set(range(size)) - bytes_of(list(layout.cuts))
    assert kept == {*range(64), *range(e_phoff, e_phoff + 2 * 56)}
    assert layout.size == 64 + 2 * 56


def test_section_headers_are_astray_by_one_byte() -> None:
    """Where they touch a segment, the table or the ELF header they are somewhere else; beside these they are not."""
    core = make_core([Load(A, noise(1))], kernel_notes())
    with opened(core) as it:
        ehdr, table, present = it.ehdr, it.table, it.present
    end = len(core)
    start = table.p_offset[1]
    notes_end = table.p_offset[0] + table.p_filesz[0]
    assert not taken(ehdr, table, present, end, end + 64)
    assert taken(ehdr, table, present, end - 1, end + 63)
    assert not taken(ehdr, table, present, start - 64, start)
    assert taken(ehdr, table, present, start - 63, start + 1)
    assert not taken(ehdr, table, present, notes_end, notes_end + 64)
    assert taken(ehdr, table, present, notes_end - 1, notes_end + 63)
    assert taken(ehdr, table, present, 0, 1)
    assert taken(ehdr, table, present, 63, 64)
    ehdr.e_phoff = end
    assert not taken(ehdr, table, present, 64, 128)
