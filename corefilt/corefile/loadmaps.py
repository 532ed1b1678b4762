"""The loadmaps of FDPIC: where the kernel put every segment of a program, as it left it on the initial stack.

``struct elf_fdpic_loadmap`` in include/uapi/linux/elf-fdpic.h (Linux 6.18): a version and a count of 16 bits each,
then an address, p_vaddr and p_memsz a segment, in the byte order of the machine; with 64 bits p_memsz has 32 of them.
"""

from __future__ import annotations

import struct

from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corefilt.corefile.elf import Ehdr

    # Reads up to so many bytes at an address.
    Read = Callable[[int, int], bytes]

# The kernel aligns them so (create_elf_fdpic_tables in fs/binfmt_elf_fdpic.c of Linux 6.18).
ALIGNMENT = 8
_HEADER = 4
# How far below the top of the initial stack they are looked for: behind them are only arguments and environment.
MOST_SEARCHED = 4 << 20
# A program has a handful of segments; more is believed where a note says so, but not looked for.
MOST_LOOKED_FOR = 64


class Loadmap:
    """A loadmap at ``address``: ``segments`` as (address, p_vaddr, p_memsz), ``size`` in bytes."""

    __slots__ = ("address", "segments", "size")

    def __init__(self, address: int, segments: list[tuple[int, int, int]], size: int) -> None:
        self.address, self.segments, self.size = address, segments, size

    def holds(self, address: int) -> bool:
        """Whether a segment was loaded over an address."""
        return any(start <= address < start + size for start, _, size in self.segments)


def _layout(ehdr: Ehdr) -> tuple[int, struct.Struct]:
    """Where the first segment stands, and how one is laid out."""
    return (8, struct.Struct(ehdr.order + "QQII")) if ehdr.wide else (_HEADER, struct.Struct(ehdr.order + "III"))


def size_of(count: int, ehdr: Ehdr) -> int:
    """The length in bytes of a loadmap of ``count`` segments."""
    first, segment = _layout(ehdr)
    return first + count * segment.size


def read(address: int, ehdr: Ehdr, memory: Read) -> Loadmap:
    """The loadmap at an address. Raises ValueError with what is wrong: nothing there, another version, an overlap."""
    head = memory(address, _HEADER)
    if len(head) < _HEADER:
        raise ValueError(f"at {address:#x}, where the core holds nothing")
    version, count = ehdr.number(head[:2]), ehdr.number(head[2:4])
    if version or not count:
        raise ValueError(f"at {address:#x} is not one: version {version}, {counted(count, 'segment')}")
    first, layout = _layout(ehdr)
    raw = memory(address + first, count * layout.size)
    if len(raw) < count * layout.size:
        raise ValueError(
            f"at {address:#x} claims {counted(count, 'segment')}, but the core holds {len(raw) // layout.size}"
        )
    segments = [(values[0], values[1], values[2]) for values in layout.iter_unpack(raw)]
    reached = -1
    for start, _, size in sorted(segments):
        if start < reached:
            raise ValueError(f"at {address:#x} has segments that overlap at {start:#x}")
        if start + size > 1 << 8 * (8 if ehdr.wide else 4):
            raise ValueError(f"at {address:#x} has a segment at {start:#x} that goes past the end of memory")
        reached = start + size
    return Loadmap(address, segments, first + len(raw))


def read_piece(piece: bytes, address: int, ehdr: Ehdr) -> Loadmap:
    """The loadmap at an address, from the memory that begins there. Raises ValueError as read does."""
    return read(address, ehdr, lambda at, length: piece[at - address : at - address + length])


def find(stack: bytes, start: int, ehdr: Ehdr, marks: Iterable[int], mapped: Callable[[int], bool]) -> list[int]:
    """For each of some addresses, where in a stack the only loadmap begins that has it in a segment, or 0.

    ``stack`` is the memory from ``start`` on, ``marks`` are AT_ENTRY and AT_BASE, ``mapped`` tells whether there is
    memory at an address, as there is wherever something was loaded. Where several fit, none is taken.
    """
    wanted = list(marks)
    found: list[list[int]] = [[] for _ in wanted]

    def memory(address: int, length: int) -> bytes:
        return stack[address - start : address - start + length]

    for at in range(-start % ALIGNMENT, len(stack) - _HEADER, ALIGNMENT):
        count = ehdr.number(stack[at + 2 : at + 4])
        if ehdr.number(stack[at : at + 2]) or not 0 < count <= MOST_LOOKED_FOR:
            continue
        try:
            loadmap = read(start + at, ehdr, memory)
        except ValueError:
            continue
        if not all(size and mapped(low) and mapped(low + size - 1) for low, _, size in loadmap.segments):
            continue
        for places, mark in zip(found, wanted, strict=True):
            if mark and loadmap.holds(mark):
                places.append(loadmap.address)
    return [places[0] if len(places) == 1 else 0 for places in found]
