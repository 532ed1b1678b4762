"""The ELF files that were loaded into the process: where, and which build of them."""

from __future__ import annotations

from bisect import bisect_right

from corefilt import _fast
from corefilt.corefile import images
from corefilt.corefile.elf import ELFMAG, PF_X, PT_LOAD, PT_NOTE, Ehdr, Phdrs
from corefilt.corefile.mappings import NO_FILE
from corefilt.corefile.notes import AT_EXECFN, AT_PHDR, AT_SYSINFO_EHDR
from corefilt.io.sources import NO_MORE
from corefilt.value import FrozenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Final, TypeAlias

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.memory import Memory

    # Gives bytes at an offset, of a length; fewer where they end.
    ReadAt: TypeAlias = Callable[[int, int], bytes]
    # Gives the bytes of notes by p_vaddr, p_offset and length, from every place where they may stand.
    ReadNotes: TypeAlias = Callable[[int, int, int], list[bytes]]

# Go's is a text of some 80 bytes (cmd/link of Go 1.19, .note.go.buildid).
NT_GNU_BUILD_ID, NT_GO_BUILD_ID = 3, 4
MOST_OF_A_GO_ID = 256
# All notes of an image that are looked at, in bytes; those of a program are less than 1 KiB.
MOST_OF_NOTES = 1 << 16
# Linkers write 8 to 32 bytes; --build-id=0x... can be longer.
MOST_OF_A_BUILD_ID = 64
# A browser has some 300; a hostile core can have one a mapping.
MOST_MODULES = 1 << 14
VDSO = b"[vdso]"


class Module(FrozenValue):
    """An ELF file in memory: addresses ``[start, end)``, in whole pages.

    ``build_id`` is None where there is none, or where the core does not hold it; ``path`` is NT_FILE's, ``[vdso]``, or
    None where nothing names it. ``bias`` is what was added to its p_vaddr; it is None where the core does not hold its
    program headers, which ``table`` then lacks. ``go_id`` is the build ID that Go's linker writes.
    """

    __slots__ = ("bias", "build_id", "end", "go_id", "path", "start", "table")

    def __init__(
        self,
        start: int,
        end: int,
        path: bytes | None,
        build_id: bytes | None = None,
        bias: int | None = None,
        table: Phdrs | None = None,
        go_id: bytes | None = None,
    ) -> None:
        self.start: Final = start
        self.end: Final = end
        self.path: Final = path
        self.build_id: Final = build_id
        self.bias: Final = bias
        self.table: Final = table
        self.go_id: Final = go_id

    def fields(self) -> dict[str, object]:
        """All but the program headers, which follow from the others."""
        found = super().fields()
        del found["table"]
        return found

    @property
    def name(self) -> bytes:
        """The last part of the path, without what the kernel puts behind a deleted file's name."""
        return (self.path or b"").removesuffix(b" (deleted)").rpartition(b"/")[2]

    def as_dict(self) -> dict[str, object]:
        """The module as JSON: addresses and build-id are hex strings."""
        from corefilt.text import printable

        return {
            "start": f"{self.start:#x}",
            "end": f"{self.end:#x}",
            "path": printable(self.path) if self.path is not None else None,
            "build_id": self.build_id.hex() if self.build_id is not None else None,
        }


def find_modules(core: CoreFile, memory: Memory) -> list[Module]:
    """All modules of a core that can be sought, in the order of their addresses."""
    found: list[Module] = []
    for module in _candidates(core, memory):
        if len(found) == MOST_MODULES:
            break
        # Several segments of a small file begin with its first page, and a page of it can be mapped once more.
        if not found or module.start >= found[-1].end:
            found.append(module)
        elif found[-1].table is None and module.start == found[-1].start:
            found[-1] = module
    return found


