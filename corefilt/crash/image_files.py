"""Reads what a core lacks of the ELF files that were loaded, from files of the same build."""

from __future__ import annotations

from corefilt.corefile.elf import PF_W, PT_LOAD
from corefilt.crash.modules import go_build_id
from corefilt.errors import EvidenceError
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.crash.modules import Module, ModuleIndex
    from corefilt.evidence.sysroot import MappedFile, Sysroot

# A backtrace of ten frames asks 22 times with blocks alone, of 30 microseconds each.
WINDOW = 1 << 16
MOST_WINDOWS = 512
# Files that are opened for one core: the frames of a backtrace lie in some ten modules.
MOST_FILES = 64


class ImageFiles:
    """The files of modules, opened as they are asked for.

    Only a file that has the build-id that the core names, GNU's or Go's, stands for a module. ``used`` tells that some
    bytes came from one; ``refused`` says by the path why a file did not serve.
    """

    def __init__(self, index: ModuleIndex, opened: Callable[[], Sysroot | None]) -> None:
        """Open nothing yet; ``opened`` gives the folder below which the files lie, once it is asked for."""
        self.used = False
        self.refused: dict[bytes, str] = {}
        self._index, self._opened = index, opened
        self._windows: dict[tuple[int, int], bytes] = {}
        self._files: dict[int, MappedFile | None] = {}

    def read(self, address: int, length: int) -> bytes:
        """Bytes of a segment that nobody writes to, at most as many as it has in the file."""
        module = self._index.at(address)
        if module is None:
            return b""
        if module.table is None or module.bias is None:
            self._refuse(module, "its ELF header is not in the core")
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
                except NotUsable as error:
                    self._refuse(module, str(error))
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

    def file_at(self, address: int) -> MappedFile | None:
        """The file of the module at an address, if one of the same build can be opened."""
        module = self._index.at(address)
        return self.file(module) if module is not None else None

    def file(self, module: Module) -> MappedFile | None:
        """The module's file, if one of the same build can be opened."""
        if module.start not in self._files:
            self._files[module.start] = self._find(module)
        return self._files[module.start]

    def _find(self, module: Module) -> MappedFile | None:
        if module.path is None or len(self._files) >= MOST_FILES:
            return None
        if not (module.build_id or module.go_id):
            self._refuse(module, "its build-id is not in the core")
            return None
        sysroot = self._opened()
        if sysroot is None:
            self._refuse(module, "files are not searched for this core")
            return None
        try:
            if module.build_id is not None:
                return sysroot.find(module.path, build_id=module.build_id)
            file = sysroot.find(module.path)
            if go_build_id(file.read) == module.go_id:
                return file
            file.close()
            self._refuse(module, "is from another build")
        except EvidenceError as error:
            self._refuse(module, str(error))
        return None

    def _refuse(self, module: Module, why: str) -> None:
        if module.path is not None:
            self.refused.setdefault(module.path, why)

    def close(self) -> None:
        """Give the files back."""
        for file in self._files.values():
            if file is not None:
                file.close()
        self._files.clear()
