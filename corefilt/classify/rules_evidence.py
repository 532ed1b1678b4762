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


def named_by_kernel(context: Context, case: Candidates) -> None:
    """What maps puts into brackets and does not call memory is a special mapping; only files have an inode."""
    if case.area is None:
        return
    nature = case.area.nature
    if nature.what == "special":
        name = nature.name.decode("ascii", "backslashreplace")
        case.only(Kind.SPECIAL, f"maps calls it {name}", source=_source(nature))
    elif nature.what == "memory":
        case.only(Kind.PRIVATE_ANON | Kind.EXCLUDED, "maps shows no file", source=_source(nature))
    else:
        case.rule_out(Kind.PRIVATE_ANON | Kind.SPECIAL, "maps shows a file", source=_source(nature))


def sharing(context: Context, case: Candidates) -> None:
    """``p`` is private, and ``s`` is what was mapped with MAP_SHARED (VM_MAYSHARE).

    The kernel goes by VM_SHARED, which is not set where the descriptor could not write; then the mapping counts as a
    private one without pages of its own, and cannot be written to either (do_mmap in mm/mmap.c of Linux 6.18).
    Without an MMU, maps tells the two apart by ``s`` and ``S``, and what counts as private is kept by bit 0.
    """
    if case.area is None:
        return
    nature = case.area.nature
    if nature.written_through:
        case.only(SHARED | Kind.EXCLUDED, "shared by maps (S)", source=_source(nature))
        return
    if nature.shared and context.mmu is False:
        case.rule_out(SHARED, "shared by maps, but not S: its descriptor cannot write", source=_source(nature))
        return
    if not nature.shared:
        case.rule_out(SHARED, "private by maps", source=_source(nature))
        return
    case.rule_out(Kind.PRIVATE_ANON | Kind.WRITTEN, "shared by maps", source=_source(nature))
    if nature.flags is not None and b"sh" not in nature.flags:
        case.rule_out(SHARED, "VmFlags without sh: its descriptor cannot write", source=Basis.SMAPS)
    elif nature.flags is not None or case.writable:
        why = "VmFlags with sh" if nature.flags is not None else "shared and writable by maps"
        case.only(SHARED | Kind.EXCLUDED, why, source=_source(nature))


def flags(context: Context, case: Candidates) -> None:
    """VmFlags are the kernel's own: dd (VM_DONTDUMP), dp (VM_DROPPABLE), io (VM_IO), ht (VM_HUGETLB), ss, mt."""
    if case.area is None or case.area.nature.flags is None:
        return
    there = case.area.nature.flags
    if b"dd" in there or b"dp" in there:
        case.only(Kind.EXCLUDED | Kind.SPECIAL, "VmFlags with dd or dp", source=Basis.SMAPS)
    elif b"ht" in there:
        case.only(Kind.HUGE, "VmFlags with ht", source=Basis.SMAPS)
    elif b"io" in there:
        case.only(Kind.EXCLUDED | Kind.SPECIAL | Kind.DAX, "VmFlags with io", source=Basis.SMAPS)
    else:
        case.rule_out(Kind.HUGE, "VmFlags without ht", source=Basis.SMAPS)
        if case.area.nature.what == "file":
            case.rule_out(Kind.EXCLUDED, "VmFlags without dd, dp and io", source=Basis.SMAPS)
    if b"ss" in there:
        case.only(Kind.PRIVATE_ANON | Kind.EXCLUDED, "VmFlags with ss: a shadow stack", source=Basis.SMAPS)
    if b"mt" in there:
        case.rule_out(Kind.DAX, "VmFlags with mt: memory tags", source=Basis.SMAPS)


def page_size(context: Context, case: Candidates) -> None:
    """Only hugetlbfs and DAX devices have larger pages (vma_kernel_pagesize); kernels before 3.8 have no VmFlags."""
    size = case.area.nature.page_size if case.area is not None else None
    if size is None:
        return
    if size > case.page_size:
        case.only(Kind.HUGE | Kind.DAX | Kind.EXCLUDED, f"KernelPageSize is {size >> 10} kB", source=Basis.SMAPS)
    else:
        case.rule_out(Kind.HUGE, f"KernelPageSize is {size >> 10} kB", source=Basis.SMAPS)


def own_pages(context: Context, case: Candidates) -> None:
    """A private mapping with anonymous pages was written to. That there are none now does not say it never was.

    Swap alone may be what a file in tmpfs has swapped out; kernels before 4.3 have no SwapPss beside it.
    """
    if case.area is None:
        return
    nature = case.area.nature
    if nature.copied:
        case.rule_out(Kind.CLEAN, "smaps counts pages of its own (Anonymous)", source=Basis.SMAPS)
    elif nature.swapped:
        case.rule_out(Kind.CLEAN, "smaps counts pages in Swap", source=Basis.SMAPS, convention=conventions.SWAPPED)


def not_excluded(context: Context, case: Candidates) -> None:
    """What has pages of its own is dumped unless a flag is against it (vma_dump_size)."""
    nature = case.area.nature if case.area is not None else None
    if nature is not None and nature.copied and nature.flags is not None and not nature.flags & UNDUMPED:
        case.rule_out(Kind.EXCLUDED, "VmFlags without dd, dp and io, and pages of its own", source=Basis.SMAPS)


