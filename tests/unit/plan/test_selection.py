"""Which pages --fit keeps: sizes to the byte, and the most program headers that a core can have."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, parse_core
from support.opening import open_file
from support.samples import noise

import corefilt
from corefilt.classify.classifier import classifier_for
from corefilt.filterbits import Bit
from corefilt.plan.fit import pages
from corefilt.plan.fit.pages import Selection
from corefilt.plan.plan import KeepPlan

A, B, PAGE = 0x10000, 0x4000000, 4096


@pytest.fixture
def plan(tmp_path: Path) -> KeepPlan:
    """Plan a core of two mappings, of which all is kept."""
    path = tmp_path / "core"
    path.write_bytes(make_core([Load(A, noise(40)), Load(B, noise(8, 1))], kernel_notes([])))
    with open_file(path) as core:
        return KeepPlan(core, Bit.ALL, classifier_for(core), "keep")


def fresh(plan: KeepPlan) -> Selection:
    return Selection(plan, 0, None, annotated=False)


def filled(selection: Selection, pages_of: range, limit: int | None = None) -> list[bool]:
    return [selection.fill(1, n * PAGE, (n + 1) * PAGE, limit) for n in pages_of]


@pytest.mark.parametrize("most", [4, 5, 8])
def test_no_more_program_headers_than_a_core_can_have(
    most: int, plan: KeepPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would take one too many is not kept, and nothing else is either: not all fitted."""
    monkeypatch.setattr(pages, "MOST_PHDRS", most)
    selection = fresh(plan)
    done = filled(selection, range(1, 39, 2))
    # The notes' program header, that of the second mapping, and for the first one those of its parts and of its start.
    fitting = most - 1 - 3
    assert done == [True] * fitting + [False] * (len(done) - fitting)
    assert len(list(selection.pieces())) == most - 1 if fitting else 3
    assert selection.kept(1) == fitting * PAGE
    # Beside what is kept nothing more is needed.
    assert not fitting or selection.fill(1, 2 * PAGE, 3 * PAGE, None)
    assert fresh(plan).fill(2, 0, 8 * PAGE, None) == (most > 3)


@pytest.mark.parametrize("a", [0, 1, 5])
def test_as_much_as_the_limit_allows_and_not_a_byte_more(a: int, plan: KeepPlan) -> None:
    selection = fresh(plan)
    for count in range(1, 12):
        trial = selection.trial(1, a * PAGE, (a + count) * PAGE)
        exact = selection.size_with(trial)
        for limit, fits in ((exact, count), (exact + PAGE - 1, count), (exact - 1, count - 1)):
            one = fresh(plan)
            assert one.fill(1, a * PAGE, (a + 20) * PAGE, limit) is False
            assert one.kept(1) == fits * PAGE
            assert one.size_with() <= limit or not fits
        one = fresh(plan)
        assert one.fill(1, a * PAGE, (a + count) * PAGE, exact)


def test_sizes_are_what_is_written(plan: KeepPlan, tmp_path: Path) -> None:
    """Whatever is kept, the size that is counted is the file's."""
    core = Path(plan.core.source.name)
    sizes = set()
    for limit in range(6 * PAGE, core.stat().st_size, PAGE // 2):
        try:
            report = corefilt.filter(core, tmp_path / "out", filter="all", fit=limit, force=True, sync=False)
        except corefilt.errors.CorefiltError:
            continue
        assert report.fit is not None
        assert report.fit.size == (tmp_path / "out").stat().st_size <= limit
        assert report.fit.segments in (0, len(parse_core((tmp_path / "out").read_bytes())[1]))
        sizes.add(report.fit.size)
    assert len(sizes) > 20
