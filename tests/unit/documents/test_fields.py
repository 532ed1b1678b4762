"""What is wrong with TOML or JSON is told with its place, its key, its value and the nearest known key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from corefilt.documents import fields
from corefilt.errors import ConfigError, InputError, UsageError
from corefilt.filterbits import Bit

READERS = {"size": fields.a_size, "colour": fields.one_of("red", "green"), "name": fields.a_name}


def test_the_values_by_their_keys() -> None:
    assert fields.read_fields({"size": "1K", "colour": "red"}, READERS, "here", ConfigError) == {
        "size": 1024,
        "colour": "red",
    }


@pytest.mark.parametrize(
    ("table", "said", "hint"),
    [
        ([], "here: [] is not a table", ""),
        ({"sise": 1}, "here: sise: no such key", "did you mean size?"),
        ({"x\n": 1}, "here: 'x\\n': no such key", "the keys are size, colour, name"),
        ({"size": 1}, "here: name: is missing", "it needs name"),
        ({"name": "a", "size": -1}, "here: size: -1 is not a size", "write it like"),
        ({"name": "a", "size": "1X"}, "here: size: size '1X' cannot be read", "write it like"),
        ({"name": "a", "colour": "gren"}, "here: colour: 'gren' is not one of red, green", "did you mean green?"),
        ({"name": "a", "colour": ["red"]}, "here: colour: ['red'] is not one of red, green", "docs/handler.md"),
        ({"name": ""}, "here: name: '' cannot be used as a name", "docs/handler.md"),
    ],
)
def test_what_is_wrong_with_a_table(table: object, said: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fields.read_fields(table, READERS, "here", ConfigError, needed=("name",))
    assert str(caught.value).startswith(said)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (fields.a_list, [1], [1]),
        (fields.list_of_tables, [{"a": 1}], [{"a": 1}]),
        (fields.a_text, "", ""),
        (fields.a_truth, False, False),
        (fields.a_size, 7, 7),
        (fields.a_filter, 0x33, Bit.DEFAULT),
        (fields.a_filter, "default", Bit.DEFAULT),
        pytest.param(fields.a_number(1, 3), 3, 3, id="a_number"),
        pytest.param(fields.seconds(9), 9, 9.0, id="seconds"),
        pytest.param(fields.one_or_more(fields.a_text), "a", ("a",), id="one"),
        pytest.param(fields.one_or_more(fields.a_text), ["a", "b"], ("a", "b"), id="more"),
    ],
)
def test_values(read: Callable[[object], object], value: object, found: object) -> None:
    assert read(value) == found


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (fields.a_list, [{}]),
        (fields.list_of_tables, [[1], {}]),
        (fields.a_text, [b"a", 1]),
        (fields.a_name, ["a\0", ""]),
        (fields.a_truth, [1, "true"]),
        (fields.a_size, [True, 1.0, 1 << 63, -1]),
        (fields.a_filter, [True, -1, "33"]),
        pytest.param(fields.a_number(1, 3), [True, 4, 0], id="a_number"),
        pytest.param(fields.seconds(9), [0, 10, float("nan"), True], id="seconds"),
        pytest.param(fields.one_or_more(fields.a_text), [[], ["a", 1]], id="one_or_more"),
    ],
)
def test_values_of_another_kind(read: Callable[[object], object], values: list[object]) -> None:
    for value in values:
        with pytest.raises(UsageError):
            read(value)


@pytest.mark.parametrize(
    ("decode", "raw", "said"),
    [
        (fields.decode_toml, b"a = ?", "here: not TOML: Invalid value (at line 1, column 5)"),
        (fields.decode_toml, b"# caf\xe9", "here: not TOML: byte 5 is not UTF-8"),
        (fields.decode_toml, b"a = " + b"[" * 9000, "here: is nested too deeply"),
        (fields.decode_json, b"{", "here: not JSON: "),
        (fields.decode_json, b"\xff{", "here: not JSON: "),
        (fields.decode_json, b"[" * 100_000, "here: is nested too deeply"),
    ],
)
def test_what_is_neither(decode: Callable[..., object], raw: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(raw, "here", InputError, "look at the page")
    assert str(caught.value).startswith(said)
    assert caught.value.hint == "look at the page"


def test_what_is_one_of_them() -> None:
    assert fields.decode_toml(b"[a]\nb = 1", "here", InputError) == {"a": {"b": 1}}
    assert fields.decode_json(b'{"a": [1]}', "here", InputError) == {"a": [1]}
