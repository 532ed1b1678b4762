"""Loops over columns of tables: what they find is what a loop in Python finds, and no column is read past its end."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corefilt import _fast

NONE = 0xFFFFFFFF
MOST = (1 << 64) - 1
NUMBERS = st.one_of(st.integers(0, 9), st.sampled_from([4096, 8192, 1 << 63, MOST - 1, MOST]))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 7), st.sampled_from([0, 1, NONE])), max_size=8)


def split(rows: list[tuple[int, ...]]) -> tuple[array, ...]:
    """Make the columns: starts, sizes, flags, paths."""
    return tuple(array(code, (row[i] for row in rows)) for i, code in enumerate("QQII"))


def numbers(count: int) -> array:
    return array("I", range(count))


def room(code: str, count: int) -> array:
    return array(code, bytes(array(code).itemsize * count))


@given(ROWS, st.integers(0, 7))
def test_rows_are_selected_by_their_value(rows: list[tuple[int, ...]], value: int) -> None:
    out = room("I", len(rows))
    count = _fast.select(split(rows)[2], value, out)
    assert list(out[:count]) == [n for n, row in enumerate(rows) if row[2] == value]


@given(ROWS, NUMBERS)
def test_the_first_row_behind_an_end_is_found(rows: list[tuple[int, ...]], last: int) -> None:
    starts, sizes, *_ = split(rows)
    expected = (n for n, (start, size, *_) in enumerate(rows) if start > last or start + size > last + 1)
    assert _fast.first_beyond(starts, sizes, last) == next(expected, None)


@given(ROWS, NUMBERS, NUMBERS)
def test_the_first_row_inside_a_range_is_found(rows: list[tuple[int, ...]], low: int, high: int) -> None:
    starts, sizes, *_ = split(rows)
    expected = (n for n, (start, size, *_) in enumerate(rows) if size and start < high and start + size > low)
    assert _fast.first_within(starts, sizes, low, high) == next(expected, None)


@given(ROWS, NUMBERS)
def test_what_stands_behind_the_end_is_missing(rows: list[tuple[int, ...]], end: int) -> None:
    starts, sizes, *_ = split(rows)
    out = room("Q", len(rows))
    missing = _fast.clip(starts, sizes, end, out)
    assert list(out) == [min(size, max(0, end - start)) for start, size, *_ in rows]
    assert missing == sum(sizes) - sum(out)


SMALL = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 9)), max_size=6)


@given(SMALL)
def test_rows_with_bytes_are_in_order_or_not(rows: list[tuple[int, int, int]]) -> None:
    starts, sizes = array("Q", (row[0] for row in rows)), array("Q", (row[1] for row in rows))
    out = room("I", len(rows))
    count, ascending = _fast.filled(starts, sizes, out)
    expected = [n for n, row in enumerate(rows) if row[1]]
    assert list(out[:count]) == expected
    assert ascending == all(sum(rows[a][:2]) <= rows[b][0] for a, b in pairwise(expected))
    assert _fast.last_end(starts, sizes) == max((row[0] + row[1] for row in rows), default=0)
    assert _fast.follows(starts, sizes, 0) == all(sum(a[:2]) == b[0] for a, b in pairwise(rows))


@given(SMALL, st.integers(0, 5))
def test_ranges_are_cut_out_where_rows_follow_each_other(rows: list[tuple[int, int, int]], reached: int) -> None:
    offsets, present, sizes = (array("Q", (row[i] for row in rows)) for i in range(3))
    starts, ends, before = room("Q", len(rows)), room("Q", len(rows)), room("Q", len(rows) + 1)
    count = _fast.cut(offsets, sizes, present, reached, starts, ends, before)
    there = [row for row in rows if row[1]]
    ordered = all(a[0] + a[1] <= b[0] for a, b in pairwise([(0, reached), *there]))
    assert (count is not None) == ordered
    if count is None:
        return
    dropped = {at for offset, size, kept in there for at in range(offset + kept, offset + size)}
    assert {at for n in range(count) for at in range(starts[n], ends[n])} == dropped
    assert all(ends[n - 1] < starts[n] for n in range(1, count))
    assert list(before[: count + 1]) == [sum(at < starts[n] for at in dropped) for n in range(count)] + [len(dropped)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6), SMALL, st.sampled_from([1, 3, 1 << 63]))
def test_mappings_get_the_entry_that_covers_them(
    entries: list[tuple[int, int]], rows: list[tuple[int, int, int]], unit: int
) -> None:
    ranges = array("Q", (n for i, (start, size) in enumerate(entries) for n in (start, start + size, i)))
    order = array("I", sorted(range(len(entries)), key=lambda i: entries[i][0]))
    starts, sizes = array("Q", (row[0] for row in rows)), array("Q", (row[1] for row in rows))
    found, offsets = room("I", len(rows)), room("Q", len(rows))
    shared, wide = _fast.covering(starts, sizes, numbers(len(rows)), ranges, order, unit, found, offsets)
    for n, (start, size, _) in enumerate(rows):
        at = max((k for k, i in enumerate(order) if entries[i][0] <= start), default=-1)
        covers = at >= 0 and start + size <= sum(entries[order[at]])
        assert found[n] == (order[at] if covers else NONE)
        if covers and not wide:
            assert offsets[n] == order[at] * unit + start - entries[order[at]][0]
    assert shared == sum(a == b != NONE for a, b in pairwise(found))
    assert not wide or unit > 3


@given(ROWS, st.booleans(), st.integers(0, 7), st.integers(0, 7), NUMBERS, NUMBERS)
def test_mappings_are_found_by_flags_and_size(
    rows: list[tuple[int, ...]], named: bool, mask: int, value: int, least: int, most: int
) -> None:
    _, sizes, flags, paths = split(rows)
    out = room("I", len(rows))
    count = _fast.matching(numbers(len(rows)), paths, flags, sizes, named, mask, value, least, most, out)
    assert list(out[:count]) == [
        n
        for n, (_, size, own, path) in enumerate(rows)
        if (path != NONE) == named and own & mask == value and least <= size <= most
    ]


@given(ROWS, st.integers(0, 3))
def test_mappings_of_which_the_same_is_seen_are_one_class(rows: list[tuple[int, ...]], unique: int) -> None:
    starts, sizes, flags, paths = split(rows)
    count = len(rows)
    offsets, marks = array("Q", (n % 2 * 4096 for n in range(count))), bytearray(n % 3 == 0 for n in range(count))
    special = array("I", (_fast.UNIQUE if n == unique else 0 for n in range(count)))
    out = room("I", count)
    first = _fast.group(
        numbers(count), paths, flags, starts, sizes, sizes, offsets, marks, special, 4095, 0x1234, out
    )  # fmt: skip

    def seen(n: int) -> tuple[object, ...]:
        start, size, own, path = rows[n]
        place = offsets[n] if path != NONE else 0
        shape = (start | (start + size) | place) & 4095 == 0
        beside = (place == 0, marks[n]) if path != NONE else None
        return size, own, path, shape, beside, n if n == unique else None

    assert [first[out[n]] for n in range(count)] == [
        next(k for k in range(count) if seen(k) == seen(n)) for n in range(count)
    ]
    assert first == sorted(first)


def test_more_classes_than_the_table_began_with() -> None:
    count = 5000
    sizes, zeros, out = array("Q", (n // 2 for n in range(count))), room("Q", count), room("I", count)
    none, flags = array("I", [NONE]) * count, room("I", count)
    first = _fast.group(
        numbers(count), none, flags, zeros, sizes, sizes, array("Q"), b"", flags, 0, 7, out
    )  # fmt: skip
    assert (list(out), first) == ([n // 2 for n in range(count)], list(range(0, count, 2)))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=6), st.lists(st.integers(0, 25), max_size=5))
def test_what_is_pointed_at_stands_alone(rows: list[tuple[int, int]], addresses: list[int]) -> None:
    starts, sizes = array("Q", (row[0] for row in rows)), array("Q", (row[1] for row in rows))
    out = room("I", len(rows))
    _fast.point(numbers(len(rows)), starts, sizes, array("Q", sorted(addresses)), out)
    expected = [any(start <= at < start + size for at in addresses) for start, size in rows]
    assert [number == _fast.UNIQUE for number in out] == expected


def test_what_continues_a_neighbour_is_marked() -> None:
    # Two that touch, one behind a gap, one of another file, one with other flags, one at another place of the file.
    starts = array("Q", (0, 10, 30, 40, 50, 60, 70))
    sizes = array("Q", (10, 10, 10, 10, 10, 10, 10))
    flags = array("I", (1, 1, 1, 1, 2, 1, 1))
    paths = array("I", (0, 0, 0, 1, 1, 1, 1))
    offsets = array("Q", (0, 10, 30, 40, 50, 60, 71))
    columns = numbers(7), paths, flags, starts, sizes, offsets
    marks = bytearray(7)
    assert _fast.touching(*columns, numbers(7), array("I"), marks)
    assert list(marks) == [1, 1, 0, 0, 0, 0, 0]
    # Parts of one entry of NT_FILE are not counted.
    marks = bytearray(7)
    assert _fast.touching(*columns, room("I", 7), array("I"), marks)
    assert not any(marks)
    # In another order of the table the order says so.
    turned = tuple(array(column.typecode, reversed(column)) for column in columns[1:])
    marks = bytearray(7)
    assert not _fast.touching(numbers(7), *turned, numbers(7), array("I"), marks)
    assert _fast.touching(numbers(7), *turned, numbers(7), array("I", range(6, -1, -1)), marks)
    assert list(marks) == [0, 0, 0, 0, 0, 1, 1]


def test_sums_are_not_cut_at_64_bits() -> None:
    out = room("Q", 4)
    _fast.totals(array("I", (0, 1, 0)), array("Q", (MOST, 5, MOST)), array("I"), out)
    assert list(out) == [MOST - 1, 1, 5, 0]
    out = room("Q", 4)
    _fast.totals(array("I", (0, 1, 0)), array("Q", (MOST, 5)), array("I", (1, 0, 1)), out)
    assert list(out) == [10, 0, MOST, 0]


def test_levels_are_spread_over_the_mappings_of_a_class() -> None:
    sizes, assumed, inferred = array("Q", (7, 7, 7)), room("Q", 3), room("Q", 3)
    levels = bytes((2, 0, 2, 2)) + bytes((1, 1, 1, 2))
    present = array("Q", (100, 50, 0))
    _fast.spread(array("I", (1, 0, 2)), array("I", (0, 1, 0)), levels, present, 10, sizes, assumed, inferred)
    assert (list(sizes), list(assumed), list(inferred)) == ([10, 50, 7], [50, 0, 0], [0, 90, 0])


def test_rows_that_are_kept_as_a_whole_are_counted() -> None:
    known, sizes, present = bytearray((1, 1, 0, 1)), array("Q", (5, 4, 4, 4)), array("Q", (5, 5, 4, 4))
    order = array("I", (3, 0, 1, 2))
    assert _fast.kept_whole(order, 0, known, sizes, present) == 2
    assert _fast.kept_whole(order, 2, known, sizes, present) == 0
    out = bytearray(4)
    _fast.scatter(array("I", (3, 1)), array("I", (0, 1)), b"\x05\x06", out)
    assert out == bytes((0, 6, 0, 5))


SHORT, ONE, TWO = array("Q"), array("Q", (1,)), array("Q", (1, 2))
ROW, FAR, LONG = array("I", (0,)), array("I", (9,)), array("I", (0, 0))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: _fast.select(LONG, 0, ROW), id="select"),
        pytest.param(lambda: _fast.first_beyond(TWO, ONE, 0), id="first_beyond"),
        pytest.param(lambda: _fast.first_within(TWO, ONE, 0, 1), id="first_within"),
        pytest.param(lambda: _fast.filled(TWO, TWO, ROW), id="filled"),
        pytest.param(lambda: _fast.last_end(TWO, ONE), id="last_end"),
        pytest.param(lambda: _fast.follows(TWO, ONE, 0), id="follows"),
        pytest.param(lambda: _fast.clip(ONE, ONE, 0, SHORT), id="clip"),
        pytest.param(lambda: _fast.smaller(ONE, SHORT, ONE), id="smaller"),
        pytest.param(lambda: _fast.cut(ONE, ONE, ONE, 0, ONE[:], ONE[:], ONE[:]), id="cut"),
        pytest.param(lambda: _fast.covering(ONE, ONE, FAR, SHORT, array("I"), 1, ROW[:], ONE[:]), id="covering rows"),
        pytest.param(lambda: _fast.covering(ONE, ONE, ROW, TWO, ROW, 1, ROW[:], ONE[:]), id="covering ranges"),
        pytest.param(
            lambda: _fast.covering(ONE, ONE, ROW, array("Q", (0, 1, 0)), FAR, 1, ROW[:], ONE[:]), id="covering order"
        ),
        pytest.param(lambda: _fast.matching(FAR, ROW, ROW, ONE, True, 0, 0, 0, 1, ROW[:]), id="matching"),
        pytest.param(lambda: _fast.look_up(LONG, ROW, ROW[:]), id="look_up"),
        pytest.param(lambda: _fast.single_out(LONG, bytearray(1), ROW[:]), id="single_out"),
        pytest.param(
            lambda: _fast.by_path(FAR, ROW, ROW, ONE, ONE, ONE, ONE, ROW[:], ONE[:], bytearray(1), bytearray(1)),
            id="by_path",
        ),
        pytest.param(lambda: _fast.touching(ROW, ROW, ROW, ONE, ONE, ONE, ROW, FAR, bytearray(1)), id="touching order"),
        pytest.param(lambda: _fast.touching(FAR, ROW, ROW, ONE, ONE, ONE, ROW, ROW, bytearray(1)), id="touching rows"),
        pytest.param(lambda: _fast.point(FAR, ONE, ONE, ONE, ROW[:]), id="point"),
        pytest.param(
            lambda: _fast.group(FAR, ROW, ROW, ONE, ONE, ONE, ONE, bytearray(1), ROW, 0, 0, ROW[:]), id="group rows"
        ),
        pytest.param(
            lambda: _fast.group(LONG, LONG, ROW, ONE, ONE, ONE, ONE, bytearray(2), LONG, 0, 0, LONG[:]),
            id="group offsets",
        ),
        pytest.param(
            lambda: _fast.group(ROW, ROW, ROW, ONE, ONE, ONE, SHORT, b"", ROW, 0, 0, ROW[:]), id="group without offsets"
        ),
        pytest.param(lambda: _fast.spread(ROW, FAR, bytes(4), ONE, 1, ONE[:], ONE[:], ONE[:]), id="spread class"),
        pytest.param(lambda: _fast.spread(FAR, ROW, bytes(4), ONE, 1, ONE[:], ONE[:], ONE[:]), id="spread row"),
        pytest.param(lambda: _fast.totals(FAR, ONE, array("I"), TWO[:]), id="totals class"),
        pytest.param(lambda: _fast.totals(ROW, ONE, FAR, TWO[:]), id="totals row"),
        pytest.param(lambda: _fast.scatter(FAR, ROW, b"\0", bytearray(1)), id="scatter row"),
        pytest.param(lambda: _fast.scatter(ROW, FAR, b"\0", bytearray(1)), id="scatter class"),
        pytest.param(lambda: _fast.kept_whole(ROW, 0, bytearray(1), SHORT, ONE), id="kept_whole"),
    ],
)
def test_columns_that_do_not_fit_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"column is too short|number is past its table"):
        call()


def test_where_no_row_is_known_nothing_is_skipped() -> None:
    assert _fast.kept_whole(FAR, 0, bytearray(1), ONE, ONE) == 0
