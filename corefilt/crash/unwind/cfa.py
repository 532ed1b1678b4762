"""Runs call frame instructions and the expressions in them (DWARF 5, 6.4.2 and 2.5)."""

from __future__ import annotations

import struct

from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cursor import Cursor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from corefilt.crash.process_memory import ProcessMemory
    from corefilt.crash.unwind.entries import Fde

    # How a register is found: "offset" from the CFA, "value" of that, "register", "expression", "computed", "same" or
    # "undefined".
    RegisterRule: TypeAlias = tuple[str, int] | tuple[str, bytes] | tuple[str]
    Registers: TypeAlias = dict[int, int]

# remember_state is never nested deeper than a few times in code that compilers write.
MOST_REMEMBERED = 32
# DWARF's numbers of registers stay far below that (ppc's vectors end at 1155).
MOST_REGISTER = 2048
MOST_EVALUATED = 256


class UnwindRow:
    """The rules at one address: that of the canonical frame address, and one for each register."""

    __slots__ = ("cfa", "rules")

    def __init__(self) -> None:
        """Begin without any."""
        self.cfa: tuple[int, int] | bytes | None = None
        self.rules: dict[int, RegisterRule] = {}

    def copy(self) -> UnwindRow:
        """The same rules, apart."""
        row = UnwindRow()
        row.cfa, row.rules = self.cfa, dict(self.rules)
        return row


def row_at(memory: ProcessMemory, fde: Fde, address: int) -> UnwindRow:
    """The rules at an address that the entry covers. Raises BadFrame."""
    first = UnwindRow()
    _run(Cursor(memory, 0, fde.cie.instructions), fde, first, None, None)
    row = first.copy()
    _run(Cursor(memory, fde.base, fde.instructions), fde, row, first, address)
    return row


def _register(cursor: Cursor) -> int:
    number = cursor.uleb()
    if number > MOST_REGISTER:
        raise BadFrame(f"there is no register {number}")
    return number


def _run(cursor: Cursor, fde: Fde, row: UnwindRow, first: UnwindRow | None, until: int | None) -> None:
    """Run instructions up to the address; every turn takes a byte at least."""
    cie, location = fde.cie, fde.start
    remembered: list[UnwindRow] = []
    while cursor.at < len(cursor.raw):
        op = cursor.byte()
        high, low = op & 0xC0, op & 0x3F
        advance = -1
        if high == 0x40:
            advance = low * cie.code_align
        elif high == 0x80:
            row.rules[low] = ("offset", cursor.uleb() * cie.data_align)
        elif high == 0xC0:
            _restore(row, first, low)
        elif op in (0x02, 0x03, 0x04):
            advance = cursor.number(1 << op - 2) * cie.code_align
        elif op == 0x01:
            advance = cursor.pointer(cie.encoding) - location
            if advance < 0:
                raise BadFrame("goes back")
        elif op == 0x00:
            continue
        elif op == 0x0A:
            if len(remembered) == MOST_REMEMBERED:
                raise BadFrame("saves too many states")
            remembered.append(row.copy())
        elif op == 0x0B:
            if not remembered:
                raise BadFrame("restores a state that was not saved")
            before = remembered.pop()
            row.cfa, row.rules = before.cfa, before.rules
        else:
            _define(op, cursor, cie.data_align, row, first)
        if advance >= 0:
            location += advance
            if until is not None and location > until:
                return


def _restore(row: UnwindRow, first: UnwindRow | None, register: int) -> None:
    if first is not None and register in first.rules:
        row.rules[register] = first.rules[register]
    else:
        row.rules.pop(register, None)


def _define(op: int, cursor: Cursor, align: int, row: UnwindRow, first: UnwindRow | None) -> None:
    """The instructions that say how something is found."""
    if op == 0x0C:
        row.cfa = _register(cursor), cursor.uleb()
    elif op == 0x12:
        row.cfa = _register(cursor), cursor.sleb() * align
    elif op in (0x0D, 0x0E, 0x13):
        if not isinstance(row.cfa, tuple):
            raise BadFrame("changes a rule that does not exist")
        if op == 0x0D:
            row.cfa = _register(cursor), row.cfa[1]
        else:
            row.cfa = row.cfa[0], cursor.uleb() if op == 0x0E else cursor.sleb() * align
    elif op == 0x0F:
        row.cfa = cursor.take(cursor.uleb())
    elif op in (0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x11, 0x14, 0x15, 0x16, 0x2F):
        # The register stands before what is said of it.
        _define_register(op, cursor, _register(cursor), align, row, first)
    elif op == 0x2E:
        cursor.uleb()
    elif op != 0x2D:
        # 0x2D tells that arm64's return address is signed from here on, or that SPARC's window is saved.
        raise BadFrame(f"instruction {op:#x} is not known")


