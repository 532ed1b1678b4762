"""Frames without call frame information in the core: chains of the ABI, Go's own table, and .debug_frame of a file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from support import frames as made
from support.builder import EM_AARCH64, EM_PPC64, Load, Note, kernel_notes, make_core, note_bytes, nt_prstatus, page

from corefilt.corefile.corefile import open_core
from corefilt.crash.identity import identify
from corefilt.crash.signature import Crash, crash_of, find_crash

BASE, STACK = 0x400000, 0x7FFF0000
BUILD_ID = b"\x5a" * 20
ONE, TWO, THREE = BASE + 0x810, BASE + 0x910, BASE + 0xA10


def program(machine: int, note: bytes = note_bytes([Note("GNU", 3, BUILD_ID)]), text: bytes = b"") -> bytes:
    """A program of one page at BASE without any tables but ``text``, at 0x200."""
    phdrs = [(1, 5, 0, BASE, 0x1000), (4, 4, 0x180, BASE + 0x180, len(note))]
    raw = b"\x7fELF\2\1\1".ljust(16, b"\0")
    raw += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0)
    for kind, flags, offset, vaddr, size in phdrs:
        raw += struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, vaddr, size, size, 8)
    return page(raw.ljust(0x180, b"\0") + note.ljust(0x80, b"\0") + text)


def core_of(machine: int, registers: dict[int, int], words: dict[int, int], image: bytes | None = None) -> bytes:
    """A core whose thread has ``registers`` by their words in pr_reg, and a stack with ``words`` by their addresses."""
    status = bytearray(nt_prstatus(77, machine=machine).desc)
    for n, value in registers.items():
        struct.pack_into("<Q", status, 112 + 8 * n, value)
    stack = bytearray(0x1000)
    for address, value in words.items():
        struct.pack_into("<Q", stack, address - STACK, value)
    files = [(BASE, BASE + 0x1000, 0, made.PROGRAM)]
    notes = [Note("CORE", 1, bytes(status)), *kernel_notes(files, {3: BASE + 64}, machine=machine)[1:]]
    image = program(machine) if image is None else image
    return make_core([Load(BASE, image, flags="r-x"), Load(STACK, bytes(stack))], notes, machine=machine)


def crash(path: Path, raw: bytes, sysroot: Path | None = None) -> Crash:
    path.write_bytes(raw)
    with open_core(path) as core:
        found = find_crash(core, sysroot=str(sysroot) if sysroot is not None else None)
    assert found is not None
    return found


def places(found: Crash) -> list[int]:
    return [int(frame.text.rpartition("+")[2], 16) for frame in found.frames]


def test_frame_pointers_of_arm64(tmp_path: Path) -> None:
    """x29 leads to the caller's and the return address; the first caller stands in the link register."""
    registers = {29: STACK + 0x100, 30: TWO, 31: STACK + 0x80, 32: ONE}
    words = {STACK + 0x100: STACK + 0x200, STACK + 0x108: THREE, STACK + 0x200: 0, STACK + 0x208: 0}
    found = crash(tmp_path / "core", core_of(EM_AARCH64, registers, words))
    assert places(found) == [ONE, TWO - 1, THREE - 1]
    assert (found.quality, found.unwinder) == ("partial", "link register, x29")


@pytest.mark.parametrize("broken", [{STACK + 0x108: STACK}, {STACK + 0x100: 8, STACK + 0x108: 0x10}])
def test_a_chain_that_leads_nowhere(broken: dict[int, int], tmp_path: Path) -> None:
    registers = {29: STACK + 0x100, 30: 0, 31: STACK + 0x80, 32: ONE}
    found = crash(tmp_path / "core", core_of(EM_AARCH64, registers, broken))
    assert places(found) == [ONE] and found.quality == "pc-only"


def test_the_back_chain_of_powerpc(tmp_path: Path) -> None:
    """Each stack pointer leads to the caller's; where that is, the link register is saved 16 bytes behind."""
    registers = {32: ONE, 36: TWO, 1: STACK + 0x100}
    words = {STACK + 0x100: STACK + 0x200, STACK + 0x210: THREE, STACK + 0x200: STACK + 0x300, STACK + 0x300: 0}
    found = crash(tmp_path / "core", core_of(EM_PPC64, registers, words))
    assert places(found)[:3] == [ONE, TWO - 1, THREE - 1]
    assert "back chain" in found.unwinder and found.quality == "partial"


