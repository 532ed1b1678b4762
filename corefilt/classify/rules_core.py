"""The rules by which evidence decides a mapping's kind.

Every rule is one function with one reason. It either disproves kinds (``rule_out``, ``only``) or rules them
out by a convention, which makes the finding *inferred* instead of *exact*; silence proves nothing. What could
still be several kinds stays *assumed*, and --unknown says what then happens to it.
"""

from __future__ import annotations

from bisect import bisect_left

from corefilt.classify import conventions
from corefilt.classify.candidates import DELETED
from corefilt.classify.rules_files import (
    first_page_left_out,
    header_page,
    image_member,
    layout_member,
    mapped_again,
    read_only_file,
    runtime_archive,
    set_apart,
    shared_names,
    system_file,
    unwritable_image,
)
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_R, PF_W, PF_X
from corefilt.kinds import CURRENT, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.classify.candidates import Candidates
    from corefilt.classify.context import Context

# Addresses of the gate mapping, which the kernel lists last: [vsyscall] on x86-64, [vectors] on ARM.
GATES = {(elf.EM_X86_64, 0xFFFFFFFFFF600000), (elf.EM_ARM, 0xFFFF0000)}

# Machines whose [vvar] is mapped by page frame numbers, which a dump cannot read, so that it is a hole. ARM maps pages,
# and dumps them (Linux 6.12).
UNREADABLE_VVAR = (elf.EM_X86_64, elf.EM_386)


def points_into(addresses: list[int], start: int, end: int) -> bool:
    """Whether any of some sorted addresses lies in ``[start, end)``."""
    at = bisect_left(addresses, start)
    return at < len(addresses) and addresses[at] < end


# --- what the table alone proves --------------------------------------------------------------------------


def present_bytes(context: Context, candidates: Candidates) -> None:
    """What has bytes in the core was not excluded (VM_IO, VM_DONTDUMP, never written)."""
    if candidates.present:
        candidates.rule_out(Kind.EXCLUDED, "")


def headless(context: Context, candidates: Candidates) -> None:
    """Bit 4 keeps a page only of what can be read and begins with the file's first byte."""
    if not candidates.flags & PF_R or candidates.file_offset:
        candidates.rule_out(Kind.HEADED, "")


def gate(context: Context, candidates: Candidates) -> None:
    """The gate mapping has a fixed address."""
    if candidates.path is None and (context.ehdr.e_machine, candidates.start) in GATES:
        candidates.only(Kind.SPECIAL, "at the address of the gate page")


def vdso(context: Context, candidates: Candidates) -> None:
    """AT_SYSINFO_EHDR points at [vdso]."""
    if candidates.path is None and candidates.start == context.vdso:
        candidates.only(Kind.SPECIAL, "AT_SYSINFO_EHDR points at it")


def stack(context: Context, candidates: Candidates) -> None:
    """AT_RANDOM, AT_EXECFN and AT_PLATFORM point into the main thread's stack, which has no file."""
    if candidates.path is None and points_into(context.arguments, candidates.start, candidates.end):
        candidates.only(Kind.PRIVATE_ANON, "holds the main thread's arguments (AT_RANDOM)")


def vvar(context: Context, candidates: Candidates) -> None:
    """[vvar] touches [vdso]; where its pages cannot be read, they are zero in every core."""
    if candidates.m not in context.vvar:
        return
    readable = context.ehdr.e_machine not in UNREADABLE_VVAR
    if context.payload is None or readable or context.payload.zero.get(candidates.m, True):
        candidates.only(Kind.SPECIAL, "unwritable, without a file, next to [vdso]", convention=conventions.VVAR)


def no_file(context: Context, candidates: Candidates) -> None:
    """NT_FILE lists every mapping of a file whose name could be written down."""
    if candidates.path is None and context.named:
        candidates.only(
            Kind.PRIVATE_ANON | Kind.SPECIAL | Kind.EXCLUDED,
            "NT_FILE names no file for it",
            convention=conventions.NT_FILE,
        )


