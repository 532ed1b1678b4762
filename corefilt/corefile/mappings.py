"""The mappings of the process: one a PT_LOAD, with the file that NT_FILE names for it."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from corefilt.corefile.elf import EM_68K, EM_AARCH64, EM_PPC, EM_PPC64, EM_SPARC, EM_SPARCV9, PT_LOAD, Ehdr, Phdrs
from corefilt.corefile.notes import AT_PAGESZ, Notes

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

    Flat arrays, because there can be a million: ``phdr`` (index into the program header table), ``file``
    (index into NT_FILE or NO_FILE). ``given_up`` has, by program header, the bytes that a run in place took away.
    """

    __slots__ = ("file", "given_up", "notes", "page_size", "phdr", "table")

    def __init__(self, ehdr: Ehdr, table: Phdrs, notes: Notes) -> None:
        """Join the table with NT_FILE by address."""
        self.table, self.notes = table, notes
        self.phdr = array("I", (i for i, p_type in enumerate(table.p_type) if p_type == PT_LOAD))
        self.page_size = page_size_of(ehdr, table, notes)
        self.file = self._join()
        self.given_up: dict[int, int] = {}

    def __len__(self) -> int:
        """How many mappings there are."""
        return len(self.phdr)

    def _join(self) -> array[int]:
        """For each mapping the NT_FILE entry that covers it.

        The kernel's entries equal a PT_LOAD each; gdb's may be wider. Entries follow the program headers'
        order, which need not be ascending (core_sort_vma).
        """
        files, joined = self.notes.files, array("i", [NO_FILE]) * len(self.phdr)
        if files is None:
            return joined
        order = sorted(range(files.count), key=files.start)
        starts = [files.start(i) for i in order]
        for m, i in enumerate(self.phdr):
            start = self.table.p_vaddr[i]
            at = bisect_right(starts, start) - 1
            if at >= 0 and start + self.table.p_memsz[i] <= files.end(order[at]):
                joined[m] = order[at]
        return joined

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
