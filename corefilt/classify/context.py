"""What the rules may ask of a core: its mappings taken together, its notes, its payload and what lies beside it."""

from __future__ import annotations

from bisect import bisect_left

from corefilt.classify.address_space import AddressSpace
from corefilt.corefile import elf
from corefilt.corefile.elf import PF_R, PF_W, PF_X
from corefilt.corefile.mappings import NO_FILE
from corefilt.corefile.notes import AT_ENTRY, AT_EXECFN, AT_PLATFORM, AT_RANDOM, AT_SYSINFO_EHDR
from corefilt.kinds import CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.classify.payload import Payload
    from corefilt.corefile.elf import Ehdr
    from corefilt.corefile.fdpic import Fdpic
    from corefilt.corefile.images import Image
    from corefilt.corefile.mappings import Mappings
    from corefilt.evidence.evidence import Evidence

# The smallest huge page of a machine; what is not shaped by it cannot be hugetlbfs.
SMALLEST_HUGE = {elf.EM_X86_64: 2 << 20, elf.EM_386: 2 << 20, elf.EM_S390: 1 << 20, elf.EM_PPC: 1 << 14}
SMALLEST_HUGE_ELSEWHERE = 1 << 16

# [vvar] and its companions have up to 6 pages on Linux 6.18; what is larger is none of them.
MOST_VVAR_PAGES = 16


class Context:
    """The facts that rules read.

    ``mappings`` are whole ones, ``vvar`` those that ``vvar_candidates`` names; ``payload`` is None where it cannot be
    looked at before it is gone; ``fdpic`` tells what is FDPIC about the core, ``dumper`` by whose rules the filter is
    read. Rules change none of it; ``look_over`` and ``take_loadmaps`` do, when a pipe has brought more.
    """

    def __init__(
        self,
        ehdr: Ehdr,
        mappings: Mappings,
        payload: Payload | None,
        evidence: Evidence | None = None,
        *,
        vvar: set[int],
        fdpic: Fdpic | None = None,
        dumper: str = CURRENT,
    ) -> None:
        self.ehdr, self.mappings, self.payload = ehdr, mappings, payload
        self.evidence, self.fdpic, self.dumper = evidence, fdpic, dumper
        # Whether the machine has an MMU; None where only FDPIC programs run that tell nothing of it.
        self.mmu = fdpic.mmu if fdpic is not None else True
        self.loaded: list[tuple[int, int]] = []
        self.named = mappings.notes.files is not None
        self.address_space = AddressSpace(mappings)
        self.vvar = vvar
        self._executable_stack: bool | None = None
        self._program: bytes | None = None
        auxv = mappings.notes.auxv
        arguments = [auxv[key] for key in (AT_RANDOM, AT_EXECFN, AT_PLATFORM) if auxv.get(key)]
        # The kernel leaves the loadmaps beside them.
        self.arguments = sorted(arguments + [address for address in (fdpic.loadmaps if fdpic else ()) if address])
        # Where NT_FILE tells memory from files nothing is left for them to tell.
        self.stack_pointers = [] if self.named else sorted(mappings.notes.stack_pointers)
        self.vdso = auxv.get(AT_SYSINFO_EHDR, -1)
        self.huge_mask = SMALLEST_HUGE.get(ehdr.e_machine, SMALLEST_HUGE_ELSEWHERE) - 1

    def look_over(self) -> None:
        """Look over the mappings as a whole once more, when more is known of what the dump held."""
        self.address_space = AddressSpace(self.mappings)

    def take_loadmaps(self) -> None:
        """Learn from the loadmaps, once the payload they lie in has been looked at."""
        if self.fdpic is None or self.payload is None:
            return
        from corefilt.corefile.loadmaps import read_piece

        for address, piece in self.payload.held.items():
            try:
                found = read_piece(piece, address, self.ehdr)
            except ValueError:
                # It is told where the core is looked at; what does not hold tells nothing.
                continue
            self.loaded += [(start, size) for start, _, size in found.segments if size]
        self.loaded.sort()

    def loaded_in(self, start: int, end: int) -> tuple[int, int] | None:
        """Address and size of the last segment that a loadmap has before ``end``, if it reaches beyond ``start``."""
        at = bisect_left(self.loaded, (end,)) - 1
        return self.loaded[at] if at >= 0 and sum(self.loaded[at]) > start else None

    @property
    def stack_is_executable(self) -> bool:
        """Whether the main thread's stack can be executed, as that of a program with READ_IMPLIES_EXEC can."""
        if self._executable_stack is None:
            maps, at = self.mappings, self.arguments[0] if self.arguments else -1
            holding = (m for m in range(len(maps)) if maps.start(m) <= at < maps.end(m))
            self._executable_stack = any(maps.flags(m) & PF_X for m in holding)
        return self._executable_stack

    @property
    def program(self) -> bytes | None:
        """The file that the program was started from: it is mapped where AT_ENTRY points."""
        if self._program is None:
            maps, at = self.mappings, self.mappings.notes.auxv.get(AT_ENTRY, -1)
            holding = (m for m in range(len(maps)) if maps.start(m) <= at < maps.end(m))
            self._program = next((maps.path(m) or b"" for m in holding), b"")
        return self._program or None

    def like(self, m: int, image: Image) -> list[tuple[int, int]]:
        """Where the neighbours lie that the kernel would have merged with a part of an image, but for what was done."""
        maps = self.mappings
        near = self.address_space.like(m)
        if maps.file[m] == NO_FILE:
            # Without names, only what lies in one segment is known to be of one file.
            near = [i for i in (m - 1, m + 1) if 0 <= i < len(maps) and self._one_segment(m, i, image)]
        return [(maps.start(i), maps.end(i)) for i in near]

    def _one_segment(self, m: int, other: int, image: Image) -> bool:
        maps, (low, high) = self.mappings, sorted((m, other))
        alike = maps.file[other] == NO_FILE and maps.flags(m) == maps.flags(other)
        return alike and maps.end(low) == maps.start(high) and image.in_one_segment(maps.start(low), maps.end(high))


def vvar_candidates(mappings: Mappings) -> set[int]:
    """The nameless, unwritable, small mappings that touch [vdso] in one chain: [vvar] and its companions."""
    most = MOST_VVAR_PAGES * mappings.page_size
    vdso = mappings.notes.auxv.get(AT_SYSINFO_EHDR)
    if not vdso:
        return set()
    near = mappings.matching(named=False, mask=PF_R | PF_W | PF_X, flags=PF_R, most=most)
    nameless = {mappings.start(m): m for m in near if mappings.flags(m) == PF_R}
    by_end = {mappings.end(m): m for m in nameless.values()}
    chain: set[int] = set()
    at = vdso
    while at in by_end and by_end[at] not in chain:
        chain.add(by_end[at])
        at = mappings.start(by_end[at])
    at = next((mappings.end(m) for m in range(len(mappings)) if mappings.start(m) == vdso), 0)
    while at in nameless and nameless[at] not in chain:
        chain.add(nameless[at])
        at = mappings.end(nameless[at])
    return chain
