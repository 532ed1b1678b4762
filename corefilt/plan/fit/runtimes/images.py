"""Images of a process and their symbols: dynamic ones as they lie in memory, the others as the file has them."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import (
    DT_GNU_HASH,
    DT_HASH,
    DT_NULL,
    DT_STRTAB,
    DT_SYMTAB,
    PT_DYNAMIC,
    PT_INTERP,
    PT_LOAD,
    SHT_SYMTAB,
    Ehdr,
    Phdrs,
)
from corefilt.corefile.images import needs
from corefilt.io.named_files import NotUsable
from corefilt.plan.fit.runtimes.reader import LostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.evidence.sysroot import MappedFile
    from corefilt.plan.fit.runtimes.reader import MemoryReader

MOST_DYNAMIC = 4096
# A chain of a hash table has a few symbols; a symbol table of 64-bit entries some 100,000.
MOST_IN_A_CHAIN = 1 << 16
MOST_SYMBOLS = 1 << 22
PIECE = 1 << 20
SYMBOL = 24


class LoadedImage:
    """An ELF image where it was loaded: ``start`` is where its first page is, ``bias`` address less p_vaddr."""

    def __init__(self, reader: MemoryReader, path: bytes, start: int) -> None:
        """Read its headers. Raises LostError."""
        self._reader, self.path, self.start = reader, path, start
        first = reader.data(start, 64)
        where = needs(first)
        if where is None:
            raise LostError(f"{start:#x} begins no image")
        self.ehdr = Ehdr(first)
        if not self.ehdr.wide or self.ehdr.big != reader.core.ehdr.big:
            raise LostError(f"{start:#x} begins an image of another class")
        self.table = Phdrs.decode(reader.data(start + where[0], where[1]), self.ehdr)
        loads = [k for k, p_type in enumerate(self.table.p_type) if p_type == PT_LOAD]
        self.bias = start - next((self.table.p_vaddr[k] for k in loads if not self.table.p_offset[k]), 0)
        self._dynamic: dict[int, int] | None = None

    @property
    def is_static(self) -> bool:
        """Whether it is a program that no dynamic linker loads libraries for."""
        return PT_INTERP not in self.table.p_type

    def segments(self) -> Iterator[tuple[int, int, int]]:
        """The PT_LOADs: first address, address behind, p_flags."""
        table = self.table
        for k, p_type in enumerate(table.p_type):
            if p_type == PT_LOAD:
                start = self.bias + table.p_vaddr[k]
                yield start, start + table.p_memsz[k], table.p_flags[k]

    def symbol(self, name: bytes) -> int | None:
        """The address of a dynamic symbol, None where the image has no such. Raises LostError."""
        tags = self._tags()
        strings, symbols = (self._address(tags.get(tag)) for tag in (DT_STRTAB, DT_SYMTAB))
        if DT_GNU_HASH in tags:
            chain = self._gnu_chain(self._address(tags[DT_GNU_HASH]), name)
        elif DT_HASH in tags:
            chain = self._sysv_chain(self._address(tags[DT_HASH]), name)
        else:
            raise LostError("the image has no table of dynamic symbols")
        for n in chain:
            at = symbols + n * SYMBOL
            raw = self._reader.data(at, SYMBOL)
            st_name, _, _, st_shndx, st_value, _ = struct.unpack(self.ehdr.order + "IBBHQQ", raw)
            if st_shndx and self._reader.data(strings + st_name, len(name) + 1) == name + b"\0":
                return self.bias + int(st_value)
        return None

    def _address(self, value: int | None) -> int:
        """Where an entry of the dynamic section leads: glibc relocates it, others do not."""
        if value is None:
            raise LostError("the image's dynamic section lacks an entry")
        return value if value >= self.bias else value + self.bias

    def _tags(self) -> dict[int, int]:
        if self._dynamic is not None:
            return self._dynamic
        found: dict[int, int] = {}
        at = next((self.table.p_vaddr[k] for k, p in enumerate(self.table.p_type) if p == PT_DYNAMIC), None)
        if at is None:
            raise LostError("the image has no dynamic section")
        for n in range(MOST_DYNAMIC):
            tag, value = self._reader.words(self.bias + at + 16 * n, 2)
            if tag == DT_NULL:
                break
            found.setdefault(tag, value)
        self._dynamic = found
        return found

    def _gnu_chain(self, at: int, name: bytes) -> Iterator[int]:
        """Indices of the symbols that hash as a name does (the section .gnu.hash)."""
        reader, value = self._reader, 5381
        for byte in name:
            value = value * 33 + byte & 0xFFFFFFFF
        buckets, first, words, _ = (reader.number(at + 4 * n, 4) for n in range(4))
        if not buckets:
            return
        table = at + 16 + 8 * words
        n = reader.number(table + 4 * (value % buckets), 4)
        for _ in range(MOST_IN_A_CHAIN):
            if n < first:
                return
            hashed = reader.number(table + 4 * (buckets + n - first), 4)
            if hashed | 1 == value | 1:
                yield n
            if hashed & 1:
                return
            n += 1

    def _sysv_chain(self, at: int, name: bytes) -> Iterator[int]:
        reader, value = self._reader, 0
        for byte in name:
            value = (value << 4) + byte
            value ^= value >> 24 & 0xF0
            value &= 0x0FFFFFFF
        buckets = reader.number(at, 4)
        n = reader.number(at + 8 + 4 * (value % buckets), 4) if buckets else 0
        for _ in range(MOST_IN_A_CHAIN):
            if not n:
                return
            yield n
            n = reader.number(at + 8 + 4 * (buckets + n), 4)

    def symbols_of_file(self, names: set[bytes]) -> dict[bytes, int]:
        """Addresses of symbols of .symtab, which is not loaded, from the file; none where it is not to be had."""
        files, ehdr = self._reader.process.files, self.ehdr
        file = files.file_at(self.start) if files is not None else None
        if file is None or not ehdr.e_shoff or ehdr.e_shentsize != ehdr.shdr_size:
            return {}
        try:
            return self._symbols_of(file, names)
        except NotUsable:
            return {}

    def _symbols_of(self, file: MappedFile, names: set[bytes]) -> dict[bytes, int]:
        ehdr = self.ehdr
        sections = file.read(ehdr.e_shoff, ehdr.e_shnum * ehdr.shdr_size)
        form = struct.Struct(ehdr.order + "IIQQQQIIQQ")
        rows = list(form.iter_unpack(sections[: len(sections) // form.size * form.size]))
        for row in rows:
            if row[1] == SHT_SYMTAB and row[6] < len(rows):
                strings = rows[row[6]]
                symbols = file.read(row[4], min(row[5], MOST_SYMBOLS * SYMBOL))
                return self._named(symbols, file.read(strings[4], strings[5]), names)
        return {}

    def _named(self, table: bytes, strings: bytes, names: set[bytes]) -> dict[bytes, int]:
        wanted = {}
        for name in names:
            at = strings.find(b"\0" + name + b"\0")
            if at >= 0:
                wanted[at + 1] = name
        found: dict[bytes, int] = {}
        form = struct.Struct(self.ehdr.order + "IBBHQQ")
        self._reader.step(len(table) // SYMBOL)
        for st_name, _, _, st_shndx, st_value, _ in form.iter_unpack(table[: len(table) // SYMBOL * SYMBOL]):
            if st_name in wanted and st_shndx:
                found[wanted[st_name]] = self.bias + st_value
        return found


def loaded_images(reader: MemoryReader) -> Iterator[tuple[bytes, int]]:
    """The files of which the first page is mapped, and where; the first mapping of each."""
    core, seen = reader.core, set[bytes]()
    for m in range(len(core.maps)):
        path = core.maps.path(m)
        if path is not None and path not in seen and core.maps.file_offset(m) == 0:
            seen.add(path)
            yield path, core.maps.start(m)
