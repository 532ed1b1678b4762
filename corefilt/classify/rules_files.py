"""The rules for what is mapped from files: ELF images by their headers or their layout, and what names tell."""

from __future__ import annotations

from corefilt.classify import conventions
from corefilt.classify.address_space import NO_IMAGE
from corefilt.classify.candidates import DELETED
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_R, PF_X
from corefilt.kinds import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.candidates import Candidates
    from corefilt.classify.context import Context
    from corefilt.corefile.images import Image

# Folders whose files belong to the system: nobody maps those shared for writing.
SYSTEM_FOLDERS = (
    b"/usr/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/", b"/bin/", b"/sbin/", b"/nix/store/", b"/gnu/store/",
)  # fmt: skip
NO_SYSTEM_FOLDERS = (b"/usr/local/",)

# What is no program and not executable: locales, tables of iconv, Java's classes. Of 66,818 files that a Debian 12 of
# 898 packages has here, 225 have an executable mode: 215 scripts, 7 ELF files, a PE file, and 2 texts that nobody maps.
DATA_FOLDERS = (b"/usr/share/", b"/usr/lib/locale/")
DATA_FILES = (b"/gconv-modules.cache", b"/lib/modules")
PE_FILES = (b".dll", b".exe", b".drv", b".sys")

# What a JVM (CDS), Emacs, SBCL and Android's runtime keep prepared memory in.
ARCHIVES = (b".jsa", b".pdmp", b"/sbcl.core", b".art", b".oat")

# Names that the kernel gives, or that stand for memory and devices: nothing that is true of users' files.
NO_USER_FILES = (b"/memfd:", b"/SYSV", b"/dev/", b"/anon_hugepage", b"/[aio]", b"anon_inode:", b"socket:[")

# Names that only shared mappings bear where they are writable, each with the source that maps them with MAP_SHARED:
# OpenJDK src/hotspot/os/linux/gc/z/zPhysicalMemoryBacking_linux.cpp, .NET src/coreclr/minipal/Unix/doublemapping.cpp,
# Firefox ipc/glue/SharedMemoryPlatform_posix.cpp (and its shm_open below), PulseAudio src/pulsecore/shm.c (and below),
# libwayland cursor/os-compatibility.c, Weston shared/os-compatibility.c, libxshmfence src/xshmfence_alloc.c.
SHARED_MEMFDS = (
    b"/memfd:java_heap (deleted)", b"/memfd:doublemapper (deleted)", b"/memfd:mozilla-ipc (deleted)",
    b"/memfd:pulseaudio (deleted)", b"/memfd:wayland-cursor (deleted)", b"/memfd:weston-shared (deleted)",
    b"/memfd:xshmfence (deleted)",
)  # fmt: skip
# PostgreSQL src/backend/storage/ipc/dsm_impl.c, CPython Lib/multiprocessing/shared_memory.py (psm_) and heap.py (pym-),
# glibc sysdeps/pthread/sem_open.c, PulseAudio, Firefox, Chromium base/files/file_util_posix.cc names the files that
# base/memory/platform_shared_memory_region_posix.cc maps.
SHARED_IN_SHM = (
    b"/dev/shm/PostgreSQL.", b"/dev/shm/psm_", b"/dev/shm/pym-", b"/dev/shm/sem.", b"/dev/shm/pulse-shm-",
    b"/dev/shm/org.mozilla.ipc.", b"/dev/shm/.org.chromium.Chromium.",
)  # fmt: skip


def is_system_file(path: bytes) -> bool:
    """Whether a file lies where packages put theirs."""
    return path.startswith(SYSTEM_FOLDERS) and not path.startswith(NO_SYSTEM_FOLDERS)


def is_pe(context: Context, candidates: Candidates) -> bool:
    """Whether the file is a PE file, by its name or its first bytes; Wine and Mono relocate its sections in place."""
    path = candidates.path or b""
    return path.lower().endswith(PE_FILES) or (context.payload is not None and candidates.path in context.payload.pe)


