"""The mappings of the process: one a PT_LOAD, with the file that NT_FILE names for it, and what of them is one.

The kernel writes one program header a mapping. --fit, --minimal and shared-memory deduplication write several for a
mapping that they keep in parts, and so do others' tools. Their COREFILT note tells which continue the one before, and
NT_FILE does where one entry covers several. What decides a kind has to look at the whole mapping: taken one by one,
parts of a file that was mapped as a whole look like the segments of an image.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from corefilt import _fast
from corefilt.corefile.elf import EM_68K, EM_AARCH64, EM_PPC, EM_PPC64, EM_SPARC, EM_SPARCV9, PT_LOAD, Ehdr, Phdrs
from corefilt.corefile.notes import AT_PAGESZ, Notes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NO_FILE = -1

# Where neither NT_FILE nor NT_AUXV says: the page sizes that these machines' distributions use.
_OTHER_PAGE_SIZES = {
    EM_PPC: 0x10000,
    EM_PPC64: 0x10000,
    EM_AARCH64: 0x10000,
    EM_68K: 0x2000,
    EM_SPARC: 0x2000,
    EM_SPARCV9: 0x2000,
}


class Mappings:
    """All PT_LOADs in the order of the program headers.

    Flat arrays, because there can be a million: ``phdr`` (index into the program header table), ``file`` (index into
    NT_FILE or NO_FILE), ``name`` (index into ``names``, the different files, or NO_FILE) and, with an NT_FILE,
    ``offset`` (in the file, in bytes; ``wide`` tells that some do not fit). ``given_up`` has, by program header, the
    bytes that the dump held of it and that do not stand there: a run in place took them away, or, of a whole mapping,
    other program headers have them. ``dropped`` are those of the former, which stood right behind what is left.
    ``continues`` are the mappings that continue the one before; ``whole`` are the mappings with these as one. ``table``
    has the memory that mappings had, which p_memsz does not tell after --unreadable.
    """

    __slots__ = (
        "_by_name", "_owner", "continues", "dropped", "file", "given_up", "name", "names", "notes", "offset",
        "page_size", "phdr", "table", "whole", "wide",
    )  # fmt: skip

    def __init__(self, ehdr: Ehdr, table: Phdrs, notes: Notes, *, like: Mappings | None = None) -> None:
        """Join the table with NT_FILE by address; ``like`` are mappings of the same table with other names."""
        self.phdr = table.of_type(PT_LOAD)
        self.table = table = self._extended(table, notes.extents) if notes.extents else table
        self.notes = notes
        self.page_size: int = page_size_of(ehdr, table, notes) if like is None else like.page_size
        within = self._join()
        self.given_up: dict[int, int] = {}
        self.dropped: dict[int, int] = {}
        self.continues: frozenset[int] = frozenset(self._continuing(within)) if like is None else like.continues
        self._owner: array[int] | None = None
        self.whole = self
        if self.continues:
            self._unite()
        if like is not None:
            self.gave_up(like.given_up)

    def _extended(self, table: Phdrs, extents: dict[int, int]) -> Phdrs:
        """The table with what --unreadable took from p_memsz; what notes say counts up to the next mapping."""
        extended = table.replaced(table.p_offset, table.p_filesz)
        extended.p_memsz = memsz = array("Q", table.p_memsz)
        starts = [*sorted({table.p_vaddr[i] for i in self.phdr}), 1 << 64]
        for i in self.phdr:
            start = table.p_vaddr[i]
            size = extents.get(start, 0)
            if memsz[i] < size <= starts[bisect_right(starts, start)] - start:
                memsz[i] = size
        return extended

    def _continuing(self, within: list[int]) -> Iterator[int]:
        """The mappings that continue the one before; ``within`` are those in the same NT_FILE entry as that one.

        What notes say of it counts only where addresses and flags agree: the kernel merges no mappings that differ.
        """
        noted = self.notes.continued
        if noted:
            within = within + [m for m in range(1, len(self)) if self.start(m) in noted]
        for m in within:
            beside = self.end(m - 1) == self.start(m) and self.flags(m - 1) == self.flags(m)
            if beside and self.file[m - 1] == self.file[m] and self.end(m) < 1 << 64:
                yield m

    def _unite(self) -> None:
        """Make the whole mappings: the first part's program header, with the memory of all."""
        whole = Mappings.__new__(Mappings)
        table = self.table.replaced(self.table.p_offset, self.table.p_filesz)
        table.p_memsz = array("Q", table.p_memsz)
        whole.table, whole.notes, whole.page_size, whole.continues = table, self.notes, self.page_size, frozenset()
        heads = [m for m in range(len(self)) if m not in self.continues]
        whole.phdr = array("I", (self.phdr[m] for m in heads))
        whole.file, whole.name = (array("i", (column[m] for m in heads)) for column in (self.file, self.name))
        whole.offset = array("Q", (self.offset[m] for m in heads)) if self.offset else array("Q")
        whole.names, whole.wide, whole._by_name = self.names, self.wide, None
        whole._owner, whole.whole = None, whole
        self._owner, w = array("I", bytes(4 * len(self))), -1
        for m in range(len(self)):
            if m in self.continues:
                table.p_memsz[whole.phdr[w]] += self.table.p_memsz[self.phdr[m]]
            else:
                w += 1
            self._owner[m] = w
        self.whole = whole
        self.gave_up({})

    def gave_up(self, sizes: dict[int, int]) -> None:
        """Take note of what a run in place took, in bytes by program header."""
        self.given_up = self.dropped = self.whole.dropped = sizes
        if self.whole is not self:
            heads = set(self.whole.phdr)
            beside = {i: size for i, size in sizes.items() if i in heads}
            for m in self.continues:
                head = self.whole.phdr[self.whole_of(m)]
                beside[head] = beside.get(head, 0) + self.dumped(m)
            self.whole.given_up = beside

    def of_row(self, i: int) -> int | None:
        """The mapping that program header ``i`` is, or None."""
        m = bisect_left(self.phdr, i)
        return m if m < len(self) and self.phdr[m] == i else None

    def whole_of(self, m: int) -> int:
        """The number of the whole mapping that ``m`` is a part of, or all of."""
        return m if self._owner is None else self._owner[m]

    def __len__(self) -> int:
        return len(self.phdr)

    def _join(self) -> list[int]:
        """Find for each mapping the NT_FILE entry that covers it; return which have that of the mapping before.

        The kernel's entries equal a PT_LOAD each; gdb's may be wider. Entries follow the program headers'
        order, which need not be ascending (core_sort_vma).
        """
        files, count = self.notes.files, len(self.phdr)
        self.file = self.name = array("i", [NO_FILE]) * count
        self.names: list[bytes] = []
        self.offset, self.wide = array("Q"), False
        self._by_name: dict[int, list[int]] | None = None
        if files is None:
            return []
        starts = files.ranges[0 : 3 * files.count : 3]
        order = array("I", sorted(range(files.count), key=starts.__getitem__))
        self.offset = array("Q", bytes(8 * count))
        shared, self.wide = _fast.covering(
            self.table.p_vaddr, self.table.p_memsz, self.phdr, files.ranges, order, files.scale, self.file, self.offset
        )
        self.names, numbers = files.names
        self.name = array("i", bytes(4 * count))
        _fast.look_up(self.file, numbers, self.name)
        if not shared:
            return []
        return [m for m in range(1, count) if self.file[m] == self.file[m - 1] != NO_FILE]

    def of_name(self, number: int) -> list[int]:
        """The mappings of the file that has this number in ``names``."""
        if self._by_name is None:
            self._by_name = {}
            for m in self.matching(named=True):
                self._by_name.setdefault(self.name[m], []).append(m)
        return self._by_name.get(number, [])

    def matching(
        self,
        *,
        named: bool,
        mask: int = 0,
        flags: int = 0,
        sizes: array[int] | None = None,
        least: int = 0,
        most: int = (1 << 64) - 1,
    ) -> array[int]:
        """The mappings with a file, or without, that have these ``flags`` of a ``mask``.

        Of ``sizes``, a column of the table (p_memsz by default), they have ``least`` to ``most`` bytes.
        """
        found = array("I", bytes(4 * len(self)))
        sizes = self.table.p_memsz if sizes is None else sizes
        count = _fast.matching(self.phdr, self.name, self.table.p_flags, sizes, named, mask, flags, least, most, found)
        del found[count:]
        return found

    @property
    def held(self) -> array[int]:
        """As ``dumped``, for every program header."""
        if not self.given_up:
            return self.table.p_filesz
        sizes = array("Q", self.table.p_filesz)
        for i, size in self.given_up.items():
            sizes[i] += size
        return sizes

    @property
    def exec_page_size(self) -> int:
        """ELF_EXEC_PAGESIZE in bytes, which every PT_LOAD of a kernel's core has for its p_align."""
        align = next((self.table.p_align[i] for i in self.phdr), 0)
        return align if 0x1000 <= align <= 1 << 20 and align & align - 1 == 0 else self.page_size

    def start(self, m: int) -> int:
        """First address."""
        return self.table.p_vaddr[self.phdr[m]]

    def end(self, m: int) -> int:
        """First address behind."""
        i = self.phdr[m]
        return self.table.p_vaddr[i] + self.table.p_memsz[i]

    def flags(self, m: int) -> int:
        """PF_R, PF_W and PF_X."""
        return self.table.p_flags[self.phdr[m]]

    def present(self, m: int) -> int:
        """How many bytes of it the core claims to hold (p_filesz)."""
        return self.table.p_filesz[self.phdr[m]]

    def dumped(self, m: int) -> int:
        """How many bytes of it the dump held, also where a run in place has taken some away since."""
        i = self.phdr[m]
        return self.table.p_filesz[i] + self.given_up.get(i, 0)

    def path(self, m: int) -> bytes | None:
        """The mapped file's name, or None."""
        i, files = self.file[m], self.notes.files
        return None if i == NO_FILE or files is None else files.path(i)

    def file_offset(self, m: int) -> int | None:
        """Where the mapping begins in its file, in bytes, or None."""
        i, files = self.file[m], self.notes.files
        return None if i == NO_FILE or files is None else files.offset(i) + self.start(m) - files.start(i)


def page_size_of(ehdr: Ehdr, table: Phdrs, notes: Notes) -> int:
    """The size of a page, in bytes, of the machine that wrote the core.

    NT_FILE's own word first (gdb writes 1 there), then AT_PAGESZ, which the FDPIC dumper of Linux 6.1 leaves
    out, then what the machine usually has, made smaller until every PT_LOAD's size is a multiple of it.
    """
    for claimed in (notes.files.unit if notes.files else 0, notes.auxv.get(AT_PAGESZ, 0)):
        if 512 <= claimed <= 1 << 20 and claimed & claimed - 1 == 0:
            return claimed
    size = _OTHER_PAGE_SIZES.get(ehdr.e_machine, 0x1000)
    while size > 0x1000 and any(
        memsz % size for p_type, memsz in zip(table.p_type, table.p_memsz, strict=True) if p_type == PT_LOAD
    ):
        size >>= 1
    return size


def flags_text(p_flags: int) -> str:
    """The flags as ``rwx`` with dashes."""
    return "".join(letter if p_flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
