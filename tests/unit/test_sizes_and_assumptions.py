"""Sizes as people write and read them, and --assume SELECTOR=KIND."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corefilt.errors import UsageError
from corefilt.evidence.assumptions import Assumption
from corefilt.kinds import NAMES
from corefilt.sizes import parse_size, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1", 1), ("65536", 65536), ("64K", 65536), ("64k", 65536), ("500M", 500 << 20), ("2G", 2 << 30),
        ("3T", 3 << 40), ("1P", 1 << 50), ("007", 7), ("0K", 0), ("18446744073709551616", 1 << 64),
        ("16MiB", 16 << 20), ("16 MiB", 16 << 20), ("16MB", 16_000_000), ("1kB", 1000), ("512 B", 512),
        ("0.5G", 1 << 29),
        ("12.0 KiB", 12288), ("1.50 MiB", 3 << 19), ("1.001K", 1025), ("2.5GB", 2_500_000_000),
    ],
)  # fmt: skip
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "K",
        "-1",
        "+1",
        "1.5",
        "1.5B",
        "1.G",
        ".5G",
        "1.5.5G",
        "-0.5G",
        "1KBB",
        "1iB",
        "1E",
        "1  \tK",
        " 1",
        "0x10",
        "1_000",
        "\u0663",
        "\u00b2",
        "1\u212a",
        "9" * 21,
        "inf",
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        parse_size(text)
    assert "64K" in caught.value.hint


@settings(max_examples=100)
@given(st.integers(0, 1 << 60), st.sampled_from(["", "K", "M", "G", "T", "P"]))
def test_units_are_powers_of_1024(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == count * 1024 ** " KMGTP".index(unit or " ")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1, "1 B"), (512, "512 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"),
        (10 << 10, "10.0 KiB"), (100 << 10, "100 KiB"), (1023 << 10, "1023 KiB"), ((1 << 20) - 1, "1.00 MiB"),
        (1 << 20, "1.00 MiB"), (64 << 20, "64.0 MiB"), (5 << 30, "5.00 GiB"), (7 << 40, "7.00 TiB"),
        (3 << 50, "3.00 PiB"), (1 << 64, "16384 PiB"), (-1, "-1 B"), (-12288, "-12.0 KiB"), (-(3 << 19), "-1.50 MiB"),
    ],
)  # fmt: skip
def test_sizes_are_shown_in_three_figures(size: int, text: str) -> None:
    assert show_size(size) == text


@settings(max_examples=200)
@given(st.integers(0, 1 << 60))
def test_what_is_shown_is_right_to_a_percent(size: int) -> None:
    figures, unit = show_size(size).split()
    shown = float(figures) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)
    assert abs(shown - size) <= size * 0.01
    assert len(figures.replace(".", "")) <= 4


@pytest.mark.parametrize("kind", NAMES)
def test_every_kind_can_be_stated(kind: str) -> None:
    assumption = Assumption(f"/data/*={kind}")
    assert (assumption.kind, assumption.used) == (kind, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a SELECTOR=KIND"),
        ("special", "is not a SELECTOR=KIND"),
        ("=special", "is not a SELECTOR=KIND"),
        ("/data=", "no kind ''"),
        ("/data=anonymous", "no kind 'anonymous'"),
        ("/data=SPECIAL", "no kind 'SPECIAL'"),
        ("0xyz=special", "'0xyz' is not an address"),
        ("0x=special", "'0x' is not an address"),
        ("size>=special", "size '' cannot be read"),
        ("size>big=special", "size 'big' cannot be read"),
        ("size<-1=special", "size '-1' cannot be read"),
    ],
)
def test_what_is_no_assumption(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Assumption(text)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        Assumption("/data=anonymous")
    assert not [kind for kind in NAMES if kind not in caught.value.hint]


@pytest.mark.parametrize(
    ("selector", "path", "fits"),
    [
        ("/data/a", b"/data/a", True),
        ("/data/a", b"/data/ab", False),
        ("/data/*", b"/data/a/b", True),
        ("*.db", b"/data/a.db", True),
        ("*.DB", b"/data/a.db", False),
        ("/data/?", b"/data/a", True),
        ("/data/[!a]", b"/data/a", False),
        ("*", b"", True),
        ("*", None, False),
        ("/data/a=b", b"/data/a=b", True),
        ("/dev/zero (deleted)", b"/dev/zero (deleted)", True),
        ("/d/\udcff*", b"/d/\xff\xfe", True),
        ("/d/\u00fc", "/d/\u00fc".encode(), True),
        ("/d/a*c", b"/d/a\nc", True),
        ("size", b"size", True),
    ],
)
def test_globs(selector: str, path: bytes | None, fits: bool) -> None:
    assumption = Assumption(f"{selector}=special")
    assert assumption.fits(0x1000, 0x2000, path) is fits
    assert assumption.used is fits


@pytest.mark.parametrize(
    ("selector", "fits"), [("0x1000", True), ("0x1fff", True), ("0X1ABC", True), ("0x2000", False), ("0xfff", False)]
)
def test_addresses(selector: str, fits: bool) -> None:
    assert Assumption(f"{selector}=special").fits(0x1000, 0x2000, None) is fits


@settings(max_examples=100)
@given(length=st.integers(1, 5000), size=st.integers(0, 5000))
def test_sizes_select(length: int, size: int) -> None:
    answers = {">": length > size, ">=": length >= size, "<": length < size, "<=": length <= size}
    for operator, fits in answers.items():
        assert Assumption(f"size{operator}{size}=special").fits(7, 7 + length, b"/any") is fits


def test_once_used_stays_used() -> None:
    assumption = Assumption("/a=special")
    assert [assumption.fits(0, 1, path) for path in (b"/a", b"/b")] == [True, False]
    assert assumption.used
