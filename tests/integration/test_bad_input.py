"""Bad input: what is of no use gets one line that names the fault, what is of use gets written and exit 3.

Everything here runs with little address space, because what a hostile header claims must never be allocated.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
from support.builder import (
    EM_386,
    EM_PPC,
    EM_PPC64,
    EM_X86_64,
    NT_AUXV,
    NT_FILE,
    PT_LOAD,
    PT_NOTE,
    Image,
    Load,
    Note,
    elf_image,
    kernel_notes,
    make_core,
    note_bytes,
    nt_auxv,
    nt_file,
    nt_prstatus,
    parse_core,
    parse_notes,
)
from support.builds import PATIENCE, of_a_plain_build
from support.run import (
    Done,
    assert_error,
    assert_promises,
    assert_usage,
    corefilt,
    hostile_memory,
    listing,
    present,
    without_privileges,
)
from support.samples import ANON, PAGE, noise, sample_core

NOTES = kernel_notes([(0x20000, 0x22000, 0, "/dev/zero (deleted)")])
LOADS = [
    Load(0x10000, noise(2, 1)),
    Load(0x20000, noise(2, 2)),
    Load(0x30000, noise(2, 3)),
]
TABLE_END = 64 + 56 * (1 + len(LOADS))
PAST = 1 << 63


def hostile(*args: str | Path, **options: object) -> Done:
    return corefilt(*args, memory=hostile_memory(), timeout=PATIENCE, **options)


def core_with(notes: list[Note] | bytes = NOTES, loads: list[Load] = LOADS, **options: object) -> Callable[[], bytes]:
    return lambda: make_core(loads, notes, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Refused:
    """Input that nothing can be made of, and the words that its error must have."""

    make: Callable[[], bytes]
    words: tuple[str, ...]
    words_for_a_pipe: tuple[str, ...] = ()


REFUSED = {
    "empty": Refused(lambda: b"", ("empty",)),
    "text": Refused(lambda: b"not a core at all\n" * 100, ("ELF",)),
    "short text": Refused(lambda: b"core\n", ("ELF",)),
    "zeros": Refused(lambda: bytes(100_000), ("ELF",)),
    "magic only": Refused(lambda: b"\x7fELF", ("ELF header",)),
    "cut in e_ident": Refused(core_with(truncate_to=10), ("ELF header",)),
    "cut in the ELF header": Refused(core_with(truncate_to=40), ("ELF header",)),
    "cut in 52 bytes of ELF header": Refused(
        core_with(bits=32, machine=EM_386, truncate_to=51), ("ELF header",)
    ),
    "cut after the ELF header": Refused(core_with(truncate_to=64), ("program header",)),
    "cut in the table": Refused(core_with(truncate_to=TABLE_END - 10), ("program header",)),
    "cut in the table, XNUM": Refused(core_with(xnum=True, truncate_to=TABLE_END - 10), ("program header",)),
    "a shared object": Refused(lambda: elf_image([Image(0, 0x1000)]), ("e_type",)),
    "ET_EXEC": Refused(core_with(patch={"e_type": 2}), ("e_type",)),
    "EI_CLASS 3": Refused(lambda: b"\x7fELF\x03\x01\x01" + bytes(9) + core_with()()[16:], ("EI_CLASS",)),
    "EI_DATA 0": Refused(lambda: b"\x7fELF\x02\x00\x01" + bytes(9) + core_with()()[16:], ("EI_DATA",)),
    "e_phentsize 0": Refused(core_with(patch={"e_phentsize": 0}), ("e_phentsize",)),
    "e_phentsize 32 in ELF64": Refused(core_with(patch={"e_phentsize": 32}), ("e_phentsize", "32")),
    "e_phentsize 0xffff": Refused(core_with(patch={"e_phentsize": 0xFFFF}), ("e_phentsize",)),
    "no program headers": Refused(core_with(patch={"e_phnum": 0}), ("e_phnum",)),
    "e_phoff in the ELF header": Refused(core_with(patch={"e_phoff": 8}), ("e_phoff",)),
    "e_phoff past 2^63": Refused(core_with(patch={"e_phoff": PAST}), ("e_phoff",)),
    "e_phoff past the file": Refused(
        core_with(patch={"e_phoff": 1 << 40}), ("program header",), ("e_phoff", "--spool")
    ),
    "p_offset past 2^63": Refused(
        core_with(patch={"phdr[3].p_offset": PAST}), ("program header 3", "p_offset", hex(PAST))
    ),
    "p_filesz past 2^63": Refused(
        core_with(patch={"phdr[3].p_filesz": PAST + 4096}), ("program header 3", "p_filesz")
    ),
    "p_filesz -1": Refused(
        core_with(patch={"phdr[2].p_filesz": 2**64 - 1}), ("program header 2", "p_filesz")
    ),
    "p_offset + p_filesz past 2^63": Refused(
        core_with(patch={"phdr[3].p_offset": 1 << 62, "phdr[3].p_filesz": PAST - 1}),
        ("program header 3", "p_filesz"),
    ),
    "p_offset of the notes past 2^63": Refused(
        core_with(patch={"phdr[0].p_offset": PAST}), ("program header 0", "p_offset")
    ),
    "p_filesz of the notes past 2^63": Refused(
        core_with(patch={"phdr[0].p_filesz": PAST}), ("program header 0", "p_filesz")
    ),
}  # fmt: skip
OVERLAPPING = {
    "a payload twice": core_with(loads=[*LOADS, Load(0x40000, filesz=PAGE, memsz=PAGE, offset=0x1000)]),
    "a payload half over the next": core_with(
        loads=[LOADS[0], Load(0x18000, filesz=2 * PAGE, memsz=2 * PAGE, offset=0x2000), *LOADS[1:]]
    ),
    "a payload over the ELF header": core_with(loads=[*LOADS, Load(0x40000, filesz=PAGE, memsz=PAGE, offset=0)]),
    "a payload over the table": core_with(loads=[*LOADS, Load(0x40000, filesz=64, memsz=64, offset=64)]),
    "a payload over the notes": core_with(loads=[*LOADS, Load(0x40000, filesz=64, memsz=64, offset=TABLE_END + 400)]),
    "every payload the same": core_with(
        loads=[
            Load(0x10000, noise(2), offset=0x8000),
            *(Load(0x40000 + n * PAGE * 4, filesz=2 * PAGE, offset=0x8000) for n in range(500)),
        ]
    ),
}


@pytest.mark.parametrize("way", ["file", "pipe to file", "pipe to pipe", "standard input"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, way: str, tmp_path: Path) -> None:
    """The same words from a file and from a pipe; no output, not even for a moment under its name."""
    bad = REFUSED[case]
    data = bad.make()
    source = tmp_path / "core"
    source.write_bytes(data)
    out = ("-o", tmp_path / "out")
    if way == "file":
        done = hostile("0x33", source, *out)
    elif way == "standard input":
        with source.open("rb") as stream:
            done = hostile("0x33", *out, stdin=stream)
    else:
        done = hostile("0x33", *(out if way == "pipe to file" else ()), pipe=data)
    assert_error(done, *(bad.words_for_a_pipe if "pipe" in way and bad.words_for_a_pipe else bad.words))
    assert listing(tmp_path) == {"core": data}


@pytest.mark.parametrize("case", OVERLAPPING)
def test_overlaps_are_refused_from_a_pipe(case: str, tmp_path: Path) -> None:
    data = OVERLAPPING[case]()
    for args in ((), ("-o", tmp_path / "out")):
        done = hostile("all", *args, pipe=data)
        assert_error(done, "program header")
        assert re.search("overlap|inside", done.err[0]), done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("case", OVERLAPPING)
def test_overlaps_never_make_an_output_larger(case: str, tmp_path: Path) -> None:
    """From a file they can be told apart, but a small file must not become a large one."""
    data = OVERLAPPING[case]()
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    for flt in ("all", "0x31", "0x0"):
        out.unlink(missing_ok=True)
        done = hostile(flt, source, "-o", out)
        if done.code == 1:
            assert_error(done)
            assert listing(tmp_path) == {"core": data}
        else:
            assert done.code in (0, 3)
            assert_promises(data, out.read_bytes(), overlapping=True)


@pytest.mark.parametrize("flt", ["all", "0x31", "0x0"])
@pytest.mark.parametrize("layout", ["kernel", "gcore-notes-first", "xnum"])
@pytest.mark.parametrize(
    ("where", "cut"),
    [
        ("in the first page of a payload", 0x1000 + 100),
        ("in the middle of a payload", 0x2000 + 100),
        ("between two payloads", 0x3000),
        ("in a payload that goes", 0x3000 + 100),
        ("in the last payload", 0x6000 + 4095),
    ],
)
def test_cut_in_a_payload(where: str, cut: int, flt: str, layout: str, tmp_path: Path) -> None:
    """What is there is written, and where the output can be sought its sizes say so."""
    options = {"xnum": True} if layout == "xnum" else {"layout": layout}
    whole = make_core(LOADS, NOTES, **options)  # type: ignore[arg-type]
    first = parse_core(whole)[1][1].p_offset
    data = whole[: first + cut - 0x1000]
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)

    done = hostile(flt, source, "-o", out)
    assert done.code == 3, done.err
    assert any("truncated" in line or "cut" in line or "short" in line for line in done.err), done.err
    after = out.read_bytes()
    assert_promises(data, after)
    if flt == "all":
        old, new = parse_core(data)[1], parse_core(after)[1]
        assert [phdr.p_filesz for phdr in new] == [present(data, phdr) for phdr in old]

    if layout == "gcore-notes-first":
        return  # whether these can be streamed is another test's matter
    piped = tmp_path / "piped"
    assert hostile(flt, "-o", piped, pipe=data).code == 3
    assert_promises(data, piped.read_bytes())
    if flt == "all":
        assert parse_core(piped.read_bytes())[1] == parse_core(after)[1]

    done = hostile(flt, pipe=data)
    assert done.code == 3
    assert_promises(data, done.out, header_final=False)
    if flt == "all":
        assert done.out == data
    assert listing(tmp_path).keys() == {"core", "out", "piped"}
    assert source.read_bytes() == data


@pytest.mark.parametrize(("bits", "little", "machine"), [
    (64, True, EM_X86_64), (64, False, EM_PPC64), (32, True, EM_386), (32, False, EM_PPC),
])  # fmt: skip
@pytest.mark.parametrize("cut", [0, 4, 300, 700], ids=["all of them", "in a header", "in a name", "in a desc"])
def test_cut_in_the_notes(cut: int, bits: int, little: bool, machine: int, tmp_path: Path) -> None:
    shape = {"bits": bits, "little_endian": little, "machine": machine}
    whole = make_core(LOADS, kernel_notes(threads=3, **shape), **shape)  # type: ignore[arg-type]
    data = whole[: parse_core(whole)[1][0].p_offset + cut]
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    done = hostile("0x33", source, "-o", out)
    assert done.code == 3, done.err
    after = out.read_bytes()
    assert_promises(data, after)
    phdrs = parse_core(after)[1]
    # gdb refuses a core whose notes end within one.
    whole_ones = [end for end in ends_of_notes(shape) if end <= cut]
    assert [phdr.p_filesz for phdr in phdrs] == [max(whole_ones, default=0), 0, 0, 0]
    assert len(after) == len(data)
    assert hostile("0x33", pipe=data).code == 3
    assert hostile("0x33", "-o", tmp_path / "piped", pipe=data).code == 3
    assert (tmp_path / "piped").read_bytes() == after
    for pipe in (None, data):
        annotated = tmp_path / f"annotated-{pipe is None}"
        done = hostile("0x33", source if pipe is None else "-", "-o", annotated, "--annotate", pipe=pipe)
        if whole_ones:
            assert done.code == 3, done.err
            note = parse_notes(annotated.read_bytes())[0].encode(little)
            assert parse_core(annotated.read_bytes())[1][0].p_filesz == len(note) + whole_ones[-1]


def ends_of_notes(shape: dict[str, object]) -> list[int]:
    """Return where each of the notes of three threads ends."""
    notes = kernel_notes(threads=3, **shape)  # type: ignore[arg-type]
    return list(accumulate(len(note.encode(bool(shape["little_endian"]))) for note in notes))


@pytest.mark.parametrize("zeros", [12, 24, 100])
def test_zeros_behind_notes_that_were_cut_are_none(zeros: int, tmp_path: Path) -> None:
    """p_filesz claims more than there is, and zeros that look like notes without name and content come first."""
    raw = note_bytes(NOTES)
    data = make_core([], raw + bytes(zeros), patch={"phdr[0].p_filesz": 1 << 20})
    data = data[: parse_core(data)[1][0].p_offset + len(raw) + zeros]
    source, out, piped = (tmp_path / name for name in ("core", "out", "piped"))
    source.write_bytes(data)
    assert hostile("0x33", source, "-o", out).code == 3
    assert hostile("0x33", "-o", piped, pipe=data).code == 3
    assert parse_core(out.read_bytes())[1][0].p_filesz == len(raw)
    assert piped.read_bytes() == out.read_bytes()
    assert hostile("verify", source, out).code == 0


def damaged_file_note(count: int) -> list[Note]:
    """Make a set of notes whose NT_FILE claims more entries than it has bytes."""
    return [*kernel_notes(None), nt_file([(0x10000, 0x12000, 0, "/bin/victim")], count=count)]


DAMAGED_NOTES = {
    "descsz 0xffffffff": [*NOTES[:2], Note("CORE", NT_AUXV, b"", descsz=0xFFFFFFFF)],
    "descsz past the segment": [*NOTES, Note("CORE", NT_AUXV, bytes(16), descsz=17 + 4096)],
    "namesz 0xffffffff": [*NOTES[:2], Note("CORE", NT_AUXV, bytes(16), namesz=0xFFFFFFFF)],
    "both 0xffffffff": [Note("CORE", NT_FILE, b"", namesz=0xFFFFFFFF, descsz=0xFFFFFFFF)],
    "namesz and descsz that add up to 0": [*NOTES, Note("X", 1, b"", namesz=0xFFFFFFF4, descsz=0)],
    "NT_FILE of 2^50 entries": damaged_file_note(1 << 50),
    "NT_FILE of 2^63 entries": damaged_file_note(1 << 63),
    "NT_FILE of 2^64 - 1 entries": damaged_file_note((1 << 64) - 1),
    "NT_FILE of entries that wrap to 0 bytes": damaged_file_note(1 << 61),
    "NT_FILE of 3 entries with the bytes of 1": damaged_file_note(3),
    "NT_FILE of 15 bytes": [*kernel_notes(None), Note("CORE", NT_FILE, bytes(15))],
    "NT_FILE without its names": [
        *kernel_notes(None),
        Note("CORE", NT_FILE, struct.pack("<5Q", 1, 4096, 0x20000, 0x22000, 0)),
    ],
    "NT_FILE with a name without end": [
        *kernel_notes(None),
        Note("CORE", NT_FILE, struct.pack("<5Q", 1, 4096, 0x20000, 0x22000, 0) + b"/dev/zero (deleted)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED_NOTES)
def test_damaged_notes(case: str, tmp_path: Path) -> None:
    """Notes that lie about their sizes: the memory can still be filtered, and the lie is reported."""
    data = make_core(LOADS, DAMAGED_NOTES[case])
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    done = hostile("0x33", source, "-o", out)
    if done.code == 1:
        assert_error(done, "note")
        assert not out.exists()
    else:
        assert done.code == 3, done.err
        assert any("note" in line or "NT_FILE" in line for line in done.err), done.err
        assert_promises(data, out.read_bytes())
    piped = hostile("0x33", pipe=data)
    assert piped.code == done.code
    if piped.code == 3:
        assert_promises(data, piped.out)


ODD_NOTES = {
    "NT_FILE page size 0": Note("CORE", NT_FILE, struct.pack("<5Q", 1, 0, 0x10000, 0x12000, 3) + b"/a\0"),
    "NT_FILE page size 2^63": Note(
        "CORE", NT_FILE, struct.pack("<5Q", 1, PAST, 0x10000, 0x12000, 3) + b"/a\0"
    ),
    "NT_FILE ranges backwards": nt_file([(0x12000, 0x10000, 0, "/a"), (0x22000, 0x20000, 0, "/b")]),
    "NT_FILE ranges over each other": nt_file([(0x10000, 0x32000, 0, "/a"), (0x20000, 0x22000, 0, "/b")]),
    "NT_FILE with control characters": nt_file([(0x10000, 0x12000, 0, b"/\n\x1b[31m\xff"), (0, 1, 0, b"")]),
    "AT_PAGESZ 0": nt_auxv({6: 0}),
    "AT_PAGESZ 2^63": nt_auxv({6: PAST}),
    "AT_PAGESZ 3": nt_auxv({6: 3}),
    "NT_AUXV of 7 bytes": Note("CORE", NT_AUXV, bytes(7)),
    "NT_AUXV without AT_NULL": Note("CORE", NT_AUXV, struct.pack("<2Q", 6, 4096)),
    "AT_SYSINFO_EHDR at the last byte": nt_auxv({6: 4096, 33: 2**64 - 1}),
    "NT_PRSTATUS of 1 byte": Note("CORE", 1, b"x"),
    "a name without NUL": Note(b"CORE", NT_AUXV, bytes(16)),
    "a name of 60,000 bytes": Note("N" * 60_000, 1, b"x"),
    "11 bytes at the end": note_bytes(NOTES) + bytes(11),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_NOTES)
def test_odd_notes(case: str, tmp_path: Path) -> None:
    """Values that no kernel writes, in notes that hold together: no crash, and the output is sound."""
    odd = ODD_NOTES[case]
    data = make_core(LOADS, odd if isinstance(odd, bytes) else [nt_prstatus(1), odd])
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    for args in (("0x33",), ("-v", "0x33"), ("all",)):
        done = hostile(*args, source, "-o", out, "-f")
        assert done.code in (0, 3), done.err
        assert not any("\x1b[31m" in line for line in done.err)
        assert_promises(data, out.read_bytes())
        piped = hostile(*args, pipe=data)
        assert piped.code in (0, 3)
        assert_promises(data, piped.out)


ODD_HEADERS = {
    "p_memsz 0": {"phdr[1].p_memsz": 0},
    "p_memsz less than p_filesz": {"phdr[1].p_memsz": 4096},
    "p_memsz 2^64 - 1": {"phdr[1].p_memsz": 2**64 - 1},
    "p_vaddr at the end of the space": {"phdr[1].p_vaddr": 2**64 - 4096},
    "all at one address": {"phdr[2].p_vaddr": 0x10000, "phdr[3].p_vaddr": 0x10000},
    "p_align 3": {"phdr[1].p_align": 3},
    "p_align 2^63": {"phdr[1].p_align": PAST},
    "p_flags 0xffffffff": {"phdr[1].p_flags": 0xFFFFFFFF},
    "an unknown p_type": {"phdr[3].p_type": 0x6FFFFFFF},
    "a PT_NULL": {"phdr[3].p_type": 0},
    "a second PT_NOTE": {"phdr[3].p_type": PT_NOTE},
    "notes of 0 bytes": {"phdr[0].p_filesz": 0},
    "PT_LOAD for the notes": {"phdr[0].p_type": PT_LOAD, "phdr[0].p_vaddr": 0x50000},
    "an unknown e_machine": {"e_machine": 0xFEED},
    "e_ehsize 0": {"e_ehsize": 0},
    "e_version 9": {"e_version": 9},
    "e_shoff past 2^63": {"e_shoff": PAST},
    "e_shoff without section headers": {"e_shoff": 0x2000},
    "e_shnum 0xffff": {"e_shoff": 0x2000, "e_shnum": 0xFFFF, "e_shentsize": 64},
}


@pytest.mark.parametrize("case", ODD_HEADERS)
def test_odd_headers(case: str, tmp_path: Path) -> None:
    """Header values that no kernel writes: written with the promises kept, or one line and nothing else."""
    data = make_core(LOADS, NOTES, patch=ODD_HEADERS[case])
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    for flt in ("0x0", "0x33", "all"):
        out.unlink(missing_ok=True)
        done = hostile(flt, source, "-o", out)
        if done.code == 1:
            assert_error(done)
            assert not out.exists()
        else:
            assert done.code in (0, 3), done.err
            assert_promises(data, out.read_bytes())
        done = hostile(flt, pipe=data)
        if done.code == 1:
            assert_error(done)
        else:
            assert done.code in (0, 3), done.err
            assert_promises(data, done.out, header_final=done.code == 0)


def test_2_to_the_32_headers_claimed_by_the_section_header(tmp_path: Path) -> None:
    """PN_XNUM counts in 32 bits; 240 GB of table are claimed, 200 bytes are there."""
    data = make_core(LOADS, NOTES, xnum=True, patch={"shdr[0].sh_info": 0xFFFFFFFF})
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    done = hostile("0x33", source, "-o", out)
    if done.code == 1:
        assert_error(done, "sh_info")
        assert not out.exists()
    else:
        assert done.code == 3, done.err
        assert any("sh_info" in line for line in done.err)
    done = hostile("all", pipe=data)
    assert done.code == 3, done.err


def test_2_to_the_32_headers_in_a_sparse_file(tmp_path: Path) -> None:
    """The table is really there, as one hole of 240 GB: it takes no disk to make, and must take no memory."""
    source, out = tmp_path / "core", tmp_path / "out"
    size = 64 + 56 * 0xFFFFFFFF + PAGE
    patch = {"phdr[0].p_offset": size - PAGE, "e_shoff": size, "shdr[0].sh_info": 0xFFFFFFFF}
    head = make_core([], NOTES[:1], xnum=True, patch=patch)
    with source.open("wb") as stream:
        stream.write(head[:-64])
        try:
            stream.truncate(size)
        except OSError as error:
            pytest.skip(f"no sparse files of 240 GB here: {error}")
        stream.seek(size)
        stream.write(head[-64:])
    assert_error(hostile("0x33", source, "-o", out), "program headers")
    assert not out.exists()


def test_2_to_the_32_headers_on_a_pipe() -> None:
    """There the count follows from where the notes begin."""
    place = 64 + 56 * 0xFFFFFFFF
    data = make_core(LOADS, NOTES, xnum=True, patch={"phdr[0].p_offset": place}) + bytes(1 << 20)
    assert_error(hostile("0x33", pipe=data), "program headers")


@pytest.mark.parametrize(("count", "code"), [(3, 3), (5, 3), (4, 0)])
def test_trailing_section_header_is_checked(count: int, code: int, tmp_path: Path) -> None:
    """On a pipe PN_XNUM is resolved before the header that has the count arrives; it must agree then."""
    data = make_core(LOADS, NOTES, xnum=True, patch={"shdr[0].sh_info": count})
    done = hostile("all", pipe=data)
    assert done.code == code, done.err
    assert code == 0 or any("sh_info" in line for line in done.err), done.err
    assert done.out[: len(data) - 64] == data[:-64]
    out = tmp_path / "out"
    assert hostile("0x31", "-o", out, pipe=data).code == code
    if code == 0:
        assert_promises(data, out.read_bytes())


@pytest.mark.parametrize("left", [0, 1, 63])
def test_missing_section_header(left: int, tmp_path: Path) -> None:
    """The section header of PN_XNUM is the last thing in a core, and the first that a full disk takes."""
    whole = make_core(LOADS, NOTES, xnum=True)
    data = whole[: len(whole) - 64 + left]
    done = hostile("all", pipe=data)
    assert done.code == 3, done.err
    assert done.out[: len(whole) - 64] == whole[:-64]
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(data)
    assert hostile("all", source, "-o", out).code == 3
    old, new = parse_core(whole)[1], parse_core(out.read_bytes())[1]
    assert old == new


def test_max_headers() -> None:
    """The notes are kept in memory up to the end of NT_FILE, so there is a limit, and it can be moved."""
    files = [(0x20000 + PAGE * n, 0x21000 + PAGE * n, 0, f"/lib/{n:0500}") for n in range(2000)]
    data = make_core(LOADS, kernel_notes(files))
    assert_error(hostile("0x33", "--max-headers", "64K", pipe=data), "--max-headers")
    assert hostile("0x33", "--max-headers", "8M", pipe=data).code == 0
    assert hostile("0x33", pipe=data).code == 0


def test_notes_that_never_end() -> None:
    """A pipe that promises a note of 4 GB before NT_FILE is refused when the limit is reached."""
    core = make_core([], [], patch={"phdr[0].p_filesz": 1 << 40})
    head = core[: parse_core(core)[1][0].p_offset]
    note = struct.pack("<III", 5, 0xFFFFFFF0, NT_FILE) + b"CORE\0\0\0\0"
    assert_error(hostile("0x33", pipe=head + note + bytes(100 << 20)), "--max-headers")


@of_a_plain_build
def test_notes_that_say_nothing(tmp_path: Path) -> None:
    """A hole where the notes should be is not walked to its end, note by empty note."""
    source, out = tmp_path / "core", tmp_path / "out"
    source.write_bytes(make_core([], [], patch={"phdr[0].p_filesz": 1 << 40}))
    os.truncate(source, 1 << 40)
    done = hostile("0x33", source, "-n")
    assert done.code == 3
    assert any("empty" in line for line in done.err)
    assert not out.exists()


@pytest.mark.parametrize("kind", ["directory", "missing", "socket", "name too long", "folder is a file"])
def test_unusable_inputs(kind: str, tmp_path: Path) -> None:
    source, out = tmp_path / "there", tmp_path / "out"
    words: tuple[str, ...] = (str(source),)
    if kind == "directory":
        source.mkdir()
        words += ("directory",)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(source))
    elif kind == "name too long":
        source = tmp_path / ("x" * 300)
        words = ("too long",)
    elif kind == "folder is a file":
        source.write_bytes(b"")
        source /= "core"
    else:
        words += ("No such file",)
    before = listing(tmp_path)
    assert_error(hostile("0x33", source, "-o", out), *words)
    assert_error(hostile("0x33", source), *words)
    assert listing(tmp_path) == before


def test_unreadable_input(core: Path) -> None:
    core.chmod(0)
    assert_error(hostile("0x33", core, prefix=without_privileges()), "Permission denied", str(core))


@pytest.mark.parametrize("flt", [
    "33", "-0x33", "-1", "", "0x", "0x200", "0b1111111111", "1e3", "bogus", "default,bogus", "default,,all",
    "0x33 0x1", "coredump_anonymous_shared:1", "0x33;id", "é", "0x" + "f" * 400,
])  # fmt: skip
def test_filters_that_cannot_be_meant(flt: str, core: Path) -> None:
    before = listing(core.parent)
    assert_usage(hostile(flt, core, "-o", core.parent / "out"))
    assert listing(core.parent) == before


USAGE: Mapping[str, tuple[str, ...]] = {
    "no such option": ("all", "CORE", "--no-such-option"),
    "an abbreviation": ("all", "CORE", "-o", "OUT", "--forc"),
    "another abbreviation": ("all", "CORE", "-o", "OUT", "--no-s"),
    "no such engine": ("all", "CORE", "-o", "OUT", "--engine", "warp"),
    "no such answer": ("all", "CORE", "-o", "OUT", "--unknown", "maybe"),
    "no such progress": ("all", "CORE", "-o", "OUT", "--progress", "loud"),
    "no such sparse": ("all", "CORE", "-o", "OUT", "--sparse", "perhaps"),
    "half an assumption": ("all", "CORE", "-o", "OUT", "--assume", "0x1000000"),
    "an assumption of no kind": ("all", "CORE", "-o", "OUT", "--assume", "0x1000000=soup"),
    "two cores": ("all", "CORE", "CORE", "-o", "OUT"),
    "two filters": ("all", "all", "CORE", "-o", "OUT"),
    "the report where the core goes": ("all", "CORE", "--json"),
    "a size that is none": ("all", "CORE", "-o", "OUT", "--max-headers", "many"),
    "a negative size": ("all", "CORE", "-o", "OUT", "--max-headers", "-5"),
    "scanning with an engine that does not see": (
        "all", "CORE", "-o", "OUT", "--sparse", "always", "--engine", "copy_file_range",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", USAGE)
def test_usage_errors(case: str, core: Path) -> None:
    before = listing(core.parent)
    places = {"CORE": core, "OUT": core.parent / "out"}
    assert_usage(hostile(*(places.get(arg, arg) for arg in USAGE[case])))
    assert listing(core.parent) == before


@pytest.mark.parametrize("order", [
    "FLT -o OUT CORE", "-o OUT FLT CORE", "-f FLT CORE -o OUT", "FLT -f CORE -o OUT", "FLT --output=OUT -v CORE",
    "filter FLT CORE -o OUT", "filter -f FLT -o OUT CORE", "FLT -o OUT -- CORE",
])  # fmt: skip
def test_options_stand_anywhere(order: str, core: Path) -> None:
    """Nobody remembers whether an option goes before or after the file."""
    out = core.parent / "out"
    words = {"FLT": "0x31", "CORE": str(core), "OUT": str(out)}
    done = hostile(*(words.get(word, word).replace("OUT", str(out)) for word in order.split()))
    assert done.code == 0, done.err
    assert_promises(core.read_bytes(), out.read_bytes())


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_no_number_is_negative(way: str, tmp_path: Path) -> None:
    """A segment of 4 EiB that is not there: what the summary counts must be sizes still."""
    data = make_core(LOADS, NOTES, patch={"phdr[3].p_filesz": 1 << 62, "phdr[3].p_memsz": 1 << 62})
    source = tmp_path / "core"
    source.write_bytes(data)
    for flt in ("0x33", "0x31", "0x0", "all"):
        done = hostile(flt, source) if way == "file" else hostile(flt, pipe=data)
        assert done.code == 3
        assert not re.search(r"(?<![\w.])-\d", "\n".join(done.err)), done.err


def test_an_assumption_that_fits_nothing(core: Path) -> None:
    """A typing error in an address must not end in a core that lacks what was meant to stay."""
    done = hostile("0x33", core, "-o", core.parent / "out", "--assume", "0xdead000=shared-anonymous")
    assert_error(done, "0xdead000", code=(1, 2))
    assert listing(core.parent).keys() == {"core"}


def test_a_random_cut_anywhere(tmp_path: Path) -> None:
    """Whatever a limit or a full disk left of a core: an answer, and never more than was there."""
    whole = sample_core()
    source, out = tmp_path / "core", tmp_path / "out"
    first = parse_core(whole)[1][1].p_offset
    table_end = parse_core(whole)[1][0].p_offset
    for cut in [*range(0, first + 1, 211), *range(first, len(whole), 9_973)]:
        data = whole[:cut]
        source.write_bytes(data)
        out.unlink(missing_ok=True)
        done = hostile("0x31", source, "-o", out)
        if cut < table_end:
            assert_error(done)
            assert not out.exists()
        else:
            assert done.code == 3, (cut, done.err)
            assert_promises(data, out.read_bytes())


def test_mode_and_content_of_a_damaged_output(tmp_path: Path) -> None:
    """What came of damaged input is as private as what came of sound input."""
    out = tmp_path / "out"
    data = sample_core()[:-PAGE]
    assert hostile("0x33", "-o", out, pipe=data, umask=0).code == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_errors_name_field_value_and_place(core: Path) -> None:
    """One line that a person can look up in the file: file, program header, field, value."""
    data = make_core(LOADS, NOTES, patch={"phdr[3].p_offset": PAST + 0x123000})
    core.write_bytes(data)
    done = hostile("0x33", core, "-o", core.parent / "out")
    assert_error(done)
    assert re.match(
        rf"corefilt: {re.escape(str(core))}: program header 3: p_offset is 0x8000000000123000", done.err[0]
    ), done.err[0]
    assert_error(hostile("0x33", pipe=data), "program header 3: p_offset is 0x8000000000123000")


def test_the_sample_is_sound(core: Path) -> None:
    """What the other tests damage must be filtered without a word when it is whole."""
    done = hostile("0x31", core, "-o", core.parent / "out")
    assert done.code == 0, done.err
    after = (core.parent / "out").read_bytes()
    assert_promises(core.read_bytes(), after)
    assert len(after) < core.stat().st_size
    assert any(phdr.p_vaddr == ANON and phdr.p_filesz for phdr in parse_core(after)[1])
