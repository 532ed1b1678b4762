"""Holds filters in turn against each of them alone, by the plans for all filters."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import corefilt
from corefilt.classify.classifier import classifier_for
from corefilt.plan.plan import KeepPlan
from support.opening import open_file


class Planned:
    """A core, and how many bytes each filter keeps of every program header."""

    def __init__(self, path: Path, filters: Iterable[int]) -> None:
        """Plan all filters by the same rules."""
        with open_file(path) as core:
            rules = classifier_for(core)
            self.kept = {wanted: KeepPlan(core, wanted, rules, "keep").sizes for wanted in filters}
            self.present = core.present
            self.starts = core.table.p_vaddr
            self.contradicts = any(finding.contradiction for finding in rules.decide_all())


def lost(before: array[int], alone: array[int], after: array[int]) -> list[int]:
    """Return the program headers of which less is left than both filters keep."""
    rows = zip(before, alone, after, strict=True)
    return [i for i, (first, then, both) in enumerate(rows) if both < min(first, then)]


@contextmanager
def _written(core: Path, wanted: int, folder: Path) -> Iterator[Path]:
    out = folder / f"filtered-{wanted:#x}"
    corefilt.filter(core, out, filter=wanted, sync=False)
    try:
        yield out
    finally:
        os.unlink(out)


def losses(core: Path, filters: tuple[int, ...], folder: Path, then: tuple[int, ...] | None = None) -> list[str]:
    """Name what filters in turn lose, by the address of each mapping; filters that leave the same count as one."""
    whole = Planned(core, {*filters, *(then or filters)})
    found: list[str] = []
    seen: set[bytes] = set()
    for first in filters:
        kept = whole.kept[first]
        if kept.tobytes() in seen:
            continue
        seen.add(kept.tobytes())
        with _written(core, first, folder) as out:
            left = Planned(out, then or filters)
        assert list(left.present) == list(kept)
        for second, both in left.kept.items():
            found += [
                f"{second:#x} of {first:#x} loses of {whole.starts[i]:#x}" for i in lost(kept, whole.kept[second], both)
            ]
    return found
