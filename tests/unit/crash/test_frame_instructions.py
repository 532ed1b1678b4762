"""What each call frame instruction and operator means (DWARF 5, 6.4.2 and 2.5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import frames as made

from corefilt.corefile.corefile import open_core
from corefilt.crash.modules import ModuleIndex
from corefilt.crash.process_memory import ProcessMemory
from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cfa import apply, evaluate, row_at
from corefilt.crash.unwind.entries import Cie, Fde

START, SP = 0x400800, made.STACK + 0x800
REGISTERS = {7: SP, 6: 0x1234, 3: 5, 16: START}


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessMemory]:
    """The words 0x100, 0x101, ... from the stack pointer on."""
    path = tmp_path_factory.mktemp("memory") / "core"
    path.write_bytes(made.core_of(made.tables([]), [0x100 + n for n in range(16)]))
    with open_core(path) as core:
        yield ProcessMemory(core, core.memory(), ModuleIndex([]), None)


def caller(memory: ProcessMemory, instructions: bytes, at: int = 0) -> dict[int, int]:
    """The caller's registers by an entry whose common part says: CFA is rsp + 8, the return address below it."""
    cie = Cie(1, -8, 16, 0, False, True, b"\x0c\7\x08\x90\1")
    fde = Fde(START, START + 0x100, cie, instructions, 0)
    return apply(memory, row_at(memory, fde, START + at), REGISTERS, 7)[0]


@pytest.mark.parametrize(
    ("instructions", "register", "value"),
    [
        (b"", 7, SP + 8),
        (b"", 16, 0x100),
        (b"\x0c\x07\x18", 7, SP + 0x18),  # def_cfa
        (b"\x12\x07\x7d", 7, SP + 24),  # def_cfa_sf: -3 times -8
        (b"\x0d\x06", 7, 0x123C),  # def_cfa_register
        (b"\x13\x7e", 7, SP + 16),  # def_cfa_offset_sf
        (b"\x0f\x02\x77\x28", 7, SP + 40),  # def_cfa_expression
        (b"\x05\x03\x01", 3, 0x100),  # offset_extended
        (b"\x11\x03\x7f", 3, 0x102),  # offset_extended_sf
        (b"\x2f\x03\x01", 3, 0x102),  # GNU_negative_offset_extended
        (b"\x14\x03\x01", 3, SP),  # val_offset
        (b"\x15\x03\x7f", 3, SP + 16),  # val_offset_sf
        (b"\x83\x01\x08\x03", 3, 5),  # same_value
        (b"\x09\x03\x06", 3, 0x1234),  # register
        (b"\x10\x03\x02\x77\x10", 3, 0x102),  # expression
        (b"\x16\x03\x02\x77\x10", 3, SP + 16),  # val_expression
        (b"\x83\x01\xc3", 3, 5),  # restore: the common entry says nothing of it
        (b"\x90\x02\xd0", 16, 0x100),  # restore: as in the common entry
        (b"\x90\x02\x06\x10", 16, 0x100),  # restore_extended
        (b"\x0a\x0c\x07\x40\x0b", 7, SP + 8),  # remember_state, restore_state
        (b"\x2e\x08\x2d\x00", 7, SP + 8),  # GNU_args_size, GNU_window_save, nop
        (b"\x02\x05\x0e\x20", 7, SP + 8),  # advance_loc1: that is further on
        (b"\x03\x05\x00\x0e\x20", 7, SP + 8),
        (b"\x04\x05\x00\x00\x00\x0e\x20", 7, SP + 8),
        (b"\x01" + (START + 9).to_bytes(8, "little") + b"\x0e\x20", 7, SP + 8),  # set_loc
        (b"\x01" + START.to_bytes(8, "little") + b"\x0e\x20", 7, SP + 32),
    ],
)
def test_instructions(memory: ProcessMemory, instructions: bytes, register: int, value: int) -> None:
    assert caller(memory, instructions)[register] == value


def test_what_is_not_known_of_the_caller(memory: ProcessMemory) -> None:
    assert 3 not in caller(memory, b"\x07\x03"), "undefined"
    assert 3 not in caller(memory, b"\x09\x03\x2f"), "a register that is not known"
    assert 16 not in caller(memory, b"\x0c\x07\x80\x80\x80\x10"), "a word that is not in the core"
    assert caller(memory, b"\x02\x05\x0e\x20", at=5)[7] == SP + 32, "from there on"


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x01" + bytes(8), b"\x0d\x06\x0f\x01\x30\x0d\x06", b"\x0c\x03", b"\x0c\x2f\x08", b"\x05\xff\x7f\x01", b"\x3e",
        b"\x0f\x00", b"\x0f\x02\x06\x06", b"\x10\x03\x02\x30\x06",
    ],
)  # fmt: skip
def test_instructions_that_cannot_be(memory: ProcessMemory, instructions: bytes) -> None:
    with pytest.raises(BadFrame):
        caller(memory, instructions)


def test_an_entry_without_a_frame_address(memory: ProcessMemory) -> None:
    fde = Fde(START, START + 16, Cie(1, -8, 16, 0, False, True, b""), b"", 0)
    with pytest.raises(BadFrame, match="no address"):
        apply(memory, row_at(memory, fde, START), REGISTERS, 7)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (b"\x08\xff", 255), (b"\x09\xff", (1 << 64) - 1), (b"\x0a\1\2", 0x201),
        (b"\x0d\xff\xff\xff\xff", (1 << 64) - 1),
        (b"\x0e" + bytes(7) + b"\1", 1 << 56), (b"\x03" + b"\7" + bytes(7), 7), (b"\x10\x81\1", 129),
        (b"\x11\x7f", (1 << 64) - 1), (b"\x77\x08\x06", 0x101), (b"\x92\x06\x01", 0x1235), (b"\x31\x12\x22", 2),
        (b"\x31\x32\x13", 1), (b"\x31\x32\x16\x1c", 1), (b"\x31\x23\x07", 8), (b"\x33\x35\x1e", 15),
        (b"\x33\x35\x27", 6),
        (b"\x33\x35\x21", 7), (b"\x33\x35\x2b", 0), (b"\x33\x35\x2c", 1), (b"\x33\x35\x2d", 1), (b"\x33\x35\x2e", 1),
        (b"\x33\x33\x29", 1), (b"\x34\x31\x25", 2), (b"\x31\x96", 1),
    ],
)  # fmt: skip
def test_operators(memory: ProcessMemory, expression: bytes, value: int) -> None:
    assert evaluate(memory, expression, REGISTERS, ()) == value


@pytest.mark.parametrize(
    "expression", [b"\x30\x06", b"\xe0", b"\x79\0", b"\x92\x2f\0", b"\x13", b"\x96", b"\x31" + b"\x96" * 300]
)
def test_expressions_that_come_to_nothing(memory: ProcessMemory, expression: bytes) -> None:
    with pytest.raises(BadFrame):
        evaluate(memory, expression, REGISTERS, ())
