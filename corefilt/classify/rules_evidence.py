"""The rules by which what lies beside a core decides a mapping's kind: maps, smaps, files, an earlier note.

They are of the same sort as those in rules_core.py and are asked before any of its conventions. What a witness does
not say proves nothing.
"""

from __future__ import annotations

from corefilt.classify import conventions
from corefilt.corefile.elf import ELFMAG
from corefilt.kinds import SOURCE_NAMES, Basis, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.classify.candidates import Candidates
    from corefilt.classify.context import Context
    from corefilt.procfs.maps import Nature

# VM_DONTDUMP, VM_DROPPABLE and VM_IO.
UNDUMPED = {b"dd", b"dp", b"io"}
SHARED = Kind.SHARED_ANON | Kind.SHARED_FILE | Kind.SHARED_HUGE | Kind.SHARED_DAX


def _source(nature: Nature) -> int:
    return Basis.MAPS if nature.flags is None and nature.page_size is None else Basis.SMAPS


def named_by_kernel(context: Context, candidates: Candidates) -> None:
    """What maps puts into brackets and does not call memory is a special mapping; only files have an inode."""
    if candidates.area is None:
        return
    nature = candidates.area.nature
    if nature.what == "special":
        name = nature.name.decode("ascii", "backslashreplace")
        candidates.only(Kind.SPECIAL, f"maps calls it {name}", source=_source(nature))
    elif nature.what == "memory":
        candidates.only(Kind.PRIVATE_ANON | Kind.EXCLUDED, "maps shows no file", source=_source(nature))
    else:
        candidates.rule_out(Kind.PRIVATE_ANON | Kind.SPECIAL, "maps shows a file", source=_source(nature))


def sharing(context: Context, candidates: Candidates) -> None:
    """``p`` is private, and ``s`` is what was mapped with MAP_SHARED (VM_MAYSHARE).

    The kernel goes by VM_SHARED, which is not set where the descriptor could not write; then the mapping counts as a
    private one without pages of its own, and cannot be written to either (do_mmap in mm/mmap.c of Linux 6.18).
    Without an MMU, maps tells the two apart by ``s`` and ``S``, and what counts as private is kept by bit 0.
    """
    if candidates.area is None:
        return
    nature = candidates.area.nature
    if nature.written_through:
        candidates.only(SHARED | Kind.EXCLUDED, "shared by maps (S)", source=_source(nature))
        return
    if nature.shared and context.mmu is False:
        candidates.rule_out(
            SHARED, "shared by maps, but not S: its file was not opened for writing", source=_source(nature)
        )
        return
    if not nature.shared:
        candidates.rule_out(SHARED, "private by maps", source=_source(nature))
        return
    candidates.rule_out(Kind.PRIVATE_ANON | Kind.WRITTEN, "shared by maps", source=_source(nature))
    if nature.flags is not None and b"sh" not in nature.flags:
        candidates.rule_out(SHARED, "VmFlags without sh: its file was not opened for writing", source=Basis.SMAPS)
    elif nature.flags is not None or candidates.writable:
        why = (
            "VmFlags with sh: its file was opened for writing"
            if nature.flags is not None
            else "shared and writable by maps"
        )
        candidates.only(SHARED | Kind.EXCLUDED, why, source=_source(nature))


def flags(context: Context, candidates: Candidates) -> None:
    """VmFlags are the kernel's own: dd (VM_DONTDUMP), dp (VM_DROPPABLE), io (VM_IO), ht (VM_HUGETLB), ss, mt."""
    if candidates.area is None or candidates.area.nature.flags is None:
        return
    there = candidates.area.nature.flags
    if b"dd" in there or b"dp" in there:
        candidates.only(Kind.EXCLUDED | Kind.SPECIAL, "VmFlags with dd or dp: excluded from dumps", source=Basis.SMAPS)
    elif b"ht" in there:
        candidates.only(Kind.HUGE, "VmFlags with ht: hugetlbfs", source=Basis.SMAPS)
    elif b"io" in there:
        candidates.only(Kind.EXCLUDED | Kind.SPECIAL | Kind.DAX, "VmFlags with io: device memory", source=Basis.SMAPS)
    else:
        candidates.rule_out(Kind.HUGE, "VmFlags without ht: not hugetlbfs", source=Basis.SMAPS)
        if candidates.area.nature.what == "file":
            candidates.rule_out(
                Kind.EXCLUDED, "VmFlags without dd, dp and io: not excluded from dumps", source=Basis.SMAPS
            )
    if b"ss" in there:
        candidates.only(Kind.PRIVATE_ANON | Kind.EXCLUDED, "VmFlags with ss: a shadow stack", source=Basis.SMAPS)
    if b"mt" in there:
        candidates.rule_out(Kind.DAX, "VmFlags with mt: memory tags", source=Basis.SMAPS)


