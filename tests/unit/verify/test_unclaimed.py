"""Bytes that no header claims, as `verify` holds them: each of the full core's, in their order, wherever they moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, patched
from support.limited import write_sparse
from support.samples import PAGE, noise

import corefilt
from corefilt.sizes import show_size
from corefilt.verify import unclaimed, verify

A, B, C = 0x10000, 0x40000, 0x80000
# Where gaps begin, and what stands in them.
GAPS = {0x4400: b"after the first", 0x6200: b"after the other", 0x8000: b"behind them all"}


def core(gaps: dict[int, bytes]) -> bytes:
    """Make a core with bytes between its segments and behind them; a filter can drop the second one."""
    loads = [Load(A, noise(2, 1), offset=0x2000), Load(B, noise(1, 2), offset=0x5000), Load(C, noise(1), offset=0x7000)]
    raw = bytearray(make_core(loads, kernel_notes([(B, B + PAGE, 0, "/dev/zero (deleted)")]), tail=bytes(PAGE)))
    for at, content in gaps.items():
        raw[at : at + len(content)] = content
    return bytes(raw)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Write a core, and what is left without its second segment: what stands behind moves up."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core(GAPS))
    corefilt.filter(full, out, filter="0x1", sync=False)
    assert len(out.read_bytes()) == len(full.read_bytes()) - PAGE
    return full, out


def test_gaps_move_with_what_stands_before_them(pair: tuple[Path, Path]) -> None:
    full, out = pair
    assert all(content in out.read_bytes() for content in GAPS.values())
    assert verify(full, out).holds
    assert verify(full, full).holds


@pytest.mark.parametrize(
    "order",
    [(1, 0, 2), (0, 2, 1), (0, 0, 2), (2, 1, 2)],
    ids=lambda order: "".join(map(str, order)),
)
def test_gaps_are_not_each_others(order: tuple[int, ...], pair: tuple[Path, Path]) -> None:
    """Swapped, or one of them twice."""
    full, out = pair
    contents, raw = list(GAPS.values()), out.read_bytes()
    places = [raw.index(content) for content in contents]
    changed = bytearray(raw)
    for place, number in zip(places, order, strict=True):
        changed[place : place + len(contents[number])] = contents[number]
    out.write_bytes(changed)
    assert [finding.what for finding in verify(full, out).findings] == ["unclaimed"]


@pytest.mark.parametrize("looked_through", [unclaimed.MOST_LOOKED_THROUGH, 20])
@pytest.mark.parametrize(
    "change",
    [
        {0x6200: GAPS[0x4400]},
        {0x8000: b"the first"},
        {0x4400: GAPS[0x6200], 0x6200: GAPS[0x4400]},
        {0x6200: b"after the other" * 2},
        {0x6300: b"after"},
        {0x4400: GAPS[0x8000], 0x6200: b"after \0\0\0 other", 0x8000: b""},
    ],
    ids=[
        "the first twice",
        "a part of the first twice",
        "swapped",
        "twice in its place",
        "a part twice in its gap",
        "the last first",
    ],
)
def test_what_is_repeated_is_not_the_full_cores(
    change: dict[int, bytes], looked_through: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte of the full core counts once, and in its order, also where nothing moved."""
    monkeypatch.setattr(unclaimed, "MOST_LOOKED_THROUGH", looked_through)
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core(GAPS))
    out.write_bytes(core({**GAPS, **change}))
    assert [finding.what for finding in verify(full, out).findings] == ["unclaimed"]