def test_a_back_chain_that_goes_down(tmp_path: Path) -> None:
    registers = {32: ONE, 36: 0, 1: STACK + 0x100}
    found = crash(tmp_path / "core", core_of(EM_PPC64, registers, {STACK + 0x100: STACK + 0x80}))
    assert places(found) == [ONE]


def test_a_call_of_nothing_where_calls_push_nothing(tmp_path: Path) -> None:
    """The link register tells who called."""
    found = crash(tmp_path / "core", core_of(EM_AARCH64, {30: TWO, 31: STACK, 32: 0x10}, {}))
    assert found.frames[0].text == "?" and places_of_known(found) == [TWO - 1]


def places_of_known(found: Crash) -> list[int]:
    return [int(frame.text.rpartition("+")[2], 16) for frame in found.frames if "+" in frame.text]


# --- Go -----------------------------------------------------------------------------------------------------


def go_text(names: list[bytes], magic: int = 0xFFFFFFF1) -> bytes:
    """A table (pclntab) of functions of 0x100 bytes each from BASE + 0x800 on, to stand at BASE + 0x200."""
    rows, head = len(names), 8 + 8 * 8
    table_at = head
    functions_at = table_at + 8 * rows + 4
    names_at = functions_at + 16 * rows
    raw = struct.pack("<IBBBB", magic, 0, 0, 1, 8)
    raw += struct.pack("<8Q", rows, 0, BASE + 0x800, names_at, 0, 0, 0, table_at)
    at = 0
    for n in range(rows):
        raw += struct.pack("<II", 0x100 * n, functions_at - table_at + 16 * n)
    raw += struct.pack("<I", 0x100 * rows)
    for name in names:
        raw += struct.pack("<IIII", 0, at, 0, 0)
        at += len(name) + 1
    return raw + b"\0".join(names) + b"\0"


GO_NOTE = struct.pack("<III", 4, 12, 4) + b"Go\0\0id/of/go/x12"
# rbp leads from frame to frame; rip, rbp and rsp are words 16, 4 and 19.
GO_REGISTERS = {16: ONE, 4: STACK + 0x100, 19: STACK + 0x80}
GO_WORDS = {STACK + 0x100: STACK + 0x200, STACK + 0x108: TWO, STACK + 0x200: 0, STACK + 0x208: THREE}


@pytest.mark.parametrize("magic", [0xFFFFFFF0, 0xFFFFFFF1])
def test_functions_of_go(magic: int, tmp_path: Path) -> None:
    image = program(62, GO_NOTE, go_text([b"runtime.sigpanic", b"main.fails", b"main.main"], magic))
    found = crash(tmp_path / "core", core_of(62, GO_REGISTERS, GO_WORDS, image))
    # Functions of the runtime are skipped on top.
    assert [frame.function for frame in found.frames] == ["main.fails", "main.main"]
    assert places(found) == [BASE + 0x900, BASE + 0xA00] and found.quality == "unwound"
    assert found.unwinder == "go" and not found.frames[0].text.startswith(BUILD_ID.hex())


@pytest.mark.parametrize(
    ("at", "value"),
    # No functions, too many, no text, a table elsewhere, names elsewhere.
    [(8, 0), (8, 1 << 40), (24, 0), (64, 1 << 40), (32, 1 << 40)],
)
def test_tables_of_go_that_are_none(at: int, value: int, tmp_path: Path) -> None:
    text = bytearray(go_text([b"main.a", b"main.b", b"main.c"]))
    struct.pack_into("<Q", text, at, value)
    found = crash(tmp_path / "core", core_of(62, GO_REGISTERS, GO_WORDS, program(62, GO_NOTE, bytes(text))))
    assert all(not frame.function for frame in found.frames)


def test_an_address_behind_the_functions_of_go(tmp_path: Path) -> None:
    image = program(62, GO_NOTE, go_text([b"main.a"]))
    found = crash(tmp_path / "core", core_of(62, {**GO_REGISTERS, 16: BASE + 0xF00}, GO_WORDS, image))
    assert [frame.function for frame in found.frames] == [None]


