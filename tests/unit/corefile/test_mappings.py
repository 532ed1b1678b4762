"""PT_LOADs joined with NT_FILE, and the size of a page."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import (
    AT_PAGESZ,
    EM_68K,
    EM_AARCH64,
    EM_PPC,
    EM_PPC64,
    EM_RISCV,
    EM_SPARC,
    EM_SPARCV9,
    EM_X86_64,
    Load,
    Note,
    kernel_notes,
    make_core,
    nt_auxv,
    nt_file,
    nt_prstatus,
    page,
)
from support.opening import kept, look, opened

from corefilt.corefile.mappings import Mappings, flags_text

PAGE = 4096
A, B, C, D = 0x10000, 0x20000, 0x30000, 0x40000
Entry = tuple[int, int, int, str]


def joined(
    loads: list[Load], files: list[Entry] | None, **options: object
) -> dict[int, tuple[bytes | None, int | None]]:
    """Return path and file offset of every mapping."""
    core = make_core(loads, kernel_notes(files), **options)  # type: ignore[arg-type]
    return {start: (mapping.path, mapping.file_offset) for start, mapping in look(core).items()}


def test_an_entry_names_the_mapping_of_its_addresses() -> None:
    loads = [Load(A, page(b"a")), Load(B, page(b"b", 2)), Load(C, memsz=PAGE)]
    files = [(A, A + PAGE, 0, "/a"), (C, C + PAGE, 3 * PAGE, "/c")]
    assert joined(loads, files) == {A: (b"/a", 0), B: (None, None), C: (b"/c", 3 * PAGE)}


def test_without_nt_file_nothing_has_a_name() -> None:
    assert joined([Load(A, page(b"a"))], None) == {A: (None, None)}


@pytest.mark.parametrize(
    ("start", "end", "named"),
    [
        pytest.param(A, A + 2 * PAGE, True, id="equal"),
        pytest.param(A, A + 9 * PAGE, True, id="longer"),
        pytest.param(A - PAGE, A + 2 * PAGE, True, id="around"),
        pytest.param(A, A + PAGE, False, id="shorter"),
        pytest.param(A + PAGE, A + 2 * PAGE, False, id="the second half"),
        pytest.param(A + 2 * PAGE, A + 3 * PAGE, False, id="behind"),
        pytest.param(A - PAGE, A, False, id="before"),
        pytest.param(A + 2 * PAGE, A, False, id="upside down"),
    ],
)
def test_an_entry_must_cover_the_mapping(start: int, end: int, named: bool) -> None:
    """gdb joins neighbours in NT_FILE; the kernel's entries equal a mapping each."""
    found = joined([Load(A, page(b"a", 2))], [(start, end, 5 * PAGE, "/a")])
    assert found == {A: (b"/a", 5 * PAGE + A - start) if named else (None, None)}


@pytest.mark.parametrize(
    ("second", "flags", "files", "continues"),
    [
        pytest.param(A + PAGE, "rw-", [(A, A + 2 * PAGE, PAGE, "/a")], [1], id="one entry"),
        pytest.param(A + PAGE, "r--", [(A, A + 2 * PAGE, PAGE, "/a")], [], id="other flags"),
        pytest.param(A + 2 * PAGE, "rw-", [(A, A + 3 * PAGE, PAGE, "/a")], [], id="a gap between"),
        pytest.param(
            A + PAGE, "rw-", [(A, A + PAGE, 0, "/a"), (A + PAGE, A + 2 * PAGE, PAGE, "/a")], [], id="an entry each"
        ),
        pytest.param(A + PAGE, "rw-", [(A, A + PAGE, 0, "/a")], [], id="one has no name"),
        pytest.param(A + PAGE, "rw-", [], [], id="no names"),
    ],
)
def test_what_of_two_is_one_mapping(second: int, flags: str, files: list[Entry], continues: list[int]) -> None:
    loads = [Load(A, page(b"a"), flags="rw-"), Load(second, page(b"b"), flags=flags), Load(B, page(b"c"))]
    with opened(make_core(loads, kernel_notes(files))) as it:
        assert sorted(it.maps.continues) == continues
        whole = it.maps.whole
        assert (whole is it.maps) == (not continues)
        assert (len(whole), whole.end(0)) == ((2, A + 2 * PAGE) if continues else (3, A + PAGE))
        assert [it.maps.whole_of(m) for m in range(3)] == ([0, 0, 1] if continues else [0, 1, 2])


@pytest.mark.parametrize(("end", "continues"), [((1 << 64) - PAGE, [1]), (1 << 64, [])])
def test_what_ends_with_the_address_space_continues_nothing(end: int, continues: list[int]) -> None:
    """Its end is not a number of 64 bits, which the entry that would have to cover it has."""
    start = end - 2 * PAGE
    loads = [Load(start, page(b"a")), Load(start + PAGE, page(b"b"))]
    with opened(make_core(loads, kernel_notes([]))) as it:
        it.notes.continued = {start + PAGE}
        assert sorted(Mappings(it.ehdr, it.table, it.notes).continues) == continues


def test_one_wide_entry_names_several_mappings() -> None:
    loads = [Load(A, page(b"a"), flags="r--"), Load(A + PAGE, page(b"b"), flags="r-x"), Load(A + 2 * PAGE, page(b"c"))]
    found = joined(loads, [(A, A + 3 * PAGE, PAGE, "/a")])
    assert found == {A: (b"/a", PAGE), A + PAGE: (b"/a", 2 * PAGE), A + 2 * PAGE: (b"/a", 3 * PAGE)}