def thread_stack(context: Context, candidates: Candidates) -> None:
    """Where NT_FILE is missing, a thread's stack pointer still tells a stack, which hardly anybody maps from a file."""
    if (
        candidates.path is None
        and candidates.writable
        and points_into(context.stack_pointers, candidates.start, candidates.end)
    ):
        candidates.only(
            Kind.PRIVATE_ANON, "a thread's stack pointer points into it", convention=conventions.STACK_POINTER
        )


def other_special(context: Context, candidates: Candidates) -> None:
    """[sigpage], [uprobes] and a [vdso] without AT_SYSINFO_EHDR: one nameless executable page, or an ELF image."""
    if candidates.path is not None or candidates.possible == Kind.SPECIAL:
        return
    executable = candidates.flags & (PF_W | PF_X) == PF_X
    if executable and context.named and candidates.first == elf.ELFMAG:
        candidates.only(
            Kind.SPECIAL, "executable, without a file, begins with the ELF magic", convention=conventions.SPECIAL_SHAPE
        )
    elif not (executable and candidates.size == candidates.page_size):
        candidates.rule_out(Kind.SPECIAL, "", convention=conventions.SPECIAL_SHAPE)


def has_file(context: Context, candidates: Candidates) -> None:
    """What NT_FILE names is neither anonymous nor special; what it does not name as deleted has a link."""
    if candidates.path is None:
        return
    candidates.rule_out(Kind.PRIVATE_ANON | Kind.SPECIAL, "NT_FILE names a file")
    unlinked = candidates.area is not None and candidates.area.facts is not None and not candidates.area.facts.linked
    if not candidates.deleted and not unlinked:
        candidates.rule_out(Kind.SHARED_ANON, "", convention=conventions.LINKED_NAME)


def one_page_of_several(context: Context, candidates: Candidates) -> bool:
    """Whether the core has what bit 4 leaves of a mapping; what was cut to fit a size tells nothing."""
    return not context.mappings.notes.fitted and candidates.present == candidates.page_size < candidates.size


def partly_there(context: Context, candidates: Candidates) -> None:
    """One page of several is what bit 4 leaves of a private file mapping that begins with its file's first byte.

    That does not say that it is one: a filter that could not tell kept the page because the mapping could have been
    one, and then it can still be all that it could be before.
    """
    if not candidates.possible & Kind.HEADED or not one_page_of_several(context, candidates):
        return
    candidates.rule_out(Kind.UNHEADED, "only its first page was dumped", convention=conventions.HEADER_LEFT)
    if context.address_space.private_anonymous_dumped and candidates.m != context.address_space.last:
        candidates.rule_out(
            Kind.WRITTEN,
            "the dump has memory that was written to, but only a page of this",
            convention=conventions.BIT_0_IN_FORCE,
        )


def wholly_there(context: Context, candidates: Candidates) -> None:
    """Where the dump's filter left private file mappings out, a whole one had been written to."""
    if (
        not candidates.possible & Kind.WRITTEN
        or context.dumper != CURRENT
        or (candidates.path or b"").startswith(b"/SYSV")
    ):
        # System V memory is never a written private mapping: a filter that could not tell kept it as a shared one.
        return
    # A mapping of one page may be whole because it is a header page.
    whole = candidates.present == candidates.size and (
        candidates.size > candidates.page_size or not candidates.possible & Kind.HEADED
    )
    if context.address_space.private_files_left_out and whole:
        why = "the dump left out file mappings that were not written to, but not this"
        candidates.rule_out(Kind.CLEAN, why, convention=conventions.BIT_2_LEFT_OUT)


def not_there(context: Context, candidates: Candidates) -> None:
    """What was not dumped is none of the kinds that the dump's filter is known to have kept."""
    if candidates.present:
        return
    if context.address_space.private_anonymous_dumped:
        why = "the dump has memory that was written to, but not this"
        candidates.rule_out(Kind.PRIVATE_ANON | Kind.WRITTEN, why, convention=conventions.BIT_0_IN_FORCE)
    if context.address_space.shared_anonymous_dumped:
        why = "the dump has anonymous shared memory, but not this"
        candidates.rule_out(Kind.SHARED_ANON, why, convention=conventions.BIT_1_IN_FORCE)


