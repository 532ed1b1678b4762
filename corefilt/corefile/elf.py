"""The ELF header, the program header table and PN_XNUM; constants by their elf.h names."""

from __future__ import annotations

import struct
from array import array

from corefilt import _fast
from corefilt.errors import DamagedCoreError, InputError, NotACoreError, UnstreamableError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Source

ELFMAG = b"\x7fELF"
ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_PHDR = 1, 2, 3, 4, 6
PT_GNU_RELRO = 0x6474E552
PT_AARCH64_MEMTAG_MTE = 0x70000002
PF_X, PF_W, PF_R = 1, 2, 4
PN_XNUM = 0xFFFF
SHT_SYMTAB, SHT_NOTE, SHT_NOBITS = 2, 7, 8
DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_SONAME, DT_RPATH, DT_DEBUG = 0, 4, 5, 6, 14, 15, 21
DT_TEXTREL, DT_RUNPATH, DT_FLAGS, DT_GNU_HASH = 22, 29, 30, 0x6FFFFEF5

EM_SPARC, EM_386, EM_68K, EM_MIPS, EM_PPC, EM_PPC64, EM_S390, EM_ARM, EM_SPARCV9 = 2, 3, 4, 8, 20, 21, 22, 40, 43
EM_SH, EM_XTENSA, EM_BLACKFIN, EM_TI_C6000, EM_FRV = 42, 94, 106, 140, 0x5441
EM_X86_64, EM_AARCH64, EM_RISCV = 62, 183, 243

# e_machine as a person says it; the machines that Linux dumps core on.
MACHINES = {
    2: "sparc", 3: "i386", 4: "m68k", 8: "mips", 15: "parisc", 18: "sparc32plus", 20: "ppc", 21: "ppc64",
    22: "s390", 40: "arm", 42: "sh", 43: "sparcv9", 50: "ia64", 62: "x86-64", 76: "cris", 88: "m32r",
    89: "mn10300", 92: "openrisc", 93: "arc", 94: "xtensa", 106: "blackfin", 113: "nios2", 140: "c6x",
    164: "hexagon", 183: "aarch64", 189: "microblaze", 195: "arcv2", 243: "riscv", 252: "csky",
    258: "loongarch", 0x5441: "frv", 0x9026: "alpha",
}  # fmt: skip

# What an input may ask to be held in memory as its table: 2^24 mappings are 256 times vm.max_map_count's default.
MOST_PHDRS = 1 << 24
# What is wrong with a PN_XNUM core that has its count only by its layout.
MISSING_COUNT = "section header 0, which repeats the count of segments, is missing"
# How far into a pipe program headers and section headers are looked for; createdump has them at 128 and 64 bytes. What
# stands before them is held in memory.
MOST_BEFORE_TABLES = 1 << 20
# Offsets are signed in every system call.
END_OF_OFFSETS = 1 << 63


