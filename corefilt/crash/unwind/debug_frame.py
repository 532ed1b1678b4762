""".debug_frame of a file: call frame information that is not loaded, found by the section headers."""

from __future__ import annotations

import struct
import zlib

from corefilt.corefile.elf import Ehdr
from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cursor import Cursor
from corefilt.crash.unwind.entries import MOST_OF_A_RECORD, Cie, Fde, parse_cie
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.crash.process_memory import ProcessMemory
    from corefilt.evidence.sysroot import MappedFile

SHF_COMPRESSED, _ELFCOMPRESS_ZLIB = 0x800, 1
MOST_SECTIONS = 1 << 12
MOST_OF_A_SECTION = 4 << 20
MOST_RECORDS = 10_000
_CIE = 0xFFFFFFFF


def debug_frames(memory: ProcessMemory, file: MappedFile, bias: int) -> Iterator[Fde]:
    """All entries of the section, at the addresses where the module was loaded."""
    try:
        raw = _section(file, b".debug_frame")
    except (NotUsable, ValueError, struct.error, zlib.error):
        return
    number = struct.Struct(memory.order + "I")
    cies: dict[int, Cie] = {}
    at = 0
    for _ in range(MOST_RECORDS):
        if at + 8 > len(raw):
            return
        length, mark = number.unpack_from(raw, at)[0], number.unpack_from(raw, at + 4)[0]
        if not 4 < length <= MOST_OF_A_RECORD:
            return
        cursor = Cursor(memory, at, raw[at : at + 4 + length])
        cursor.at = 8
        try:
            if mark == _CIE:
                cies[at] = parse_cie(cursor)
            elif mark in cies:
                start = (cursor.number(memory.word_size) + bias) & memory.mask
                size = cursor.number(memory.word_size)
                yield Fde(start, start + size, cies[mark], cursor.raw[cursor.at :], cursor.at)
        except BadFrame:
            return
        at += 4 + length


def _section(file: MappedFile, name: bytes) -> bytes:
    ehdr = Ehdr(file.read(0, 64))
    size, count = ehdr.shdr_size, ehdr.e_shnum
    if not 0 < count <= MOST_SECTIONS or ehdr.e_shentsize != size or ehdr.e_shstrndx >= count:
        return b""
    form = struct.Struct(ehdr.order + ("IIQQQQIIQQ" if ehdr.wide else "IIIIIIIIII"))
    raw_rows = file.read(ehdr.e_shoff, size * count)
    if len(raw_rows) < size * count:
        return b""
    rows = list(form.iter_unpack(raw_rows))
    names = file.read(rows[ehdr.e_shstrndx][4], min(rows[ehdr.e_shstrndx][5], MOST_OF_A_SECTION))
    for row in rows:
        if names[row[0] : row[0] + len(name) + 1] == name + b"\0" and row[5] <= MOST_OF_A_SECTION:
            raw = file.read(row[4], row[5])
            return _uncompressed(raw, ehdr) if row[2] & SHF_COMPRESSED else raw
    return b""


def _uncompressed(raw: bytes, ehdr: Ehdr) -> bytes:
    """What a section of SHF_COMPRESSED holds, up to what is looked at."""
    head = struct.Struct(ehdr.order + ("IIQQ" if ehdr.wide else "III"))
    if head.unpack_from(raw)[0] != _ELFCOMPRESS_ZLIB:
        return b""
    return zlib.decompressobj().decompress(raw[head.size :], MOST_OF_A_SECTION)
