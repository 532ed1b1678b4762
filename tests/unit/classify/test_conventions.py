"""The conventions: names that do not change, and what a finding tells of those that decided it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from support.builder import Load, kernel_notes, make_core, page
from support.opening import opened
from support.samples import HEAP, sample_core
from support.strategies import FILTERS, cores

from corefilt.classify import conventions
from corefilt.kinds import Classification, Convention, Kind, level, single

ALL = [each for each in vars(conventions).values() if isinstance(each, Convention)]


def test_names_are_short_and_unique() -> None:
    assert len({each.name for each in ALL}) == len(ALL) > 20
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+){0,3}", each.name) for each in ALL)
    assert all(each.words and not each.words.endswith(".") for each in ALL)


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS)
def test_what_conventions_ruled_out_is_all_that_separates_proven_from_possible(core: bytes, wanted: int) -> None:
    with opened(core) as it:
        plan = it.plan(wanted)
        for m, finding in enumerate(plan.findings):
            ruled = 0
            for convention, kinds in finding.conventions:
                assert isinstance(convention, Convention)
                assert kinds
                assert not kinds & ruled
                ruled |= kinds
            assert ruled == finding.proven & ~finding.possible
            assert bool(plan.inferred[m]) <= bool(finding.dropped_by(plan.filter))


@settings(max_examples=60)
@given(core=cores(), wanted=FILTERS)
def test_kept_and_inferred_bytes_are_what_would_be_kept_if_no_convention_held(core: bytes, wanted: int) -> None:
    with opened(core) as it:
        plan = it.plan(wanted)
        for m, finding in enumerate(plan.findings):
            i = it.maps.phdr[m]
            most = max(level(kind, wanted) for kind in single(finding.proven))
            whole = it.present[i]
            there = {0: 0, 1: min(4096, whole), 2: whole}[most]
            assert plan.kept(m) + plan.inferred[m] == there


def test_bytes_that_two_conventions_drop_count_once_in_all() -> None:
    """Clean text would stay if it were shared memory (bit 1) or written (bit 0); a convention each is against it."""
    with opened(sample_core()) as core:
        plan = core.plan(0x3)
        sizes = {convention.name: size for convention, size in plan.by_convention()}
        assert sizes["image-text"] == sizes["linked-name"]
        assert max(sizes.values()) <= sum(plan.inferred) < sum(sizes.values())


def test_a_part_of_a_mapping_is_of_no_headed_kind_by_any_convention() -> None:
    """What --fit cuts off the first page is not ruled out by a convention that spoke of that page."""
    rule = conventions.SCRIPT
    whole = Classification(
        Kind.PRIVATE_FILE_HEADED,
        Kind.PRIVATE_FILE_HEADED | Kind.PRIVATE_FILE | Kind.WRITTEN,
        Kind.PRIVATE_FILE_HEADED,
        "inferred",
        (),
        0,
        conventions=((rule, Kind.PRIVATE_FILE), (conventions.IMAGE_TEXT, Kind.WRITTEN)),
    )
    rest = whole.behind_first_page()
    assert rest.possible == Kind.PRIVATE_FILE
    assert rest.conventions == ((conventions.IMAGE_TEXT, Kind.WRITTEN_FILE),)


@pytest.mark.parametrize("wanted", ["0x0", "0x1"])
def test_what_is_disproved_is_dropped_on_no_convention(wanted: str) -> None:
    core = make_core([HEAP, Load(0x10000, page(b"x"))], kernel_notes([(0x10000, 0x11000, 0, "/dev/zero")]))
    with opened(core) as it:
        plan = it.plan(wanted)
        assert plan.findings[1].certainty == "exact"
        assert plan.inferred[1] == 0
