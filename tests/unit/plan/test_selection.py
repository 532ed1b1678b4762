"""Which pages --fit keeps: sizes to the byte, and the most program headers that a core can have."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builder import EM_AARCH64, PT_AARCH64_MEMTAG_MTE, Load, kernel_notes, make_core, mte_tags, parse_core
from support.limited import patterned, write_sparse
from support.opening import in_memory, open_file
from support.samples import noise
from support.thinned import one_in

import corefilt
from corefilt.classify.classifier import classifier_for
from corefilt.corefile.corefilt_note import note_size
from corefilt.corefile.elf import Ehdr, Shdr
from corefilt.filterbits import Bit
from corefilt.plan.fit import pages, split_layout
from corefilt.plan.fit.pages import SMALL_HOLE, Holes, Selection, within
from corefilt.plan.fit.split_layout import lay_out_pieces
from corefilt.plan.plan import KeepPlan
from corefilt.verify import verify

A, B, PAGE = 0x10000, 0x4000000, 4096


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[KeepPlan]:
    """Plan a core of two mappings, of which all is kept."""
    path = tmp_path / "core"
    path.write_bytes(make_core([Load(A, noise(40)), Load(B, noise(8, 1))], kernel_notes([])))
    with open_file(path) as core:
        yield KeepPlan(core, Bit.ALL, classifier_for(core), "keep")


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


def text(count: int) -> bytes:
    """Make a core with a library's text, as the first mapping."""
    size = count * PAGE
    return make_core(
        [Load(A, noise(count), flags="r-x"), Load(B, noise(1))], kernel_notes([(A, A + size, 0, "/usr/lib/libx.so")])
    )


@pytest.mark.parametrize(
    ("count", "wanted", "needed", "kept"),
    [
        (40, (0, 1), False, 1),
        (40, (0, 1), True, 1),
        (40, (3, 4), False, 0),
        (40, (3, 4), True, 40),
        (40, (0, 39), False, 1),
        (40, (1, 40), False, 0),
        (40, (0, 40), False, 40),
        (17, (3, 4), False, 0),
        (16, (3, 4), False, 16),
        (16, (0, 1), False, 1),
        (1, (0, 1), False, 1),
    ],
)
def test_of_a_files_text_its_first_page_is_kept_or_all(
    count: int, wanted: tuple[int, int], needed: bool, kept: int
) -> None:
    """A debugger refuses a core with anything else of it (pages.py); small ones come whole."""
    for plan in planned(text(count)):
        selection = fresh(plan)
        for _ in range(2):
            assert selection.fill(1, wanted[0] * PAGE, wanted[1] * PAGE, None, needed=needed)
            assert selection.kept(1) == kept * PAGE


@pytest.mark.parametrize("count", [2, 16, 40])
def test_text_that_does_not_fit_leaves_its_first_page(count: int) -> None:
    for plan in planned(text(count)):
        whole, first = (fresh(plan).size_with(fresh(plan).trial(1, 0, size)) for size in (count * PAGE, PAGE))
        for limit, kept in ((whole, count), (whole - 1, 1), (first, 1), (first - 1, 0)):
            selection = fresh(plan)
            for _ in range(2):
                assert selection.fill(1, 0, count * PAGE, limit) == (kept == count)
                assert selection.kept(1) == kept * PAGE


# --- sizes ------------------------------------------------------------------------------------------------


def paged() -> bytes:
    return make_core([Load(A, noise(40)), Load(B, noise(8, 1))], kernel_notes([]))


def unpaged() -> bytes:
    """Make a core of a system without an MMU, where mappings are no whole pages."""
    return make_core([Load(A, noise(40)[:-1001]), Load(B + 4, noise(8, 1)[:777])], kernel_notes([]))


def with_tags() -> bytes:
    loads = [Load(A, noise(40)), Load(B, noise(8, 1))]
    tags = [mte_tags(load) for load in loads]
    return make_core(loads, kernel_notes([], machine=EM_AARCH64), machine=EM_AARCH64, extra_phdrs=tags)