# --- .debug_frame ---------------------------------------------------------------------------------------------


def debug_frame(functions: list[tuple[int, int, bytes]]) -> bytes:
    """A section with one common entry: CFA is rsp + 8, and the return address stands below it."""
    body = struct.pack("<IB", 0xFFFFFFFF, 4) + b"\0" + b"\x08\0" + b"\x01\x78\x10" + b"\x0c\7\x08\x90\1"
    raw = struct.pack("<I", len(body)) + body
    for start, size, instructions in functions:
        body = struct.pack("<IQQ", 0, start, size) + instructions
        raw += struct.pack("<I", len(body)) + body
    return raw


FUNCTIONS = [
    (BASE + 0x800, 0x40, b"\x41\x0e\x10"),
    (BASE + 0x900, 0x40, b"\x0e\x28"),
    (BASE + 0xA00, 0x40, b"\x07\x10"),
]


def with_section(section: bytes, flags: int = 0, size: int | None = None) -> bytes:
    """The program as a file with ``.debug_frame`` and a table of names behind its page."""
    names = b"\0.debug_frame\0.shstrtab\0"
    image = program(62)
    at = len(image)
    rows = [(0,) * 10]
    rows.append((1, 1, flags, 0, at, len(section) if size is None else size, 0, 0, 8, 0))
    rows.append((14, 3, 0, 0, at + len(section), len(names), 0, 0, 1, 0))
    table = b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows)
    head = bytearray(image)
    struct.pack_into("<Q", head, 40, at + len(section) + len(names))
    struct.pack_into("<HHH", head, 58, 64, len(rows), 2)
    return bytes(head) + section + names + table


def by_debug_frame(tmp_path: Path, file: bytes) -> Crash:
    """A core whose program has its call frame information in the file alone."""
    there = tmp_path / "root" / made.PROGRAM.lstrip("/")
    there.parent.mkdir(parents=True)
    there.write_bytes(file)
    sp = STACK + 0x800
    words = {sp + 8: BASE + 0x905, sp + 0x30: BASE + 0xA07}
    return crash(tmp_path / "core", core_of(62, {16: BASE + 0x804, 19: sp}, words), tmp_path / "root")


@pytest.mark.parametrize("compressed", [False, True])
def test_debug_frame_of_the_file(compressed: bool, tmp_path: Path) -> None:
    section = debug_frame(FUNCTIONS)
    if compressed:
        section = struct.pack("<IIQQ", 1, 0, len(section), 8) + zlib.compress(section)
    found = by_debug_frame(tmp_path, with_section(section, 0x800 if compressed else 0))
    assert places(found) == [BASE + 0x800, BASE + 0x900, BASE + 0xA00]
    assert found.quality == "unwound"


@pytest.mark.parametrize(
    "file",
    [
        with_section(b"\0" * 64), with_section(b"\xff" * 64), with_section(debug_frame(FUNCTIONS)[:40]),
        with_section(debug_frame(FUNCTIONS), size=1 << 40), with_section(b"\2\0\0\0" + bytes(60), 0x800),
        with_section(b"\1\0\0\0" + bytes(60), 0x800), with_section(b"", 0x800), with_section(debug_frame([]) + b"\5"),
        with_section(struct.pack("<II", 20, 0xFFFFFFFF) + b"\x09" + bytes(30)), program(62),
        with_section(debug_frame(FUNCTIONS))[:-30], with_section(debug_frame(FUNCTIONS)).replace(b".debug", b".DEBUG"),
    ],
)  # fmt: skip
def test_sections_that_are_none(file: bytes, tmp_path: Path) -> None:
    assert by_debug_frame(tmp_path, file).quality == "pc-only"


# --- what ends a backtrace ---------------------------------------------------------------------------------------


def test_a_machine_whose_frames_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(make_core([Load(BASE, program(258), flags="r-x")], kernel_notes(machine=258), machine=258))
    with open_core(path) as core:
        found = crash_of(core, identify(core))
    assert found.frames == () and found.quality == "none"
