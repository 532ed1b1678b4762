"""JSON that every strict reader takes."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corefilt.documents.strict_json import PATHS, as_json

NAME = b"/tmp/\xff\xfe\xc3\xbc"


def strict(text: str) -> object:
    """Read as a reader does that refuses lone surrogates: whatever is read can be written as UTF-8."""
    text.encode("ascii")
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def test_what_is_utf8_stays() -> None:
    value = {"path": "/tmp/ü\U0001f600", "list": ["a", 1, None, True], "number": 1.5}
    assert strict(as_json(value)) == value
    assert as_json(value) == json.dumps(value)


@pytest.mark.parametrize("key", PATHS)
def test_a_name_that_is_not(key: str) -> None:
    name = "path_bytes" if key == "path" else f"{key}_path_bytes"
    told = strict(as_json({"deep": [{key: os.fsdecode(NAME), "kept": 1}]}))
    assert told == {"deep": [{key: "/tmp/\\xff\\xfeü", name: NAME.hex(), "kept": 1}]}


def test_other_texts_are_escaped() -> None:
    assert strict(as_json({"message": "\udcff is bad", "\udcfe": ["\udcfd"]})) == {
        "message": "\\xff is bad",
        "\\xfe": ["\\xfd"],
    }


def test_halves_of_characters_are_no_bytes() -> None:
    assert strict(as_json({"path": "\ud83d"})) == {"path": "\\xed\\xa0\\xbd", "path_bytes": "eda0bd"}


texts = st.text(st.characters(), max_size=5) | st.binary(max_size=5).map(os.fsdecode)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(PATHS), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_anything_is_strict(value: object) -> None:
    strict(as_json(value))
