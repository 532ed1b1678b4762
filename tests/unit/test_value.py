"""Values that are equal by their fields."""

from __future__ import annotations

import copy
import pickle

import pytest

from corefilt.corefile.elf import Phdrs
from corefilt.crash.modules import Module
from corefilt.crash.unwind.unwinder import Frame
from corefilt.value import FrozenValue, ValueObject


class Pair(ValueObject):
    __slots__ = ("left", "right")

    def __init__(self, left: object, right: object = None) -> None:
        self.left, self.right = left, right


def test_values_are_equal_by_their_fields() -> None:
    assert Pair(1, "a") == Pair(1, "a") and hash(Pair(1, "a")) == hash(Pair(1, "a"))
    assert Pair(1, "a") != Pair(1, "b")
    assert Pair(1, "a") != (1, "a")


def test_classes_with_the_same_fields_differ() -> None:
    other = type("Other", (Pair,), {"__slots__": ("left", "right")})
    assert other(1) != Pair(1)


def test_a_value_with_other_fields_leaves_the_first_as_it_is() -> None:
    first = Pair(1, "a")
    assert first.but(right="b") == Pair(1, "b")
    assert first == Pair(1, "a")


def test_a_value_shows_its_fields() -> None:
    assert repr(Pair(1, b"x")) == "Pair(left=1, right=b'x')"


class Frozen(FrozenValue):
    __slots__ = ("left",)

    def __init__(self, left: object) -> None:
        self.left = left


def test_a_frozen_value_cannot_be_changed() -> None:
    value = Frozen(1)
    with pytest.raises(AttributeError, match=r"Frozen\.left cannot be changed"):
        value.left = 2
    with pytest.raises(AttributeError, match=r"Frozen\.left cannot be deleted"):
        del value.left
    assert value == Frozen(1) == copy.copy(value) == pickle.loads(pickle.dumps(value))
    assert value.but(left=2) == Frozen(2)


def test_a_module_is_equal_to_one_read_again() -> None:
    frame = Frame(1, None, Module(0, 4096, b"/lib/x", bias=0, table=Phdrs(0)), "cfi")
    assert frame == frame.but(module=Module(0, 4096, b"/lib/x", bias=0, table=Phdrs(0)))
    assert frame != frame.but(module=Module(0, 8192, b"/lib/x", bias=0, table=Phdrs(0)))
