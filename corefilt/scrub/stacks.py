"""Level ``stacks``: words of stacks that a backtrace does not need, and the vector registers in the notes."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right

from corefilt import _fast
from corefilt.corefile.elf import EM_X86_64
from corefilt.corefile.notes import NT_PRFPREG
from corefilt.corefile.ranges import joined
from corefilt.corefile.registers import read_threads
from corefilt.errors import ScrubError
from corefilt.scrub.found import BYTES, ZEROS, Match, Matches
from corefilt.scrub.notes import spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.registers import Thread

WORDS, REGISTERS = "stack-words", "vector-registers"
# Numbers up to a page are counts, flags and errors.
_SMALL = 4096
# Around the thread pointer stands what libthread_db reads of glibc's struct pthread: without it gdb finds one thread
# of a program linked to the library (glibc 2.36, x86-64).
_BELOW_THREAD, _ABOVE_THREAD = 64, 0x940
_PIECE = 1 << 20

NT_X86_XSTATE = 0x202
# The registers of struct user_i387_struct, and what follows the header of an XSAVE area (Intel SDM, volume 1, 13.4):
# bytes 416 to 576 have the reserved words of the kernel and the header, without which gdb takes the note for none.
_LEGACY, _EXTENDED = (32, 416), 576


def check_machine(core: CoreFile) -> None:
    """Raise ScrubError for a machine of which it is not known what a debugger needs of its stacks."""
    if core.ehdr.e_machine != EM_X86_64 or not core.ehdr.wide:
        raise ScrubError(
            f"{core.source.name}: level stacks supports only x86-64, and this is a core of {core.machine}",
            "--level env leaves the stacks as they are",
        )


def take_stacks(core: CoreFile, found: Matches) -> None:
    """Have words of all stacks overwritten, and vector registers zeroed. Raises ScrubError."""
    check_machine(core)
    threads = read_threads(core.source, core.ehdr, core.table)
    mapped = joined(
        [(core.maps.start(m), core.maps.end(m)) for m in range(len(core.maps))]
        + ([(files.start(i), files.end(i)) for i in range(files.count)] if (files := core.notes.files) else [])
    )
    starts, ends = (array("Q", (min(pair[k], (1 << 64) - 1) for pair in mapped)) for k in (0, 1))
    for i in _stacks(core, threads):
        _take_words(core, found, i, starts, ends, _blocks(threads))
    for n_type, name, offset, length in spans(core):
        if (n_type == NT_PRFPREG and name == b"CORE") or (n_type == NT_X86_XSTATE and name == b"LINUX"):
            for start, end in (_LEGACY, (_EXTENDED, length)):
                if start < min(end, length):
                    found.add(Match(offset + start, None, min(end, length) - start, REGISTERS, ZEROS))


def _stacks(core: CoreFile, threads: list[Thread]) -> list[int]:
    """The program headers of the mappings that stack pointers point into."""
    maps = core.maps
    order = sorted(range(len(maps)), key=maps.start)
    starts = [maps.start(m) for m in order]
    stacks = set()
    for thread in threads:
        at = bisect_right(starts, thread.sp) - 1
        if thread.sp and at >= 0 and thread.sp < maps.end(order[at]) and core.present[maps.phdr[order[at]]]:
            stacks.add(maps.phdr[order[at]])
    return sorted(stacks)


def _blocks(threads: list[Thread]) -> list[tuple[int, int]]:
    """The addresses of the thread control blocks."""
    return joined([(max(0, t.tp - _BELOW_THREAD), t.tp + _ABOVE_THREAD) for t in threads if t.tp])


def _take_words(
    core: CoreFile, found: Matches, i: int, starts: array[int], ends: array[int], blocks: list[tuple[int, int]]
) -> None:
    offset, address, length = core.table.p_offset[i], core.table.p_vaddr[i], core.present[i] // 8 * 8
    tops = [end for _, end in blocks]
    run: tuple[int, int] | None = None
    for skip in range(0, length, _PIECE):
        raw = array("Q", core.source.peek(offset + skip, min(_PIECE, length - skip)))
        if core.ehdr.big != (sys.byteorder == "big"):
            raw.byteswap()
        out = array("Q", bytes(8 * len(raw)))
        for n in out[: _fast.find_strangers(raw, starts, ends, _SMALL, out)]:
            at = skip + 8 * n
            k = bisect_right(tops, address + at)
            if k < len(blocks) and blocks[k][0] < address + at + 8:
                continue
            if run is not None and run[1] == at:
                run = run[0], at + 8
                continue
            if run is not None:
                found.add(Match(offset + run[0], address + run[0], run[1] - run[0], WORDS, BYTES))
            run = at, at + 8
    if run is not None:
        found.add(Match(offset + run[0], address + run[0], run[1] - run[0], WORDS, BYTES))