@pytest.mark.parametrize(
    ("looked_through", "holds"),
    [(unclaimed.MOST_LOOKED_THROUGH, True), (45, True), (44, False)],
    ids=["all", "just all", "too much"],
)
def test_a_part_of_much_is_not_looked_for(
    looked_through: int, holds: bool, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 45 bytes the end is cut off: where they are held in memory, it is found; as a whole they are found always."""
    monkeypatch.setattr(unclaimed, "MOST_LOOKED_THROUGH", looked_through)
    full, out = pair
    full.write_bytes(core(dict(zip(GAPS, (b"the first 15 by", b"15 bytes behind", b"the 15 of tail!"), strict=True))))
    corefilt.filter(full, out, filter="0x1", force=True, sync=False)
    assert verify(full, out).holds
    out.write_bytes(out.read_bytes().replace(b"the 15 of tail!", b"the 15 of tail\0"))
    assert verify(full, out).holds == holds


def test_zeros_in_a_place_of_their_own_go_with_gaps_that_moved(pair: tuple[Path, Path]) -> None:
    """What stands before all that was cut out is where it was, so it may lack any of its bytes."""
    full, out = pair
    raw = out.read_bytes()
    assert raw.index(GAPS[0x4400]) == 0x4400
    out.write_bytes(raw.replace(b"after the first", b"after \0\0\0 first"))
    # The gap after it, which moved, follows it at once, as the segment between them is gone.
    assert not verify(full, out).holds
    loads = [Load(A, noise(2, 1), offset=0x3000), Load(B, noise(1, 2), offset=0x5000), Load(C, noise(1), offset=0x7000)]
    whole = bytearray(make_core(loads, kernel_notes([(B, B + PAGE, 0, "/dev/zero (deleted)")])))
    whole[0x2800:0x2810], whole[0x6200:0x6210] = b"before all else.", b"and after it all"
    full.write_bytes(whole)
    corefilt.filter(full, out, filter="0x1", force=True, sync=False)
    raw = out.read_bytes()
    assert raw.index(b"and after it all") != 0x6200
    out.write_bytes(raw.replace(b"before all else.", b"before \0\0\0 else."))
    assert verify(full, out).holds
    # What has gone by in its place does not come again.
    again = raw.replace(b"before all else.", b"before \0\0\0 else.").replace(
        b"and after it all", b"else.".ljust(16, b"\0")
    )
    out.write_bytes(again)
    assert [finding.what for finding in verify(full, out).findings] == ["unclaimed"]


FIRST, OTHER, LAST = GAPS.values()


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (GAPS, {0x4400: OTHER, 0x8000: b"behind \0\0\0\0 all"}, {}),
        (GAPS, {0x4400: LAST}, {}),
        ({0x4400: FIRST, 0x6200: OTHER}, {0x4404: FIRST, 0x6200: OTHER}, {"phdr[3].p_filesz": 16}),
        ({**GAPS, 0x4800: b"part"}, {0x4404: FIRST, 0x4800: b"pa\0t", 0x6200: b"after \0\0\0 other"},
         {"phdr[2].p_offset": 0x4500, "phdr[2].p_filesz": 16}),
    ],
    ids=["some of the last", "none after the last", "dropped behind them all", "in the same gap"],
)  # fmt: skip
def test_what_moved_and_what_did_not_follow_each_other(
    before: dict[int, bytes], after: dict[int, bytes], fields: dict[str, int], tmp_path: Path
) -> None:
    """Whatever headers say of the rest: of the full core's bytes, in their order, any may be missing."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core(before))
    out.write_bytes(patched(core(after), fields))
    assert not [finding.text for finding in verify(full, out).findings if finding.what == "unclaimed"]


def test_zeros_in_their_places_need_no_order(tmp_path: Path) -> None:
    """Where nothing moved, what is left of one gap may look like a part of a later one."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core(GAPS))
    left = bytes(7) + b"h\0\0\0i\0\0\0"
    assert all(byte in (0, FIRST[n]) for n, byte in enumerate(left))
    out.write_bytes(core({**GAPS, 0x4400: left, 0x6200: b"after \0\0\0 other"}))
    assert verify(full, out).holds


def test_dropped_bytes_that_are_left_where_they_were_are_told(tmp_path: Path) -> None:
    """So a run in place leaves them in a block that it cannot punch; all of a segment are what the headers lost."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core(GAPS))
    out.write_bytes(patched(core(GAPS), {"phdr[2].p_filesz": 0}))
    left = len(noise(1, 2).replace(b"\0", b""))
    verdict = verify(full, out)
    assert verdict.holds
    says = "that were dropped are still in the file where they were, outside its segments (-i)"
    assert verdict.changes == [f"{show_size(left)} {says}"]
    out.write_bytes(patched(core(GAPS), {"phdr[2].p_filesz": 10}))
    left = len(noise(1, 2)[10:].replace(b"\0", b""))
    assert verify(full, out).changes == [f"{show_size(left)} {says}"]
    punched = bytearray(out.read_bytes())
    punched[0x5000 + 10 : 0x5000 + PAGE // 2] = bytes(PAGE // 2 - 10)
    out.write_bytes(punched)
    left = len(noise(1, 2)[PAGE // 2 :].replace(b"\0", b""))
    assert verify(full, out).changes == [f"{show_size(left)} {says}"]
    # So are those that stand before what moved.
    loads = [
        Load(A, noise(1, 3), offset=0x3000), Load(A + 2 * PAGE, noise(1, 1), offset=0x4000),
        Load(B, noise(1, 2), offset=0x5000), Load(C, noise(1), offset=0x7000),
    ]  # fmt: skip
    whole = bytearray(make_core(loads, kernel_notes([(B, B + PAGE, 0, "/dev/zero (deleted)")])))
    whole[0x6200:0x6210] = b"and after it all"
    full.write_bytes(whole)
    corefilt.filter(full, out, filter="0x1", force=True, sync=False)
    assert out.read_bytes().index(b"and after it all") == 0x5200
    assert verify(full, out).changes == []
    out.write_bytes(patched(out.read_bytes(), {"phdr[1].p_filesz": 0}))
    verdict = verify(full, out)
    assert verdict.holds
    left = len(noise(1, 3).replace(b"\0", b""))
    assert verdict.changes == [f"{show_size(left)} {says}"]


def test_what_is_invented_is_counted_and_placed(pair: tuple[Path, Path]) -> None:
    """All of the gap, which two became when the segment between them went, but no zeros."""
    full, out = pair
    out.write_bytes(out.read_bytes().replace(b"after the other", b"an other's text"))
    (finding,) = verify(full, out).findings
    assert (finding.what, finding.bytes) == ("unclaimed", 30)
    assert finding.text == (
        "30 B at 0x4000 of the file are in no segment, and the full core does not have them outside its segments, each "
        "once and in this order"
    )


def test_zeros_may_stand_for_what_nobody_claims(pair: tuple[Path, Path]) -> None:
    """Less is no damage: a run in place takes away what it need not keep."""
    full, out = pair
    raw = bytearray(out.read_bytes())
    for content in GAPS.values():
        place = raw.index(content)
        raw[place : place + len(content)] = bytes(len(content))
        out.write_bytes(raw)
        assert verify(full, out).holds


def test_equal_gaps_are_not_taken_for_each_other(tmp_path: Path) -> None:
    """A note moves each to where the next one was."""
    full, out = tmp_path / "full", tmp_path / "out"
    loads = [Load(A, noise(1, 1), offset=0x2000), Load(B, noise(1, 2)[:16], offset=0x4000, memsz=PAGE)]
    raw = bytearray(make_core(loads, kernel_notes(), tail=bytes(PAGE)))
    raw[0x3100:0x3107] = raw[0x4100:0x4107] = b"padding"
    full.write_bytes(raw)
    corefilt.filter(full, out, filter="all", annotate=True, sync=False)
    assert [out.read_bytes()[at : at + 7] for at in (0x4100, 0x5100)] == [b"padding"] * 2
    verdict = verify(full, out)
    assert verdict.holds, verdict


def test_what_a_cut_segment_has_is_claimed(tmp_path: Path) -> None:
    """Of a truncated core: what was dropped of its last mapping may stay where it was, and nowhere else."""
    full, out = tmp_path / "full", tmp_path / "out"
    whole = core({})
    full.write_bytes(whole[: 0x7000 + PAGE // 2])
    left = whole[0x7000 : 0x7000 + PAGE // 2]
    fields = {"phdr[3].p_filesz": 0}
    out.write_bytes(patched(whole[:0x7000] + left, fields))
    verdict = verify(full, out)
    assert verdict.holds, verdict
    count = show_size(len(left.replace(b"\0", b"")))
    says = "that were dropped are still in the file where they were, outside its segments (-i)"
    assert verdict.changes == [f"{count} {says}"]
    out.write_bytes(patched(whole[:0x7000] + bytes(16) + left, fields))
    assert [finding.what for finding in verify(full, out).findings] == ["unclaimed"]


def test_what_is_invented_in_a_hole_of_the_full_core_is_found(tmp_path: Path) -> None:
    """The disk has nothing of the full core there, so its zeros need not be read; the other one's bytes must."""
    full, out = tmp_path / "full", tmp_path / "out"
    loads = [Load(A, noise(1, 1), offset=0x2000), Load(B, noise(1, 2), offset=0x202000)]
    raw = make_core(loads, kernel_notes())
    holes = set(range(0x3000, 0x202000, PAGE))
    write_sparse(full, raw, holes)
    assert full.stat().st_blocks * 512 < len(raw) // 2
    invented = bytearray(raw)
    invented[0x101000] = 1
    write_sparse(out, bytes(invented), holes - {0x101000})
    (finding,) = verify(full, out).findings
    assert (finding.what, finding.bytes) == ("unclaimed", 1)