def _define_register(
    op: int, cursor: Cursor, register: int, align: int, row: UnwindRow, first: UnwindRow | None
) -> None:
    """Those that say how a register is found."""
    if op == 0x05:
        row.rules[register] = ("offset", cursor.uleb() * align)
    elif op == 0x11:
        row.rules[register] = ("offset", cursor.sleb() * align)
    elif op == 0x2F:
        row.rules[register] = ("offset", -cursor.uleb() * align)
    elif op == 0x14:
        row.rules[register] = ("value", cursor.uleb() * align)
    elif op == 0x15:
        row.rules[register] = ("value", cursor.sleb() * align)
    elif op == 0x06:
        _restore(row, first, register)
    elif op == 0x07:
        row.rules[register] = ("undefined",)
    elif op == 0x08:
        row.rules[register] = ("same",)
    elif op == 0x09:
        row.rules[register] = ("register", _register(cursor))
    elif op == 0x10:
        row.rules[register] = ("expression", cursor.take(cursor.uleb()))
    elif op == 0x16:
        row.rules[register] = ("computed", cursor.take(cursor.uleb()))


def apply(memory: ProcessMemory, row: UnwindRow, registers: Registers, sp: int) -> tuple[Registers, int]:
    """The caller's registers, as far as they are known, and the canonical frame address. Raises BadFrame."""
    mask = memory.mask
    if isinstance(row.cfa, tuple):
        base = registers.get(row.cfa[0])
        if base is None:
            raise BadFrame("the frame's address is not known")
        cfa = base + row.cfa[1] & mask
    elif row.cfa is not None:
        cfa = evaluate(memory, row.cfa, registers, ())
    else:
        raise BadFrame("the frame has no address")
    caller = dict(registers)
    caller[sp] = cfa
    for register, rule in row.rules.items():
        value = _value(memory, rule, registers, cfa)
        if rule[0] == "same":
            continue
        if value is None:
            caller.pop(register, None)
        else:
            caller[register] = value & mask
    return caller, cfa


def _value(memory: ProcessMemory, rule: RegisterRule, registers: Registers, cfa: int) -> int | None:
    how, what = rule[0], rule[1] if len(rule) > 1 else None
    if isinstance(what, int):
        if how == "offset":
            return memory.word(cfa + what)
        return cfa + what if how == "value" else registers.get(what)
    if isinstance(what, bytes):
        found = evaluate(memory, what, registers, (cfa,))
        return memory.word(found) if how == "expression" else found
    return None


# Operators of two operands.
_TWO: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b, 0x1C: lambda a, b: a - b, 0x1E: lambda a, b: a * b, 0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b, 0x27: lambda a, b: a ^ b, 0x29: lambda a, b: int(a == b), 0x2A: lambda a, b: int(a >= b),
    0x2B: lambda a, b: int(a > b), 0x2C: lambda a, b: int(a <= b), 0x2D: lambda a, b: int(a < b),
    0x2E: lambda a, b: int(a != b), 0x24: lambda a, b: a << min(b, 64), 0x25: lambda a, b: a >> min(b, 64),
}  # fmt: skip
_CONSTANTS = {0x08: "B", 0x09: "b", 0x0A: "H", 0x0B: "h", 0x0C: "I", 0x0D: "i", 0x0E: "Q", 0x0F: "q"}


def evaluate(memory: ProcessMemory, expression: bytes, registers: Registers, first: tuple[int, ...]) -> int:
    """What an expression comes to, with ``first`` on its stack; each operator is run once. Raises BadFrame."""
    stack, mask = list(first), memory.mask
    cursor = Cursor(memory, 0, expression)
    for _ in range(MOST_EVALUATED):
        if cursor.at >= len(expression):
            if stack:
                return stack[-1]
            break
        op = cursor.byte()
        try:
            if 0x30 <= op <= 0x4F:
                stack.append(op - 0x30)
            elif 0x70 <= op <= 0x8F:
                stack.append(registers[op - 0x70] + cursor.sleb() & mask)
            elif op == 0x92:
                stack.append(registers[cursor.uleb()] + cursor.sleb() & mask)
            elif op in _CONSTANTS:
                form = struct.Struct(memory.order + _CONSTANTS[op])
                stack.append(form.unpack(cursor.take(form.size))[0] & mask)
            elif op == 0x03:
                stack.append(cursor.number(memory.word_size))
            elif op == 0x10:
                stack.append(cursor.uleb() & mask)
            elif op == 0x11:
                stack.append(cursor.sleb() & mask)
            elif op == 0x06:
                value = memory.word(stack.pop())
                if value is None:
                    raise BadFrame("what an expression reads is not in the core")
                stack.append(value)
            elif op == 0x12:
                stack.append(stack[-1])
            elif op == 0x13:
                stack.pop()
            elif op == 0x16:
                stack[-1], stack[-2] = stack[-2], stack[-1]
            elif op == 0x23:
                stack[-1] = stack[-1] + cursor.uleb() & mask
            elif op in _TWO:
                right, left = stack.pop(), stack.pop()
                stack.append(_TWO[op](left, right) & mask)
            elif op != 0x96:
                raise BadFrame(f"operator {op:#x} is not known")
        except (IndexError, KeyError):
            raise BadFrame("an expression lacks an operand") from None
    raise BadFrame("an expression has no result")
