"""The rules for cores of FDPIC programs, and for the filter as the FDPIC dumper before Linux 5.10 read it.

They are of the same sort as those in rules_core. ``FIRST`` are asked before any convention, ``LAST`` behind all others:
they say what the others cannot tell here, and are the only ones that add kinds.
"""

from __future__ import annotations

from corefilt.classify.conventions import LOADMAP
from corefilt.classify.rules_core import not_there, partly_there, present_bytes, wholly_there
from corefilt.classify.rules_evidence import SHARED, flags, not_excluded
from corefilt.corefile.elf import PF_R
from corefilt.kinds import FDPIC_OLD, Basis, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.classify.candidates import Candidates
    from corefilt.classify.context import Context


def without_mmu(context: Context, candidates: Candidates) -> None:
    """Without an MMU no page is copied on writing, so bit 0 keeps all that is private (vma_dump_size, Linux 5.10)."""
    if context.mmu is False:
        candidates.rule_out(Kind.CLEAN, "without an MMU, 0x1 keeps everything private")


def loaded(context: Context, candidates: Candidates) -> None:
    """What a loadmap names was loaded by the kernel or the loader: private, from a file or copied out of one."""
    segment = context.loaded_in(candidates.start, candidates.end)
    if segment is not None:
        why = f"a segment was loaded at {segment[0]:#x}, by the loadmap"
        candidates.rule_out(SHARED | Kind.PRIVATE_HUGE | Kind.SPECIAL, why, convention=LOADMAP)
        if not candidates.writable and context.mmu:
            candidates.only(Kind.CLEAN | Kind.EXCLUDED, why, convention=LOADMAP)


def old_flags(context: Context, candidates: Candidates) -> None:
    """Of the VmFlags only io counts: VM_DONTDUMP is not asked for."""
    if (
        candidates.area is not None
        and candidates.area.nature.flags is not None
        and b"io" in candidates.area.nature.flags
    ):
        candidates.only(Kind.EXCLUDED | Kind.DAX, "VmFlags with io: device memory", source=Basis.SMAPS)


def old_present(context: Context, candidates: Candidates) -> None:
    """What cannot be read is not dumped; what has bytes in the core otherwise was not excluded."""
    if not candidates.flags & PF_R:
        candidates.only(Kind.EXCLUDED, "cannot be read, and --dumper fdpic-old keeps no such mapping")
    elif candidates.present:
        candidates.rule_out(Kind.EXCLUDED, "")


def maybe_without_mmu(context: Context, candidates: Candidates) -> None:
    """Where nothing tells whether there is an MMU, what was not written to may go by bit 0 all the same."""
    if context.mmu is None:
        for clean, written in (
            (Kind.PRIVATE_FILE, Kind.WRITTEN_FILE),
            (Kind.PRIVATE_FILE_HEADED, Kind.WRITTEN_FILE_HEADED),
        ):
            if candidates.possible & clean:
                candidates.add(written, "the core does not show whether there is an MMU")


def old_untouched(context: Context, candidates: Candidates) -> None:
    """With an MMU bit 2 keeps what was never written to, memory too."""
    touched = candidates.area is not None and candidates.area.nature.copied
    if candidates.possible & Kind.PRIVATE_ANON and context.mmu is not False and not touched:
        candidates.add(Kind.PRIVATE_FILE, "with --dumper fdpic-old, 0x4 decides about memory that was never written to")


FIRST: tuple[Callable[[Context, Candidates], None], ...] = (without_mmu, loaded)
LAST: tuple[Callable[[Context, Candidates], None], ...] = (maybe_without_mmu,)
OLD_FIRST: tuple[Callable[[Context, Candidates], None], ...] = (old_flags, old_present)
OLD_LAST: tuple[Callable[[Context, Candidates], None], ...] = (old_untouched,)
# What they conclude from is what the dumper of today does: VM_DONTDUMP, which bits were in force, what it leaves out.
NOT_OLD = (present_bytes, flags, not_excluded, partly_there, wholly_there, not_there)


def with_fdpic(
    asked: tuple[Callable[[Context, Candidates], None], ...], before: int, *, fdpic: bool, dumper: str
) -> tuple[Callable[[Context, Candidates], None], ...]:
    """The rules to ask: ``before`` of those that are ``asked`` anyway, then the first ones here, and so on."""
    first, last = (FIRST, LAST) if fdpic else ((), ())
    if dumper == FDPIC_OLD:
        first, last = (*first, *OLD_FIRST), (*last, *OLD_LAST)
    whole = (*asked[:before], *first, *asked[before:], *last)
    return tuple(rule for rule in whole if dumper != FDPIC_OLD or rule not in NOT_OLD)
