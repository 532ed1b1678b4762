"""Where the dynamic loader searches for the libraries of an ELF file before it asks its cache."""

from __future__ import annotations

import os
import struct

from corefilt.corefile.elf import DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRTAB, PT_DYNAMIC, PT_LOAD, Ehdr, Phdrs
from corefilt.corefile.images import needs

# A dynamic section has some 30 entries; a path longer than PATH_MAX is none.
_MOST_OF_DYNAMIC = 1 << 16
_MOST_OF_A_PATH = 1 << 16


def search_paths(path: str) -> list[str]:
    """The folders of DT_RPATH and DT_RUNPATH, absolute; none for what is not an ELF file.

    A relative one is relative to /, where the kernel starts its helpers. One with a token other than ``$ORIGIN``
    ends before it. Raises OSError.
    """
    with open(path, "rb") as file:
        fd = file.fileno()
        first = os.pread(fd, 64, 0)
        place = needs(first)
        if place is None:
            return []
        ehdr = Ehdr(first)
        table = Phdrs.decode(os.pread(fd, place[1], place[0]), ehdr)
        form = struct.Struct(ehdr.order + ("qQ" if ehdr.wide else "iI"))
        found: list[int] = []
        strings = 0
        for i, p_type in enumerate(table.p_type):
            if p_type != PT_DYNAMIC:
                continue
            raw = os.pread(fd, min(table.p_filesz[i], _MOST_OF_DYNAMIC), table.p_offset[i])
            for tag, value in form.iter_unpack(raw[: len(raw) // form.size * form.size]):
                if tag == DT_NULL:
                    break
                if tag == DT_STRTAB:
                    strings = value
                elif tag in (DT_RPATH, DT_RUNPATH):
                    found.append(value)
        lists = [os.pread(fd, _MOST_OF_A_PATH, _offset(table, strings + at)).split(b"\0", 1)[0] for at in found]
    return [_absolute(os.fsdecode(folder), path) for text in lists for folder in text.split(b":")]


def _offset(table: Phdrs, address: int) -> int:
    """Where in the file the bytes stand that are loaded at an address; the address itself where nothing tells."""
    for i, p_type in enumerate(table.p_type):
        if p_type == PT_LOAD and table.p_vaddr[i] <= address < table.p_vaddr[i] + table.p_filesz[i]:
            return table.p_offset[i] + address - table.p_vaddr[i]
    return address


def _absolute(folder: str, path: str) -> str:
    folder = folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", os.path.dirname(path))
    return os.path.join("/", folder.partition("$")[0])