@settings(max_examples=60)
@given(st.permutations(range(8)), st.permutations(range(8)))
def test_neither_table_needs_an_order(by_load: list[int], by_file: list[int]) -> None:
    """core_sort_vma orders both by what is dumped of a mapping."""
    loads = [Load(A + i * B, page(b"x")) for i in by_load]
    files = [(A + i * B, A + i * B + PAGE, i * PAGE, f"/file/{i}") for i in by_file]
    found = joined(loads, files)
    assert list(found) == [A + i * B for i in by_load]
    assert found == {A + i * B: (b"/file/%d" % i, i * PAGE) for i in range(8)}


def test_sorting_changes_no_decision() -> None:
    """An image is found although its header page comes late."""
    from support.builder import library

    loads, files = library(0x7F0000000000, "/opt/lib.so")
    shuffled = random.Random(7).sample(list(zip(loads, [*files, None], strict=True)), len(loads))
    core = make_core([load for load, _ in shuffled], kernel_notes([file for _, file in shuffled if file]))
    plain = make_core(loads, kernel_notes(files))
    for wanted in (0x1, 0x4, 0x10, 0x33):
        assert kept(core, wanted) == kept(plain, wanted)


@pytest.mark.parametrize("path", [b"", b"/", b"/tmp/a\nb", b"/tmp/\xff", b"/tmp/" + b"x" * 6000])
def test_names_are_bytes(path: bytes) -> None:
    assert joined([Load(A, page(b"a"))], [(A, A + PAGE, 0, path)]) == {A: (path, 0)}  # type: ignore[list-item]


def test_mappings_are_the_pt_loads() -> None:
    extra = [Load(D, b"tags", flags="", type=0x70000002), Load(0, b"", type=0x6474E551)]
    core = make_core([Load(A, page(b"a")), Load(B, memsz=PAGE)], kernel_notes(), extra_phdrs=extra)
    assert list(look(core)) == [A, B]


@pytest.mark.parametrize("p_flags", range(8))
def test_flags_as_text(p_flags: int) -> None:
    text = flags_text(p_flags | 0xFFF00)
    assert text == "".join(letter if p_flags & bit else "-" for letter, bit in zip("rwx", (4, 2, 1), strict=True))


# --- the size of a page -----------------------------------------------------------------------------------


def page_size(core: bytes) -> int:
    with opened(core) as it:
        return it.maps.page_size


@pytest.mark.parametrize("size", [512, 4096, 8192, 16384, 65536, 1 << 20])
def test_nt_file_names_the_size(size: int) -> None:
    core = make_core([Load(1 << 24, bytes(1 << 20))], kernel_notes([], {AT_PAGESZ: 4096}, page_size=size))
    assert page_size(core) == size


@pytest.mark.parametrize("unit", [0, 1, 511, 3000, 1 << 21, (1 << 64) - 1])
def test_a_unit_that_is_no_size_is_passed_over(unit: int) -> None:
    """gdb counts offsets in bytes and writes 1; AT_PAGESZ is asked next."""
    notes = [nt_prstatus(1), nt_auxv({AT_PAGESZ: 16384}), nt_file([], unit or 1)]
    if not unit:
        notes[2] = Note("CORE", notes[2].type, bytes(16))
    assert page_size(make_core([Load(A, bytes(65536))], notes)) == 16384


def test_gdbs_offsets_are_bytes() -> None:
    """The page_size word is the unit of the offsets."""
    files = nt_file([(A, A + PAGE, 0x3000, "/a")], 1)
    core = make_core([Load(A, page(b"a"))], [nt_prstatus(1), nt_auxv({AT_PAGESZ: PAGE}), files], layout="gcore")
    assert look(core)[A].file_offset == 0x3000
    assert page_size(core) == PAGE


@pytest.mark.parametrize("claimed", [0, 1, 5000, 1 << 30])
@pytest.mark.parametrize(
    ("machine", "bits", "shape", "expected"),
    [
        (EM_X86_64, 64, 4096, 4096),
        (EM_X86_64, 64, 65536, 4096),
        (EM_RISCV, 64, 65536, 4096),
        (EM_AARCH64, 64, 65536, 65536),
        (EM_AARCH64, 64, 16384, 16384),
        (EM_AARCH64, 64, 4096, 4096),
        (EM_PPC64, 64, 65536, 65536),
        (EM_PPC, 32, 4096, 4096),
        (EM_68K, 32, 8192, 8192),
        (EM_68K, 32, 4096, 4096),
        (EM_SPARC, 32, 8192, 8192),
        (EM_SPARCV9, 64, 8192, 8192),
    ],
)
def test_without_a_word_the_machine_and_the_shapes_tell(
    machine: int, bits: int, shape: int, expected: int, claimed: int
) -> None:
    notes = [nt_prstatus(1, bits, machine=machine), nt_auxv({AT_PAGESZ: claimed}, bits)]
    core = make_core([Load(0x100000, bytes(3 * shape)), Load(0x200000, memsz=shape)], notes, bits=bits, machine=machine)
    assert page_size(core) == expected


def test_a_header_page_is_as_long_as_a_page_is() -> None:
    size = 65536
    data = b"\x7fELF".ljust(2 * size, b"x")
    files = [(1 << 24, (1 << 24) + 2 * size, 0, "/opt/lib")]
    core = make_core(
        [Load(1 << 24, data, flags="r--")],
        kernel_notes(files, machine=EM_AARCH64, page_size=size),
        machine=EM_AARCH64,
        page_size=size,
    )
    assert kept(core, 0x10, "guess")[1 << 24] == size
