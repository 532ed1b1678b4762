"""Every way to write a filter, and every way that is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corefilt.coredump_filter import CoredumpFilter
from corefilt.errors import FilterError
from corefilt.filterbits import ALIASES, NAMES, Bit, as_filter, describe, parse_filter

VALUES = st.integers(0, 0x1FF)
BITS = {
    "private-anonymous": 0, "shared-anonymous": 1, "private-file-backed": 2, "shared-file-backed": 3,
    "elf-headers": 4, "private-huge": 5, "shared-huge": 6, "private-dax": 7, "shared-dax": 8,
}  # fmt: skip


def read(text: str) -> int:
    """Parse a filter that gives no warning."""
    value, warnings = parse_filter(text)
    assert warnings == []
    return value


def refused(text: str) -> str:
    """Return the message and the hint of a filter that is refused."""
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return f"{caught.value}; {caught.value.hint}"


def test_the_bits_are_the_kernels() -> None:
    assert {name: 1 << at for name, at in BITS.items()} == NAMES
    assert ALIASES == {"default": 0x33, "all": 0x1FF, "none": 0, "omit-anonymous-shared": 0x31}
    assert (Bit.DEFAULT, Bit.ALL, Bit.NONE) == (0x33, 0x1FF, 0)


def test_the_flags_of_python_are_these_bits() -> None:
    bits = {name: value for name, value in vars(Bit).items() if name.isupper()}
    assert {name: int(member) for name, member in CoredumpFilter.__members__.items()} == bits


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x33", 0x33), ("0X33", 0x33), ("0x0", 0), ("0x1ff", 0x1FF), ("0x1FF", 0x1FF), ("0x0000000033", 0x33),
        ("0b110011", 0x33), ("0B110011", 0x33), ("0b0", 0), ("0b111111111", 0x1FF),
        ("0", 0), ("7", 7), ("9", 9), ("00", 0), ("007", 7),
        (" 0x33 ", 0x33),
    ],
)  # fmt: skip
def test_numbers(text: str, value: int) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("00000033", 0x33), ("00000000", 0), ("000001ff", 0x1FF), ("0000001F", 0x1F)]
)
def test_eight_hex_digits_are_what_proc_shows(text: str, value: int) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "value", "unknown"),
    [
        ("0000ffff", 0x1FF, "0xfe00"),
        ("00000233", 0x33, "0x200"),
        ("ffffffff", 0x1FF, "0xfffffe00"),
        ("0xffffffff", 0x1FF, "0xfffffe00"),
        ("4294967295", None, ""),
        ("deadbeef", 0xEF, "0xdeadbe00"),
    ],
)
def test_bits_that_mean_nothing_are_named_in_a_warning(text: str, value: int | None, unknown: str) -> None:
    if value is None:
        assert "0xffffffff" in refused(text)
        return
    found, warnings = parse_filter(text)
    assert int(found) == value
    assert len(warnings) == 1
    assert warnings[0].endswith(unknown)
    assert text in warnings[0]


@pytest.mark.parametrize(("text", "unknown"), [("0x200", "0x200"), ("0x1ffff", "0x1fe00"), ("0b1000000000", "0x200")])
def test_bits_above_8_are_refused(text: str, unknown: str) -> None:
    said = refused(text)
    assert f"has bits that do not exist: {unknown}" in said
    assert "all is 0x1ff" in said


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("33", ("0x21", "0x33")),
        ("10", ("0xa", "0x10")),
        ("0033", ("0x21", "0x33")),
        ("51", ("0x33", "0x51")),
        ("511", ("0x1ff", "0x511")),
    ],
)
def test_digits_with_two_readings_are_refused_with_both(text: str, readings: tuple[str, str]) -> None:
    said = refused(text)
    assert f"could be decimal ({readings[0]}) or hexadecimal ({readings[1]})" in said
    assert f"write {readings[0]} or {readings[1]}" in said


@pytest.mark.parametrize("text", ["ff", "1f", "0000003f0", "beef"])
def test_bare_hexadecimal_is_refused_with_the_prefix(text: str) -> None:
    assert f"write 0x{text}" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "0x",
        "0b",
        "0b2",
        "0xg",
        "0o63",
        "1_0",
        "0x3_3",
        "\u0663\u0663",
        "\u00b2",
        "3.5",
        "0x33h",
        "1e1",
        "0x-1",
        "--1",
        "0x 33",
    ],
)
def test_what_is_no_number(text: str) -> None:
    refused(text)


def test_a_number_of_any_length_is_answered_at_once() -> None:
    for text in ("9" * 100_000, "0x" + "f" * 100_000, "coremask:" + "9" * 100_000, "0b" + "1" * 100_000):
        assert len(refused(text)) < 200


@settings(max_examples=200)
@given(VALUES)
def test_every_form_of_a_number_is_read_back(value: int) -> None:
    for text in (f"{value:#x}", f"{value:#b}", f"{value:08x}", f"{value:#X}"):
        assert read(text) == value


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "at"), BITS.items())
def test_names(name: str, at: int) -> None:
    for text in (name, name.upper(), name.replace("-", "_"), f" {name} ", f"none,+{name}", f"none,{name}"):
        assert read(text) == 1 << at
    assert read(f"all,-{name}") == 0x1FF & ~(1 << at)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("default", 0x33), ("all", 0x1FF), ("none", 0), ("omit-anonymous-shared", 0x31),
        ("default,-shared-anonymous", 0x31),
        ("all,-private-huge", 0x1DF),
        ("none,+elf-headers", 0x10),
        ("default,-default", 0),
        ("all,-default,+0x1", 0x1CD),
        ("default,-0x2,0x4", 0x35),
        ("0x33,none", 0x33),
        ("default, -elf-headers", None),
        ("private-anonymous,shared-anonymous", 3),
        ("-private-anonymous"[1:] + ",-private-anonymous,+private-anonymous", 1),
        ("00000033,-00000003", 0x30),
    ],
)  # fmt: skip
def test_terms_combine_from_left_to_right(text: str, value: int | None) -> None:
    if value is None:
        refused(text)
    else:
        assert read(text) == value


@pytest.mark.parametrize(
    "text", ["private", "anonymous", "elf-header", "everything", "default!", "private anonymous", "*"]
)
def test_unknown_names_are_refused_with_the_known_ones(text: str) -> None:
    said = refused(text)
    assert not [name for name in [*NAMES, *ALIASES] if name not in said]


@pytest.mark.parametrize("text", ["default,", ",default", "default,,none", "default,-", "default,+", " ", "none, "])
def test_an_empty_term_is_refused(text: str) -> None:
    assert "empty term" in refused(text)


def test_an_empty_filter_is_refused() -> None:
    assert "the filter is empty" in refused("")


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("-shared-anonymous", "write default,-shared-anonymous"),
        ("-0x2,+0x4", "write default,-0x2,+0x4"),
        ("+elf-headers", "write none,+elf-headers"),
    ],
)
def test_a_sign_in_front_is_refused_with_the_spelling(text: str, spelling: str) -> None:
    assert spelling in refused(text)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("+-"), st.one_of(st.sampled_from(sorted(BITS)), VALUES)), max_size=8), VALUES)
def test_a_list_is_what_its_terms_make_of_it(terms: list[tuple[str, str | int]], first: int) -> None:
    expected, text = first, f"{first:#x}"
    for sign, term in terms:
        bits = 1 << BITS[term] if isinstance(term, str) else term
        expected = expected | bits if sign == "+" else expected & ~bits
        text += f",{sign}{term if isinstance(term, str) else f'{term:#x}'}"
    assert read(text) == expected


@settings(max_examples=100)
@given(VALUES)
def test_a_description_can_be_read_back(value: int) -> None:
    number, _, names = describe(value).partition(" (")
    assert read(number) == read(",".join(names.rstrip(")").split(", "))) == value


@settings(max_examples=300)
@given(st.text(alphabet="0123456789abcdefxX+-,:_ \n\0\u0660nola", max_size=14))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        value, _ = parse_filter(text)
    except FilterError as error:
        assert str(error)
    else:
        assert 0 <= int(value) <= 0x1FF


# --- the interfaces of 2007 -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coremask", "core_flags"])
@pytest.mark.parametrize(
    ("number", "value"), [("0", 3), ("1", 1), ("2", 3), ("3", 1), ("0x1", 1), ("010", 3), ("0xfffe", 3)]
)
def test_bit_0_of_a_mask_left_shared_memory_out(name: str, number: str, value: int) -> None:
    assert read(f"{name}:{number}") == value


@pytest.mark.parametrize(("number", "value"), [("0", 3), ("1", 1), ("2", 1), ("0x10", 1), ("00", 3)])
def test_any_number_but_0_left_shared_memory_out(number: str, value: int) -> None:
    assert read(f"coredump_omit_anonymous_shared:{number}") == value
    assert read(f"COREDUMP_OMIT_ANONYMOUS_SHARED:{number}") == value


def test_the_switch_that_was_off() -> None:
    assert read("core_flags_enable:0") == 3
    assert "write core_flags:N" in refused("core_flags_enable:1")


@pytest.mark.parametrize("number", ["0", "1"])
def test_the_name_of_the_opposite_sense_is_refused_with_both_readings(number: str) -> None:
    said = refused(f"coredump_anonymous_shared:{number}")
    assert "0x3 for 1" in said
    assert "0x1 for 1" in said
    assert "coredump_omit_anonymous_shared:N" in said


@pytest.mark.parametrize(
    "text",
    [
        "coremask:",
        "coremask:x",
        "coremask:-1",
        "coremask:1.5",
        "core_mask:1",
        ":1",
        "coremask:1:1",
        "coredump_filter:0x33",
    ],
)
def test_what_no_interface_of_2007_was(text: str) -> None:
    refused(text)


def test_an_old_interface_combines_like_any_other_term() -> None:
    assert read("coremask:1,+elf-headers") == 0x11
    assert read("default,-coremask:1") == 0x32


# --- from Python ------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(VALUES)
def test_an_int_is_its_bits(value: int) -> None:
    """33 as an int has but one reading."""
    for given_as in (value, CoredumpFilter(value), f"{value:#x}"):
        assert as_filter(given_as) == (value, [])


@pytest.mark.parametrize("value", [-1, -0x33, 0x200, 1 << 100])
def test_an_int_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(FilterError):
        as_filter(value)


def test_all_ones_are_all_bits_with_a_warning() -> None:
    value, warnings = as_filter(0xFFFFFFFF)
    assert (value, len(warnings)) == (Bit.ALL, 1)


@pytest.mark.parametrize(("one", "other"), list(product([0x1, 0x33], [0x2, 0x10])))
def test_filters_combine_as_flags(one: int, other: int) -> None:
    assert isinstance(CoredumpFilter(one) | CoredumpFilter(other), CoredumpFilter)
    assert int(CoredumpFilter(one) | CoredumpFilter(other)) == one | other


@pytest.mark.parametrize("name", ["coremask", "core_flags", "core_flags_enable", "coredump_omit_anonymous_shared"])
@pytest.mark.parametrize("number", ["08", "09", "018", "0x1g", "0b1_", "1_"])
def test_an_octal_number_has_neither_8_nor_9(name: str, number: str) -> None:
    """The kernel's strtoul takes a leading 0 for octal, and would have stopped at the digit."""
    refused(f"{name}:{number}")


@pytest.mark.parametrize(("number", "value"), [("8", 3), ("9", 1), ("18", 3), ("19", 1), ("90", 3), ("0b1", 1)])
def test_a_decimal_number_has_both(number: str, value: int) -> None:
    assert read(f"coremask:{number}") == value
    assert read(f"core_flags:{number}") == value
    assert read(f"coredump_omit_anonymous_shared:{number}") == 1
