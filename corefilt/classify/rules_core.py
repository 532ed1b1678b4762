"""The rules by which evidence decides a mapping's kind.

Every rule is one function with one reason. It either disproves kinds (``rule_out``, ``only``) or rules them
out by a convention, which makes the finding *inferred* instead of *exact*; silence proves nothing. What could
still be several kinds stays *assumed*, and --unknown says what then happens to it.
"""

from __future__ import annotations

from bisect import bisect_left

from corefilt.classify import conventions
from corefilt.classify.candidates import DELETED
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_R, PF_W, PF_X
from corefilt.kinds import CURRENT, Kind, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.classify.candidates import Case
    from corefilt.classify.classifier import Rules

# Addresses of the gate mapping, which the kernel lists last: [vsyscall] on x86-64, [vectors] on ARM.
GATES = {(elf.EM_X86_64, 0xFFFFFFFFFF600000), (elf.EM_ARM, 0xFFFF0000)}

# Folders whose files belong to the system: nobody maps those shared for writing.
SYSTEM_FOLDERS = (
    b"/usr/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/", b"/bin/", b"/sbin/", b"/nix/store/", b"/gnu/store/",
)  # fmt: skip
NO_SYSTEM_FOLDERS = (b"/usr/local/",)

# What is no program, where a pipe does not show it beforehand: locales, tables of iconv, Java's classes.
DATA_FOLDERS = (b"/usr/share/", b"/usr/lib/locale/")
DATA_FILES = (b"/gconv-modules.cache", b"/lib/modules")

# What a JVM (CDS), Emacs, SBCL and Android's runtime keep prepared memory in.
ARCHIVES = (b".jsa", b".pdmp", b"/sbcl.core", b".art", b".oat")


def points_into(addresses: list[int], start: int, end: int) -> bool:
    """Whether any of some sorted addresses lies in ``[start, end)``."""
    at = bisect_left(addresses, start)
    return at < len(addresses) and addresses[at] < end


# --- what the table alone proves --------------------------------------------------------------------------


def present_bytes(rules: Rules, case: Case) -> None:
    """What has bytes in the core was not excluded (VM_IO, VM_DONTDUMP, never written)."""
    if case.present:
        case.rule_out(Kind.EXCLUDED, "")


def headless(rules: Rules, case: Case) -> None:
    """Bit 4 keeps a page only of what can be read and begins with the file's first byte."""
    if not case.flags & PF_R or case.file_offset:
        case.rule_out(Kind.HEADED, "")


def gate(rules: Rules, case: Case) -> None:
    """The gate mapping has a fixed address."""
    if case.path is None and (rules.ehdr.e_machine, case.start) in GATES:
        case.only(Kind.SPECIAL, "at the gate's address")


def vdso(rules: Rules, case: Case) -> None:
    """AT_SYSINFO_EHDR points at [vdso]."""
    if case.path is None and case.start == rules.vdso:
        case.only(Kind.SPECIAL, "AT_SYSINFO_EHDR points at it")


def stack(rules: Rules, case: Case) -> None:
    """AT_RANDOM, AT_EXECFN and AT_PLATFORM point into the main thread's stack, which has no file."""
    if case.path is None and points_into(rules.arguments, case.start, case.end):
        case.only(Kind.PRIVATE_ANON, "holds the main thread's arguments (AT_RANDOM)")


def vvar(rules: Rules, case: Case) -> None:
    """[vvar] touches [vdso], and its pages cannot be read, so that they are zero in every core."""
    if case.m in rules.vvar and (rules.payload is None or rules.payload.zero.get(case.m, True)):
        case.only(Kind.SPECIAL, "unwritable, nameless, next to [vdso]", convention=conventions.VVAR)


def no_file(rules: Rules, case: Case) -> None:
    """NT_FILE lists every mapping of a file whose name could be written down."""
    if case.path is None and rules.named:
        case.only(
            Kind.PRIVATE_ANON | Kind.SPECIAL | Kind.EXCLUDED,
            "NT_FILE names no file for it",
            convention=conventions.NT_FILE,
        )


def thread_stack(rules: Rules, case: Case) -> None:
    """Where NT_FILE is missing, a thread's stack pointer still tells a stack, which hardly anybody maps from a file."""
    if case.path is None and case.writable and points_into(rules.stack_pointers, case.start, case.end):
        case.only(Kind.PRIVATE_ANON, "a thread's stack pointer points into it", convention=conventions.STACK_POINTER)