def may_be_pe(context: Context, candidates: Candidates) -> bool:
    """Whether the file is a PE file, or could be one whose first page a filter left out."""
    lost = context.payload is not None and context.address_space.headers_lost(candidates.m, context.payload)
    return lost or is_pe(context, candidates)


def image_member(context: Context, candidates: Candidates) -> None:
    """What lies in a loaded ELF image is private; its own program headers say what of it was written to.

    The loader writes to the data segment (relocations, the end of .bss), also where it later makes it unwritable
    (PT_GNU_RELRO). A writable segment that it has nothing to do in may have been left alone (patchelf adds such), and
    an unwritable one may have been written to all the same; what gives that away leaves it open.
    """
    if context.payload is None:
        return
    if candidates.path is None and context.named:
        return
    image = context.payload.image_of(candidates.m)
    if image is None:
        return
    if image.loader_wrote(candidates.start, candidates.end):
        candidates.only(
            Kind.WRITTEN | Kind.EXCLUDED, "writable segment of an ELF image", convention=conventions.IMAGE_DATA
        )
    elif image.wrote(candidates.start, candidates.end):
        why = "writable segment of an ELF image in which the loader has nothing to write"
        candidates.only(Kind.PRIVATE_MAPPED | Kind.EXCLUDED, why, convention=conventions.IMAGE_PRIVATE)
    else:
        candidates.doubt = candidates.doubt or written_text(context, candidates, image)
        if not candidates.possible & Kind.CLEAN:
            # The dump has it where it left out what was not written to.
            why = "in an ELF image"
            candidates.only(Kind.PRIVATE_MAPPED | Kind.EXCLUDED, why, convention=conventions.IMAGE_PRIVATE)
        elif candidates.doubt:
            why = f"unwritable segment of an ELF image, but {candidates.doubt}"
            candidates.only(Kind.PRIVATE_MAPPED | Kind.EXCLUDED, why, convention=conventions.IMAGE_PRIVATE)
        else:
            why = "unwritable segment of an ELF image"
            candidates.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.IMAGE_TEXT)


def written_text(context: Context, candidates: Candidates, image: Image) -> str:
    """What says that a part of an image that nobody should write to may have been written to, or nothing."""
    own = image.flags_within(candidates.start, candidates.end)
    if candidates.writable:
        return "it is writable now"
    if own and own != {candidates.flags} and not _executable_by_personality(context, candidates, own):
        return "its flags are not the segment's"
    if own and image.textrel is None:
        return "its dynamic section, which would show relocated text, is not in the core"
    if own and image.textrel:
        return "the image relocates its text (DT_TEXTREL)"
    if any(not image.wrote(*span) for span in context.like(candidates.m, image)):
        return SPLIT
    return ""


SPLIT = "the kernel would have merged it with its neighbour if nothing had separated them"


def _executable_by_personality(context: Context, candidates: Candidates, own: set[int]) -> bool:
    """READ_IMPLIES_EXEC, which a program has whose stack is executable, adds PF_X to what can be read."""
    return {flags | PF_X if flags & PF_R else flags for flags in own} == {
        candidates.flags
    } and context.stack_is_executable


def set_apart(context: Context, candidates: Candidates) -> None:
    """A mapping beside another with the same flags, the same file and the next offset was split off by something.

    The kernel merges such neighbours unless their flags or what was written to them differ (vma_merge in mm/vma.c of
    Linux 6.18); mprotect to make it writable and back leaves VM_ACCOUNT.
    """
    if candidates.path is None or candidates.writable:
        return
    # What an image's loader made unwritable lies next to what always was: that explains itself (written_text).
    apart = any(
        context.address_space.role_by_order(other) != "data" for other in context.address_space.like(candidates.m)
    )
    if apart and (context.payload is None or context.payload.image_of(candidates.m) is None):
        candidates.doubt = SPLIT


