"""What to guess where several kinds are left (--unknown guess): orders by what programs do, as it was counted."""

from __future__ import annotations

from corefilt.classify.candidates import DELETED
from corefilt.classify.rules_core import one_page_of_several
from corefilt.classify.rules_files import is_system_file
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_W, PF_X
from corefilt.kinds import Kind, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.candidates import Candidates
    from corefilt.classify.context import Context

# Files that are opened for writing and mapped for reading only: LMDB writes through the descriptor (mdb_env_map in
# OpenLDAP's libraries/liblmdb/mdb.c).
WRITTEN_BY_DESCRIPTOR = (b".mdb",)
# So does SQLite, whose databases begin with "SQLite format 3" (unixRemapfile in src/os_unix.c).
SQLITE = b"SQLi"
# Data that packages give mode 0755: Emacs' dump, and the PE programs of Mono (their libraries, .dll, have 0644).
EXECUTABLE_DATA = (b".pdmp", b".exe")


def likeliest(context: Context, candidates: Candidates, possible: int) -> int:
    """The kind to guess where several are left; orders by what programs do, measured in tests/kernel."""
    for kinds in _preferences(context, candidates, possible):
        left = single(possible & kinds)
        if left:
            return left[-1] if len(left) > 1 and _probably_executable(context, candidates) else left[0]
    return single(possible)[0]


def _probably_executable(context: Context, candidates: Candidates) -> bool:
    """Whether a file probably has a mode for which bit 4 keeps its first page, where the content does not say."""
    path = candidates.path or b""
    return (
        context.address_space.starts_image(candidates.m)
        or path.startswith(b"/memfd:")
        or path.endswith(EXECUTABLE_DATA)
    )


def _preferences(context: Context, candidates: Candidates, possible: int) -> tuple[int, ...]:
    path = candidates.path
    if context.payload is not None and context.address_space.headers_lost(candidates.m, context.payload):
        role = context.address_space.role_by_order(candidates.m)
        if role is not None:
            return Kind.CLEAN if role == "text" and not candidates.doubt else Kind.WRITTEN, Kind.PRIVATE_MAPPED
    if possible & Kind.HEADED and one_page_of_several(context, candidates):
        return Kind.PRIVATE_FILE_HEADED, Kind.HEADED
    if path is None:
        if candidates.area is not None and candidates.area.nature.copied is False and not candidates.present:
            # Nearly all that is reserved and has no pages was never written to; either way there are none to lose.
            return (Kind.EXCLUDED,)
        executable_page = candidates.flags & (PF_W | PF_X) == PF_X and context.ehdr.e_machine == elf.EM_ARM
        first = Kind.SPECIAL if executable_page else Kind.PRIVATE_ANON
        if not context.named and not candidates.writable:
            first = Kind.CLEAN
        return first, Kind.PRIVATE_ANON, Kind.CLEAN
    if path == b"/anon_hugepage" + DELETED:
        # Runtimes have their heaps there; what shares memory otherwise shares it by huge pages, too (PostgreSQL).
        return (Kind.SHARED_HUGE if context.address_space.shares_memory else Kind.PRIVATE_HUGE,)
    if path == b"/dev/zero":
        return (Kind.CLEAN if context.payload is not None else Kind.WRITTEN,)
    shared = candidates.area is not None and candidates.area.nature.shared
    if candidates.area is not None and candidates.area.nature.copied is False and not shared:
        # What is set apart from its neighbour and charged (ac) was made writable, and shares its anon_vma.
        split = candidates.doubt and b"ac" in (candidates.area.nature.flags or ()) and not candidates.writable
        return (Kind.WRITTEN if split else Kind.CLEAN,)
    if not candidates.writable and (path.endswith(WRITTEN_BY_DESCRIPTOR) or candidates.first == SQLITE):
        return (Kind.SHARED_FILE, Kind.SHARED_ANON)
    if path.startswith(b"/memfd:") and not candidates.writable:
        # Executable next to a writable view is a JIT compiler's pair. What can only be read was handed over by a
        # descriptor that is read-only, which the kernel takes for private: 12 mappings in four processes of Chromium.
        both = shared or (candidates.flags & PF_X and context.address_space.writable_somewhere(path))
        return Kind.SHARED_ANON if both else Kind.CLEAN, Kind.SHARED_ANON
    if b"huge" in path and candidates.possible & Kind.HUGE:
        return Kind.SHARED_HUGE, Kind.PRIVATE_HUGE
    if candidates.doubt and candidates.flags & PF_X:
        return Kind.WRITTEN, Kind.CLEAN
    if candidates.writable and (is_system_file(path) or candidates.first == elf.ELFMAG):
        return Kind.WRITTEN, Kind.CLEAN
    if candidates.writable:
        return Kind.SHARED_ANON, Kind.SHARED_FILE, Kind.WRITTEN
    if shared and not candidates.flags:
        # What cannot be touched at all was touched once, or is about to be.
        return Kind.SHARED_ANON, Kind.SHARED_FILE
    return Kind.CLEAN, Kind.WRITTEN