# --- what names prove -------------------------------------------------------------------------------------


def names(context: Context, candidates: Candidates) -> None:
    """Names that the kernel gives, and that speak for themselves (section by section of tests/kernel's zoo)."""
    path = candidates.path
    if path is None:
        return
    if path == b"/dev/zero":
        candidates.only(Kind.UNHEADED | Kind.EXCLUDED, "/dev/zero without (deleted) is mapped privately")
        if context.payload is not None and context.payload.zero.get(candidates.m) is False:
            candidates.rule_out(Kind.CLEAN, "not all zeros, so it was written to")
    elif path == b"/dev/zero" + DELETED:
        candidates.only(Kind.SHARED_ANON | Kind.EXCLUDED, "named /dev/zero (deleted)", convention=conventions.DEV_ZERO)
    elif path == b"/anon_hugepage" + DELETED:
        candidates.only(Kind.HUGE | Kind.EXCLUDED, "named /anon_hugepage (deleted)")
    elif path.startswith((b"/SYSV", b"/memfd:")) and candidates.deleted:
        candidates.rule_out(Kind.SHARED_FILE, "shared memory without a link")
        if path.startswith(b"/SYSV"):
            candidates.rule_out(Kind.WRITTEN, "System V shared memory is never private", convention=conventions.SYSV)
            if candidates.writable:
                shared = Kind.SHARED_ANON | Kind.SHARED_HUGE | Kind.EXCLUDED
                candidates.only(shared, "writable System V shared memory", convention=conventions.SYSV)
    elif path == b"/[aio]" + DELETED or path.startswith((b"anon_inode:", b"socket:[")):
        candidates.only(
            Kind.SHARED_FILE | Kind.EXCLUDED, "a ring shared with the kernel", convention=conventions.KERNEL_RING
        )
    elif path.startswith(b"/dev/dax"):
        candidates.dax = True
        candidates.only(Kind.SHARED_DAX | Kind.EXCLUDED, "a DAX device", convention=conventions.DAX_DEVICE)
    elif path.startswith(b"/dev/shm/") and candidates.deleted and not path.startswith(b"/dev/shm/sem."):
        # A semaphore gets its name as a second link, and what was mapped is the first, which is gone.
        candidates.rule_out(Kind.SHARED_FILE, "shared memory has no second link", convention=conventions.SHM_ONE_LINK)


def no_dax(context: Context, candidates: Candidates) -> None:
    """A core cannot show a file system mounted with DAX, and hardly any is."""
    if not (candidates.path or b"").startswith(b"/dev/dax"):
        candidates.rule_out(Kind.DAX, "", convention=conventions.NO_DAX, source=0)


def no_huge(context: Context, candidates: Candidates) -> None:
    """Huge pages have a shape, and one folder is of one file system."""
    if (candidates.start | candidates.end | (candidates.file_offset or 0)) & context.huge_mask:
        candidates.rule_out(Kind.HUGE, "")
    elif candidates.path is not None and context.address_space.small_pages_beside(
        candidates.path, context.huge_mask + 1
    ):
        candidates.rule_out(Kind.HUGE, "", convention=conventions.SMALL_PAGES)


# How many of the rules stand before what lies beside the core is asked.
BEFORE_WITNESSES = 6

RULES: tuple[Callable[[Context, Candidates], None], ...] = (
    present_bytes,
    headless,
    gate,
    vdso,
    stack,
    no_dax,
    vvar,
    no_file,
    other_special,
    has_file,
    thread_stack,
    partly_there,
    wholly_there,
    not_there,
    set_apart,
    image_member,
    mapped_again,
    layout_member,
    first_page_left_out,
    names,
    shared_names,
    unwritable_image,
    runtime_archive,
    no_huge,
    system_file,
    read_only_file,
    header_page,
)
