"""The layout of a core that lacks blocks of its segments, and what it takes to make the whole one of it again.

A missing block is memory that the core does not have: its segment is split around it, and no program header claims the
bytes. A hole in its place would be claimed, and debuggers would show zeros that never were in the process's memory.
"""

from __future__ import annotations

from bisect import bisect_right

from corefilt.corefile.elf import PT_LOAD
from corefilt.corefile.ranges import joined
from corefilt.errors import InputError
from corefilt.io.shared_manifest import MOST_LITERAL
from corefilt.plan.fit.split_layout import SplitPhdr, fit_note, lay_out_pieces, split
from corefilt.plan.layout import tagged_loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.corefile import CoreFile
    from corefilt.plan.fit.split_layout import FittedLayout
    from corefilt.verify.files import MappedCore

# Literal bytes are looked for in pieces of this size.
_PIECE = 1 << 16


def lay_out_without(core: CoreFile, taken: Sequence[tuple[int, int]], mark: bytes) -> FittedLayout:
    """The core without ranges of its payload: (start, end) in the file, ascending and apart.

    ``mark`` is the note that tells where they are. Segments are marked as cut besides, so that what is missing tells
    nothing of the filter that was in force.
    """
    pieces = list(_pieces(core, taken))
    notes = mark if core.notes.fitted and len(pieces) == len(core.table) else fit_note(core, pieces) + mark
    return lay_out_pieces(
        core.ehdr, core.table, pieces, notes=notes, without=None, unit=max(core.maps.page_size, 4096)
    )  # fmt: skip


def _pieces(core: CoreFile, taken: Sequence[tuple[int, int]]) -> Iterator[SplitPhdr]:
    table, tagged = core.table, tagged_loads(core.table)
    starts = [start for start, _ in taken]
    for i, p_type in enumerate(table.p_type):
        memsz, there, offset = table.p_memsz[i], core.present[i], table.p_offset[i]
        if p_type != PT_LOAD:
            yield SplitPhdr(i, at=0, memsz=memsz, skip=0, size=there, payload=i in tagged)
            continue
        runs, at = [], 0
        first = max(bisect_right(starts, offset) - 1, 0)
        for start, end in taken[first : bisect_right(starts, offset + there)]:
            low, high = max(start - offset, 0), min(end - offset, there)
            if low < high:
                runs.append((at, low))
                at = high
        runs = [(a, b) for a, b in [*runs, (at, there)] if a < b]
        yield from split(core, i, runs)


def kept_runs(layout: FittedLayout) -> list[tuple[int, int, int]]:
    """What the reduced core has of the whole one: (offset there, length, offset in the reduced core), ascending."""
    runs: list[tuple[int, int, int]] = []
    for step in sorted((s for s in layout.steps(0) if s.put is None), key=lambda s: s.source):
        if runs and (runs[-1][0] + runs[-1][1], runs[-1][2] + runs[-1][1]) == (step.source, step.target):
            runs[-1] = runs[-1][0], runs[-1][1] + step.length, runs[-1][2]
        else:
            runs.append((step.source, step.length, step.target))
    return runs


def literals(file: MappedCore, covered: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """What stands in none of the covered ranges and is not zero: (offset, bytes). Raises InputError for too much."""
    found: list[tuple[int, bytes]] = []
    room, at = MOST_LITERAL, 0
    for start, end in [*joined(covered), (file.size, file.size)]:
        for low, high in file.data(at, start):
            for first in range(low, high, _PIECE):
                raw = file.read(first, min(_PIECE, high - first)).rstrip(b"\0")
                if raw:
                    found.append((first, raw))
                    room -= len(raw)
                if room < 0:
                    raise InputError(f"{file.name}: has more than {MOST_LITERAL} bytes outside any segment")
        at = end
    return found
