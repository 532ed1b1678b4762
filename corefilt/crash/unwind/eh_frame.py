"""Call frame information: which entry (FDE) covers an address, by .eh_frame_hdr, .eh_frame or .debug_frame."""

from __future__ import annotations

import struct
from bisect import bisect_right

from corefilt.corefile.elf import PF_W, PT_LOAD
from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cursor import DW_EH_PE_OMIT, Cursor
from corefilt.crash.unwind.debug_frame import debug_frames
from corefilt.crash.unwind.entries import MOST_OF_A_RECORD, Cie, Fde, parse_cie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.crash.modules import Module
    from corefilt.crash.process_memory import ProcessMemory

PT_GNU_EH_FRAME = 0x6474E550
# The search table's entries are two signed offsets of 4 bytes from the header (all linkers write it so).
_SORTED = 0x3B
# Where there is no header, entries are walked: a static program has some thousands, at 2 microseconds each.
MOST_WALKED = 20_000
MOST_OF_A_SECTION = 8 << 20
# Where .eh_frame can begin: an identifier of zero, version 1 and augmentation "z".
_BEGIN = b"\0\0\0\0\x01z"


class Frames:
    """The call frame information of all modules, found as it is needed."""

    def __init__(self, memory: ProcessMemory) -> None:
        """Begin with nothing known."""
        self._memory = memory
        self._cies: dict[tuple[int, int], Cie] = {}
        self._walked: dict[int, tuple[list[int], list[Fde]]] = {}
        self._found: dict[int, Fde | None] = {}

    def at(self, address: int) -> Fde | None:
        """The entry that covers an address; None where there is none, or what there is cannot be used."""
        if address in self._found:
            return self._found[address]
        found: Fde | None = None
        module = self._memory.index.at(address)
        if module is not None and module.table is not None and module.bias is not None:
            header = next((i for i, p_type in enumerate(module.table.p_type) if p_type == PT_GNU_EH_FRAME), None)
            if header is not None:
                try:
                    found = self._by_header(module.bias + module.table.p_vaddr[header], address)
                except BadFrame:
                    found = None
            if found is None and (
                header is None or not self._memory.read(module.bias + module.table.p_vaddr[header], 4)
            ):
                found = self._by_walk(module, address)
            if found is None:
                found = self._by_debug_frame(module, address)
        self._found[address] = found
        return found

    def _by_header(self, start: int, address: int) -> Fde | None:
        memory = self._memory
        head = Cursor(memory, start, memory.read(start, 32))
        version, frame_encoding, count_encoding, table_encoding = head.take(4)
        if version != 1 or table_encoding != _SORTED or count_encoding == DW_EH_PE_OMIT:
            return None
        head.pointer(frame_encoding, start)
        count = head.pointer(count_encoding, start)
        table = start + head.at
        pair = struct.Struct(memory.order + "ii")
        low, high = 0, count
        # Each step halves what is left, of at most 64 bits.
        while low < high:
            middle = (low + high) // 2
            raw = memory.read(table + 8 * middle, 8)
            if len(raw) < 8:
                return None
            if start + pair.unpack(raw)[0] <= address:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        raw = memory.read(table + 8 * (low - 1), 8)
        fde = self._fde(start + pair.unpack(raw)[1]) if len(raw) == 8 else None
        return fde if fde is not None and fde.start <= address < fde.end else None

    def _fde(self, at: int) -> Fde | None:
        memory = self._memory
        length = memory.number(at, 4)
        if not length or length > MOST_OF_A_RECORD:
            return None
        raw = memory.read(at + 4, length)
        if len(raw) < length:
            return None
        cursor = Cursor(memory, at + 4, raw)
        pointer = cursor.number(4)
        return self._entry(cursor, self._cie(at + 4 - pointer, at + 4)) if pointer else None

    def _cie(self, at: int, before: int) -> Cie:
        """The common entry at an address, which stands before those that mean it."""
        if not 0 <= at < before:
            raise BadFrame("a CIE comes after the FDE that refers to it")
        if (at, 0) not in self._cies:
            memory = self._memory
            length = memory.number(at, 4)
            if not length or length > MOST_OF_A_RECORD:
                raise BadFrame("no common entry")
            raw = memory.read(at + 4, length)
            if len(raw) < length or raw[:4] != bytes(4):
                raise BadFrame("no common entry")
            cursor = Cursor(memory, at + 4, raw)
            cursor.at = 4
            self._cies[at, 0] = parse_cie(cursor)
        return self._cies[at, 0]

    @staticmethod
    def _entry(cursor: Cursor, cie: Cie) -> Fde:
        start = cursor.pointer(cie.encoding)
        size = cursor.pointer(cie.encoding & 0x0F)
        if cie.augmented:
            cursor.take(cursor.uleb())
        return Fde(start, start + size, cie, cursor.raw[cursor.at :], cursor.base + cursor.at)

    # --- without a header -------------------------------------------------------------------------------------

    def _by_walk(self, module: Module, address: int) -> Fde | None:
        if module.start not in self._walked:
            found = sorted(self._walk(module), key=lambda fde: fde.start)
            self._walked[module.start] = [fde.start for fde in found], found
        starts, fdes = self._walked[module.start]
        n = bisect_right(starts, address) - 1
        return fdes[n] if n >= 0 and address < fdes[n].end else None

    def _walk(self, module: Module) -> Iterator[Fde]:
        """All entries of the first section in a read-only segment that looks like .eh_frame."""
        table, bias, budget = module.table, module.bias, MOST_OF_A_SECTION
        if table is None or bias is None:
            return
        for i, p_type in enumerate(table.p_type):
            if p_type != PT_LOAD or table.p_flags[i] & PF_W:
                continue
            start = bias + table.p_vaddr[i]
            raw = self._memory.read(start, min(table.p_filesz[i], budget))
            budget -= len(raw)
            at = raw.find(_BEGIN)
            while at >= 0:
                if at >= 4 and at % 4 == 0:
                    found = list(self._records(start, raw, at - 4))
                    if found:
                        yield from found
                        return
                at = raw.find(_BEGIN, at + 1)

    def _records(self, base: int, raw: bytes, at: int) -> Iterator[Fde]:
        number = struct.Struct(self._memory.order + "I")
        for _ in range(MOST_WALKED):
            if at + 8 > len(raw):
                return
            (length,) = number.unpack_from(raw, at)
            if not 4 < length <= MOST_OF_A_RECORD or at + 4 + length > len(raw):
                return
            try:
                if number.unpack_from(raw, at + 4)[0]:
                    fde = self._fde(base + at)
                    if fde is not None:
                        yield fde
                else:
                    self._cie(base + at, base + at + 1)
            except BadFrame:
                return
            at += 4 + length

    # --- .debug_frame, which only the file has ------------------------------------------------------------------

    def _by_debug_frame(self, module: Module, address: int) -> Fde | None:
        key = -1 - module.start
        if key not in self._walked:
            files = self._memory.files
            file = files.file(module) if files is not None else None
            bias = module.bias or 0
            found = (
                sorted(debug_frames(self._memory, file, bias), key=lambda fde: fde.start) if file is not None else []
            )
            self._walked[key] = [fde.start for fde in found], found
        starts, fdes = self._walked[key]
        n = bisect_right(starts, address) - 1
        return fdes[n] if n >= 0 and address < fdes[n].end else None
