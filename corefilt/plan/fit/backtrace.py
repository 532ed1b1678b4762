"""What a backtrace needs of a core, found in its registers, stacks and tables before a byte is copied.

All of it is ranges of addresses. ``required`` is what a debugger must have to show every thread as it does with the
whole core; ``wanted`` comes right behind it, in order: code without a file that stacks return to, and data segments.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from itertools import pairwise

from corefilt.classify.rules_core import GATES
from corefilt.corefile import images
from corefilt.corefile.elf import (
    DT_SONAME,
    DT_STRTAB,
    ELFMAG,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PF_X,
    PT_DYNAMIC,
    PT_LOAD,
    PT_NOTE,
    Ehdr,
    Phdrs,
)
from corefilt.corefile.link_map import dynamic_entries, read_link_maps
from corefilt.corefile.mappings import NO_FILE
from corefilt.corefile.memory import Memory
from corefilt.corefile.notes import AT_BASE, AT_ENTRY, AT_EXECFN, AT_PHDR, AT_PLATFORM, AT_RANDOM, AT_SYSINFO_EHDR
from corefilt.corefile.owner import Owner
from corefilt.plan.fit.signal_frames import interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.registers import Thread

AT_BASE_PLATFORM = 24

# What a function may use below its stack pointer: 128 bytes on x86-64, 512 on PowerPC.
RED_ZONE = 512
# What is kept above a stack pointer where the stack's other end is not known: one on the heap, say.
UNKNOWN_STACK = 256 << 10
# How far below its mapping a stack pointer can be when the stack has run over.
OVERRUN = 64 << 10
# A thread's own storage lies around its thread pointer; behind it, this much at most is taken for a part of its stack.
BEHIND_TP = 64 << 10
# How much of a stack is looked through for pointers to another stack and to code.
LOOKED_THROUGH = 256 << 10
# A list of threads in a hostile core can be long or without an end.
MOST_OBJECTS = 1 << 16
# Where glibc keeps its lists of threads, beside the linker; their data take some KiB.
THREADS = (b"libc.so", b"libc-", b"libpthread")
MOST_OF_LISTS = 1 << 20
# .note.gnu.property, .note.gnu.build-id and their kin take some hundred bytes.
MOST_OF_NOTES = 1 << 16

Range = tuple[int, int]


class BacktraceMemory:
    """``required`` and ``wanted`` ranges of addresses, and for every thread its ``stacks``."""

    def __init__(self, core: CoreFile, memory: Memory, threads: list[Thread], written: Container[int] = ()) -> None:
        """Find everything.

        ``written`` are the program headers of private file mappings that were written to: where an image's own
        headers are not in the core, they are its data segments.
        """
        self._core, self._memory, self.threads, self._written = core, memory, threads, written
        self._needed: list[Range] = []
        # Those of them without which modules or their build-ids would be missing.
        self.essential: set[Range] = set()
        self.wanted: list[Range] = []
        self.stacks: list[list[Range]] = []
        self._allocated: list[Range] = []
        self._page, self._nodes = core.maps.page_size, 0
        self._pid = Owner(core.notes, core.ehdr).pid
        auxv = core.notes.auxv
        self._main_stack = memory.find(auxv[AT_RANDOM]) if auxv.get(AT_RANDOM) else None
        self._code = self._code_without_file()
        self._add_stacks()
        self._add_loadmaps()
        self._add_auxv()
        self._add_linker()
        self._add_images()
        for thread in threads:
            self._add_storage(thread.tp)

    @property
    def required(self) -> list[Range]:
        """What a debugger must have."""
        return [there for stacks in self.stacks for there in stacks] + self._needed

    def _need(self, start: int, end: int, *, essential: bool = False) -> None:
        if start < end:
            self._needed.append((max(start, 0), end))
            if essential:
                self.essential.add(self._needed[-1])

    def _add_loadmaps(self) -> None:
        """Where an FDPIC program was loaded stands on its stack, far above the frames."""
        for _, address, loadmap in self._core.loadmaps():
            if not isinstance(loadmap, str):
                self._need(address, address + loadmap.size)

    # --- stacks -------------------------------------------------------------------------------------------

    def _add_stacks(self) -> None:
        returns: dict[int, None] = {}
        for thread in self.threads:
            stacks = self._stacks_of(thread)
            self.stacks.append(stacks)
            if self._in_code(thread.pc):
                self._need(thread.pc - self._page, thread.pc + self._page)
            if self._code:
                for start, end in stacks:
                    words = self._memory.words(start, min(end, start + LOOKED_THROUGH))
                    low, high = self._code[0][0], self._code[-1][1]
                    found = {word // self._page for word in words if low <= word < high}
                    returns.update(dict.fromkeys(sorted(found)))
        if not any(self.stacks) and self._main_stack is not None:
            # The registers of this machine are not known here.
            self._need(self._memory.start(self._main_stack), self._memory.end(self._main_stack))
        self.wanted += [(n * self._page, (n + 1) * self._page) for n in returns if self._in_code(n * self._page)]

    def _stacks_of(self, thread: Thread) -> list[Range]:
        """The stack that the thread is on, and where that is not its own, also what a signal interrupted."""
        memory = self._memory
        i = self._mapping_of(thread.sp)
        if i is None:
            return []
        start, end = (
            max(thread.sp - RED_ZONE, memory.start(i)),
            self._end_of_stack(i, max(thread.sp, memory.start(i)), thread.tp),
        )
        stacks = [(start, end)]
        words = memory.words(thread.sp, min(end, thread.sp + LOOKED_THROUGH))
        for sp in interrupted(words, -(-thread.sp // memory.word) * memory.word, self._core.ehdr):
            on = self._mapping_of(sp)
            if on is not None:
                first = memory.start(on)
                stacks.append((max(sp - RED_ZONE, first), self._end_of_stack(on, max(sp, first), thread.tp)))
        # Where the registers of this machine's frames are not known, and where a program changes stacks by itself: the
        # lowest word that points to another stack of the thread is where that one has to begin.
        homes = {self._main_stack} - {None, i}
        if thread.tp and thread.pid != self._pid:
            # The main thread's storage lies elsewhere, as on the heap.
            homes |= {memory.find(thread.tp)} - {None, i}
        for home in sorted(home for home in homes if home is not None):
            first = memory.start(home)
            last = self._end_of_stack(home, first, thread.tp)
            low = self._lowest(home, {word for word in words if first - OVERRUN <= word < last})
            if low is not None:
                stacks.append((max(low - RED_ZONE, first), last))
        return stacks

    def _lowest(self, home: int, words: set[int]) -> int | None:
        """The lowest word that is a stack pointer of a mapping, by the page that it points to.

        Below it another stack can end; and where it begins, and its guard, thread libraries write down.
        """
        known: dict[int, bool] = {}
        for word in sorted(words):
            page = word // self._page
            if page not in known:
                known[page] = self._mapping_of(word) == home
            if known[page] and not self._begins_mapping(word):
                return word
        return None

    def _mapping_of(self, sp: int) -> int | None:
        """The mapping that a stack pointer means: where the stack has run over, the one above."""
        memory, core = self._memory, self._core
        i = memory.find(sp) if sp else None
        if i is not None and core.table.p_flags[i] & PF_W:
            return i
        above = memory.above(sp) if sp else None
        if above is not None and memory.start(above) - sp <= OVERRUN and core.table.p_flags[above] & PF_W:
            return above
        return None

    def _begins_mapping(self, address: int) -> bool:
        i = self._memory.find(address)
        return i is not None and self._memory.start(i) == address

    def _end_of_stack(self, i: int, sp: int, tp: int) -> int:
        """Where the stack in a mapping ends: the kernel puts arguments there, thread libraries a thread's storage."""
        end = self._memory.end(i)
        at = bisect_right(self._allocated, (sp, 1 << 64)) - 1
        if at >= 0 and sp < self._allocated[at][1]:
            return min(end, sp + UNKNOWN_STACK, self._allocated[at][1])
        if i == self._main_stack:
            return end
        if sp <= tp < end:
            return min(end, tp + BEHIND_TP)
        return min(end, sp + UNKNOWN_STACK)

    def end_stacks(self, allocated: Iterable[Range]) -> None:
        """Look at stacks anew where a runtime allocated them: ``allocated`` are such, apart from each other."""
        self._allocated = sorted(allocated)
        if not self._allocated:
            return
        self.stacks = [self._stacks_of(thread) for thread in self.threads]

    def _code_without_file(self) -> list[Range]:
        """Executable mappings that no file backs, but for the kernel's own: what a JIT compiler wrote."""
        core, memory = self._core, self._memory
        special = core.notes.auxv.get(AT_SYSINFO_EHDR, -1)
        if core.notes.files is None:
            return []
        return sorted(
            (memory.start(i), memory.end(i))
            for m, i in enumerate(core.maps.phdr)
            if core.maps.file[m] == NO_FILE
            and core.table.p_flags[i] & PF_X
            and memory.start(i) != special
            and (core.ehdr.e_machine, memory.start(i)) not in GATES
        )

    def _in_code(self, address: int) -> bool:
        at = bisect_right(self._code, (address, 1 << 64)) - 1
        return at >= 0 and address < self._code[at][1]

    def _add_storage(self, tp: int) -> None:
        """A thread's own storage: what stands around its thread pointer, and the vector that leads to the rest."""
        memory, page = self._memory, self._page
        if not tp or memory.find(tp) is None:
            return
        self._need(tp - page, tp + page)
        for vector in memory.numbers(tp, 2):
            i = memory.find(vector)
            if i is not None and self._core.table.p_flags[i] & PF_W:
                self._need(vector, vector + 1)

    # --- what AUXV and the dynamic linker point at ------------------------------------------------------------

    def _add_auxv(self) -> None:
        auxv, memory = self._core.notes.auxv, self._memory
        vdso = memory.find(auxv[AT_SYSINFO_EHDR]) if auxv.get(AT_SYSINFO_EHDR) else None
        if vdso is not None:
            self._need(memory.start(vdso), memory.end(vdso))
        for key in (AT_PHDR, AT_BASE, AT_ENTRY, AT_RANDOM):
            if auxv.get(key):
                self._need(auxv[key], auxv[key] + 16)
        for key in (AT_EXECFN, AT_PLATFORM, AT_BASE_PLATFORM):
            if auxv.get(key):
                self._need(auxv[key], auxv[key] + len(memory.text(auxv[key])) + 1)

    def _add_linker(self) -> None:
        """What leads from AT_PHDR to every struct link_map, and the names."""
        found = read_link_maps(self._core, self._memory)
        if found is None:
            return
        word, (start, size) = self._memory.word, found.dynamic
        self._need(start, start + min(size, MOST_OF_NOTES), essential=True)
        for debug in found.debugs:
            self._need(debug, debug + 6 * word)
        for linked in found.objects:
            self._need(linked.address, linked.address + 5 * word)
            self._need(linked.name_address, linked.name_address + len(linked.name) + 1)
            self._need(linked.dynamic, linked.dynamic + 2 * word)

    # --- ELF images -------------------------------------------------------------------------------------------

    def _add_images(self) -> None:
        """Headers and notes (the build-id) of every ELF image, and its data segments."""
        core, memory = self._core, self._memory
        base = core.notes.auxv.get(AT_BASE, 0)
        data: list[tuple[int, Range]] = []
        for m, i in enumerate(core.maps.phdr):
            first = self._offset(m)
            if not core.present[i] or first or (first is None and core.table.p_flags[i] & PF_W):
                continue
            start = memory.start(i)
            found = self._image_at(start)
            if found is None:
                continue
            ehdr, table = found
            self._need(start, start + ehdr.e_phoff + len(table) * ehdr.phdr_size, essential=True)
            bias = start - next((table.p_vaddr[k] for k in _loads(table) if not table.p_offset[k]), 0)
            of_threads = start == base or (core.maps.path(m) or b"").rpartition(b"/")[2].startswith(THREADS)
            for k, p_type in enumerate(table.p_type):
                at, size = bias + table.p_vaddr[k], table.p_memsz[k]
                if p_type == PT_NOTE and size <= MOST_OF_NOTES:
                    self._need(at, at + size, essential=True)
                elif p_type == PT_DYNAMIC:
                    self._add_soname(at, bias)
                elif p_type == PT_LOAD and table.p_flags[k] & PF_W:
                    data.append((0 if of_threads else size, (at, at + size)))
                    if of_threads and size <= MOST_OF_LISTS:
                        self._need(at, at + (size if start == base else table.p_filesz[k]))
                        self._add_lists(at, at + size)
        programs = {core.maps.path(m) for m, i in enumerate(core.maps.phdr) if core.table.p_flags[i] & PF_X}
        begun = {core.maps.path(m) for m, i in enumerate(core.maps.phdr) if core.present[i] and not self._offset(m)}
        data += [
            (core.present[i], (memory.start(i), memory.end(i)))
            for m, i in enumerate(core.maps.phdr)
            if i in self._written and core.maps.path(m) in programs - begun
        ]
        self.wanted += [there for _, there in sorted(data)]

    def _add_lists(self, start: int, end: int) -> None:
        """The lists of threads, by which libthread_db finds them.

        glibc has them in the linker's data (before 2.34 in libpthread's): heads of circular lists of which each
        node stands inside the storage of a thread. Whatever else is such a list there is small.
        """
        memory, word = self._memory, self._memory.word
        # RELRO is a mapping of its own.
        for i, a, b in memory.pieces(start, end):
            first = -(-(memory.start(i) + a) // word) * word
            words = memory.words(first, memory.start(i) + b)
            for n, (following, before) in enumerate(pairwise(words)):
                head = first + n * word
                if not following or following == head:
                    continue
                if memory.numbers(following + word, 1) == memory.numbers(before, 1) == [head]:
                    self._add_list(head, following)

    def _add_list(self, head: int, node: int) -> None:
        """The nodes of a list, and what stands around them."""
        self._need(head, head + 2 * self._memory.word)
        while node != head and self._nodes < MOST_OBJECTS:
            self._need(node - self._page, node + self._page)
            numbers = self._memory.numbers(node, 1)
            node = numbers[0] if numbers else head
            self._nodes += 1

    def _offset(self, m: int) -> int | None:
        return self._core.maps.file_offset(m)

    def _image_at(self, start: int) -> tuple[Ehdr, Phdrs] | None:
        first = self._memory.read(start, 64)
        if first[:4] != ELFMAG:
            return None
        try:
            ehdr = Ehdr(first)
        except (ValueError, struct.error):
            return None
        where = images.needs(first)
        if where is None or ehdr.e_type not in (ET_EXEC, ET_DYN):
            return None
        raw = self._memory.read(start + where[0], where[1])
        return (ehdr, Phdrs.decode(raw, ehdr)) if len(raw) == where[1] else None

    def _add_soname(self, start: int, bias: int) -> None:
        """The name that an image gives itself, by which elfutils calls it where nothing else does."""
        dynamic = dynamic_entries(self._memory, start)
        self._need(start, start + 2 * self._memory.word * (len(dynamic) + 1))
        strings, name = dynamic.get(DT_STRTAB), dynamic.get(DT_SONAME)
        if strings is None or name is None:
            return
        # The linker of glibc relocates the entry itself, others do not.
        at = (strings if strings >= bias else strings + bias) + name
        self._need(at, at + len(self._memory.text(at)) + 1)


def _loads(table: Phdrs) -> list[int]:
    return [k for k, p_type in enumerate(table.p_type) if p_type == PT_LOAD]