def page_size(context: Context, candidates: Candidates) -> None:
    """Only hugetlbfs and DAX devices have larger pages (vma_kernel_pagesize); kernels before 3.8 have no VmFlags."""
    size = candidates.area.nature.page_size if candidates.area is not None else None
    if size is None:
        return
    if size > candidates.page_size:
        candidates.only(Kind.HUGE | Kind.DAX | Kind.EXCLUDED, f"KernelPageSize is {size >> 10} kB", source=Basis.SMAPS)
    else:
        candidates.rule_out(Kind.HUGE, f"KernelPageSize is {size >> 10} kB", source=Basis.SMAPS)


def own_pages(context: Context, candidates: Candidates) -> None:
    """A private mapping with anonymous pages was written to. That there are none now does not say it never was.

    Swap alone may be what a file in tmpfs has swapped out; kernels before 4.3 have no SwapPss beside it.
    """
    if candidates.area is None:
        return
    nature = candidates.area.nature
    if nature.copied:
        candidates.rule_out(Kind.CLEAN, "smaps counts pages that were written to (Anonymous)", source=Basis.SMAPS)
    elif nature.swapped:
        candidates.rule_out(
            Kind.CLEAN, "smaps counts pages in Swap", source=Basis.SMAPS, convention=conventions.SWAPPED
        )


def not_excluded(context: Context, candidates: Candidates) -> None:
    """What has pages of its own is dumped unless a flag is against it (vma_dump_size)."""
    nature = candidates.area.nature if candidates.area is not None else None
    if nature is not None and nature.copied and nature.flags is not None and not nature.flags & UNDUMPED:
        candidates.rule_out(
            Kind.EXCLUDED,
            "VmFlags without dd, dp and io, but smaps counts pages that were written to",
            source=Basis.SMAPS,
        )


def never_writable(context: Context, candidates: Candidates) -> None:
    """What was ever writable and private is charged (VM_ACCOUNT), and stays so when it is made unwritable.

    Not so with MAP_NORESERVE (nr), nor for what a debugger writes and the program then gives back to the kernel
    (mprotect_fixup in mm/mprotect.c of Linux 6.18; held against dumps in tests/kernel).
    """
    if candidates.area is None or candidates.area.nature.flags is None or candidates.area.nature.shared:
        return
    there = candidates.area.nature.flags
    if not there & {b"ac", b"nr", b"wr", b"ht"}:
        why = "VmFlags without ac: it was never writable"
        candidates.rule_out(Kind.WRITTEN, why, source=Basis.SMAPS, convention=conventions.NEVER_WRITABLE)


def device(context: Context, candidates: Candidates) -> None:
    """A file system is hugetlbfs or not, for all that is mapped from it.

    Memory of memfd_create and System V lies on either the one tmpfs that the kernel mounts for itself or on hugetlbfs.
    """
    area, evidence = candidates.area, context.evidence
    if area is None or evidence is None or area.nature.what != "file":
        return
    huge = context.huge_mask + 1
    small = evidence.small_pages(area.device, huge)
    if small:
        candidates.rule_out(Kind.HUGE, "on a device of small pages", source=_source(area.nature))
    elif small is False:
        candidates.only(Kind.HUGE | Kind.EXCLUDED, "on a device of huge pages", source=_source(area.nature))
    elif (area.path or b"").startswith((b"/memfd:", b"/SYSV")) and evidence.memory_device(huge) is not None:
        why = "on another device than memory of small pages"
        candidates.only(
            Kind.HUGE | Kind.EXCLUDED, why, source=_source(area.nature), convention=conventions.MEMORY_DEVICE
        )


