"""Bytes that no header claims, as `verify` holds them: each of the full core's, in their order, wherever they moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.samples import PAGE, noise

import corefilt
from corefilt.verify import verify

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


def test_what_is_invented_is_counted_and_placed(pair: tuple[Path, Path]) -> None:
    """All of the gap, which two became when the segment between them went, but no zeros."""
    full, out = pair
    out.write_bytes(out.read_bytes().replace(b"after the other", b"an other's text"))
    (finding,) = verify(full, out).findings
    assert (finding.what, finding.bytes) == ("unclaimed", 30)
    assert finding.text.startswith("30 B at 0x4000 of the file are in no segment")


def test_zeros_may_stand_for_what_nobody_claims(pair: tuple[Path, Path]) -> None:
    """Less is no damage: a run in place takes away what it need not keep."""
    full, out = pair
    raw = bytearray(out.read_bytes())
    for content in GAPS.values():
        place = raw.index(content)
        raw[place : place + len(content)] = bytes(len(content))
        out.write_bytes(raw)
        assert verify(full, out).holds
