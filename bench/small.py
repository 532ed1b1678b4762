"""Makes small cores, of which all but the fixed cost is little: a program, libraries, a heap and a stack."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from bench.cores import (
    AT_NULL,
    AT_PAGESZ,
    E_IDENT,
    EHDR,
    EM_X86_64,
    ET_CORE,
    EV_CURRENT,
    NT_FILE,
    PAGE,
    PHDR,
    PT_LOAD,
    PT_NOTE,
    note,
    page_up,
)

LIBRARIES = 8
SHARED_PAGES = 4
_ET_DYN, _PT_GNU_RELRO = 3, 0x6474E552
_PF_X, _PF_W, _PF_R = 1, 2, 4
_IMAGES, _HEAP, _SHARED, _STACK = 0x7F0000000000, 0x555500000000, 0x7E0000000000, 0x7FFD00000000
# The mappings of one image, as ld.so leaves them: flags, pages, and how many of them the kernel's default keeps.
_PIECES = ((_PF_R, 2, 1), (_PF_R | _PF_X, 16, 0), (_PF_R, 8, 0), (_PF_R, 1, 1), (_PF_R | _PF_W, 1, 1))


class _Mapping:
    """One mapping: where, its flags and length, its bytes in the core, and its file."""

    def __init__(self, start: int, flags: int, pages: int, data: bytes, path: bytes = b"", offset: int = 0) -> None:
        self.start, self.flags, self.size = start, flags, pages * PAGE
        self.data, self.path, self.offset = data, path, offset


def write(folder: Path, count: int) -> None:
    """Write so many cores that differ in their bytes, as the kernel writes them by its default."""
    chance = random.Random(1)
    for number in range(count):
        (folder / f"core.{number:05}").write_bytes(_core(chance))


def _core(chance: random.Random) -> bytes:
    mappings = [_Mapping(_HEAP, _PF_R | _PF_W, 8, chance.randbytes(8 * PAGE))]
    shared = chance.randbytes(SHARED_PAGES * PAGE)
    mappings.append(_Mapping(_SHARED, _PF_R | _PF_W, SHARED_PAGES, shared, b"/dev/zero (deleted)"))
    for number in range(LIBRARIES + 1):
        path = b"/usr/bin/program" if not number else b"/usr/lib/x86_64-linux-gnu/libsmall%d.so.1" % number
        start = _IMAGES + number * 0x1000000
        offset = 0
        for flags, pages, kept in _PIECES:
            data = _image_head() if not offset else chance.randbytes(kept * PAGE)
            mappings.append(_Mapping(start + offset, flags, pages, data, path, offset))
            offset += pages * PAGE
        mappings.append(_Mapping(start + offset, _PF_R | _PF_W, 1, chance.randbytes(PAGE)))
    mappings.append(_Mapping(_STACK, _PF_R | _PF_W, 3, chance.randbytes(3 * PAGE)))
    return _with_head(mappings)


def _image_head() -> bytes:
    """The first page of a shared object: its ELF header and program headers."""
    rows, at = [], 0
    for flags, pages, _ in _PIECES:
        rows.append((PT_LOAD, flags | (_PF_W if len(rows) == 3 else 0), at, at, at, pages * PAGE, pages * PAGE, PAGE))
        at += pages * PAGE
    relro = at - 2 * PAGE
    rows[3:] = [(PT_LOAD, _PF_R | _PF_W, relro, relro, relro, 2 * PAGE, 2 * PAGE, PAGE)]
    rows.append((_PT_GNU_RELRO, _PF_R, relro, relro, relro, PAGE, PAGE, 1))
    head = EHDR.pack(
        E_IDENT, _ET_DYN, EM_X86_64, EV_CURRENT, PAGE, EHDR.size, 0, 0, EHDR.size, PHDR.size, len(rows), 0, 0, 0
    )
    return (head + b"".join(PHDR.pack(*row) for row in rows)).ljust(PAGE, b"\0")


def _with_head(mappings: list[_Mapping]) -> bytes:
    named = [mapping for mapping in mappings if mapping.path]
    files = struct.pack("<QQ", len(named), PAGE)
    for each in named:
        files += struct.pack("<QQQ", each.start, each.start + each.size, each.offset // PAGE)
    files += b"".join(each.path + b"\0" for each in named)
    auxv = struct.pack("<4Q", AT_PAGESZ, PAGE, AT_NULL, 0)
    prstatus = struct.pack("<iiihHQQiiii", 6, 0, 0, 6, 0, 0, 0, 4242, 1, 4242, 4242).ljust(336, b"\0")
    notes = note(1, prstatus) + note(6, auxv) + note(NT_FILE, files)
    at = EHDR.size + PHDR.size * (1 + len(mappings))
    rows = [PHDR.pack(PT_NOTE, 0, at, 0, 0, len(notes), 0, 4)]
    begin = offset = page_up(at + len(notes))
    for each in mappings:
        rows.append(PHDR.pack(PT_LOAD, each.flags, offset, each.start, 0, len(each.data), each.size, PAGE))
        offset += len(each.data)
    head = EHDR.pack(
        E_IDENT, ET_CORE, EM_X86_64, EV_CURRENT, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, len(rows), 0, 0, 0
    )
    return (head + b"".join(rows) + notes).ljust(begin, b"\0") + b"".join(each.data for each in mappings)