def below_root(context: Context, candidates: Candidates) -> None:
    """The file itself, where --sysroot has it: pages that differ from it were written to; its mode is at hand.

    What differs is private, for a shared mapping is the file; that holds only where it is the very file, not a copy.
    """
    copy = context.evidence.copies.get(candidates.m) if context.evidence is not None else None
    if copy is None:
        return
    if copy.reason is not None:
        candidates.evidence.append(f"not compared with its file below --sysroot, which {copy.reason}")
        return
    guessed = None if copy.same else conventions.FILE_COPY
    if copy.differs is not None and not (candidates.area is not None and candidates.area.nature.shared):
        why = f"differs from its file at {candidates.start + copy.differs:#x}"
        candidates.rule_out(Kind.CLEAN, why, source=Basis.SYSROOT, convention=guessed)
        if copy.same:
            candidates.rule_out(SHARED, why, source=Basis.SYSROOT, convention=conventions.FILE_COPY)
    if copy.executable:
        candidates.header_page(True, "its file is executable", source=Basis.SYSROOT, convention=guessed)
    elif candidates.first is not None or copy.first is not None:
        elf = (candidates.first if candidates.first is not None else copy.first) == ELFMAG
        candidates.header_page(elf, "its file is not executable", source=Basis.SYSROOT, convention=guessed)


def links(context: Context, candidates: Candidates) -> None:
    """The kernel counts a shared mapping as anonymous when the file has no link left, whatever its name says."""
    if candidates.area is None or candidates.area.facts is None:
        return
    if candidates.area.facts.linked:
        candidates.rule_out(Kind.SHARED_ANON, "its file has a link", source=Basis.FILES)
    elif candidates.path is None or candidates.deleted:
        # What the core does not yet call deleted may have lost its link after the dump.
        candidates.rule_out(Kind.SHARED_FILE, "its file has no link", source=Basis.FILES)


def mode(context: Context, candidates: Candidates) -> None:
    """Bit 4 keeps the first page of executable files; of others, only if it begins with the ELF magic."""
    if candidates.area is None or candidates.area.facts is None:
        return
    if candidates.area.facts.executable:
        candidates.header_page(True, "its file is executable", source=Basis.FILES)
    elif candidates.first is not None:
        candidates.header_page(candidates.first == ELFMAG, "its file is not executable", source=Basis.FILES)


def file_system(context: Context, candidates: Candidates) -> None:
    """Huge pages and DAX are matters of the file system."""
    if candidates.area is None or candidates.area.facts is None:
        return
    facts = candidates.area.facts
    if facts.huge is not None:
        huge, why = facts.huge, "its file is on hugetlbfs" if facts.huge else "its file is not on hugetlbfs"
        candidates.rule_out(Kind.ALL & ~Kind.HUGE & ~Kind.EXCLUDED if huge else Kind.HUGE, why, source=Basis.FILES)
    if facts.dax is not None and not (candidates.path or b"").startswith(b"/dev/dax"):
        candidates.dax = facts.dax
        dax, why = facts.dax, "its file is accessed by DAX" if facts.dax else "its file is not accessed by DAX"
        candidates.rule_out(Kind.ALL & ~Kind.DAX & ~Kind.EXCLUDED if dax else Kind.DAX, why, source=Basis.FILES)


def recorded(context: Context, candidates: Candidates) -> None:
    """A COREFILT note counts with the certainty that it recorded."""
    record = candidates.record
    if record is None:
        return
    names = [name for bit, name in SOURCE_NAMES.items() if record.sources & bit]
    why = f"recorded as {record.certainty}, by {', '.join(names) or 'nothing'}"
    candidates.only(record.proven, why, source=record.sources)
    candidates.only(record.possible, why, source=record.sources, convention=conventions.RECORDED)
    candidates.settled = not candidates.possible & ~record.possible
    candidates.dax = candidates.dax or not record.possible & ~Kind.DAX


WITNESSES: tuple[Callable[[Context, Candidates], None], ...] = (
    named_by_kernel,
    sharing,
    flags,
    page_size,
    own_pages,
    not_excluded,
    device,
    links,
    mode,
    file_system,
    recorded,
    never_writable,
    below_root,
)