def other_special(rules: Rules, case: Case) -> None:
    """[sigpage], [uprobes] and a [vdso] without AT_SYSINFO_EHDR: one nameless executable page, or an ELF image."""
    if case.path is not None or case.possible == Kind.SPECIAL:
        return
    executable = case.flags & (PF_W | PF_X) == PF_X
    if executable and rules.named and case.first == elf.ELFMAG:
        case.only(Kind.SPECIAL, "nameless, executable, begins with the ELF magic", convention=conventions.SPECIAL_SHAPE)
    elif not (executable and case.size == case.page_size):
        case.rule_out(Kind.SPECIAL, "", convention=conventions.SPECIAL_SHAPE)


def has_file(rules: Rules, case: Case) -> None:
    """What NT_FILE names is neither anonymous nor special; what it does not name as deleted has a link."""
    if case.path is None:
        return
    case.rule_out(Kind.PRIVATE_ANON | Kind.SPECIAL, "NT_FILE names a file")
    unlinked = case.area is not None and case.area.facts is not None and not case.area.facts.linked
    if not case.deleted and not unlinked:
        case.rule_out(Kind.SHARED_ANON, "", convention=conventions.LINKED_NAME)


def one_page_of_several(rules: Rules, case: Case) -> bool:
    """Whether the core has what bit 4 leaves of a mapping; what was cut to fit a size tells nothing."""
    return not rules.mappings.notes.fitted and case.present == case.page_size < case.size


def partly_there(rules: Rules, case: Case) -> None:
    """One page of several is what bit 4 leaves of a private file mapping that begins with its file's first byte.

    That does not say that it is one: a filter that could not tell kept the page because the mapping could have been
    one, and then it can still be all that it could be before.
    """
    if not case.possible & Kind.HEADED or not one_page_of_several(rules, case):
        return
    case.rule_out(Kind.UNHEADED, "only its first page was dumped", convention=conventions.HEADER_LEFT)
    if rules.neighbours.private_anonymous_dumped and case.m != rules.neighbours.last:
        case.rule_out(Kind.WRITTEN, "written memory was dumped, it was not", convention=conventions.BIT_0_IN_FORCE)


def wholly_there(rules: Rules, case: Case) -> None:
    """Where the dump's filter left private file mappings out, a whole one had been written to."""
    if not case.possible & Kind.WRITTEN or rules.dumper != CURRENT:
        return
    if rules.neighbours.private_files_left_out and case.present == case.size > case.page_size:
        why = "unwritten file mappings were left out of the dump, it was not"
        case.rule_out(Kind.CLEAN, why, convention=conventions.BIT_2_LEFT_OUT)


def not_there(rules: Rules, case: Case) -> None:
    """What was not dumped is none of the kinds that the dump's filter is known to have kept."""
    if case.present:
        return
    if rules.neighbours.private_anonymous_dumped:
        why = "written memory was dumped, this was not"
        case.rule_out(Kind.PRIVATE_ANON | Kind.WRITTEN, why, convention=conventions.BIT_0_IN_FORCE)
    if rules.neighbours.shared_anonymous_dumped:
        why = "anonymous shared memory was dumped, this was not"
        case.rule_out(Kind.SHARED_ANON, why, convention=conventions.BIT_1_IN_FORCE)


# --- what names prove -------------------------------------------------------------------------------------


def names(rules: Rules, case: Case) -> None:
    """Names that the kernel gives, and that speak for themselves (section by section of tests/kernel's zoo)."""
    path = case.path
    if path is None:
        return
    if path == b"/dev/zero":
        case.only(Kind.UNHEADED | Kind.EXCLUDED, "/dev/zero without (deleted) is mapped privately")
        if rules.payload is not None and rules.payload.zero.get(case.m) is False:
            case.rule_out(Kind.CLEAN, "not zero, so written")
    elif path == b"/dev/zero" + DELETED:
        case.only(Kind.SHARED_ANON | Kind.EXCLUDED, "named /dev/zero (deleted)", convention=conventions.DEV_ZERO)
    elif path == b"/anon_hugepage" + DELETED:
        case.only(Kind.HUGE | Kind.EXCLUDED, "named /anon_hugepage (deleted)")
    elif path.startswith((b"/SYSV", b"/memfd:")) and case.deleted:
        case.rule_out(Kind.SHARED_FILE, "shared memory without a link")
        if path.startswith(b"/SYSV"):
            case.rule_out(Kind.WRITTEN, "System V shared memory is never private", convention=conventions.SYSV)
        if case.writable:
            sysv = path.startswith(b"/SYSV")
            why = "writable System V shared memory" if sysv else "writable a memfd"
            rule = conventions.SYSV if sysv else conventions.SHARED_MEMFD
            case.only(Kind.SHARED_ANON | Kind.SHARED_HUGE | Kind.EXCLUDED, why, convention=rule)
    elif path == b"/[aio]" + DELETED or path.startswith((b"anon_inode:", b"socket:[")):
        case.only(Kind.SHARED_FILE | Kind.EXCLUDED, "a ring shared with the kernel", convention=conventions.KERNEL_RING)
    elif path.startswith(b"/dev/dax"):
        case.dax = True
        case.only(Kind.SHARED_DAX | Kind.EXCLUDED, "a DAX device", convention=conventions.DAX_DEVICE)
    elif path.startswith(b"/dev/shm/") and case.deleted and not path.startswith(b"/dev/shm/sem."):
        # A semaphore gets its name as a second link, and what was mapped is the first, which is gone.
        case.rule_out(Kind.SHARED_FILE, "shared memory has no second link", convention=conventions.SHM_ONE_LINK)


