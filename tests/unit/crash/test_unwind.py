"""Unwinding by call frame information that is written here, sound and hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from support import frames as made

from corefilt.corefile.corefile import open_core
from corefilt.crash.modules import ModuleIndex
from corefilt.crash.process_memory import ProcessMemory
from corefilt.crash.signature import Crash, find_crash
from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cfa import evaluate

# Three functions: the first pushes a word, the second has 0x20 bytes on the stack, the third is the outermost.
FIRST, SECOND, THIRD = 0x400800, 0x400900, 0x400A00
PUSHED, DEEP, OUTERMOST = b"\x41\x0e\x10", b"\x0e\x28", b"\x07\x10"
SOUND = [(FIRST, 0x40, PUSHED), (SECOND, 0x40, DEEP), (THIRD, 0x40, OUTERMOST)]
WORDS = [0, SECOND + 5, 1, 2, 3, 4, THIRD + 7]


def crash(path: Path, raw: bytes) -> Crash:
    path.write_bytes(raw)
    with open_core(path) as core:
        found = find_crash(core)
    assert found is not None
    return found


def starts(found: Crash) -> list[int]:
    return [int(frame.text.rpartition("+")[2], 16) for frame in found.frames]


def test_three_frames_to_the_end(tmp_path: Path) -> None:
    found = crash(tmp_path / "core", made.core_of(made.tables(SOUND), WORDS, pc=FIRST + 4))
    assert starts(found) == [FIRST, SECOND, THIRD]
    assert found.quality == "unwound" and found.unwinder == "call frame information"
    assert found.frames[0].text.startswith(made.BUILD_ID.hex())


def test_before_the_push_the_frame_is_smaller(tmp_path: Path) -> None:
    found = crash(tmp_path / "core", made.core_of(made.tables(SOUND), WORDS[1:], pc=FIRST))
    assert starts(found) == [FIRST, SECOND, THIRD]


def test_called_into_nowhere(tmp_path: Path) -> None:
    """A null function pointer: the caller's address is on top of the stack."""
    found = crash(tmp_path / "core", made.core_of(made.tables(SOUND), WORDS[1:], pc=0x10))
    assert found.frames[0].text == "?"
    assert starts_of_rest(found) == [SECOND, THIRD]


def starts_of_rest(found: Crash) -> list[int]:
    return [int(frame.text.rpartition("+")[2], 16) for frame in found.frames[1:]]


def test_return_address_that_is_not_in_the_core(tmp_path: Path) -> None:
    raw = made.core_of(made.tables([(FIRST, 0x40, b"\x0e\xff\xff\x7f"), *SOUND[1:]]), WORDS)
    found = crash(tmp_path / "core", raw)
    assert found.quality == "pc-only" and starts(found) == [FIRST]


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x0b", b"\x0a" * 40 + b"\x0b" * 40, b"\x0e", b"\x0e" + b"\xff" * 20, b"\x3f", b"\x0f\x7f\1",
        b"\x0c\xff\xff\xff\x7f\1",
        b"\x0f\3\x06\x06\x06", b"\x0f\1\x22", b"\x0f\1\xff", b"\x04\xff\xff", b"\x01\0\0\0\x80",
    ],
)  # fmt: skip
def test_hostile_instructions_end_the_backtrace(tmp_path: Path, instructions: bytes) -> None:
    found = crash(tmp_path / "core", made.core_of(made.tables([(FIRST, 0x40, instructions), *SOUND[1:]]), WORDS))
    assert found.quality in ("pc-only", "partial") and len(found.frames) <= 3


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=pytest.mark.slow if at % 5 else ()) for at in range(4, 120)]
)  # fmt: skip
def test_damaged_tables(tmp_path: Path, at: int) -> None:
    tables = bytearray(made.tables(SOUND))
    for value in (0, 0x7F, 0xFF):
        damaged = tables.copy()
        damaged[at] = value
        crash(tmp_path / "core", made.core_of(bytes(damaged), WORDS))


def test_function_that_returns_to_itself_for_ever(tmp_path: Path) -> None:
    words = [FIRST + 3] * 1500
    found = crash(tmp_path / "core", made.core_of(made.tables([(FIRST, 0x40, b"")]), words))
    assert starts(found) == [FIRST] * 3


def test_without_a_header_the_section_is_walked(tmp_path: Path) -> None:
    raw = made.core_of(made.tables(SOUND), WORDS, pc=FIRST + 4)
    # PT_GNU_EH_FRAME becomes PT_NULL.
    raw = raw.replace(struct.pack("<II", 0x6474E550, 4), struct.pack("<II", 0, 4))
    found = crash(tmp_path / "core", raw)
    assert starts(found) == [FIRST, SECOND, THIRD] and found.quality == "unwound"


def test_registers_stand_before_what_is_said_of_them(tmp_path: Path) -> None:
    """DW_CFA_expression of the return address, as the C library has it for the frame of a signal: rsp + 0x30."""
    computed = b"\x0f\x02\x77\x38\x10\x10\x02\x77\x30"
    found = crash(tmp_path / "core", made.core_of(made.tables([(FIRST, 0x40, computed), *SOUND[2:]]), WORDS))
    assert starts(found) == [FIRST, THIRD]


def test_expressions(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(made.core_of(made.tables(SOUND), WORDS))
    with open_core(tmp_path / "core") as core:
        space = ProcessMemory(core, core.memory(), ModuleIndex([]), None)
        # What the linker writes for .plt: rsp + 8 + ((rip & 15) >= 11) * 8.
        plt = b"\x77\x08\x80\0\x3f\x1a\x3b\x2a\x33\x24\x22"
        assert evaluate(space, plt, {7: 1000, 16: 0x40000A}, ()) == 1008
        assert evaluate(space, plt, {7: 1000, 16: 0x40000B}, ()) == 1016
        for broken in (b"", b"\x22", b"\x12", b"\x16", b"\x70", b"\x30" * 300, b"\x2f\0\0"):
            with pytest.raises(BadFrame):
                evaluate(space, broken, {}, ())
