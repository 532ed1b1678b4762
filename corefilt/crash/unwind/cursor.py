"""Reads call frame information out of bytes: numbers, LEB128 and encoded pointers."""

from __future__ import annotations

from corefilt.crash.unwind.bad import BadFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.crash.process_memory import ProcessMemory

DW_EH_PE_OMIT, DW_EH_PE_INDIRECT = 0xFF, 0x80
_PCREL, _DATAREL = 0x10, 0x30
# Bytes and sign of a format (Linux Standard Base 5, "DWARF Exception Header Encoding"); 1 and 9 are LEB128.
_FORMATS = {0x2: (2, False), 0x3: (4, False), 0x4: (8, False), 0xA: (2, True), 0xB: (4, True), 0xC: (8, True)}
# A number of 64 bits takes ten bytes.
_MOST_LEB128 = 10


class Cursor:
    """Bytes from an address on, and where in them reading goes on. Raises BadFrame where they end."""

    __slots__ = ("_big", "_word", "at", "base", "raw")

    def __init__(self, memory: ProcessMemory, base: int, raw: bytes) -> None:
        """Take the bytes at ``base``."""
        self.base, self.raw, self.at = base, raw, 0
        self._word, self._big = memory.word_size, memory.core.ehdr.big

    def take(self, count: int) -> bytes:
        """The next bytes."""
        found = self.raw[self.at : self.at + count]
        if len(found) < count:
            raise BadFrame("ends too soon")
        self.at += count
        return found

    def byte(self) -> int:
        """The next byte."""
        if self.at >= len(self.raw):
            raise BadFrame("ends too soon")
        self.at += 1
        return self.raw[self.at - 1]

    def number(self, size: int, *, signed: bool = False) -> int:
        """A number of a fixed size in bytes."""
        return int.from_bytes(self.take(size), "big" if self._big else "little", signed=signed)

    def uleb(self) -> int:
        """An unsigned LEB128."""
        value = 0
        for n in range(_MOST_LEB128):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * n
            if byte < 0x80:
                return value
        raise BadFrame("a number has no end")

    def sleb(self) -> int:
        """A signed LEB128."""
        value = 0
        for n in range(_MOST_LEB128):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * n
            if byte < 0x80:
                return value - (1 << 7 * (n + 1)) if byte & 0x40 else value
        raise BadFrame("a number has no end")

    def pointer(self, encoding: int, data: int = 0) -> int:
        """An encoded pointer (DW_EH_PE_*), not followed where it is indirect; ``data`` is what DATAREL means."""
        here, form = self.base + self.at, encoding & 0x0F
        if form == 0:
            value = self.number(self._word)
        elif form == 1:
            value = self.uleb()
        elif form == 9:
            value = self.sleb()
        elif form in _FORMATS:
            size, signed = _FORMATS[form]
            value = self.number(size, signed=signed)
        else:
            raise BadFrame(f"encoding {encoding:#x} is not known")
        how = encoding & 0x70
        value += here if how == _PCREL else data if how == _DATAREL else 0
        return value & (1 << 8 * self._word) - 1