def no_dax(rules: Rules, case: Case) -> None:
    """A core cannot show a file system mounted with DAX, and hardly any is."""
    if not (case.path or b"").startswith(b"/dev/dax"):
        case.rule_out(Kind.DAX, "", convention=conventions.NO_DAX, source=0)


def no_huge(rules: Rules, case: Case) -> None:
    """Huge pages have a shape, and one folder is of one file system."""
    if (case.start | case.end | (case.file_offset or 0)) & rules.huge_mask:
        case.rule_out(Kind.HUGE, "")
    elif case.path is not None and rules.neighbours.small_pages_beside(case.path, rules.huge_mask + 1):
        case.rule_out(Kind.HUGE, "", convention=conventions.SMALL_PAGES)


def image_member(rules: Rules, case: Case) -> None:
    """What lies in a loaded ELF image is private; what its program headers call writable was written to.

    The loader writes to the data segment (relocations, the end of .bss), also where it later makes it
    unwritable (PT_GNU_RELRO).
    """
    if rules.payload is None:
        return
    if case.path is None and rules.named:
        return
    image = rules.payload.image_of(case.m)
    if image is None:
        return
    if image.wrote(case.start, case.end):
        case.only(Kind.WRITTEN | Kind.EXCLUDED, "writable segment of an ELF image", convention=conventions.IMAGE_DATA)
    else:
        case.only(Kind.CLEAN | Kind.EXCLUDED, "unwritable segment of an ELF image", convention=conventions.IMAGE_TEXT)


def mapped_again(rules: Rules, case: Case) -> None:
    """Text of a loaded image that is mapped once more elsewhere: V8 does so with its own, to have it near its code."""
    if case.path is None or case.writable or rules.payload is None or not rules.payload.holds_unwritten(case.m):
        return
    why = "part of an unwritable segment of an image, once more"
    case.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.MAPPED_AGAIN)


def layout_member(rules: Rules, case: Case) -> None:
    """Where the payload has passed before it could be looked at, the order of segments stands in for headers.

    Not where the first page is only missing: a filter left it out, and it may have been no image's, or its headers said
    something else. Then the order only tells what is likely.
    """
    if case.path is None or rules.payload is not None:
        return
    written = rules.neighbours.written_by_order(case.m)
    if written is None:
        return
    if written:
        why = "laid out like data of an ELF image"
        case.only(Kind.PRIVATE_MAPPED | Kind.EXCLUDED, why, convention=conventions.LAYOUT_PRIVATE)
        if case.possible & Kind.WRITTEN:
            case.only(Kind.WRITTEN | Kind.EXCLUDED, "", convention=conventions.LAYOUT_DATA)
    else:
        why = "laid out like text of an ELF image"
        case.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.LAYOUT_TEXT)


def unwritable_image(rules: Rules, case: Case) -> None:
    """Nobody maps programs and libraries for sharing with the right to write to them, and then without writing."""
    if case.path is not None and not case.writable and case.first == elf.ELFMAG and not case.file_offset:
        why = "an ELF file that is not writable here"
        case.rule_out(Kind.SHARED_FILE | Kind.SHARED_ANON, why, convention=conventions.ELF_UNSHARED)


def runtime_archive(rules: Rules, case: Case) -> None:
    """Images of a language's heap are mapped privately, and what of them is writable gets its pointers relocated."""
    if case.path is None or not case.path.endswith(ARCHIVES):
        return
    case.rule_out(Kind.SHARED_FILE, "the archive of a language's runtime", convention=conventions.RUNTIME_ARCHIVE)
    if case.writable and case.possible & Kind.WRITTEN:
        case.only(Kind.WRITTEN | Kind.EXCLUDED, "", convention=conventions.RUNTIME_ARCHIVE)


