"""The builder must be right before anything is held against it: other readers read what it writes."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from support import builder
from support.builder import (
    AT_PAGESZ,
    EM_386,
    EM_PPC,
    EM_PPC64,
    EM_X86_64,
    PN_XNUM,
    PT_AARCH64_MEMTAG_MTE,
    PT_GNU_RELRO,
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
    page,
    parse_core,
    parse_notes,
    parse_sections,
    payload_at,
)

SHAPES = [
    pytest.param(64, True, EM_X86_64, id="64LSB"),
    pytest.param(64, False, EM_PPC64, id="64MSB"),
    pytest.param(32, True, EM_386, id="32LSB"),
    pytest.param(32, False, EM_PPC, id="32MSB"),
]
LAYOUTS = [
    pytest.param({"layout": "kernel"}, id="kernel"),
    pytest.param({"layout": "kernel", "xnum": True}, id="xnum"),
    pytest.param({"layout": "gcore"}, id="gcore"),
    pytest.param({"layout": "gcore-notes-first"}, id="gcore-notes-first"),
]
LOADS = [
    Load(0x10000, page(b"first", 2), flags="r-x"),
    Load(0x20000, page(b"head"), memsz=0x3000, flags="r--"),
    Load(0x30000, b"", memsz=0x4000),
    Load(0x40000, page(b"last")),
]
FILES = [FileEntry(0x10000, 0x12000, 0x3000, "/bin/victim"), FileEntry(0x20000, 0x23000, 0, b"/tmp/\xff")]


def readelf(core: bytes, folder: Path, *options: str) -> str:
    """Run readelf; its warnings go to standard error, and there must be none."""
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    (folder / "built").write_bytes(core)
    command = ["readelf", "-W", *options, "built"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="latin-1", check=True)
    assert done.stderr == ""
    assert "Warning" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize(("bits", "little_endian", "machine"), SHAPES)
def test_other_readers_agree(bits: int, little_endian: bool, machine: int, options: dict, tmp_path: Path) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    core = make_core(LOADS, kernel_notes(FILES, threads=2, **shape), **shape, **options)

    elf = ELFFile(io.BytesIO(core))
    assert (elf.elfclass, elf.little_endian, elf["e_type"]) == (bits, little_endian, "ET_CORE")
    segments = list(elf.iter_segments())
    assert [segment["p_type"] for segment in segments] == ["PT_NOTE"] + ["PT_LOAD"] * 4
    for segment, load in zip(segments[1:], LOADS, strict=True):
        assert segment["p_vaddr"] == load.vaddr
        assert segment["p_memsz"] == (load.memsz or len(load.data))
        assert segment.data() == load.data
    notes = list(segments[0].iter_notes())
    assert [note["n_type"] for note in notes] == [
        "NT_PRSTATUS", "NT_PRPSINFO", "NT_SIGINFO", "NT_AUXV", "NT_FILE", "NT_PRSTATUS",
    ]  # fmt: skip
    mapped = notes[4]["n_desc"]
    assert mapped["num_map_entries"] == 2
    assert [entry["vm_start"] for entry in mapped["Elf_Nt_File_Entry"]] == [0x10000, 0x20000]
    assert [entry["page_offset"] for entry in mapped["Elf_Nt_File_Entry"]] == [3, 0]
    assert [bytes(name) for name in mapped["filename"]] == [b"/bin/victim", b"/tmp/\xff"]

    # readelf 2.40 calls the count in a PN_XNUM section header unexpected, in real files too.
    text = readelf(core, tmp_path, "-h", "-l", *([] if options.get("xnum") else ["-S"]))
    assert text.count("  LOAD  ") == 4
    assert readelf(core, tmp_path, "-n").count("NT_PRSTATUS") == 2


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize(("bits", "little_endian", "machine"), SHAPES)
def test_own_reader(bits: int, little_endian: bool, machine: int, options: dict) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    notes = kernel_notes(FILES, {AT_PAGESZ: 4096}, **shape)
    core = make_core(LOADS, notes, **shape, **options)
    ehdr, phdrs = parse_core(core)
    assert (ehdr.bits, ehdr.little_endian, ehdr.phnum, ehdr.e_machine) == (bits, little_endian, 5, machine)
    assert ehdr.e_phnum == (PN_XNUM if options.get("xnum") else 5)
    assert [phdr.p_type for phdr in phdrs] == [PT_NOTE] + [PT_LOAD] * 4
    assert [phdr.p_flags for phdr in phdrs[1:]] == [5, 4, 6, 6]
    assert parse_notes(core) == notes
    assert payload_at(core, 0x40000, 4) == b"last"
    assert payload_at(core, 0x11FFE, 2) == b"tt"
    for address, size in [(0x20FFF, 2), (0x30000, 1), (0x50000, 1)]:
        with pytest.raises(KeyError):
            payload_at(core, address, size)


def test_kernel_layout_is_the_kernels() -> None:
    core = make_core(LOADS, kernel_notes(FILES))
    _, phdrs = parse_core(core)
    assert phdrs[0].p_offset == 64 + 5 * 56
    assert (phdrs[0].p_align, phdrs[0].p_flags) == (4, 0)
    assert [phdr.p_offset for phdr in phdrs[1:]] == [0x1000, 0x3000, 0x4000, 0x4000]
    assert {phdr.p_align for phdr in phdrs[1:]} == {4096}
    assert len(core) == 0x5000


@pytest.mark.parametrize("most", [20, pytest.param(0xFFFF, marks=pytest.mark.slow)])
def test_many_segments_get_the_section_header(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form with 0xffff starts at exactly 65,535 program headers; in a plain run at 20."""
    assert PN_XNUM == 0xFFFF
    monkeypatch.setattr(builder, "PN_XNUM", most)
    for count in (most - 2, most - 1):
        core = make_core([Load(0x1000 * (1 + index), memsz=0x1000) for index in range(count)])
        ehdr, phdrs = parse_core(core)
        assert len(phdrs) == ehdr.phnum == count + 1
        assert ehdr.e_phnum == count + 1
        assert bool(ehdr.e_shoff) == (count + 1 >= most)
    (section,) = parse_sections(core)
    assert section == (0, 0, 0, 0, 0, 1, 0, most, 0, 0)
    assert ehdr.e_shoff == len(core) - 64
    assert parse_core(core[: ehdr.e_shoff])[0].phnum == most


