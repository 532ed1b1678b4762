"""What the dynamic linker tells debuggers, in memory: struct r_debug and chains of struct link_map (link.h)."""

from __future__ import annotations

from typing import NamedTuple

from corefilt.corefile import images
from corefilt.corefile.elf import DT_DEBUG, DT_NULL, PT_DYNAMIC, PT_PHDR, Phdrs
from corefilt.corefile.notes import AT_PHDR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory

AT_PHENT, AT_PHNUM = 4, 5
# Chains in a hostile core can be long or without an end; so many are read of all of them.
MOST_OBJECTS = 1 << 16
MOST_NAMESPACES = 64
MOST_DYNAMIC = 4096


# A dataclass takes 7 ms to load, and the process that crashed waits for the handler meanwhile.
class LinkedObject(NamedTuple):
    """A struct link_map: its own address, those of its name and of the object's dynamic section, and the name."""

    address: int
    name_address: int
    dynamic: int
    name: bytes


class LinkMaps(NamedTuple):
    """The program's dynamic section (address, p_memsz), every struct r_debug's address, and all objects."""

    dynamic: tuple[int, int]
    debugs: tuple[int, ...]
    objects: tuple[LinkedObject, ...]


def read_link_maps(core: CoreFile, memory: Memory) -> LinkMaps | None:
    """Follow AT_PHDR, DT_DEBUG and every struct r_debug; None where the core has no dynamic section of a program."""
    auxv, word = core.notes.auxv, memory.word
    count, at, size = auxv.get(AT_PHNUM, 0), auxv.get(AT_PHDR, 0), core.ehdr.phdr_size
    if not at or not 0 < count <= images.MOST_PHDRS or auxv.get(AT_PHENT, size) != size:
        return None
    raw = memory.read(at, count * size)
    if len(raw) < count * size:
        return None
    table = Phdrs.decode(raw, core.ehdr)
    own = next((i for i, p_type in enumerate(table.p_type) if p_type == PT_PHDR), None)
    bias = at - table.p_vaddr[own] if own is not None else 0
    dynamic = next((i for i, p_type in enumerate(table.p_type) if p_type == PT_DYNAMIC), None)
    if dynamic is None:
        return None
    start = bias + table.p_vaddr[dynamic]
    debug = dynamic_entries(memory, start).get(DT_DEBUG, 0)
    debugs: list[int] = []
    objects: list[LinkedObject] = []
    while debug and len(debugs) < MOST_NAMESPACES:
        # struct r_debug: r_version, r_map, r_brk, r_state, r_ldbase, and from version 2 on r_next.
        numbers = memory.numbers(debug, 5)
        if not numbers:
            break
        version = numbers[0] & 0xFFFFFFFF if not core.ehdr.big or word == 4 else numbers[0] >> 32
        debugs.append(debug)
        objects += _chain(memory, numbers[1], MOST_OBJECTS - len(objects))
        following = memory.numbers(debug + 5 * word, 1) if version > 1 else []
        debug = following[0] if following else 0
    return LinkMaps((start, table.p_memsz[dynamic]), tuple(debugs), tuple(objects))


def dynamic_entries(memory: Memory, start: int) -> dict[int, int]:
    """The entries of a dynamic section at an address, by tag; the first of each."""
    found: dict[int, int] = {}
    words = memory.words(start, start + 2 * MOST_DYNAMIC * memory.word)
    for tag, value in zip(words[::2], words[1::2], strict=False):
        if tag == DT_NULL:
            break
        found.setdefault(tag, value)
    return found


def _chain(memory: Memory, at: int, most: int) -> Iterator[LinkedObject]:
    """Every struct link_map from one on, at most so many: l_addr, l_name, l_ld, l_next, l_prev."""
    seen = set[int]()
    while at and at not in seen and len(seen) < most:
        seen.add(at)
        numbers = memory.numbers(at, 5)
        if not numbers:
            return
        _, name, dynamic, following, _ = numbers
        yield LinkedObject(at, name, dynamic, memory.text(name))
        at = following
