"""Kind by bit: what a filter keeps, written down by hand from what was measured of the kernel's rules."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corefilt.filterbits import Bit
from corefilt.kinds import (
    FDPIC_OLD,
    NAMES,
    NOTHING,
    ONE_PAGE,
    SOURCE_NAMES,
    WHOLE,
    Basis,
    Classification,
    Convention,
    Kind,
    level,
    name_of,
    single,
)

# Bits 0 to 8 and then no bit at all. W is the whole mapping, h its first page, - nothing.
# The gate, [vdso] and [vvar] are named by the kernel itself, which is asked before anything else.
# VM_DONTDUMP and VM_IO come next; hugetlb and DAX each have two bits and no second chance.
# A shared mapping hangs on its file's links alone; a private one is whole once one of its pages was copied, and
# otherwise goes by bit 2, or leaves its first page to bit 4.
TABLE = {
    Kind.SPECIAL: "WWWWWWWWW W",
    Kind.EXCLUDED: "--------- -",
    Kind.PRIVATE_ANON: "W-------- -",
    Kind.SHARED_ANON: "-W------- -",
    Kind.SHARED_FILE: "---W----- -",
    Kind.PRIVATE_FILE: "--W------ -",
    Kind.PRIVATE_FILE_HEADED: "--W-h---- -",
    Kind.WRITTEN_FILE: "W-W------ -",
    Kind.WRITTEN_FILE_HEADED: "W-W-h---- -",
    Kind.PRIVATE_HUGE: "-----W--- -",
    Kind.SHARED_HUGE: "------W-- -",
    Kind.PRIVATE_DAX: "-------W- -",
    Kind.SHARED_DAX: "--------W -",
}
LETTERS = {NOTHING: "-", ONE_PAGE: "h", WHOLE: "W"}
FIELDS = {value: name for name, value in vars(Kind).items() if value in TABLE}
FILTERS = st.integers(0, 0x1FF)


def test_the_table_has_every_kind() -> None:
    assert sorted(TABLE) == single(Kind.ALL)


@pytest.mark.parametrize("kind", TABLE, ids=FIELDS.get)
def test_what_each_bit_keeps(kind: int) -> None:
    bits = "".join(LETTERS[level(kind, 1 << at)] for at in range(9))
    assert f"{bits} {LETTERS[level(kind, Bit.NONE)]}" == TABLE[kind]


@pytest.mark.parametrize("kind", TABLE, ids=FIELDS.get)
@pytest.mark.parametrize("value", [0x3, 0x13, 0x31, 0x33, 0x7F, 0x1FF])
def test_bits_together_keep_what_the_strongest_keeps(kind: int, value: int) -> None:
    letters = [TABLE[kind][at] for at in range(9) if value >> at & 1]
    expected = "W" if "W" in letters else "h" if "h" in letters else "-"
    assert LETTERS[level(kind, value)] == expected


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("private-anonymous", 0x33, "W"), ("shared-anonymous", 0x33, "W"), ("shared-anonymous", 0x31, "-"),
        ("private-file-written", 0x33, "W"), ("private-file-written", 0x10, "h"), ("private-huge", 0x33, "W"),
        ("shared-huge", 0x33, "-"), ("shared-file-backed", 0x33, "-"), ("special", 0x0, "W"),
        ("not-dumped", 0x1FF, "-"),
    ],
)  # fmt: skip
def test_what_people_know_by_heart(name: str, value: int, kept: str) -> None:
    levels = {LETTERS[level(kind, value)] for kind in single(NAMES[name])}
    assert kept in levels
    assert len(levels) == 1 or name == "private-file-written"


# The FDPIC dumper before Linux 5.10: bit 0 for what was written to and bit 2 for what was not, special or huge or not;
# what is shared goes by its file's links.
OLD = {
    Kind.SPECIAL: "--W------ -",
    Kind.EXCLUDED: "--------- -",
    Kind.PRIVATE_ANON: "W-------- -",
    Kind.SHARED_ANON: "-W------- -",
    Kind.SHARED_FILE: "---W----- -",
    Kind.PRIVATE_FILE: "--W------ -",
    Kind.PRIVATE_FILE_HEADED: "--W------ -",
    Kind.WRITTEN_FILE: "W-------- -",
    Kind.WRITTEN_FILE_HEADED: "W-------- -",
    Kind.PRIVATE_HUGE: "W-W------ -",
    Kind.SHARED_HUGE: "-W-W----- -",
    Kind.PRIVATE_DAX: "-------W- -",
    Kind.SHARED_DAX: "--------W -",
}


@pytest.mark.parametrize("kind", OLD, ids=FIELDS.get)
def test_what_each_bit_keeps_for_the_old_fdpic_dumper(kind: int) -> None:
    """Huge pages may have been written to or not, and their file may have a link or not: either bit keeps them."""
    bits = "".join(LETTERS[level(kind, 1 << at, FDPIC_OLD)] for at in range(9))
    assert f"{bits} {LETTERS[level(kind, Bit.NONE, FDPIC_OLD)]}" == OLD[kind]


def test_behind_the_first_page_what_is_proven_stays_apart_from_what_is_possible() -> None:
    whole = Classification(
        Kind.PRIVATE_FILE_HEADED, Kind.PRIVATE_MAPPED, Kind.PRIVATE_FILE_HEADED, "inferred", ("why",), Basis.CORE
    )
    rest = whole.behind_first_page()
    assert (rest.possible, rest.proven, rest.likely) == (Kind.PRIVATE_FILE, Kind.UNHEADED, Kind.PRIVATE_FILE)
    assert (rest.certainty, rest.evidence, rest.sources) == ("inferred", ("why",), Basis.CORE)


@pytest.mark.parametrize(
    ("possible", "proven", "certainty", "behind"),
    [
        (Kind.CLEAN, Kind.CLEAN, "assumed", "exact"),
        (Kind.CLEAN, Kind.PRIVATE_MAPPED, "assumed", "inferred"),
        (Kind.PRIVATE_MAPPED, Kind.PRIVATE_MAPPED, "assumed", "assumed"),
        (Kind.PRIVATE_FILE, Kind.CLEAN, "inferred", "exact"),
        (Kind.CLEAN, Kind.CLEAN, "stated", "stated"),
    ],
)
def test_behind_the_first_page_only_the_kind_is_uncertain(
    possible: int, proven: int, certainty: str, behind: str
) -> None:
    """A COREFILT note whose certainty does not fit its kinds is not read."""
    rest = Classification(possible, proven, Kind.PRIVATE_FILE, certainty, (), Basis.CORE).behind_first_page()
    assert rest.certainty == behind
    assert rest.uncertain == (behind == "assumed")
    assert not rest.header_in_doubt


def test_behind_the_first_page_conventions_answer_for_what_they_alone_ruled_out() -> None:
    """A report names those by which a filter drops bytes, and no others."""
    private, whole_page = Convention("private", "it is private"), Convention("whole-page", "its file is executable")
    whole = Classification(
        Kind.PRIVATE_FILE_HEADED, Kind.ALL, Kind.PRIVATE_FILE_HEADED, "inferred", (), Basis.CORE,
        conventions=((private, Kind.SHARED_FILE), (whole_page, Kind.PRIVATE_FILE)),
    )  # fmt: skip
    rest = whole.behind_first_page()
    assert rest.conventions == ((private, Kind.SHARED_FILE),)
    assert rest.dropped_by(Bit.SHARED_FILE_BACKED) == [private]
    assert rest.dropped_by(Bit.PRIVATE_ANONYMOUS) == []


# --- names ------------------------------------------------------------------------------------------------


def test_every_kind_has_one_name() -> None:
    for one, other in combinations(NAMES.values(), 2):
        assert not one & other
    assert sum(NAMES.values()) == Kind.ALL
    assert all(name_of(kind) == name for name, kinds in NAMES.items() for kind in single(kinds))


def test_groups_of_kinds() -> None:
    assert Kind.CLEAN | Kind.WRITTEN == Kind.HEADED | Kind.UNHEADED == Kind.PRIVATE_MAPPED
    assert Kind.CLEAN & Kind.WRITTEN == Kind.HEADED & Kind.UNHEADED == 0
    assert single(Kind.HUGE) == [Kind.PRIVATE_HUGE, Kind.SHARED_HUGE]
    assert single(0) == []


def test_every_source_is_a_bit_of_its_own_and_has_a_name() -> None:
    """They stand so in COREFILT notes of earlier runs: the numbers are for good."""
    numbers = {name: value for name, value in vars(Basis).items() if name.isupper()}
    assert numbers == {"CORE": 1, "MAPS": 2, "SMAPS": 4, "FILES": 8, "SYSROOT": 16, "USER": 32}
    assert set(SOURCE_NAMES) == set(numbers.values())
    assert len(set(SOURCE_NAMES.values())) == len(numbers)


def test_the_bits_of_kinds_stay_what_they_are() -> None:
    """For the same reason."""
    names = [
        "SPECIAL", "EXCLUDED", "PRIVATE_ANON", "SHARED_ANON", "SHARED_FILE", "PRIVATE_FILE", "PRIVATE_FILE_HEADED",
        "WRITTEN_FILE", "WRITTEN_FILE_HEADED", "PRIVATE_HUGE", "SHARED_HUGE", "PRIVATE_DAX", "SHARED_DAX",
    ]  # fmt: skip
    assert [getattr(Kind, name) for name in names] == [1 << bit for bit in range(13)]


# --- findings ---------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(possible=st.integers(1, Kind.ALL), wanted=FILTERS, data=st.data())
def test_a_finding_keeps_the_least_the_likeliest_and_the_most(possible: int, wanted: int, data: st.DataObject) -> None:
    likely = data.draw(st.sampled_from(single(possible)))
    finding = Classification(possible, Kind.ALL, likely, "assumed", (), Basis.CORE)
    least, guess, most = finding.levels(wanted)
    levels = [level(kind, wanted) for kind in single(possible)]
    assert (least, guess, most) == (min(levels), level(likely, wanted), max(levels))
    assert least <= guess <= most


@settings(max_examples=100)
@given(possible=st.integers(1, Kind.ALL), data=st.data())
def test_the_others_are_all_other_names(possible: int, data: st.DataObject) -> None:
    likely = data.draw(st.sampled_from(single(possible)))
    finding = Classification(possible, Kind.ALL, likely, "assumed", ("because",), Basis.CORE)
    names = {name for name, kinds in NAMES.items() if kinds & possible}
    assert {finding.kind, *finding.others()} == names
    assert finding.kind not in finding.others()
    assert finding.others() == sorted(finding.others())


@settings(max_examples=200)
@given(kind=st.sampled_from(single(Kind.ALL)), wanted=FILTERS, more=FILTERS)
def test_another_bit_never_takes_anything_away(kind: int, wanted: int, more: int) -> None:
    assert level(kind, wanted) <= level(kind, wanted | more)
