"""What --fit chooses by the sizes that it counts, and what it tells of its choice."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from support.builder import EM_ARM, Load, kernel_notes, make_core, nt_prstatus, parse_core, parse_notes
from support.fitting import pages as memory_of
from support.opening import opened
from support.samples import HUGE, noise

import corefilt
from corefilt.corefile.corefilt_note import NT_COREFILT_FITS
from corefilt.errors import FitError
from corefilt.plan.fit import choose
from corefilt.plan.fit.priority import by_worth
from corefilt.verify import verify

A, B, C, PAGE = 0x10000, 0x4000000, 0x8000000, 4096


def process(threads: int = 2, layout: str = "kernel") -> bytes:
    """Make a core with a stack of which half is needed, and with a heap."""
    notes = kernel_notes([], threads=threads, stack_pointers=[B + 10 * PAGE])
    return make_core([Load(A, noise(40)), Load(B, noise(20, 1))], notes, layout=layout)


def unpaged() -> bytes:
    """Make one of a system without an MMU, where mappings are no whole pages."""
    loads = [Load(A, noise(40)[:-1001]), Load(B, noise(20, 1)[:-77])]
    return make_core(loads, kernel_notes([], stack_pointers=[B + 10 * PAGE]))


def fdpic() -> bytes:
    """Make an FDPIC core, of which --format elf makes shorter notes and leaves one of its own."""
    shape = {"bits": 32, "machine": EM_ARM}
    first, *others = kernel_notes(None, stack_pointers=[B + 10 * PAGE], **shape)  # type: ignore[arg-type]
    notes = [nt_prstatus(1, 32, machine=EM_ARM, size=156, stack_pointer=B + 10 * PAGE), *others]
    assert first.type == notes[0].type
    return make_core([Load(A, noise(40)), Load(B, noise(20, 1))], notes, **shape)  # type: ignore[arg-type]


def smallest(core: Path, **options: Any) -> int:
    with pytest.raises(FitError) as caught:
        corefilt.filter(core, core.with_name("out"), filter="all", fit=0, **options)
    return caught.value.smallest


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (process, {}),
        (unpaged, {}),
        (process, {"annotate": True}),
        (process, {"unreadable": True}),
        (process, {"annotate": True, "unreadable": True}),
        (lambda: process(60), {"annotate": True}),
        (lambda: process(layout="gcore"), {"annotate": True}),
        (fdpic, {"format": "elf"}),
        (fdpic, {"format": "elf", "annotate": True}),
    ],
)
def test_the_smallest_size_is_that_of_the_smallest_core(
    make: Any, options: dict[str, Any], annotated: bool, tmp_path: Path
) -> None:
    """To the byte, whatever becomes of the notes: a limit that is named too large keeps a user from a smaller one."""
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(make())
    if annotated:
        corefilt.filter(core, out, filter="all", annotate=True, sync=False)
        out.replace(core)
    least = smallest(core, **options)
    report = corefilt.filter(core, out, filter="all", fit=least, sync=False, **options)
    assert report.fit is not None
    assert out.stat().st_size == report.fit.size == report.fit.smallest == least
    ours = [note for note in parse_notes(out.read_bytes()) if note.name == "COREFILT"]
    assert len({note.type for note in ours}) == len(ours)
    assert len(parse_core(out.read_bytes())[1]) == report.fit.segments


def test_one_part_more_of_what_was_cut_before_is_noted(tmp_path: Path) -> None:
    """An earlier note says that mappings were cut, and not which of them stand in parts now."""
    full, once, twice = (tmp_path / name for name in ("full", "once", "twice"))
    full.write_bytes(process())
    corefilt.filter(full, once, filter="all", fit=smallest(full) + 30 * PAGE, sync=False)
    corefilt.filter(once, twice, filter="all", minimal=True, sync=False)
    parts = [len(parse_core(path.read_bytes())[1]) for path in (full, once, twice)]
    assert parts[2] in (parts[0] + 1, parts[1] + 1)
    assert verify(once, twice).holds
    assert verify(full, twice).holds
    assert [note.type for note in parse_notes(twice.read_bytes()) if note.name == "COREFILT"] == [NT_COREFILT_FITS] * 2


# --- in which order ---------------------------------------------------------------------------------------


def test_what_a_register_points_at_comes_first_and_is_not_minimal(tmp_path: Path) -> None:
    core, out = tmp_path / "core", tmp_path / "out"
    raw = process()
    at = raw.index(struct.pack("<Q", B + 10 * PAGE)) - 8 * 15
    core.write_bytes(raw[:at] + struct.pack("<Q", A + 30 * PAGE + 5) + raw[at + 8 :])
    corefilt.filter(core, out, filter="all", minimal=True, sync=False)
    assert not [address for address in memory_of(out.read_bytes()) if address < B]
    # A page with its program headers and their note.
    corefilt.filter(core, out, filter="all", fit=smallest(core) + 2 * PAGE, force=True, sync=False)
    assert [address for address in memory_of(out.read_bytes()) if address < B] == [A + 30 * PAGE]


def test_nothing_comes_before_what_did_not_fit_as_a_whole(tmp_path: Path) -> None:
    """However little it is: a larger limit would take it away again."""
    core, out = tmp_path / "core", tmp_path / "out"
    heap, table = Load(A, noise(3)[:9001]), Load(C, noise(1, 2)[:100], flags="r--")
    stack = Load(B, noise(1, 1)[:600])
    notes = kernel_notes([(C, C + 100, 0, "/data/table")], stack_pointers=[B + 8])
    core.write_bytes(make_core([heap, stack, table], notes))
    whole = set()
    for limit in range(smallest(core), core.stat().st_size, 57):
        corefilt.filter(core, out, filter="all", fit=limit, force=True, sync=False)
        kept = {phdr.p_vaddr: phdr.p_filesz for phdr in parse_core(out.read_bytes())[1]}
        assert kept[A] == len(heap.data) or not kept[C], limit
        whole.add(kept[A] == len(heap.data))
    assert whole == {False, True}


def test_mappings_come_by_their_kinds_however_large_they_are() -> None:
    """What only the process knew before what it shared, huge pages, and what files still have."""
    files = {
        A: ("/data/table", "r--"), 2 * A: ("/dev/shm/table", "rw-"), HUGE: ("/anon_hugepage (deleted)", "rw-"),
        2 * HUGE: ("/dev/zero (deleted)", "rw-"), 3 * HUGE: (None, "r--"), 4 * HUGE: (None, "rw-"),
    }  # fmt: skip
    loads = [
        Load(at, noise(n, n), memsz=HUGE if at == HUGE else None, flags=flags)
        for n, (at, (_, flags)) in enumerate(files.items(), 1)
    ]
    notes = kernel_notes([(at, at + (loads[n].memsz or len(loads[n].data)), 0, path)
                          for n, (at, (path, _)) in enumerate(files.items()) if path is not None])  # fmt: skip
    with opened(make_core(loads, notes)) as it:
        plan = it.plan("all")
        order = by_worth(plan, {i: it.present[i] for i in it.maps.phdr})
        assert [it.table.p_vaddr[i] for i in order] == sorted(files, reverse=True)
        alike = by_worth(plan, {2: 5, 6: 5, 1: 5})
        assert alike == [6, 2, 1]


def told(core: bytes, tmp_path: Path, **options: Any) -> list[str]:
    (tmp_path / "core").write_bytes(core)
    report = corefilt.filter(tmp_path / "core", tmp_path / "out", filter="all", sync=False, force=True, **options)
    return report.notices


def test_a_ladder_of_which_no_rung_fits_says_so(tmp_path: Path) -> None:
    words = "no filter of the ladder fits"
    for ladder, missing in ((["0x0"], False), (["all", "0x0"], False), (["all"], True), (["all", "0x1"], True)):
        assert (words in told(process(), tmp_path, fit=40 * PAGE, ladder=ladder)) == missing, ladder
    assert words not in told(process(), tmp_path, fit=40 * PAGE)


def test_what_pointers_lead_to_is_said_to_be_cut_where_not_all_was_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "the search stopped at its limit"
    assert not any(words in notice for notice in told(process(), tmp_path, minimal=True))
    monkeypatch.setattr(choose, "MOST_READ", 0)
    assert any(words in notice for notice in told(process(), tmp_path, minimal=True))