def mapped_again(context: Context, candidates: Candidates) -> None:
    """Text of a loaded image that is mapped once more elsewhere: V8 does so with its own, to have it near its code."""
    if candidates.path is None or candidates.writable or context.payload is None or candidates.doubt:
        return
    if not context.payload.holds_unwritten(candidates.m):
        return
    why = "part of an unwritable segment of an image, mapped again"
    candidates.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.MAPPED_AGAIN)


def layout_member(context: Context, candidates: Candidates) -> None:
    """Where the payload has passed before it could be looked at, the order of segments stands in for headers.

    Not where the first page is only missing: a filter left it out, and it may have been no image's, or its headers said
    something else. Then the order only tells what is likely. What it cannot tell stays open: whether a read-only
    segment is protected after relocation or holds constants (Go, Valgrind), and, on machines of 32 bits, where
    DT_TEXTREL is in use, whether text was relocated.
    """
    if candidates.path is None or context.payload is not None or is_pe(context, candidates):
        return
    role = context.address_space.role_by_order(candidates.m)
    if role is None:
        return
    if candidates.present and not context.address_space.image_begun(candidates.m):
        candidates.doubt = "the dump left out the unwritten first page of the image, but not this"
    private = Kind.PRIVATE_MAPPED | Kind.EXCLUDED
    if role == "data":
        candidates.only(private, "laid out like data of an ELF image", convention=conventions.LAYOUT_PRIVATE)
        if candidates.possible & Kind.WRITTEN:
            candidates.only(Kind.WRITTEN | Kind.EXCLUDED, "", convention=conventions.LAYOUT_DATA)
    elif role == "constants":
        why = "laid out like constants of an ELF image, or like data that is protected after relocation"
        candidates.only(private, why, convention=conventions.LAYOUT_PRIVATE)
        candidates.doubt = why
    elif candidates.doubt or not context.ehdr.wide:
        why = f"laid out like text of an ELF image, but {candidates.doubt or 'text may be relocated (DT_TEXTREL)'}"
        candidates.only(private, why, convention=conventions.LAYOUT_PRIVATE)
        candidates.doubt = why
    else:
        why = "laid out like text of an ELF image"
        candidates.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=conventions.LAYOUT_TEXT)


def first_page_left_out(context: Context, candidates: Candidates) -> None:
    """Where a filter left out an image's first page, which nobody writes to, what it kept of the image was written to.

    That it is an image, and so private, only its name tells then (.so), or that the program was started from it; of a
    file that is mapped twice not even that, for with the first page there it would stay open as well. Of names that
    hold no image, a filter may have left the first page out as shared memory.
    """
    if candidates.path is None or candidates.path.startswith(NO_IMAGE):
        return
    if context.payload is None or not candidates.present or context.mappings.notes.fitted:
        return
    if not context.address_space.headers_lost(candidates.m, context.payload) or context.address_space.image_begun(
        candidates.m
    ):
        return
    if candidates.possible & (Kind.WRITTEN | Kind.SHARED_FILE | Kind.SHARED_ANON):
        why = "the dump left out the first page of the file, but not this"
        candidates.rule_out(Kind.CLEAN, why, convention=conventions.BIT_2_LEFT_OUT)
    name = candidates.path.removesuffix(DELETED).rpartition(b"/")[2]
    named = name.endswith(b".so") or b".so." in name
    space = context.address_space
    if space.role_by_order(candidates.m) is None or space.begun_again(candidates.m):
        return
    if named or candidates.path == context.program:
        why = "laid out like an ELF image, and named like one" if named else "the program was started from its file"
        candidates.only(Kind.PRIVATE_MAPPED | Kind.EXCLUDED, why, convention=conventions.LAYOUT_PRIVATE)


def shared_names(context: Context, candidates: Candidates) -> None:
    """What some programs name, and never map privately with the right to write."""
    if candidates.path is None or not candidates.writable:
        return
    if candidates.path in SHARED_MEMFDS or candidates.path.startswith(SHARED_IN_SHM):
        shared = Kind.SHARED_ANON | Kind.SHARED_FILE | Kind.SHARED_HUGE | Kind.EXCLUDED
        candidates.only(shared, "a name that only shared mappings have", convention=conventions.SHARED_NAME)


