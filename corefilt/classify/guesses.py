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
# Data that packages give mode 0755: Emacs' dump, and the PE programs of Mono (their libraries, .dll, have 0644).
EXECUTABLE_DATA = (b".pdmp", b".exe")


def likeliest(context: Context, case: Candidates, possible: int) -> int:
    """The kind to guess where several are left; orders by what programs do, measured in tests/kernel."""
    for kinds in _preferences(context, case, possible):
        left = single(possible & kinds)
        if left:
            return left[-1] if len(left) > 1 and _probably_executable(context, case) else left[0]
    return single(possible)[0]


def _probably_executable(context: Context, case: Candidates) -> bool:
    """Whether a file probably has a mode for which bit 4 keeps its first page, where the content does not say."""
    path = case.path or b""
    return context.neighbours.starts_image(case.m) or path.startswith(b"/memfd:") or path.endswith(EXECUTABLE_DATA)


def _preferences(context: Context, case: Candidates, possible: int) -> tuple[int, ...]:
    path = case.path
    if path is not None and context.payload is not None and context.neighbours.headers_lost(case.m, context.payload):
        role = context.neighbours.role_by_order(case.m)
        if role is not None:
            return Kind.CLEAN if role == "text" and not case.doubt else Kind.WRITTEN, Kind.PRIVATE_MAPPED
    if possible & Kind.HEADED and one_page_of_several(context, case):
        return Kind.PRIVATE_FILE_HEADED, Kind.HEADED
    if path is None:
        if case.area is not None and case.area.nature.copied is False and not case.present:
            # Nearly all that is reserved and has no pages was never written to; either way there are none to lose.
            return (Kind.EXCLUDED,)
        executable_page = case.flags & (PF_W | PF_X) == PF_X and context.ehdr.e_machine == elf.EM_ARM
        first = Kind.SPECIAL if executable_page else Kind.PRIVATE_ANON
        if not context.named and not case.writable:
            first = Kind.CLEAN
        return first, Kind.PRIVATE_ANON, Kind.CLEAN
    if path == b"/anon_hugepage" + DELETED:
        # Runtimes have their heaps there; what shares memory otherwise shares it by huge pages, too (PostgreSQL).
        return (Kind.SHARED_HUGE if context.neighbours.shares_memory else Kind.PRIVATE_HUGE,)
    if path == b"/dev/zero":
        return (Kind.CLEAN if context.payload is not None else Kind.WRITTEN,)
    shared = case.area is not None and case.area.nature.shared
    if case.area is not None and case.area.nature.copied is False and not shared:
        # What is set apart from its neighbour and charged (ac) was made writable, and shares its anon_vma.
        split = case.doubt and b"ac" in (case.area.nature.flags or ()) and not case.writable
        return (Kind.WRITTEN if split else Kind.CLEAN,)
    if not case.writable and path.endswith(WRITTEN_BY_DESCRIPTOR):
        return (Kind.SHARED_FILE, Kind.SHARED_ANON)
    if path.startswith(b"/memfd:") and not case.writable:
        # Executable next to a writable view is a JIT compiler's pair. What can only be read was handed over by a
        # descriptor that is read-only, which the kernel takes for private: 12 mappings in four processes of Chromium.
        both = shared or (case.flags & PF_X and context.neighbours.writable_somewhere(path))
        return Kind.SHARED_ANON if both else Kind.CLEAN, Kind.SHARED_ANON
    if b"huge" in path and case.possible & Kind.HUGE:
        return Kind.SHARED_HUGE, Kind.PRIVATE_HUGE
    if case.doubt and case.flags & PF_X and not case.writable:
        return Kind.WRITTEN, Kind.CLEAN
    if case.writable and (is_system_file(path) or case.first == elf.ELFMAG):
        return Kind.WRITTEN, Kind.CLEAN
    if case.writable:
        return Kind.SHARED_ANON, Kind.SHARED_FILE, Kind.WRITTEN
    if shared and not case.flags:
        # What cannot be touched at all was touched once, or is about to be.
        return Kind.SHARED_ANON, Kind.SHARED_FILE
    return Kind.CLEAN, Kind.WRITTEN