def system_file(rules: Rules, case: Case) -> None:
    """A file of the system that is writable nowhere in the process is mapped privately and clean.

    PE files are not: Wine maps their sections unwritable after relocating them. One whose first page a filter left out
    may be such a file.
    """
    if case.path is None or not is_system_file(case.path) or rules.neighbours.writable_somewhere(case.path):
        return
    payload = rules.payload
    if payload is not None and (case.path in payload.pe or rules.neighbours.headers_lost(case.m, payload)):
        return
    if case.path.endswith((b".dll", b".exe", b".drv", b".sys")):
        return
    if case.possible & Kind.CLEAN:
        why = "a system file that is writable nowhere"
        case.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.SYSTEM_FILE)


def is_system_file(path: bytes) -> bool:
    """Whether a file lies where packages put theirs."""
    return path.startswith(SYSTEM_FOLDERS) and not path.startswith(NO_SYSTEM_FOLDERS)


def header_page(rules: Rules, case: Case) -> None:
    """Bit 4 keeps the first page of a readable mapping at offset 0 if the file is executable or is ELF."""
    if case.path is None and rules.named:
        return
    if case.first == elf.ELFMAG:
        case.header_page(True, "begins with the ELF magic")
    elif case.path is None:
        return
    elif case.first is None:
        if case.path.startswith(DATA_FOLDERS) or case.path.endswith(DATA_FILES):
            case.header_page(False, "data of the system", convention=conventions.DATA_MODE)
    elif case.first[:2] == b"#!":
        case.header_page(True, "begins with #!", convention=conventions.SCRIPT)
    elif case.path.startswith((b"/memfd:", b"/SYSV")):
        mode = conventions.MEMFD_MODE if case.path.startswith(b"/memfd:") else conventions.SYSV_MODE
        case.header_page(True, "shared memory has an executable mode", convention=mode)
    else:
        case.header_page(False, "", convention=conventions.DATA_MODE)


# How many of the rules stand before what lies beside the core is asked.
BEFORE_WITNESSES = 6

RULES: tuple[Callable[[Rules, Case], None], ...] = (
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
    image_member,
    mapped_again,
    layout_member,
    names,
    unwritable_image,
    runtime_archive,
    no_huge,
    system_file,
    header_page,
)


def likeliest(rules: Rules, case: Case, possible: int) -> int:
    """The kind to guess where several are left; orders by what programs do, measured in tests/kernel."""
    for kinds in _preferences(rules, case, possible):
        left = single(possible & kinds)
        if left:
            return left[-1] if len(left) > 1 and rules.neighbours.starts_image(case.m) else left[0]
    return single(possible)[0]


def _preferences(rules: Rules, case: Case, possible: int) -> tuple[int, ...]:
    path = case.path
    if path is not None and rules.payload is not None and rules.neighbours.headers_lost(case.m, rules.payload):
        written = rules.neighbours.written_by_order(case.m)
        if written is not None:
            return Kind.WRITTEN if written else Kind.CLEAN, Kind.PRIVATE_MAPPED
    if possible & Kind.HEADED and one_page_of_several(rules, case):
        return Kind.PRIVATE_FILE_HEADED, Kind.HEADED
    if path is None:
        if case.area is not None and case.area.nature.copied is False and not case.present:
            # Nearly all that is reserved and has no pages was never written to; either way there are none to lose.
            return (Kind.EXCLUDED,)
        executable_page = case.flags & (PF_W | PF_X) == PF_X and rules.ehdr.e_machine == elf.EM_ARM
        first = Kind.SPECIAL if executable_page else Kind.PRIVATE_ANON
        if not rules.named and not case.writable:
            first = Kind.CLEAN
        return first, Kind.PRIVATE_ANON, Kind.CLEAN
    if path == b"/anon_hugepage" + DELETED:
        return (Kind.PRIVATE_HUGE,)
    if path == b"/dev/zero":
        return (Kind.CLEAN if rules.payload is not None else Kind.WRITTEN,)
    shared = case.area is not None and case.area.nature.shared
    if case.area is not None and case.area.nature.copied is False and not shared:
        return (Kind.CLEAN,)
    if path.startswith(b"/memfd:") and not case.writable:
        # Read-only next to a writable view is a JIT compiler's pair; alone it is what a peer handed over.
        both = shared or rules.neighbours.writable_somewhere(path)
        return Kind.SHARED_ANON if both else Kind.CLEAN, Kind.SHARED_ANON
    if b"huge" in path and case.possible & Kind.HUGE:
        return Kind.SHARED_HUGE, Kind.PRIVATE_HUGE
    if case.writable and (is_system_file(path) or case.first == elf.ELFMAG):
        return Kind.WRITTEN, Kind.CLEAN
    if case.writable:
        return Kind.SHARED_ANON, Kind.SHARED_FILE, Kind.WRITTEN
    if shared and not case.flags:
        # What cannot be touched at all was touched once, or is about to be.
        return Kind.SHARED_ANON, Kind.SHARED_FILE
    return Kind.CLEAN, Kind.WRITTEN
