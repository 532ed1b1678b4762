"""Functions of a Go program by its own table (pclntab), which every build has, stripped or not."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import PF_W, PT_LOAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.crash.modules import Module
    from corefilt.crash.process_memory import ProcessMemory

# pcHeader.magic of runtime/symtab.go: Go 1.18 and 1.19, and since Go 1.20.
_MAGICS = (0xFFFFFFF0, 0xFFFFFFF1)
# Where it is searched: read-only segments of large programs have some 50 MiB. A window takes 0.3 ms.
MOST_SEARCHED = 128 << 20
_WINDOW = 1 << 20
MOST_FUNCTIONS = 1 << 22
MOST_OF_A_NAME = 512


class GoTable:
    """The table of one program: which function an address is in."""

    __slots__ = ("_at", "_count", "_memory", "_names", "_pair", "_table", "_text")

    def __init__(self, memory: ProcessMemory, at: int) -> None:
        """Read the header at an address. Raises ValueError for what is none."""
        word = memory.word_size
        raw = memory.read(at, 8 + 8 * word)
        if len(raw) < 8 + 8 * word:
            raise ValueError("no table")
        form = struct.Struct(memory.order + ("8Q" if word == 8 else "8I"))
        count, _, text, names, _, _, _, table = form.unpack_from(raw, 8)
        if not 0 < count <= MOST_FUNCTIONS or not text:
            raise ValueError("no table")
        self._memory, self._at, self._count, self._text = memory, at, count, text
        self._names, self._table = at + names, at + table
        self._pair = struct.Struct(memory.order + "II")

    def function(self, address: int) -> tuple[int, bytes] | None:
        """The function's start and name, or None."""
        wanted, low, high = address - self._text, 0, self._count
        while low < high:
            middle = (low + high) // 2
            entry = self._entry(middle)
            if entry is None:
                return None
            if entry[0] <= wanted:
                low = middle + 1
            else:
                high = middle
        entry, behind = self._entry(low - 1) if low else None, self._entry(low)
        if entry is None or behind is None or not entry[0] <= wanted < behind[0]:
            return None
        name_at = self._memory.number(self._table + entry[1] + 4, 4)
        if name_at is None:
            return None
        name = self._memory.read(self._names + name_at, MOST_OF_A_NAME).partition(b"\0")[0]
        return self._text + entry[0], name

    def _entry(self, n: int) -> tuple[int, int] | None:
        raw = self._memory.read(self._table + 8 * n, 8)
        if len(raw) < 8:
            return (self._memory.number(self._table + 8 * n, 4) or 0, 0) if n == self._count else None
        found: tuple[int, int] = self._pair.unpack(raw)
        return found


def go_table(memory: ProcessMemory, module: Module) -> GoTable | None:
    """The table in a module's read-only segments, or None."""
    if module.table is None or module.bias is None:
        return None
    magics = [struct.pack(memory.order + "I", magic) + b"\0\0" for magic in _MAGICS]
    sizes = bytes([memory.word_size])
    left = MOST_SEARCHED
    for i, p_type in enumerate(module.table.p_type):
        if p_type != PT_LOAD or module.table.p_flags[i] & PF_W:
            continue
        start, size = module.bias + module.table.p_vaddr[i], module.table.p_filesz[i]
        for at in range(0, min(size, left), _WINDOW):
            raw = memory.read_through(start + at, min(_WINDOW + 16, size - at))
            for magic in magics:
                found = raw.find(magic)
                while found >= 0:
                    if raw[found + 6 : found + 7] in (b"\1", b"\2", b"\4") and raw[found + 7 : found + 8] == sizes:
                        try:
                            return GoTable(memory, start + at + found)
                        except ValueError:
                            pass
                    found = raw.find(magic, found + 1)
        left -= min(size, left)
    return None