def test_gcore_layout_is_gdbs() -> None:
    core = make_core(LOADS, kernel_notes(FILES), layout="gcore")
    _, phdrs = parse_core(core)
    sections = parse_sections(core)
    assert phdrs[1].p_offset == 64 + 5 * 56
    assert phdrs[0].p_offset == phdrs[4].p_offset + phdrs[4].p_filesz
    assert {phdr.p_align for phdr in phdrs} == {1}
    assert [section.sh_type for section in sections] == [0, 7, 1, 1, 1, 1, 3]
    assert [section.sh_offset for section in sections[1:6]] == [phdr.p_offset for phdr in phdrs]


def test_explicit_places_can_overlap() -> None:
    core = make_core(
        [
            Load(0x10000, page(b"a")),
            Load(0x20000, filesz=4096, offset=0x1000),
            Load(0x30000, page(b"c"), offset=0x5000),
            Load(0x40000, filesz=1 << 63, offset=1 << 63),
        ]
    )
    assert payload_at(core, 0x10000, 4096) == payload_at(core, 0x20000, 4096) == page(b"a")
    assert payload_at(core, 0x30000, 1) == b"c"
    assert len(core) == 0x6000
    with pytest.raises(ValueError, match="filesz="):
        make_core([Load(0x10000, b"x", offset=1 << 40)])


def test_patches_and_cuts() -> None:
    core = make_core(LOADS, xnum=True, patch={"e_phentsize": 1, "phdr[4].p_memsz": 7, "shdr[0].sh_info": 5})
    ehdr, phdrs = parse_core(core)
    assert ehdr.e_phentsize == 1
    assert phdrs[4].p_memsz == 7
    assert len(make_core(LOADS, truncate_to=100)) == 100
    assert make_core(LOADS, tail=b"end").endswith(b"end")


@pytest.mark.parametrize(("bits", "little_endian", "machine"), SHAPES)
def test_images_are_readable(bits: int, little_endian: bool, machine: int, tmp_path: Path) -> None:
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    image = elf_image([Image(0, 0x800, "r-x"), Image(0x1000, 0x2000, "rw-")], relro=(0x1000, 0x1000), **shape)
    assert len(image) == 4096
    _, phdrs = parse_core(image)
    assert [(phdr.p_type, phdr.p_vaddr, phdr.p_memsz) for phdr in phdrs] == [
        (PT_LOAD, 0, 0x800), (PT_LOAD, 0x1000, 0x2000), (PT_GNU_RELRO, 0x1000, 0x1000),
    ]  # fmt: skip
    far = elf_image([Image(0, 0x9000)], phoff=0x8000, **shape)
    assert parse_core(far)[0].e_phoff == 0x8000
    assert len(far) == 0x8000 + (56 if bits == 64 else 32)


def test_library_and_tags() -> None:
    loads, files = library(0x7F0000000000, "/lib/libvictim.so")
    core = make_core([*loads], kernel_notes(files), extra_phdrs=[mte_tags(loads[1])])
    assert payload_at(core, 0x7F0000000000, 4) == b"\x7fELF"
    assert payload_at(core, 0x7F0000006000, 3) == b"bss"
    tags = parse_core(core)[1][-1]
    assert (tags.p_type, tags.p_filesz, tags.p_memsz) == (PT_AARCH64_MEMTAG_MTE, 256, 8192)
    assert tags.p_vaddr == loads[1].vaddr