def made_before(**options: Any) -> bytes:
    """Make a core that corefilt wrote, with notes of its own."""
    with in_memory(paged()) as fd, in_memory() as out:
        corefilt.filter(fd, out, filter="all", **options)
        with open(out, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()


CORES = {
    "pages": paged,
    "no whole pages": unpaged,
    "memory tags": with_tags,
    "annotated": lambda: made_before(annotate=True),
    "fitted": lambda: made_before(fit=45 * PAGE),
    "fitted and unreadable": lambda: made_before(fit=45 * PAGE, unreadable=True, annotate=True),
}


def planned(core: bytes) -> Iterator[KeepPlan]:
    with in_memory(core) as fd, open_file(fd) as it:
        yield KeepPlan(it, Bit.ALL, classifier_for(it), "keep")


@pytest.mark.parametrize("unreadable", [False, True])
@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("name", CORES)
def test_what_is_counted_before_is_what_there_is_afterwards(name: str, annotated: bool, unreadable: bool) -> None:
    """However a selection comes about: by the same pages it has the same size."""
    chance = random.Random(name)
    for plan in planned(CORES[name]()):
        one = Selection(plan, 0, None, annotated=annotated, unreadable=unreadable)
        for _ in range(30):
            i = chance.choice(plan.core.maps.phdr)
            places = one.whole(i, *sorted(chance.sample(range(plan.sizes[i] + 1), 2)))
            counted = one.size_with(one.trial(i, *places))
            one.add(i, *places)
            assert one.size_with() == counted
        other = Selection(plan, 0, None, annotated=annotated, unreadable=unreadable)
        for i, runs in one.runs.items():
            for run in reversed(runs):
                other.add(i, *run)
        assert other.size_with() == one.size_with()
        assert len(list(other.pieces())) == len(list(one.pieces()))


def test_what_was_added_since_a_mark_can_be_forgotten() -> None:
    """What a runtime needs is tried, and given up as a whole."""
    for plan in planned(paged()):
        selection = fresh(plan)
        filled(selection, range(1, 5, 2))
        before, runs = selection.size_with(), {i: list(own) for i, own in selection.runs.items()}
        mark = selection.mark()
        filled(selection, range(2, 30, 3))
        assert selection.fill(2, 0, 3 * PAGE, None)
        selection.back_to(mark)
        assert (selection.size_with(), selection.runs) == (before, runs)


@one_in(2)
@pytest.mark.parametrize("options", [{}, {"annotate": True}, {"unreadable": True}], ids=str)
@pytest.mark.parametrize("name", CORES)
def test_sizes_are_what_is_written_with_every_note(
    name: str, options: dict[str, Any], step: int, tmp_path: Path
) -> None:
    """Notes that come in, that are replaced and that stay count with the rest."""
    core, out, sizes = tmp_path / "core", tmp_path / "out", set()
    core.write_bytes(CORES[name]())
    for limit in range(6 * PAGE, core.stat().st_size, (7 * PAGE + 500) * step):
        try:
            report = corefilt.filter(core, out, filter="all", fit=limit, force=True, sync=False, **options)
        except corefilt.errors.CorefiltError:
            continue
        assert report.fit is not None
        assert report.fit.size == out.stat().st_size <= limit
        assert limit - report.fit.size < 2 * PAGE
        sizes.add(report.fit.size)
    assert len(sizes) > 2
    verdict = verify(core, out)
    assert verdict.holds, str(verdict)


def test_memory_tags_of_a_part_in_the_middle_are_paired_with_it(tmp_path: Path) -> None:
    """32 bytes of memory for each byte of tags: what stands in the middle of the one stands there in the other."""
    core, out = tmp_path / "core", tmp_path / "out"
    load = Load(A, noise(40))
    tags = Load(A, noise(2)[: 40 * 128], flags="", memsz=40 * PAGE, align=0, type=PT_AARCH64_MEMTAG_MTE)
    notes = kernel_notes([], machine=EM_AARCH64, stack_pointers=[A + 30 * PAGE])
    core.write_bytes(make_core([load], notes, machine=EM_AARCH64, extra_phdrs=[tags]))
    corefilt.filter(core, out, filter="all", minimal=True, sync=False)
    parts = [phdr for phdr in parse_core(out.read_bytes())[1] if phdr.p_type == PT_AARCH64_MEMTAG_MTE]
    part = next(phdr for phdr in parts if phdr.p_filesz)
    assert part.p_vaddr > A
    assert verify(core, out).holds
    raw = bytearray(out.read_bytes())
    raw[part.p_offset] ^= 1
    out.write_bytes(raw)
    assert [finding.what for finding in verify(core, out).findings] == ["payload"]


def test_notes_of_kinds_have_room_for_every_program_header(tmp_path: Path) -> None:
    """Where one more takes another page, too."""
    fits = next(count for count in range(1, 1000) if note_size(count, PAGE) < note_size(count + 1, PAGE))
    core = make_core([Load(A + 0x2000 * n, noise(1)) for n in range(fits - 1)], kernel_notes([]))
    for plan in planned(core):
        selection = Selection(plan, 0, None, annotated=True)
        assert [selection.annotation_size(more) for more in (0, 1)] == [PAGE, 2 * PAGE]
        assert selection.annotation_size() == PAGE
    for plan in planned(make_core([Load(A + 0x2000 * n, noise(1)) for n in range(fits)], kernel_notes([]))):
        assert Selection(plan, 0, None, annotated=True).annotation_size() == 2 * PAGE


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


@pytest.mark.parametrize("most", [5, 6])
def test_more_program_headers_than_e_phnum_can_say(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Section header 0 counts them at the end, and counts in the size; one less needs none."""
    monkeypatch.setattr(pages, "PN_XNUM", most)
    monkeypatch.setattr(split_layout, "PN_XNUM", most)
    for plan in planned(paged()):
        core, selection = plan.core, fresh(plan)
        filled(selection, range(1, 5, 2))
        parts = list(selection.pieces())
        assert len(parts) == 5
        note = bytes(selection.mark_size())
        layout = lay_out_pieces(core.ehdr, core.table, parts, notes=note, without=None, unit=PAGE)
        steps = list(layout.steps(layout.size))
        header = Ehdr(steps[0].put or b"")
        assert layout.size == selection.size_with()
        assert header.e_phnum == 5
        if most == 5:
            assert (header.e_shnum, header.e_shoff) == (1, layout.size - 64)
            assert Shdr(steps[-1].put or b"", header).sh_info == 5
        else:
            assert (header.e_shnum, header.e_shoff) == (0, 0)


# --- holes ------------------------------------------------------------------------------------------------


def test_holes_are_counted_page_by_page(tmp_path: Path) -> None:
    pattern = "..xx.x...xx.xxx."
    core, holes = patterned([pattern, "x"])
    path = tmp_path / "core"
    write_sparse(path, core, holes)
    with open_file(path) as it:
        found = Holes(KeepPlan(it, Bit.ALL, classifier_for(it), "keep"), PAGE)
        for a in range(len(pattern)):
            for b in range(a + 1, len(pattern) + 1):
                part = pattern[a:b]
                assert found.data(1, a * PAGE, b * PAGE) == part.count("x") * PAGE
                pieces = sum(letter == "x" for letter, _ in groupby(part))
                assert found.count(1, a * PAGE, b * PAGE) == pieces, (a, b)


def test_a_hole_is_large_from_a_page_more_than_a_program_header_is_worth(tmp_path: Path) -> None:
    few = SMALL_HOLE // PAGE
    assert SMALL_HOLE == 64 << 10
    pattern = f".x{'.' * few}x{'.' * (few + 1)}xx.x."
    core, holes = patterned([pattern, "x"])
    path = tmp_path / "core"
    write_sparse(path, core, holes)
    with open_file(path) as it:
        found = Holes(KeepPlan(it, Bit.ALL, classifier_for(it), "keep"), PAGE)
        second = few + 2
        third = second + few + 2
        assert list(found.large(1)) == [(PAGE, (second + 1) * PAGE), (third * PAGE, (third + 4) * PAGE)]
        assert list(found.large(2)) == [(0, PAGE)]


@given(
    bounds=st.lists(st.integers(0, 60), max_size=12, unique=True).map(sorted),
    low=st.integers(0, 60),
    length=st.integers(1, 60),
)
def test_parts_of_ranges_are_those_between_two_places(bounds: list[int], low: int, length: int) -> None:
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    found = list(within(ranges, low, low + length))
    assert all(a < b for a, b in found)
    parts = [at for a, b in ranges for at in range(a, b) if low <= at < low + length]
    assert [at for a, b in found for at in range(a, b)] == parts
