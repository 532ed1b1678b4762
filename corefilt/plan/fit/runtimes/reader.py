"""Reads a process's memory for a walk, checks each read, and takes note of what is to be kept."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import PF_W
from corefilt.corefile.images import headers, needs
from corefilt.crash.modules import go_build_id
from corefilt.evidence.sysroot import build_id_in, objection
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.images import ImageHeaders
    from corefilt.corefile.memory import Memory
    from corefilt.evidence.sysroot import MappedFile, Sysroot

    Range = tuple[int, int]

# What is read at a time and remembered; memory of 64 Ki of them is 256 MiB.
BLOCK = 4096
MOST_BLOCKS = 1 << 16
# What a walk may keep, in bytes, and how many steps it may take: 5,008 goroutines take 22 MB and 50,000 steps, a JVM
# with 113 threads 5 MB and 400,000.
MOST_KEPT = 256 << 20
MOST_STEPS = 1 << 23
# A string is at most this long.
MOST_OF_A_TEXT = 4096


class LostError(Exception):
    """A walk cannot go on from here: what it reads is not in the core, or is not what it should be."""


class TooMuchError(LostError):
    """A walk has no end in sight."""


class Files:
    """The mapped files from which is read what the core has not: unwritten parts of images, proven to be the same.

    A file is used when its first page equals the one that the core has and both have a note that names the build:
    GNU's, or Go's.
    """

    def __init__(self, core: CoreFile, memory: Memory, opened: Callable[[], Sysroot | None]) -> None:
        """Open nothing yet; ``opened`` gives the folder below which the files lie, once it is asked for."""
        self._core, self._memory, self._opened = core, memory, opened
        self._mapping_of = {i: m for m, i in enumerate(core.maps.phdr)}
        self._known: dict[bytes, tuple[MappedFile, ImageHeaders] | None] = {}
        self.refused: dict[bytes, str] = {}

    def path(self, address: int) -> bytes | None:
        """The file that is mapped at an address."""
        i = self._memory.find(address)
        return self._core.maps.path(self._mapping_of[i]) if i is not None else None

    def read(self, address: int, length: int) -> bytes:
        """Bytes of an unwritten part of an image, at most as many as its mapping has."""
        i = self._memory.find(address)
        if i is None or self._core.table.p_flags[i] & PF_W:
            return b""
        m = self._mapping_of[i]
        path, begins = self._core.maps.path(m), self._core.maps.file_offset(m)
        if path is None or begins is None:
            return b""
        if path not in self._known:
            self._known[path] = self._open(path)
        known = self._known[path]
        if known is None:
            return b""
        at = begins + address - self._memory.start(i)
        length = min(length, self._memory.end(i) - address)
        if not known[1].unwritten(at, at + length):
            return b""
        return self._ask(path, known[0], at, length)

    def file(self, path: bytes) -> Callable[[int, int], bytes] | None:
        """Read from the file of a name, by offset and length; None where it is not proven to be the one."""
        if path not in self._known:
            self._known[path] = self._open(path)
        known = self._known[path]
        return None if known is None else lambda at, length: self._ask(path, known[0], at, length)

    def close(self) -> None:
        """Close what was opened."""
        for known in self._known.values():
            if known is not None:
                known[0].close()

    def _ask(self, path: bytes, file: MappedFile, at: int, length: int) -> bytes:
        try:
            return file.read(at, length)
        except NotUsable as error:
            self.refused[path] = str(error)
            return b""

    def _open(self, path: bytes) -> tuple[MappedFile, ImageHeaders] | None:
        core = self._core
        head = next(
            (i for m, i in enumerate(core.maps.phdr) if core.maps.path(m) == path and core.maps.file_offset(m) == 0),
            None,
        )
        page = core.maps.page_size
        first = self._memory.read(self._memory.start(head), page) if head is not None else b""
        where = needs(first)
        if where is None or sum(where) > len(first):
            self.refused[path] = "the core has no ELF header of it"
            return None
        if build_id_in(first) is None and go_build_id(lambda at, length: first[at : at + length]) is None:
            self.refused[path] = "the core has no build-id of it"
            return None
        sysroot = self._opened()
        if sysroot is None:
            self.refused[path] = "it was not looked for"
            return None
        try:
            file = sysroot.find(path)
        except NotUsable as error:
            self.refused[path] = str(error)
            return None
        try:
            reason = objection(file, first=first, page_size=page)
            if reason is None and file.read(0, page) != first:
                reason = "does not begin as what was mapped"
            found = headers(first, first[where[0] : sum(where)], page) if reason is None else None
        except NotUsable as error:
            reason, found = str(error), None
        if found is None:
            self.refused[path] = reason or "is no image"
            file.close()
            return None
        return file, found


class MemoryReader:
    """Memory by address; what is not there raises LostError. ``keep`` takes note of ranges, in bytes."""

    def __init__(self, core: CoreFile, memory: Memory, files: Files) -> None:
        """Read from the core, and from the files what it has not."""
        self.core, self.memory, self.files = core, memory, files
        self.word = memory.word
        self.order = core.ehdr.order
        self._byteorder: Literal["big", "little"] = "big" if core.ehdr.big else "little"
        self._blocks: dict[int, bytes] = {}
        self._kept: dict[int, None] = {}
        self._steps = 0

    def fresh(self) -> MemoryReader:
        """The same memory, and nothing kept."""
        other = MemoryReader(self.core, self.memory, self.files)
        other._blocks = self._blocks
        return other

    def ranges(self) -> list[Range]:
        """What was kept, in ascending ranges of whole blocks."""
        found: list[Range] = []
        for n in sorted(self._kept):
            if found and found[-1][1] == n * BLOCK:
                found[-1] = found[-1][0], (n + 1) * BLOCK
            else:
                found.append((n * BLOCK, (n + 1) * BLOCK))
        return found

    def keep(self, address: int, length: int) -> None:
        """Keep some bytes, whether or not the core holds them."""
        if length <= 0 or not 0 < address < 1 << 64:
            return
        self.step()
        if length > MOST_KEPT or len(self._kept) > MOST_KEPT // BLOCK:
            raise TooMuchError(f"it leads to more than {MOST_KEPT >> 20} MiB")
        for n in range(address // BLOCK, (address + length - 1) // BLOCK + 1):
            self._kept[n] = None

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooMuchError(f"it takes more than {MOST_STEPS} steps")

    def _block(self, n: int) -> bytes:
        block = self._blocks.get(n)
        if block is None:
            if len(self._blocks) >= MOST_BLOCKS:
                raise TooMuchError(f"it looks at more than {MOST_BLOCKS * BLOCK >> 20} MiB")
            block = self.memory.read(n * BLOCK, BLOCK)
            if not block:
                block = self.files.read(n * BLOCK, BLOCK)
            self._blocks[n] = block
        return block

    def data(self, address: int, length: int) -> bytes:
        """Exactly so many bytes. Raises LostError."""
        self.step()
        if address < 0 or length > 1 << 26:
            raise LostError(f"no {length} bytes at {address:#x}")
        n, at = divmod(address, BLOCK)
        found = self._block(n)[at : at + length]
        if len(found) == length:
            return found
        pieces = [found]
        left = length - len(found)
        if at + len(found) < BLOCK:
            raise LostError(f"{address:#x} is not in the core")
        while left > 0:
            n += 1
            piece = self._block(n)[:left]
            if len(piece) < min(left, BLOCK):
                raise LostError(f"{n * BLOCK:#x} is not in the core")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def number(self, address: int, size: int, *, signed: bool = False) -> int:
        """A number of ``size`` bytes. Raises LostError."""
        return int.from_bytes(self.data(address, size), self._byteorder, signed=signed)

    def pointer(self, address: int) -> int:
        """A word. Raises LostError."""
        return self.number(address, self.word)

    def words(self, address: int, count: int) -> list[int]:
        """So many words. Raises LostError."""
        data = self.data(address, count * self.word)
        return list(struct.unpack(f"{self.order}{count}{'Q' if self.word == 8 else 'I'}", data))

    def has(self, address: int, length: int = 1) -> bool:
        """Whether so many bytes can be read."""
        try:
            self.data(address, length)
        except LostError:
            return False
        return True

    def text(self, address: int, most: int = MOST_OF_A_TEXT) -> bytes:
        """The bytes up to the first NUL. Raises LostError where there is none within ``most`` bytes."""
        found = b""
        while len(found) < most:
            n, at = divmod(address + len(found), BLOCK)
            piece = self._block(n)[at:]
            if not piece:
                raise LostError(f"{address:#x} is no text")
            before, nul, _ = piece.partition(b"\0")
            found += before
            if nul:
                return found[:most]
        raise LostError(f"the text at {address:#x} has no end")

    def keep_text(self, address: int, most: int = MOST_OF_A_TEXT) -> bytes:
        """Keep a text; returns it. Raises LostError."""
        found = self.text(address, most)
        self.keep(address, len(found) + 1)
        return found
