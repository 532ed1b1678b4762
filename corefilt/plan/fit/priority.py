"""In which order the memory that no backtrace needs is worth keeping, and what pointers lead to.

The order never depends on how much room there is, so that more room only adds to what is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain

from corefilt.corefile.elf import PF_W
from corefilt.kinds import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corefilt.corefile.memory import Memory
    from corefilt.plan.fit.backtrace import BacktraceMemory, Range
    from corefilt.plan.plan import KeepPlan

# Kinds by their worth: what only the process knew first, what is still on the disk last.
_RANKS = (
    Kind.PRIVATE_ANON | Kind.WRITTEN,
    Kind.SPECIAL | Kind.EXCLUDED,
    Kind.SHARED_ANON,
    Kind.PRIVATE_HUGE | Kind.SHARED_HUGE,
    Kind.SHARED_FILE | Kind.DAX,
    Kind.CLEAN,
)

# A mapping that does not fit as a whole is taken in chunks of this many bytes, and never in more than so many.
CHUNK = 64 << 10
MOST_CHUNKS = 1 << 14
# An object that something points at is taken to be this long.
OBJECT = 256
AROUND = (0, OBJECT - 1)
# What is looked through for pointers at a time.
TURN = 1 << 20


def by_worth(plan: KeepPlan, lengths: dict[int, int]) -> list[int]:
    """The program headers of all mappings with something to keep, best first.

    ``lengths`` says how many bytes of data each has; of one kind, what is writable and small comes first.
    """
    core = plan.core
    keys: list[int] = []
    for m, finding in enumerate(plan.findings):
        i = core.maps.phdr[m]
        if i in lengths:
            rank = next(n for n, kinds in enumerate(_RANKS) if finding.likely & kinds)
            # One number a mapping: there can be a million.
            keys.append((2 * rank + (not core.table.p_flags[i] & PF_W) << 64 | lengths[i]) << 32 | i)
    keys.sort()
    return [key & 0xFFFFFFFF for key in keys]


def chunks(size: int, unit: int, targets: list[int]) -> Iterator[tuple[int, int]]:
    """A mapping of ``size`` bytes in chunks of whole pages (``unit`` bytes), those near ``targets`` first.

    ``targets`` are sorted offsets in it; without any the chunks come in order.
    """
    step = max(CHUNK, unit, -(-size // MOST_CHUNKS))
    step = -(-step // unit) * unit
    count = -(-size // step)
    order: Iterable[int] = range(count)
    if targets:
        near = sorted({target // step for target in targets})

        def distance(n: int) -> tuple[int, int]:
            at = bisect_left(near, n)
            return min(abs(n - near[k]) for k in (at - 1, at) if 0 <= k < len(near)), n

        order = sorted(range(count), key=distance)
    for n in order:
        yield n * step, min((n + 1) * step, size)


def pointers(memory: Memory, ranges: Iterable[Range], page: int, low: int, high: int) -> Iterator[int]:
    """The pages that the words of some ranges point at, each range's in ascending order; addresses of pages.

    Only what lies in ``[low, high)`` counts. An object that begins near the end of a page has the next one too.
    """
    for start, end in ranges:
        while start < end:
            words = memory.words(start, min(end, start + TURN))
            found = {word // page for word in words if low <= word < high}
            found |= {(word + OBJECT - 1) // page for word in words if low <= word < high}
            yield from (n * page for n in sorted(found))
            start += TURN


def follow(
    memory: Memory,
    essentials: BacktraceMemory,
    levels: int,
    budget: int,
    page: int,
    worth: dict[int, int],
    at_hand: Callable[[int, int], bool],
) -> Iterator[Range]:
    """The pages that registers and stacks point to, and what those point to, ``levels`` deep, ``budget`` bytes at most.

    With no level at all only registers count. ``worth`` are the program headers of mappings that may be followed into,
    at least one, and how many of their bytes there are; ``at_hand`` tells of a program header and an offset in its
    mapping whether that page is kept already.
    """
    low, high = min(map(memory.start, worth)), max(map(memory.end, worth))
    taken = set[int]()
    registers = (register + more for thread in essentials.threads for register in thread.registers for more in AROUND)
    ranges: list[Range] = [there for stacks in essentials.stacks for there in stacks]
    addresses: Iterable[int] = chain(registers, pointers(memory, ranges, page, low, high) if levels else ())
    for level in range(max(levels, 1)):
        fresh: list[Range] = []
        for address in addresses:
            n = address // page
            i = memory.find(n * page) if n not in taken else None
            if i is None or n * page - memory.start(i) >= worth.get(i, 0):
                continue
            taken.add(n)
            there = n * page, (n + 1) * page
            if not at_hand(i, n * page - memory.start(i)):
                budget -= page
                if budget < 0:
                    return
                yield there
            fresh.append(there)
        if level + 1 < levels:
            addresses = pointers(memory, fresh, page, low, high)