def _candidates(core: CoreFile, memory: Memory) -> Iterator[Module]:
    """What could be a module, in the order of the addresses."""
    page, maps = core.maps.page_size, core.maps.whole
    starts = list(map(maps.table.p_vaddr.__getitem__, maps.phdr))
    order = sorted(range(len(maps)), key=starts.__getitem__)
    vdso = core.notes.auxv.get(AT_SYSINFO_EHDR)
    begins: set[tuple[int, bytes | None]] = set()
    for n in _first_parts(core, order, starts):
        m = order[n - 1]
        start, path = starts[m], maps.path(m)
        own = start == vdso
        table = image_at(memory, start)
        name = VDSO if own else path if path is not None else _execfn(core, memory, start, maps.end(m))
        if table is not None:
            spans = [
                (table.p_vaddr[i], table.p_vaddr[i] + table.p_memsz[i], table.p_offset[i])
                for i, p_type in enumerate(table.p_type)
                if p_type == PT_LOAD and table.p_memsz[i]
            ]
            low = min(span[0] for span in spans) & -page
            begins.update((maps.start(k), maps.path(k)) for k in order[max(n - 1 - len(spans), 0) : n])
            # Segments of a small file share its first page, and the page of a later one can be the one that is there.
            biases = [start - (span[0] & -page) for span in spans if not span[2] & -page]
            bias = next((bias for bias in biases[:0:-1] if (bias + low, path) in begins), (biases or [start - low])[0])
            end = -(-min(bias + max(span[1] for span in spans), 1 << 64) // page) * page
            end = max(end, maps.end(m) if own else start + page)
            found = _build_ids(_near(memory, start, bias), table, core.ehdr.big)
            yield Module(max(bias + low, 0), end, name, found[0], bias, table, found[1])
        elif path is not None and not memory.read(start, 4).strip(b"\0"):
            # The core does not hold its first page: a file of which a part can be executed counts.
            end, runs, k = maps.end(m), bool(maps.flags(m) & PF_X), n
            while k < len(order) and maps.path(order[k]) == path and maps.file_offset(order[k]):
                end, runs, k = maps.end(order[k]), runs or bool(maps.flags(order[k]) & PF_X), k + 1
            if runs:
                yield Module(start, end, path)


def _first_parts(core: CoreFile, order: list[int], starts: list[int]) -> list[int]:
    """The places, counted from 1 in the order of addresses, of the mappings that can be the first of a module.

    These are the first bytes of a file, the vDSO, and without NT_FILE all that hold something. Where NT_FILE cannot be
    read, as that of 32-bit MIPS (n32 and o32, seen with Linux 4.9), AT_PHDR tells where the program is.
    """
    maps, auxv = core.maps.whole, core.notes.auxv
    file, offset = maps.file, maps.offset
    vdso, program = auxv.get(AT_SYSINFO_EHDR, 0), auxv.get(AT_PHDR, 0)
    if core.notes.files is None:
        found = set(_begun(core, order, range(1, len(order) + 1)))
    else:
        found = {n for n, m in enumerate(order, 1) if file[m] != NO_FILE and not offset[m]}
        n = bisect_right(order, program, key=starts.__getitem__)
        if n and file[order[n - 1]] == NO_FILE and program < maps.end(order[n - 1]):
            found.update(_begun(core, order, [n]))
    n = bisect_right(order, vdso, key=starts.__getitem__)
    if n and starts[order[n - 1]] == vdso:
        found.add(n)
    return sorted(found)


def _begun(core: CoreFile, order: list[int], places: Iterable[int]) -> Iterator[int]:
    """Those of these places whose mapping does not begin with a hole of the core's file, which is zeros."""
    phdr, present, offsets, file = core.maps.whole.phdr, core.present, core.table.p_offset, core.source.file
    base, extents = (file.base, file.extents()) if file is not None else (0, None)
    hole = data = 0
    for n in places:
        i = phdr[order[n - 1]]
        if not present[i]:
            continue
        at = base + offsets[i]
        if hole <= at < data:
            continue
        if extents is not None:
            hole, data = at, extents.first(at, NO_MORE)[0]
        if data <= at:
            yield n


def image_at(memory: Memory, start: int) -> Phdrs | None:
    """The program headers of an ELF image whose first byte is at an address, or None."""
    first = memory.read(start, 64)
    if first[:4] != ELFMAG:
        return None
    where = images.needs(first)
    if where is None:
        return None
    raw = memory.read(start + where[0], where[1])
    if len(raw) < where[1]:
        return None
    table = Phdrs.decode(raw, Ehdr(first))
    loads = any(p_type == PT_LOAD and table.p_memsz[i] for i, p_type in enumerate(table.p_type))
    return table if loads else None


def go_build_id(read: ReadAt) -> bytes | None:
    """The build ID that Go's linker wrote into a file; None where there is none. Raises what ``read`` does."""
    first = read(0, 64)
    where = images.needs(first)
    raw = read(*where) if where is not None else b""
    if where is None or len(raw) < where[1]:
        return None
    ehdr = Ehdr(first)
    return _build_ids(lambda _, offset, length: [read(offset, length)], Phdrs.decode(raw, ehdr), ehdr.big)[1]


def _near(memory: Memory, start: int, bias: int) -> ReadNotes:
    """Reads notes where they were loaded, and behind the first page, which is what a filtered core holds."""

    def read(vaddr: int, offset: int, length: int) -> list[bytes]:
        places = dict.fromkeys((max(bias + vaddr, 0), start + offset))
        return [memory.read(address, length) for address in places]

    return read


def _build_ids(read: ReadNotes, table: Phdrs, big: bool) -> tuple[bytes | None, bytes | None]:
    """NT_GNU_BUILD_ID and Go's build ID among an image's notes."""
    left = MOST_OF_NOTES
    go: bytes | None = None
    for i, p_type in enumerate(table.p_type):
        if p_type != PT_NOTE:
            continue
        for notes in read(table.p_vaddr[i], table.p_offset[i], min(table.p_filesz[i], max(left, 0))):
            left -= len(notes)
            for n_type, name, n_namesz, desc, n_descsz in _fast.walk_notes(notes, big=big)[0]:
                owner = notes[name : name + n_namesz]
                if n_type == NT_GNU_BUILD_ID and owner == b"GNU\0" and 0 < n_descsz <= MOST_OF_A_BUILD_ID:
                    return notes[desc : desc + n_descsz], go
                if n_type == NT_GO_BUILD_ID and owner == b"Go\0\0" and 0 < n_descsz <= MOST_OF_A_GO_ID:
                    go = notes[desc : desc + n_descsz]
    return None, go


def _execfn(core: CoreFile, memory: Memory, start: int, end: int) -> bytes | None:
    """The program's own name, where the auxiliary vector says that it is the one that was mapped there."""
    auxv = core.notes.auxv
    if start <= auxv.get(AT_PHDR, 0) < end and auxv.get(AT_EXECFN):
        return memory.text(auxv[AT_EXECFN]) or None
    return None


class ModuleIndex:
    """Modules by address."""

    __slots__ = ("_starts", "modules")

    def __init__(self, modules: Sequence[Module]) -> None:
        """Take modules in the order of their addresses."""
        self.modules = modules
        self._starts = [module.start for module in modules]

    def at(self, address: int) -> Module | None:
        """The module that has an address, or None."""
        n = bisect_right(self._starts, address) - 1
        return self.modules[n] if n >= 0 and address < self.modules[n].end else None