class Ehdr:
    """An ELF header; the attributes are elf.h's, ``wide`` is ELFCLASS64 and ``big`` ELFDATA2MSB."""

    __slots__ = (
        "big", "e_ehsize", "e_entry", "e_flags", "e_ident", "e_machine", "e_phentsize", "e_phnum", "e_phoff",
        "e_shentsize", "e_shnum", "e_shoff", "e_shstrndx", "e_type", "e_version", "wide",
    )  # fmt: skip

    e_ident: bytes
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int

    def __init__(self, raw: bytes) -> None:
        """Decode the first bytes of an ELF file; raises ValueError when they are not, or too few."""
        if raw[:4] != ELFMAG or len(raw) < 16 or raw[4] not in (1, 2) or raw[5] not in (1, 2):
            raise ValueError("no ELF header")
        self.e_ident = bytes(raw[:16])
        self.wide = raw[4] == 2
        self.big = raw[5] == 2
        if len(raw) < self.size:
            raise ValueError("ELF header cut short")
        (
            self.e_type, self.e_machine, self.e_version, self.e_entry, self.e_phoff, self.e_shoff, self.e_flags,
            self.e_ehsize, self.e_phentsize, self.e_phnum, self.e_shentsize, self.e_shnum, self.e_shstrndx,
        ) = struct.unpack_from(self._layout, raw, 16)  # fmt: skip

    @property
    def size(self) -> int:
        """Length of the header in bytes."""
        return 64 if self.wide else 52

    @property
    def phdr_size(self) -> int:
        """Length of one program header in bytes."""
        return 56 if self.wide else 32

    @property
    def shdr_size(self) -> int:
        """Length of one section header in bytes."""
        return 64 if self.wide else 40

    @property
    def order(self) -> str:
        """The byte order as ``struct`` writes it."""
        return ">" if self.big else "<"

    def number(self, raw: bytes) -> int:
        """An unsigned number of any length in the file's byte order."""
        return int.from_bytes(raw, "big" if self.big else "little")

    @property
    def _layout(self) -> str:
        return self.order + ("HHIQQQIHHHHHH" if self.wide else "HHIIIIIHHHHHH")

    def pack(self, *, e_shoff: int, sections: bool, e_flags: int | None = None, e_phoff: int | None = None) -> bytes:
        """The header as bytes, with other offsets and ``e_flags``; without ``sections`` it counts none."""
        counts = (self.e_shnum, self.e_shstrndx) if sections else (0, 0)
        return self.e_ident + struct.pack(
            self._layout, self.e_type, self.e_machine, self.e_version, self.e_entry,
            self.e_phoff if e_phoff is None else e_phoff, e_shoff, self.e_flags if e_flags is None else e_flags,
            self.e_ehsize, self.e_phentsize, self.e_phnum,
            self.e_shentsize, *counts,
        )  # fmt: skip

    @property
    def counts_elsewhere(self) -> bool:
        """Whether e_phnum is PN_XNUM and the header announces the section header that has the real count.

        createdump, which has it before the program headers, announces it with an e_shnum of 0.
        """
        announced = self.e_shoff and (self.e_shnum or self.e_shoff < self.e_phoff)
        return self.e_phnum == PN_XNUM and bool(announced) and self.e_shentsize == self.shdr_size

    def with_count_elsewhere(self) -> Ehdr:
        """The same header with the one section header that PN_XNUM needs, as ``fill_extnum_info`` announces it."""
        head = Ehdr(self.pack(e_shoff=self.e_shoff, sections=False))
        head.e_shentsize, head.e_shnum = self.shdr_size, 1
        return head


