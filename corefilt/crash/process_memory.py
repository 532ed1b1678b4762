"""The process's memory by address: as the core holds it, else as the loaded files do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory
    from corefilt.crash.image_files import ImageFiles
    from corefilt.crash.modules import ModuleIndex

# How far below the fault address of a stack that has run over its stack pointer can be, and above it.
OVERRUN = 64 << 10
BLOCK = 4096
# Blocks that are held, 32 MiB: a backtrace needs some hundred.
MOST_BLOCKS = 1 << 13


class ProcessMemory:
    """Memory in blocks of BLOCK bytes that are read once."""

    def __init__(
        self,
        core: CoreFile,
        memory: Memory,
        index: ModuleIndex,
        files: ImageFiles | None,
        most_blocks: int = MOST_BLOCKS,
    ) -> None:
        """Begin with nothing read; ``files`` None opens no file, ``most_blocks`` is how many are held."""
        self.core, self.memory, self.index, self.files = core, memory, index, files
        self.word_size: int = memory.word
        self.mask = (1 << 8 * memory.word) - 1
        self.order = core.ehdr.order
        self.byteorder: Literal["big", "little"] = "big" if core.ehdr.big else "little"
        self._most_blocks = most_blocks
        self._blocks: dict[int, bytes] = {}

    @property
    def used_files(self) -> bool:
        """Whether any bytes came from a file."""
        return self.files is not None and self.files.used

    @property
    def full(self) -> bool:
        """Whether as many blocks are held as may be: others read as none."""
        return len(self._blocks) >= self._most_blocks

    def read(self, address: int, length: int) -> bytes:
        """Up to ``length`` bytes at an address; fewer where neither the core nor a file has them."""
        if length <= 0 or not 0 <= address <= self.mask:
            return b""
        at = address % BLOCK
        block = self.block(address - at)
        found = block[at : at + length]
        if len(found) == length or len(block) < BLOCK:
            return found
        pieces, left = [found], length - len(found)
        while left > 0 and len(block) == BLOCK:
            block = self.block(address + length - left)
            pieces.append(block[:left])
            left -= len(pieces[-1])
        return b"".join(pieces)

    def read_through(self, address: int, length: int) -> bytes:
        """As read, for much that is looked at once: nothing of it is kept."""
        data = self.memory.read(address, length)
        return data + self._from_file(address + len(data), length - len(data)) if len(data) < length else data

    def word(self, address: int) -> int | None:
        """The word at an address, or None."""
        return self.number(address & self.mask, self.word_size)

    def number(self, address: int, size: int) -> int | None:
        """An unsigned number of ``size`` bytes at an address, or None."""
        raw = self.read(address, size)
        return int.from_bytes(raw, self.byteorder) if len(raw) == size else None

    def flags(self, address: int) -> int | None:
        """The p_flags of the mapping at an address; None where nothing is mapped."""
        i = self.memory.find(address)
        return None if i is None else self.core.table.p_flags[i]

    def block(self, start: int) -> bytes:
        """The block that begins at an address, as far as it can be had."""
        known = self._blocks.get(start)
        if known is not None:
            return known
        if self.full:
            return b""
        data = self.read_through(start, BLOCK)
        self._blocks[start] = data
        return data

    def _from_file(self, address: int, length: int) -> bytes:
        return self.files.read(address, length) if self.files is not None else b""
