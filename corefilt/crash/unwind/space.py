"""The process's memory for an unwinder: as the core holds it, else as the loaded files do."""

from __future__ import annotations

from corefilt.corefile.elf import PF_W, PT_LOAD
from corefilt.crash.modules import go_build_id
from corefilt.errors import EvidenceError
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory
    from corefilt.crash.modules import Module, ModuleIndex
    from corefilt.evidence.sysroot import MappedFile, Sysroot

BLOCK = 4096
# Blocks that are held, 32 MiB: a backtrace needs some hundred.
MOST_BLOCKS = 1 << 13
# A backtrace of ten frames asks 22 times with blocks alone, of 30 microseconds each.
WINDOW = 1 << 16
MOST_WINDOWS = 512
# Files that are opened for one core: the frames of a backtrace lie in some ten modules.
MOST_FILES = 64


class Space:
    """Memory by address, in blocks that are read once.

    What the core does not hold comes from a file of the same build-id, from segments that nobody writes to; ``used``
    tells that some did.
    """

    def __init__(self, core: CoreFile, memory: Memory, index: ModuleIndex, sysroot: Sysroot | None = None) -> None:
        """Begin with nothing read; ``sysroot`` None opens no file."""
        self.core, self.memory, self.index = core, memory, index
        self.word_size = memory.word
        self.mask = (1 << 8 * memory.word) - 1
        self.order = core.ehdr.order
        self.byteorder = "big" if core.ehdr.big else "little"
        self.used = False
        self._sysroot = sysroot
        self._blocks: dict[int, bytes] = {}
        self._windows: dict[tuple[int, int], bytes] = {}
        self._files: dict[int, MappedFile | None] = {}

    def read(self, address: int, length: int) -> bytes:
        """Up to ``length`` bytes at an address; fewer where neither the core nor a file has them."""
        if length <= 0 or not 0 <= address <= self.mask:
            return b""
        at = address % BLOCK
        block = self._block(address - at)
        found = block[at : at + length]
        while len(found) < length and len(block) == BLOCK:
            block = self._block(address + len(found))
            if not block:
                break
            found += block[: length - len(found)]
        return found

    def read_through(self, address: int, length: int) -> bytes:
        """As read, for much that is looked at once: nothing of it is kept."""
        data = self.memory.read(address, length)
        return data + self._from_file(address + len(data), length - len(data)) if len(data) < length else data

    def word(self, address: int) -> int | None:
        """The word at an address, or None."""
        raw = self.read(address & self.mask, self.word_size)
        return int.from_bytes(raw, "big" if self.core.ehdr.big else "little") if len(raw) == self.word_size else None

    def number(self, address: int, size: int) -> int | None:
        """An unsigned number of ``size`` bytes at an address, or None."""
        raw = self.read(address, size)
        return int.from_bytes(raw, "big" if self.core.ehdr.big else "little") if len(raw) == size else None

    def flags(self, address: int) -> int | None:
        """The p_flags of the mapping at an address; None where nothing is mapped."""
        i = self.memory.find(address)
        return None if i is None else self.core.table.p_flags[i]

    def _block(self, start: int) -> bytes:
        known = self._blocks.get(start)
        if known is not None:
            return known
        if len(self._blocks) >= MOST_BLOCKS:
            return b""
        data = self.memory.read(start, BLOCK)
        if len(data) < BLOCK:
            data += self._from_file(start + len(data), BLOCK - len(data))
        self._blocks[start] = data
        return data

    def _from_file(self, address: int, length: int) -> bytes:
        module = self.index.at(address)
        if module is None or module.table is None or module.bias is None:
            return b""
        table, at = module.table, address - module.bias
        for i, p_type in enumerate(table.p_type):
            if p_type != PT_LOAD or table.p_flags[i] & PF_W or not table.p_vaddr[i] <= at:
                continue
            left = table.p_vaddr[i] + table.p_filesz[i] - at
            file = self.file(module) if left > 0 else None
            if file is not None:
                try:
                    data = self._windowed(file, module, table.p_offset[i] + at - table.p_vaddr[i], min(left, length))
                except NotUsable:
                    self._files[module.start] = None
                    return b""
                self.used = self.used or bool(data)
                return data
        return b""

    def _windowed(self, file: MappedFile, module: Module, offset: int, length: int) -> bytes:
        """Bytes of a file, which are read in windows that are kept: every read is a question to another process."""
        if length > WINDOW:
            return file.read(offset, length)
        found = b""
        while len(found) < length:
            start = (offset + len(found)) // WINDOW * WINDOW
            key = module.start, start
            if key not in self._windows:
                if len(self._windows) >= MOST_WINDOWS:
                    break
                self._windows[key] = file.read(start, WINDOW)
            at = offset + len(found) - start
            piece = self._windows[key][at : at + length - len(found)]
            if not piece:
                break
            found += piece
        return found

    def file(self, module: Module) -> MappedFile | None:
        """The module's file, if one of the same build-id can be opened."""
        if module.start in self._files:
            return self._files[module.start]
        found: MappedFile | None = None
        if self._sysroot is not None and module.path is not None and len(self._files) < MOST_FILES:
            found = self._find(module, self._sysroot)
        self._files[module.start] = found
        return found

    def _find(self, module: Module, sysroot: Sysroot) -> MappedFile | None:
        if module.path is None or not (module.build_id or module.go_id):
            return None
        try:
            if module.build_id is not None:
                return sysroot.find(module.path, build_id=module.build_id)
            file = sysroot.find(module.path)
            if go_build_id(file.read) == module.go_id:
                return file
            file.close()
        except EvidenceError:
            # Not there, or of another build: the core has to do.
            return None
        return None

    def close(self) -> None:
        """Give the files back."""
        for file in self._files.values():
            if file is not None:
                file.close()
        self._files.clear()