def unwritable_image(context: Context, candidates: Candidates) -> None:
    """Nobody maps programs and libraries for sharing with the right to write to them, and then without writing."""
    if (
        candidates.path is not None
        and not candidates.writable
        and candidates.first == elf.ELFMAG
        and not candidates.file_offset
    ):
        why = "an unwritable mapping of an ELF file"
        candidates.rule_out(Kind.SHARED_FILE | Kind.SHARED_ANON, why, convention=conventions.ELF_UNSHARED)


def runtime_archive(context: Context, candidates: Candidates) -> None:
    """Images of a language's heap are mapped privately, and what of them is writable gets its pointers relocated."""
    if candidates.path is None or not candidates.path.endswith(ARCHIVES):
        return
    why = "a heap image of a language runtime"
    candidates.rule_out(Kind.SHARED_FILE, why, convention=conventions.RUNTIME_ARCHIVE)
    if candidates.writable and candidates.possible & Kind.WRITTEN:
        candidates.only(Kind.WRITTEN | Kind.EXCLUDED, "", convention=conventions.RUNTIME_ARCHIVE)


def system_file(context: Context, candidates: Candidates) -> None:
    """A file of the system that is writable nowhere in the process is mapped privately and clean.

    PE files are not: Wine maps their sections unwritable after relocating them. One whose first page a filter left out
    may be such a file.
    """
    if (
        candidates.path is None
        or not is_system_file(candidates.path)
        or context.address_space.writable_somewhere(candidates.path)
    ):
        return
    if may_be_pe(context, candidates) or not candidates.possible & Kind.CLEAN:
        return
    kinds = Kind.PRIVATE_MAPPED if candidates.doubt else Kind.CLEAN
    why = "a system file that is writable nowhere"
    candidates.only(kinds | Kind.EXCLUDED, why, convention=conventions.SYSTEM_FILE)


def read_only_file(context: Context, candidates: Candidates) -> None:
    """A file that a process can read only, wherever it maps it, is not written to, though it may be shared.

    What was made unwritable after writing is text or data of images, which are executable or writable elsewhere; PE
    files are the exception. VmFlags tell better (never_writable). Where text was left out of the dump, what is there is
    no file that was only read.
    """
    if (
        candidates.path is None
        or candidates.flags != PF_R
        or candidates.doubt
        or candidates.path.startswith(NO_USER_FILES)
    ):
        return
    if not candidates.possible & Kind.CLEAN or (
        candidates.area is not None and candidates.area.nature.flags is not None
    ):
        return
    if candidates.present and context.payload is not None and not context.address_space.private_files_dumped:
        return
    if (
        context.address_space.touched_somewhere(candidates.path)
        or may_be_pe(context, candidates)
        or candidates.path.endswith(ARCHIVES)
    ):
        return
    why = "a file that the process maps for reading only"
    candidates.rule_out(Kind.WRITTEN, why, convention=conventions.READ_ONLY_FILE)


def header_page(context: Context, candidates: Candidates) -> None:
    """Bit 4 keeps the first page of a readable mapping at offset 0 if the file is executable or is ELF.

    What neither is ELF nor begins with #! may have an executable mode (Emacs' dump, PE files), and a memfd need not
    have one (MFD_NOEXEC_SEAL).
    """
    if candidates.path is None and context.named:
        return
    if candidates.first == elf.ELFMAG:
        candidates.header_page(True, "begins with the ELF magic")
    elif candidates.path is None:
        return
    elif candidates.first is not None and candidates.first[:2] == b"#!":
        candidates.header_page(True, "begins with #!", convention=conventions.SCRIPT)
    elif candidates.path.startswith(b"/SYSV"):
        candidates.header_page(True, "System V shared memory has an executable mode", convention=conventions.SYSV_MODE)
    elif (candidates.path.startswith(DATA_FOLDERS) or candidates.path.endswith(DATA_FILES)) and not is_pe(
        context, candidates
    ):
        candidates.header_page(False, "a data file of the system", convention=conventions.DATA_MODE)