def never_writable(context: Context, case: Candidates) -> None:
    """What was ever writable and private is charged (VM_ACCOUNT), and stays so when it is made unwritable.

    Not so with MAP_NORESERVE (nr), nor for what a debugger writes and the program then gives back to the kernel
    (mprotect_fixup in mm/mprotect.c of Linux 6.18; held against dumps in tests/kernel).
    """
    if case.area is None or case.area.nature.flags is None or case.area.nature.shared:
        return
    there = case.area.nature.flags
    if not there & {b"ac", b"nr", b"wr", b"ht"}:
        why = "VmFlags without ac: it was never writable"
        case.rule_out(Kind.WRITTEN, why, source=Basis.SMAPS, convention=conventions.NEVER_WRITABLE)


def device(context: Context, case: Candidates) -> None:
    """A file system is hugetlbfs or not, for all that is mapped from it.

    Memory of memfd_create and System V lies on either the one tmpfs that the kernel mounts for itself or on hugetlbfs.
    """
    area, evidence = case.area, context.evidence
    if area is None or evidence is None or area.nature.what != "file":
        return
    huge = context.huge_mask + 1
    small = evidence.small_pages(area.device, huge)
    if small:
        case.rule_out(Kind.HUGE, "on a device of small pages", source=_source(area.nature))
    elif small is False:
        case.only(Kind.HUGE | Kind.EXCLUDED, "on a device of huge pages", source=_source(area.nature))
    elif (area.path or b"").startswith((b"/memfd:", b"/SYSV")) and evidence.memory_device(huge) is not None:
        why = "on another device than memory of small pages"
        case.only(Kind.HUGE | Kind.EXCLUDED, why, source=_source(area.nature), convention=conventions.MEMORY_DEVICE)


def below_root(context: Context, case: Candidates) -> None:
    """The file itself, where --sysroot has it: pages that differ from it were written to; its mode is at hand.

    What differs is private, for a shared mapping is the file; that holds only where it is the very file, not a copy.
    """
    copy = context.evidence.copies.get(case.m) if context.evidence is not None else None
    if copy is None:
        return
    if copy.reason is not None:
        case.evidence.append(f"not held against its file below --sysroot, which {copy.reason}")
        return
    guessed = None if copy.same else conventions.FILE_COPY
    if copy.differs is not None and not (case.area is not None and case.area.nature.shared):
        why = f"differs from its file at {case.start + copy.differs:#x}"
        case.rule_out(Kind.CLEAN, why, source=Basis.SYSROOT, convention=guessed)
        if copy.same:
            case.rule_out(SHARED, why, source=Basis.SYSROOT, convention=conventions.FILE_COPY)
    if copy.executable:
        case.header_page(True, "its file is executable", source=Basis.SYSROOT, convention=guessed)
    elif case.first is not None or copy.first is not None:
        elf = (case.first if case.first is not None else copy.first) == ELFMAG
        case.header_page(elf, "its file is not executable", source=Basis.SYSROOT, convention=guessed)


def links(context: Context, case: Candidates) -> None:
    """The kernel counts a shared mapping as anonymous when the file has no link left, whatever its name says."""
    if case.area is None or case.area.facts is None:
        return
    if case.area.facts.linked:
        case.rule_out(Kind.SHARED_ANON, "its file has a link", source=Basis.FILES)
    elif case.path is None or case.deleted:
        # What the core does not yet call deleted may have lost its link after the dump.
        case.rule_out(Kind.SHARED_FILE, "its file has no link", source=Basis.FILES)


def mode(context: Context, case: Candidates) -> None:
    """Bit 4 keeps the first page of executable files; of others, only if it begins with the ELF magic."""
    if case.area is None or case.area.facts is None:
        return
    if case.area.facts.executable:
        case.header_page(True, "its file is executable", source=Basis.FILES)
    elif case.first is not None:
        case.header_page(case.first == ELFMAG, "its file is not executable", source=Basis.FILES)


def file_system(context: Context, case: Candidates) -> None:
    """Huge pages and DAX are matters of the file system."""
    if case.area is None or case.area.facts is None:
        return
    facts = case.area.facts
    if facts.huge is not None:
        huge, why = facts.huge, "its file is on hugetlbfs" if facts.huge else "its file is not on hugetlbfs"
        case.rule_out(Kind.ALL & ~Kind.HUGE & ~Kind.EXCLUDED if huge else Kind.HUGE, why, source=Basis.FILES)
    if facts.dax is not None and not (case.path or b"").startswith(b"/dev/dax"):
        case.dax = facts.dax
        dax, why = facts.dax, "its file is accessed by DAX" if facts.dax else "its file is not accessed by DAX"
        case.rule_out(Kind.ALL & ~Kind.DAX & ~Kind.EXCLUDED if dax else Kind.DAX, why, source=Basis.FILES)


def recorded(context: Context, case: Candidates) -> None:
    """A COREFILT note counts with the certainty that it recorded."""
    record = case.record
    if record is None:
        return
    names = [name for bit, name in SOURCE_NAMES.items() if record.sources & bit]
    why = f"recorded as {record.certainty}, by {', '.join(names) or 'nothing'}"
    case.only(record.proven, why, source=record.sources)
    case.only(record.possible, why, source=record.sources, convention=conventions.RECORDED)
    case.settled = not case.possible & ~record.possible
    case.dax = case.dax or not record.possible & ~Kind.DAX


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
