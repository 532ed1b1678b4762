"""ELF headers and program header tables of both classes and byte orders, held against struct; PN_XNUM."""

from __future__ import annotations

import os
import struct
from array import array

import pytest
from elftools.elf import enums
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import (
    PN_XNUM,
    Load,
    kernel_notes,
    make_core,
    page,
    parse_core,
    parse_sections,
    patched,
)
from support.opening import in_memory, in_pipe, opened
from support.samples import noise

import corefilt
from corefilt.corefile import elf
from corefilt.corefile.corefile import open_core
from corefilt.corefile.elf import Ehdr, Phdrs, Shdr
from corefilt.errors import CorefiltError, DamagedCoreError, NotACoreError, UnstreamableError

PAGE = 4096
A, B = 0x10000, 0x40000
SHAPES = [(64, True), (64, False), (32, True), (32, False)]
LOADS = [Load(A, noise(1)), Load(B, noise(2, 1), flags="r-x")]
by_shape = pytest.mark.parametrize(("bits", "little_endian"), SHAPES)
HALF, WORD = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
U16_FIELDS = ("e_type", "e_machine", "e_ehsize", "e_phentsize", "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx")


def order(little_endian: bool) -> str:
    return "<" if little_endian else ">"


def address(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


def ident(bits: int, little_endian: bool) -> bytes:
    return b"\x7fELF" + bytes([bits // 32, 1 if little_endian else 2, 1]) + bytes(9)


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, dict[str, int], int, bool]:
    """Draw an ELF header as bytes and as its fields."""
    bits, little_endian = draw(st.sampled_from(SHAPES))
    fields = {
        "e_type": draw(HALF), "e_machine": draw(HALF), "e_version": draw(WORD), "e_entry": draw(address(bits)),
        "e_phoff": draw(address(bits)), "e_shoff": draw(address(bits)), "e_flags": draw(WORD), "e_ehsize": draw(HALF),
        "e_phentsize": draw(HALF), "e_phnum": draw(HALF), "e_shentsize": draw(HALF), "e_shnum": draw(HALF),
        "e_shstrndx": draw(HALF),
    }  # fmt: skip
    layout = order(little_endian) + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH")
    return ident(bits, little_endian) + struct.pack(layout, *fields.values()), fields, bits, little_endian


@settings(max_examples=100)
@given(headers())
def test_the_elf_header_is_decoded_and_encoded(drawn: tuple[bytes, dict[str, int], int, bool]) -> None:
    raw, fields, bits, little_endian = drawn
    ehdr = Ehdr(raw + b"behind")
    assert {name: getattr(ehdr, name) for name in fields} == fields
    assert (ehdr.wide, ehdr.big, ehdr.size) == (bits == 64, not little_endian, len(raw))
    assert (ehdr.phdr_size, ehdr.shdr_size) == ((56, 64) if bits == 64 else (32, 40))
    assert ehdr.pack(e_shoff=fields["e_shoff"], sections=True) == raw
    without = Ehdr(ehdr.pack(e_shoff=0, sections=False))
    changed = {"e_shoff": 0, "e_shnum": 0, "e_shstrndx": 0}
    assert {name: getattr(without, name) for name in fields} == {**fields, **changed}


@settings(max_examples=100)
@given(headers(), st.data())
def test_a_header_cut_short_is_no_header(drawn: tuple[bytes, dict[str, int], int, bool], data: st.DataObject) -> None:
    raw = drawn[0]
    with pytest.raises(ValueError, match="ELF header"):
        Ehdr(raw[: data.draw(st.integers(0, len(raw) - 1))])


@pytest.mark.parametrize(
    "raw", [b"", b"\x7fELF", b"\x7fELF\x03\x01" + bytes(60), b"\x7fELF\x02\x00" + bytes(60), bytes(64)]
)
def test_what_is_no_elf_header(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no ELF header"):
        Ehdr(raw)


def phdr_layout(bits: int, little_endian: bool) -> tuple[struct.Struct, tuple[str, ...]]:
    """The layout of a program header and the order of its fields, from elf.h."""
    if bits == 64:
        names = ("p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
        return struct.Struct(order(little_endian) + "IIQQQQQQ"), names
    names = ("p_type", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_flags", "p_align")
    return struct.Struct(order(little_endian) + "IIIIIIII"), names


def ehdr_of(bits: int, little_endian: bool) -> Ehdr:
    return Ehdr(ident(bits, little_endian) + bytes(48))


@by_shape
@settings(max_examples=60)
@given(data=st.data())
def test_program_headers_are_decoded_and_encoded(bits: int, little_endian: bool, data: st.DataObject) -> None:
    coder, names = phdr_layout(bits, little_endian)
    widths = [32 if name in ("p_type", "p_flags") else bits for name in names]
    rows = data.draw(st.lists(st.tuples(*(address(width) for width in widths)), max_size=5))
    raw = b"".join(coder.pack(*row) for row in rows)
    ehdr = ehdr_of(bits, little_endian)
    for held_in in (bytes, bytearray, memoryview):
        table = Phdrs.decode(held_in(raw), ehdr)
        assert len(table) == len(rows)
        assert [tuple(getattr(table, name)[i] for name in names) for i in range(len(rows))] == rows
        assert table.encode(ehdr) == raw


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("extra", [1, 31, 33, 55])
def test_a_table_is_a_multiple_of_its_entries(bits: int, extra: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        Phdrs.decode(bytes((56 if bits == 64 else 32) + extra), ehdr_of(bits, True))


def test_a_replaced_table_leaves_the_old_one_alone() -> None:
    table = Phdrs.decode(bytes(range(112)), ehdr_of(64, True))
    before = table.encode(ehdr_of(64, True))
    other = table.replaced(array("Q", [1, 2]), array("Q", [3, 4]))
    assert (list(other.p_offset), list(other.p_filesz)) == ([1, 2], [3, 4])
    assert other.p_vaddr == table.p_vaddr
    assert table.encode(ehdr_of(64, True)) == before


@by_shape
@settings(max_examples=40)
@given(data=st.data())
def test_section_headers(bits: int, little_endian: bool, data: st.DataObject) -> None:
    widths = [32, 32, bits, bits, bits, bits, 32, 32, bits, bits]
    row = data.draw(st.tuples(*(address(width) for width in widths)))
    layout = order(little_endian) + ("IIQQQQIIQQ" if bits == 64 else "IIIIIIIIII")
    ehdr = ehdr_of(bits, little_endian)
    section = Shdr(struct.pack(layout, *row), ehdr)
    assert (section.sh_type, section.sh_addr, section.sh_offset, section.sh_size, section.sh_info) == (
        row[1], row[3], row[4], row[5], row[7],
    )  # fmt: skip
    moved = struct.unpack(layout, section.moved(ehdr, sh_type=8, sh_offset=77, sh_size=99))
    assert moved == (row[0], 8, row[2], row[3], 77, 99, *row[6:])


@by_shape
def test_the_order_of_bytes_of_a_number(bits: int, little_endian: bool) -> None:
    assert ehdr_of(bits, little_endian).number(b"\1\2\3") == (0x030201 if little_endian else 0x010203)


# --- PN_XNUM ----------------------------------------------------------------------------------------------


@by_shape
@pytest.mark.parametrize("piped", [False, True])
def test_the_count_of_pn_xnum(bits: int, little_endian: bool, piped: bool) -> None:
    shape = {"bits": bits, "little_endian": little_endian}
    core = make_core(LOADS, kernel_notes(**shape), xnum=True, **shape)
    with opened(core, piped=piped) as it:
        assert (it.ehdr.e_phnum, len(it.table), it.warnings) == (PN_XNUM, 3, [])
        assert list(it.table.p_vaddr) == [0, A, B]


def test_as_many_segments_as_it_takes() -> None:
    """65,535 program headers are the first count that does not fit into e_phnum."""
    core = make_core([Load(PAGE * (1 + i), memsz=PAGE) for i in range(PN_XNUM - 1)], kernel_notes())
    with opened(core) as it:
        assert (it.ehdr.e_phnum, len(it.table), it.warnings) == (PN_XNUM, PN_XNUM, [])


@pytest.mark.parametrize("sh_info", [0, 2, 4, 0xFFFFFFFF])
def test_a_count_that_differs_is_damage(sh_info: int) -> None:
    core = make_core(LOADS, kernel_notes(), xnum=True, patch={"shdr[0].sh_info": sh_info})
    words = f"section header 0: sh_info is {sh_info}, but the table holds 3 program headers"
    with opened(core) as it:
        assert (len(it.table), it.warnings) == (3, [words])
    for open_input in (in_memory, in_pipe):
        with open_input(core) as fd, in_memory() as out:
            report = corefilt.filter(fd, out, filter="all")
            assert report.damaged
            assert report.warnings == [words]
            (section,) = parse_sections_at_end(out)
            assert section == 3


def parse_sections_at_end(fd: int) -> list[int]:
    """Read sh_info of the sections of a core in a descriptor."""
    return [section.sh_info for section in parse_sections(os.pread(fd, os.fstat(fd).st_size, 0))]


@pytest.mark.parametrize("left", [0, 1, 63])
def test_a_section_header_that_is_cut_off_is_made_again(left: int) -> None:
    core = make_core(LOADS, kernel_notes(), xnum=True)
    cut = core[: parse_core(core)[0].e_shoff + left]
    for open_input in (in_memory, in_pipe):
        with open_input(cut) as fd, in_memory() as out:
            report = corefilt.filter(fd, out, filter="all")
            assert report.warnings == ["section header 0, which repeats the count of segments, is missing"]
            assert parse_sections_at_end(out) == [3]


def test_no_count_at_all() -> None:
    """Neither the section header nor the place of the notes tells."""
    core = make_core(LOADS, kernel_notes(), xnum=True, patch={"phdr[0].p_type": 1})
    with (
        pytest.raises(DamagedCoreError, match=r"e_phnum is PN_XNUM and section header 0.* cannot be read"),
        opened(core[:-64]),
    ):
        raise AssertionError("opened")


@pytest.mark.parametrize("p_offset", [0, 64, 65, 64 + 3 * 56 + 1])
def test_notes_that_do_not_follow_the_table_tell_no_count(p_offset: int) -> None:
    core = make_core(LOADS, b"", xnum=True, patch={"phdr[0].p_offset": p_offset})
    with opened(core) as it:
        assert len(it.table) == 3
    with pytest.raises(UnstreamableError, match="e_phnum is PN_XNUM"), opened(core, piped=True):
        raise AssertionError("opened")


# --- errors name field, value and place --------------------------------------------------------------------

REFUSED = [
    ({"e_phnum": 0}, "e_phnum is 0"),
    ({"e_phentsize": 55}, "e_phentsize is 55, not 56"),
    ({"e_phentsize": 0}, "e_phentsize is 0, not 56"),
    ({"e_phoff": 0}, "e_phoff is 0x0"),
    ({"e_phoff": 63}, "e_phoff is 0x3f"),
    ({"e_phoff": 1 << 63}, "e_phoff is 0x8000000000000000"),
    ({"phdr[1].p_offset": 1 << 63}, "program header 1: p_offset is 0x8000000000000000"),
    ({"phdr[2].p_filesz": (1 << 64) - 1}, "program header 2: p_filesz is 0xffffffffffffffff"),
    ({"phdr[1].p_offset": (1 << 63) - 1}, "program header 1: p_filesz is 0x1000"),
    ({"phdr[2].p_memsz": (1 << 64) - 1}, "program header 2: p_memsz is 0xffffffffffffffff"),
    ({"phdr[1].p_offset": 0}, "program header 1: p_offset is 0x0, inside the headers"),
    ({"phdr[2].p_offset": 231}, "program header 2: p_offset is 0xe7, inside the headers"),
]


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(("patch", "words"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_damaged_field_is_named(patch: dict[str, int], words: str, piped: bool) -> None:
    core = make_core(LOADS, kernel_notes(), patch=patch)
    with pytest.raises(DamagedCoreError) as caught, opened(core, piped=piped):
        raise AssertionError("opened")
    assert words in str(caught.value)
    assert str(caught.value).startswith("descriptor ")


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(
    ("core", "kind", "words"),
    [
        (b"", NotACoreError, "is empty"),
        (b"\x7f", DamagedCoreError, "ends in the ELF header, after 1 byte"),
        (b"MZ", NotACoreError, "not an ELF file"),
        (b"\x7fELF\x05\x01" + bytes(9), DamagedCoreError, "ends in the ELF header, after 15 bytes"),
        (b"\x7fELF\x05\x01" + bytes(10), DamagedCoreError, "EI_CLASS is 5"),
        (ident(64, True), DamagedCoreError, "ends in the ELF header, after 16 bytes"),
        (ident(32, True) + bytes(35), DamagedCoreError, "ends in the ELF header, after 51 bytes"),
        (ident(32, False) + bytes(35), DamagedCoreError, "ends in the ELF header, after 51 bytes"),
        (ident(64, True) + bytes(47), DamagedCoreError, "ends in the ELF header, after 63 bytes"),
        (ident(32, True) + bytes(36), NotACoreError, "an ELF file (e_type 0)"),
        (ident(64, True) + bytes(48), NotACoreError, "an ELF file (e_type 0)"),
        (b"\x7fELF\x05\x01" + bytes(58), DamagedCoreError, "EI_CLASS is 5"),
        (b"\x7fELF\x02\x07" + bytes(58), DamagedCoreError, "EI_DATA is 7"),
        (make_core(LOADS, patch={"e_type": 2}), NotACoreError, "not a core dump but a program (e_type 2)"),
        (make_core(LOADS, patch={"e_type": 3}), NotACoreError, "a shared object or program (e_type 3)"),
        (make_core(LOADS, patch={"e_type": 77}), NotACoreError, "an ELF file (e_type 77)"),
        (make_core(LOADS)[:200], DamagedCoreError, "ends in the program header table"),
    ],
)
def test_what_is_no_whole_core(core: bytes, kind: type[CorefiltError], words: str, piped: bool) -> None:
    with pytest.raises(kind) as caught, opened(core, piped=piped):
        raise AssertionError("opened")
    assert type(caught.value) is kind
    assert words in str(caught.value)


def test_a_claim_of_2_to_the_32_headers_allocates_nothing() -> None:
    far = {"phdr[0].p_offset": 64 + 56 * (1 << 25), "phdr[0].p_filesz": 0}
    core = make_core(LOADS, kernel_notes(), xnum=True, patch=far)
    with pytest.raises(DamagedCoreError, match="33554432 "), opened(core):
        raise AssertionError("opened")
    with (
        pytest.raises(DamagedCoreError, match=r"more program headers \(33554432\) than a process"),
        opened(core, piped=True),
    ):
        raise AssertionError("opened")


def test_more_headers_than_a_pipe_may_bring() -> None:
    core = make_core([Load(A, page(b"x"))] * 40, kernel_notes())
    with in_pipe(core) as fd, pytest.raises(DamagedCoreError, match=r"exceed 1\.00 KiB") as caught:
        open_core(fd, max_headers=1024).source.close()
    assert "--max-headers" in caught.value.hint


def test_constants_are_elf_hs() -> None:
    assert (elf.ET_CORE, elf.PT_LOAD, elf.PT_NOTE, elf.PN_XNUM, elf.SHT_NOBITS) == (4, 1, 4, 0xFFFF, 8)
    assert (elf.PF_X, elf.PF_W, elf.PF_R) == (1, 2, 4)
    assert elf.MACHINES[62] == "x86-64"
    with opened(make_core(LOADS, machine=0x1234)) as it:
        assert it.machine == "EM 4660"


@by_shape
def test_a_header_has_one_of_two_classes_and_one_of_two_orders(bits: int, little_endian: bool) -> None:
    whole = ident(bits, little_endian) + bytes(48 if bits == 64 else 36)
    assert Ehdr(whole).size == len(whole)
    for raw in (b"", whole[:4], whole[:15], whole[:-1], b"\x7fELE" + whole[4:]):
        with pytest.raises(ValueError, match="ELF header"):
            Ehdr(raw)
    for at in (4, 5):
        for value in (0, 3):
            with pytest.raises(ValueError, match="no ELF header"):
                Ehdr(whole[:at] + bytes([value]) + whole[at + 1 :])


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("EM_SPARC", 2), ("EM_386", 3), ("EM_68K", 4), ("EM_MIPS", 8), ("EM_PPC", 20), ("EM_PPC64", 21),
        ("EM_S390", 22), ("EM_ARM", 40), ("EM_SH", 42), ("EM_SPARCV9", 43), ("EM_X86_64", 62), ("EM_XTENSA", 94),
        ("EM_BLACKFIN", 106), ("EM_TI_C6000", 140), ("EM_AARCH64", 183), ("EM_RISCV", 243), ("EM_FRV", 0x5441),
    ],
)  # fmt: skip
def test_numbers_of_machines_are_elf_hs(name: str, number: int) -> None:
    assert getattr(elf, name) == number
    assert number in elf.MACHINES


# What a person calls a machine, where it is not the end of elf.h's name in small letters.
CALLED = {
    "i386": "EM_386", "m68k": "EM_68K", "ia64": "EM_IA_64", "x86-64": "EM_X86_64", "arc": "EM_ARC_COMPACT",
    "nios2": "EM_ALTERA_NIOS2", "c6x": "EM_TI_C6000", "hexagon": "EM_QDSP6", "arcv2": "EM_ARC_COMPACT2",
}  # fmt: skip
# Numbers that Linux made up before there were official ones (linux/elf-em.h).
INTERIM = {"frv": 0x5441, "alpha": 0x9026}


def test_names_of_machines_stand_for_elf_hs_numbers() -> None:
    """By pyelftools' table, which is not ours."""
    official = [name for name in elf.MACHINES.values() if name not in INTERIM]
    known = INTERIM | {name: enums.ENUM_E_MACHINE[CALLED.get(name, f"EM_{name.upper()}")] for name in official}
    assert {number: name for name, number in known.items()} == elf.MACHINES


@pytest.mark.parametrize(
    ("prefix", "known"),
    [("PT_", enums.ENUM_P_TYPE_BASE), ("SHT_", enums.ENUM_SH_TYPE_BASE), ("DT_", enums.ENUM_D_TAG)],
)
def test_types_and_tags_are_elf_hs(prefix: str, known: dict[str, int]) -> None:
    ours = {name: number for name, number in vars(elf).items() if name.startswith(prefix) and "AARCH64" not in name}
    assert len(ours) > 2
    assert {name: known[name] for name in ours} == ours
    assert elf.PT_AARCH64_MEMTAG_MTE == 0x70000002


# --- the ends of files and memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("piped", [False, True])
def test_a_mapping_may_end_at_the_last_address(piped: bool) -> None:
    """One byte behind it is refused, as is one behind the last offset of a file."""
    last = (1 << 64) - PAGE
    with opened(make_core([Load(last, noise(1))], kernel_notes()), piped=piped) as it:
        assert (it.table.p_vaddr[1], it.table.p_memsz[1]) == (last, PAGE)
        assert it.maps.end(0) == 1 << 64
    for patch, words in (
        ({"phdr[1].p_memsz": PAGE + 1}, "program header 1: p_memsz is 0x1001, past the end of memory"),
        ({"phdr[1].p_vaddr": last + 1}, "program header 1: p_memsz is 0x1000, past the end of memory"),
    ):
        core = make_core([Load(last, noise(1))], kernel_notes(), patch=patch)
        with pytest.raises(DamagedCoreError) as caught, opened(core, piped=piped):
            raise AssertionError("opened")
        assert words in str(caught.value)


def test_a_segment_may_end_at_the_last_offset() -> None:
    """What no file can hold is refused, what it could hold is only not there."""
    end = 1 << 63
    with opened(make_core(LOADS, kernel_notes(), patch={"phdr[1].p_offset": end - PAGE})) as it:
        assert list(it.present)[1] == 0
        assert it.truncated
    for patch in ({"phdr[1].p_offset": end - PAGE + 1}, {"phdr[1].p_offset": end, "phdr[1].p_filesz": 0}):
        with (
            pytest.raises(DamagedCoreError, match="past what a file can hold"),
            opened(make_core(LOADS, kernel_notes(), patch=patch)),
        ):
            raise AssertionError("opened")


@pytest.mark.parametrize(("e_phoff", "opens"), [(64, True), (63, False)])
def test_the_table_may_begin_right_behind_the_header(e_phoff: int, opens: bool) -> None:
    core = make_core(LOADS, kernel_notes(), patch={"e_phoff": e_phoff})
    if opens:
        with opened(core) as it:
            assert len(it.table) == 3
    else:
        with pytest.raises(DamagedCoreError, match="e_phoff is 0x3f"), opened(core):
            raise AssertionError("opened")


@by_shape
def test_section_header_0_counts_only_where_it_is_whole(bits: int, little_endian: bool) -> None:
    """Announced by e_shoff, e_shnum and e_shentsize; anything else is a count that is missing."""
    shape = {"bits": bits, "little_endian": little_endian}
    core = make_core(LOADS, kernel_notes(**shape), xnum=True, **shape)
    entry = 64 if bits == 64 else 40
    for patch in ({"e_shoff": 0}, {"e_shnum": 0}, {"e_shentsize": entry - 1}, {"e_shentsize": entry + 1}):
        for piped in (False, True):
            with opened(patched(core, patch), piped=piped) as it:
                assert it.warnings == [elf.MISSING_COUNT], patch
                assert it.miscounted
                assert len(it.table) == 3


@pytest.mark.parametrize("piped", [False, True])
def test_section_header_0_is_not_looked_for_where_none_can_be(piped: bool) -> None:
    """In the table, which is no section header, and behind the last offset of any file."""
    for e_shoff in (64, 100, 64 + 56, 1 << 63, (1 << 64) - 1):
        with opened(make_core(LOADS, kernel_notes(), xnum=True, patch={"e_shoff": e_shoff}), piped=piped) as it:
            assert list(it.table.p_vaddr) == [0, A, B]
            # What a pipe brings in the end, or had where it is not looked for, nobody misses.
            assert bool(it.warnings) != piped


@pytest.mark.parametrize("piped", [False, True])
def test_without_a_place_there_are_no_section_headers(piped: bool) -> None:
    """Whatever the header counts: at offset 0 stands the ELF header."""
    core = make_core(LOADS, kernel_notes(), patch={"e_shnum": 1, "e_shentsize": 64})
    with opened(core, piped=piped) as it:
        assert it.sections == []


@pytest.mark.parametrize(("sh_size", "count"), [(0, 1), (1, 1), (2, 2), (4, 4), (5, 5), (6, 1), ((1 << 64) - 1, 1)])
def test_more_section_headers_than_e_shnum_can_say(sh_size: int, count: int) -> None:
    """The null section's sh_size says how many; one that the file has no room for is not believed."""
    core = make_core(LOADS, kernel_notes(), layout="gcore", patch={"e_shnum": 0, "shdr[0].sh_size": sh_size})
    with opened(core) as it:
        assert len(it.sections) == count


@pytest.mark.parametrize(("length", "room"), [(64 + 2 * 56, 2), (64 + 3 * 56 - 1, 2), (64 + 55, 0), (64, 0)])
def test_a_table_that_is_cut_says_how_much_there_is(length: int, room: int) -> None:
    with (
        pytest.raises(DamagedCoreError, match=f"space for only {room}$"),
        opened(make_core(LOADS)[:length]),
    ):
        raise AssertionError("opened")


def test_a_table_behind_the_end_says_so() -> None:
    core = make_core(LOADS, kernel_notes(), patch={"e_phoff": 1 << 40})
    with (
        pytest.raises(DamagedCoreError, match=r"0x10000000000 \(e_phoff\), but there is space for only 0$"),
        opened(core),
    ):
        raise AssertionError("opened")
