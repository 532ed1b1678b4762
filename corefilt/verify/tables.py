"""The ELF header and the tables of a core, read by pyelftools."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple, overload

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.construct import ConstructError
from elftools.elf.structs import ELFStructs

from corefilt.errors import DamagedCoreError, NotACoreError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from elftools.construct import Construct

    from corefilt.verify.files import MappedCore

PN_XNUM = 0xFFFF
# Entries that are read at a time.
_AT_ONCE = 1 << 12


class Segment(NamedTuple):
    """A program header; ``p_type`` is pyelftools' name for it, or a number."""

    p_type: str | int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int

    @property
    def flags(self) -> str:
        """p_flags as ``rwx`` with dashes."""
        return "".join(letter if self.p_flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))

    @property
    def where(self) -> str:
        """The addresses and flags as a person reads them."""
        return f"{self.p_vaddr:#x}-{self.p_vaddr + self.p_memsz:#x} {self.flags}"


class Segments(Sequence[Segment]):
    """Program headers, one flat array a field: there can be a million."""

    def __init__(self) -> None:
        self._types: list[str | int] = []
        self._numbers = array("Q")

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one as pyelftools has it."""
        self._types.append(entry["p_type"])
        self._numbers.extend(entry[name] for name in Segment._fields[1:])

    def __len__(self) -> int:
        return len(self._types)

    @overload
    def __getitem__(self, i: int) -> Segment: ...

    @overload
    def __getitem__(self, i: slice) -> Sequence[Segment]: ...

    def __getitem__(self, i: int | slice) -> Segment | Sequence[Segment]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        at = 7 * (i % len(self))
        return Segment(self._types[i], *self._numbers[at : at + 7])


class Tables:
    """What the tables of a core say.

    ``header`` has the ELF header's fields by name. ``sections`` are the section headers that are all there, and
    ``sections_lost`` tells that some are not. ``count`` is the number of program headers that the core says it has;
    with ``cut`` there can be fewer ``segments``.
    """

    def __init__(self, file: MappedCore, *, cut: bool = False) -> None:
        """Read them; of a core that may be ``cut``, those that are there. Raises NotACoreError or DamagedCoreError."""
        self.name, self.size = file.name, file.size
        raw = file.read(0, 64)
        if raw[:4] != b"\x7fELF" or len(raw) < 52 or raw[4] not in (1, 2) or raw[5] not in (1, 2):
            raise NotACoreError(f"{file.name}: not an ELF file")
        self.little, self.wide = raw[5] == 1, raw[4] == 2
        structs = ELFStructs(little_endian=self.little, elfclass=64 if self.wide else 32)
        structs.create_basic_structs()
        self.header: dict[str, Any] = self._parse(structs.Elf_Ehdr, BytesIO(raw), "the ELF header")
        if self.header["e_type"] != "ET_CORE":
            raise NotACoreError(f"{file.name}: not a core dump (e_type {self.header['e_type']})")
        ident = self.header["e_ident"]
        structs.create_advanced_structs(self.header["e_type"], self.header["e_machine"], ident["EI_OSABI"])
        self._structs = structs
        self.sections = self._sections(file)
        self.sections_lost = bool(self.header["e_shoff"]) and not self.sections
        self.segments = Segments()
        self.count = self._count(file)
        there = max(0, self.size - self.header["e_phoff"]) // max(self.header["e_phentsize"], 1)
        for entry in self._entries(file, min(self.count, there) if cut else self.count):
            self.segments.append(entry)

    @property
    def word(self) -> int:
        """Bytes of an address."""
        return 8 if self.wide else 4

    @property
    def header_size(self) -> int:
        """Length of the ELF header in bytes, whatever e_ehsize says."""
        return 64 if self.wide else 52

    @property
    def order(self) -> str:
        """The byte order as ``struct`` writes it."""
        return "<" if self.little else ">"

    def number(self, raw: bytes) -> int:
        """An unsigned number in the core's byte order."""
        return int.from_bytes(raw, "little" if self.little else "big")

    def present(self, i: int) -> int:
        """How many bytes of a segment the file really has."""
        segment = self.segments[i]
        return max(0, min(segment.p_filesz, self.size - segment.p_offset))

    @property
    def table_end(self) -> int:
        """Where the program headers end."""
        end: int = self.header["e_phoff"] + len(self.segments) * self.header["e_phentsize"]
        return end

    @property
    def whole(self) -> int:
        """Where the last of what the headers claim of the file ends, in bytes."""
        sections = max(self.header["e_shnum"], len(self.sections))
        tables = [("e_phoff", self.count, "e_phentsize"), ("e_shoff", sections, "e_shentsize")]
        ends = [self.header[at] + count * self.header[size] for at, count, size in tables if self.header[at]]
        ends += [segment.p_offset + segment.p_filesz for segment in self.segments if segment.p_filesz]
        return max(ends, default=0)

    @property
    def is_short(self) -> bool:
        """Whether the file ends before that."""
        return self.size < self.whole

    def _parse(self, struct: Construct, stream: BytesIO, what: str) -> Any:
        try:
            return struct_parse(struct, stream)
        except (ELFError, ConstructError) as error:
            raise DamagedCoreError(f"{self.name}: {what} cannot be read: {error}") from None

    def _sections(self, file: MappedCore) -> list[dict[str, Any]]:
        at, count, size = (self.header[name] for name in ("e_shoff", "e_shnum", "e_shentsize"))
        if not at or size != self._structs.Elf_Shdr.sizeof() or at + max(count, 1) * size > self.size:
            return []
        if not count:
            # The gABI's: sh_size of entry 0 counts them.
            first = self._parse(self._structs.Elf_Shdr, BytesIO(file.read(at, size)), "section header 0")
            count = first["sh_size"] if 1 <= first["sh_size"] <= (self.size - at) // size else 1
        stream = BytesIO(file.read(at, count * size))
        return [self._parse(self._structs.Elf_Shdr, stream, "the section headers") for _ in range(count)]

    def _count(self, file: MappedCore) -> int:
        """The program headers; with PN_XNUM the notes follow them at once, or section header 0 counts them."""
        count: int = self.header["e_phnum"]
        if count != PN_XNUM:
            return count
        first = next(self._entries(file, 1))
        length, rest = divmod(first["p_offset"] - self.header["e_phoff"], self.header["e_phentsize"])
        if first["p_type"] == "PT_NOTE" and not rest and length > 0:
            return int(length)
        if not self.sections:
            raise DamagedCoreError(f"{self.name}: the number of program headers is missing (PN_XNUM)")
        counted: int = self.sections[0]["sh_info"]
        return counted

    def _entries(self, file: MappedCore, count: int) -> Iterator[dict[str, Any]]:
        at, size = self.header["e_phoff"], self.header["e_phentsize"]
        if size != self._structs.Elf_Phdr.sizeof() or at > self.size or count > (self.size - at) // size:
            raise DamagedCoreError(
                f"{self.name}: ends in its {counted(count, 'program header')} of {size} bytes at {at:#x}"
            )
        for first in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            stream = BytesIO(file.read(at + first * size, some * size))
            for _ in range(some):
                yield self._parse(self._structs.Elf_Phdr, stream, "a program header")