class Phdrs:
    """A program header table, one flat array a field (56 bytes a segment in all)."""

    __slots__ = ("p_align", "p_filesz", "p_flags", "p_memsz", "p_offset", "p_paddr", "p_type", "p_vaddr")

    def __init__(self, count: int) -> None:
        """Make room for ``count`` program headers, all zero."""
        self.p_type, self.p_flags = (array("I", bytes(4 * count)) for _ in range(2))
        self.p_offset, self.p_vaddr, self.p_paddr, self.p_filesz, self.p_memsz, self.p_align = (
            array("Q", bytes(8 * count)) for _ in range(6)
        )

    def __len__(self) -> int:
        return len(self.p_type)

    @property
    def columns(self) -> tuple[array[int], ...]:
        """The fields in the order in which ``_fast`` takes them."""
        return (
            self.p_type, self.p_flags, self.p_offset, self.p_vaddr,
            self.p_paddr, self.p_filesz, self.p_memsz, self.p_align,
        )  # fmt: skip

    @classmethod
    def decode(cls, raw: bytes | bytearray | memoryview, ehdr: Ehdr) -> Phdrs:
        """Decode a whole table; its length must be a multiple of the entry's."""
        table = cls(len(raw) // ehdr.phdr_size)
        _fast.decode_phdrs(raw, table.columns, wide=ehdr.wide, big=ehdr.big)
        return table

    def of_type(self, p_type: int) -> array[int]:
        """The numbers of the program headers of one type."""
        rows = array("I", bytes(4 * len(self)))
        del rows[_fast.select(self.p_type, p_type, rows) :]
        return rows

    def encode(self, ehdr: Ehdr) -> bytes:
        """The table as bytes."""
        return _fast.encode_phdrs(self.columns, wide=ehdr.wide, big=ehdr.big)

    def replaced(self, p_offset: array[int], p_filesz: array[int]) -> Phdrs:
        """The same table with other offsets and sizes; the other columns are shared."""
        table = Phdrs(0)
        for name in self.__slots__:
            setattr(table, name, getattr(self, name))
        table.p_offset, table.p_filesz = p_offset, p_filesz
        return table


class Shdr:
    """A section header, as far as a core needs it: where its bytes stand, and PN_XNUM's count."""

    __slots__ = ("raw", "sh_addr", "sh_info", "sh_offset", "sh_size", "sh_type")

    def __init__(self, raw: bytes, ehdr: Ehdr) -> None:
        self.raw = bytes(raw)
        layout = ehdr.order + ("IIQQQQIIQQ" if ehdr.wide else "IIIIIIIIII")
        _, self.sh_type, _, self.sh_addr, self.sh_offset, self.sh_size, _, self.sh_info, *_ = struct.unpack(layout, raw)

    def moved(self, ehdr: Ehdr, *, sh_type: int, sh_offset: int, sh_size: int) -> bytes:
        """The entry as bytes, with another type, offset and size."""
        out = bytearray(self.raw)
        word = ehdr.order + ("Q" if ehdr.wide else "I")
        at = (24, 32) if ehdr.wide else (16, 20)
        struct.pack_into(ehdr.order + "I", out, 4, sh_type)
        struct.pack_into(word, out, at[0], sh_offset)
        struct.pack_into(word, out, at[1], sh_size)
        return bytes(out)


def xnum_shdr(ehdr: Ehdr, count: int) -> bytes:
    """Section header 0 as the kernel writes it for PN_XNUM (``fill_extnum_info`` in fs/binfmt_elf.c of Linux 6.18).

    sh_size is e_shnum, sh_info the real count of program headers, all else zero; tests/kernel holds it against
    a core of 66,000 mappings.
    """
    layout = ehdr.order + ("IIQQQQIIQQ" if ehdr.wide else "IIIIIIIIII")
    return struct.pack(layout, 0, 0, 0, 0, 0, ehdr.e_shnum, 0, count, 0, 0)


def read_ehdr(source: Source) -> Ehdr:
    """Read and check the ELF header of what begins like an ELF file. Raises NotACoreError or DamagedCoreError."""
    raw = source.peek(0, 64)
    if not raw:
        # Of a copy it is known what was wrong with its stream.
        damage = source.check() if source.compression is not None else None
        if damage is not None:
            raise InputError(f"{source.name}: {damage} before any of the core came")
        raise NotACoreError(f"{source.name}: is empty", "name a core, or send one through the pipe")
    if len(raw) < 16 or (raw[4] in (1, 2) and len(raw) < (64 if raw[4] == 2 else 52)):
        raise DamagedCoreError(f"{source.name}: ends in the ELF header, after {counted(len(raw), 'byte')}")
    if raw[4] not in (1, 2):
        raise DamagedCoreError(f"{source.name}: ELF header: EI_CLASS is {raw[4]}, neither 1 (32-bit) nor 2 (64-bit)")
    if raw[5] not in (1, 2):
        raise DamagedCoreError(f"{source.name}: ELF header: EI_DATA is {raw[5]}, neither byte order")
    ehdr = Ehdr(raw)
    if ehdr.e_type != ET_CORE:
        kind = {1: "a relocatable file", 2: "a program", 3: "a shared object or program"}.get(ehdr.e_type)
        raise NotACoreError(f"{source.name}: not a core dump but {kind or 'an ELF file'} (e_type {ehdr.e_type})")
    if ehdr.e_phnum == 0:
        raise DamagedCoreError(f"{source.name}: ELF header: e_phnum is 0: there are no program headers")
    if ehdr.e_phentsize != ehdr.phdr_size:
        raise DamagedCoreError(f"{source.name}: ELF header: e_phentsize is {ehdr.e_phentsize}, not {ehdr.phdr_size}")
    if ehdr.e_phoff < ehdr.size or ehdr.e_phoff >= END_OF_OFFSETS:
        raise DamagedCoreError(
            f"{source.name}: ELF header: e_phoff is {ehdr.e_phoff:#x}, which cannot be the offset of a table"
        )
    if source.size is None and ehdr.e_phoff > MOST_BEFORE_TABLES:
        raise phdrs_behind_payload(source, ehdr)
    return ehdr


def phdrs_behind_payload(source: Source, ehdr: Ehdr) -> UnstreamableError:
    """What is said of a source that passes once and whose program headers come too late."""
    return source.refused(
        f"ELF header: e_phoff is {ehdr.e_phoff:#x}, the program headers come after the payload, as delve's dump "
        f"writes them, and {source.passing} cannot be read twice"
    )


def count_phdrs(source: Source, ehdr: Ehdr) -> tuple[int, list[str]]:
    """How many program headers there are, PN_XNUM included, and what is wrong with the count.

    With PN_XNUM the count stands in ``sh_info`` of section header 0, which the kernel writes at the very end
    of the file. On a pipe, or where the end is missing, it follows from the kernel's layout: the notes begin
    right behind the table, so it ends where the first program header, PT_NOTE, has its p_offset
    (``elf_core_dump`` in fs/binfmt_elf.c; held against cores of 66,000 segments from Linux 6.12 and 6.18).
    """
    if ehdr.e_phnum != PN_XNUM:
        return ehdr.e_phnum, []
    derived = _count_from_layout(source, ehdr)
    shdr0: Shdr | None = None
    if ehdr.e_shoff and (source.size is not None or ehdr.e_shoff + ehdr.shdr_size <= ehdr.e_phoff):
        raw = source.peek(ehdr.e_shoff, ehdr.shdr_size) if ehdr.e_shoff < END_OF_OFFSETS else b""
        if len(raw) == ehdr.shdr_size and ehdr.e_shentsize == ehdr.shdr_size:
            shdr0 = Shdr(raw, ehdr)
    if shdr0 is None:
        if derived is None and source.size is None:
            raise source.refused(
                "ELF header: e_phnum is PN_XNUM, and only section header 0 has the real count, "
                "because the notes do not follow the table as the kernel writes them"
            )
        if derived is None:
            raise DamagedCoreError(
                f"{source.name}: ELF header: e_phnum is PN_XNUM and section header 0, which has the real count, "
                "cannot be read; the layout is not the kernel's, which would show the count"
            )
        lost = source.size is not None or not ehdr.counts_elsewhere
        return derived, [MISSING_COUNT] if lost else []
    missing = [] if ehdr.counts_elsewhere else [MISSING_COUNT]
    if derived is None or derived == shdr0.sh_info:
        if not shdr0.sh_info:
            raise DamagedCoreError(
                f"{source.name}: section header 0: sh_info is 0: there are no program headers (PN_XNUM)"
            )
        return shdr0.sh_info, missing
    return derived, [mismatch(shdr0.sh_info, derived), *missing]


def mismatch(sh_info: int, derived: int) -> str:
    """The words for a section header 0 that counts otherwise than the table's length."""
    return f"section header 0: sh_info is {sh_info}, but the table holds {counted(derived, 'program header')}"


def read_sections(source: Source, ehdr: Ehdr, table: Phdrs) -> list[Shdr]:
    """The section header table, or nothing where there is none or it is not all there.

    gdb writes one behind the payload, and createdump of .NET Core 2.1 and 3.1 one entry before the program headers. A
    pipe has brought it only where it stands before all payload. An e_shnum of 0 says that sh_size of entry 0 is the
    count (gABI, "Sections"); where that cannot be, entry 0 alone is taken.
    """
    size, end = ehdr.shdr_size, source.size
    if end is None:
        if ehdr.e_shoff > MOST_BEFORE_TABLES:
            return []
        # Held in memory, like the program headers.
        rows = zip(table.p_offset, table.p_filesz, table.p_type, strict=True)
        payload = (offset for offset, filesz, p_type in rows if filesz and p_type == PT_LOAD)
        end = min(MOST_BEFORE_TABLES, min(payload, default=MOST_BEFORE_TABLES))
    if not ehdr.e_shoff or ehdr.e_shentsize != size or ehdr.e_shoff > end:
        return []
    room = (end - ehdr.e_shoff) // size
    if max(ehdr.e_shnum, 1) > room:
        return []
    raw = source.peek(ehdr.e_shoff, max(ehdr.e_shnum, 1) * size)
    if ehdr.e_shnum == 0:
        counted = Shdr(raw, ehdr).sh_size if len(raw) == size else 0
        if 1 < counted <= room:
            raw = source.peek(ehdr.e_shoff, counted * size)
    return [Shdr(raw[i : i + size], ehdr) for i in range(0, len(raw) - size + 1, size)]


def _count_from_layout(source: Source, ehdr: Ehdr) -> int | None:
    raw = source.peek(ehdr.e_phoff, ehdr.phdr_size)
    if len(raw) < ehdr.phdr_size:
        return None
    first = Phdrs.decode(raw, ehdr)
    length = first.p_offset[0] - ehdr.e_phoff
    if first.p_type[0] != PT_NOTE or length <= 0 or length % ehdr.phdr_size:
        return None
    return length // ehdr.phdr_size


def read_phdrs(source: Source, ehdr: Ehdr, count: int) -> Phdrs:
    """Read and check the table of ``count`` program headers.

    Raises DamagedCoreError when the table or one of its fields cannot be; field and place are named.
    """
    length = count * ehdr.phdr_size
    if source.size is not None and (ehdr.e_phoff > source.size or source.size - ehdr.e_phoff < length):
        room = max(0, source.size - ehdr.e_phoff)
        raise DamagedCoreError(
            f"{source.name}: ends in the program header table: {count} entries of {ehdr.phdr_size} bytes at "
            f"{ehdr.e_phoff:#x} (e_phoff), but there is space for only {room // ehdr.phdr_size}"
        )
    if count > MOST_PHDRS:
        raise DamagedCoreError(f"{source.name}: more program headers ({count}) than a process can have mappings")
    raw = source.peek(ehdr.e_phoff, length)
    if len(raw) < length:
        raise DamagedCoreError(
            f"{source.name}: ends in the program header table, after {len(raw) // ehdr.phdr_size} of {count} entries"
        )
    table = Phdrs.decode(raw, ehdr)
    _check_ranges(table, source.name)
    return table


def _check_ranges(table: Phdrs, name: str) -> None:
    most = END_OF_OFFSETS
    i = _fast.first_beyond(table.p_offset, table.p_filesz, most - 1)
    if i is not None:
        offset, size = table.p_offset[i], table.p_filesz[i]
        field = f"p_offset is {offset:#x}" if offset >= most else f"p_filesz is {size:#x}"
        raise DamagedCoreError(f"{name}: program header {i}: {field}, past what a file can hold")
    i = _fast.first_beyond(table.p_vaddr, table.p_memsz, (1 << 64) - 1)
    if i is not None:
        raise DamagedCoreError(f"{name}: program header {i}: p_memsz is {table.p_memsz[i]:#x}, past the end of memory")
