"""What the child states before it reads the core: sealed, of one size, and read without trust."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from corefilt.handler.sandbox import LAYERS
from corefilt.handler.statement import FIELDS, SIZE, new_file, read_statement, state


@pytest.fixture
def file() -> Iterator[int]:
    fd = new_file()
    yield fd
    os.close(fd)


def test_a_statement_is_sealed_before_the_core_is_read(file: int) -> None:
    fields = {"CMDLINE": b"a\nMESSAGE=b", "PROC_MAPS": b"x" * 100_000, "UNIT": b""}
    assert state(file, {"seccomp": "why", "pids": "why"}, fields) == []
    found = read_statement(file)
    assert (found.made, found.missing, found.fields) == (True, ["pids", "seccomp"], fields)
    for change in (
        lambda: os.pwrite(file, b"x", 0),
        lambda: os.ftruncate(file, 0),
        lambda: os.ftruncate(file, SIZE + 1),
        lambda: state(file, {}, {}),
    ):
        with pytest.raises(PermissionError):
            change()
    assert read_statement(file).fields == fields


def test_what_is_not_sealed_is_not_stated(file: int) -> None:
    os.pwrite(file, struct.pack("<HHBI", 1, 1, 0, 3) + b"abc", 0)
    found = read_statement(file)
    assert (found.made, found.missing, found.fields) == (False, [], {})


@pytest.mark.parametrize(
    "raw",
    [
        struct.pack("<HHBI", 0, 1, len(FIELDS), 3),
        struct.pack("<HHBI", 0, 1, 0, SIZE),
        struct.pack("<HHBI", 0, 1, 255, (1 << 32) - 1),
    ],
)
def test_a_statement_that_contradicts_itself(raw: bytes, file: int) -> None:
    import fcntl

    os.pwrite(file, raw, 0)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert read_statement(file).made is False


def test_more_than_there_is_room_for(file: int) -> None:
    assert state(file, {}, {"CMDLINE": b"x" * SIZE, "CGROUP": b"/y"}) == ["CMDLINE"]
    assert read_statement(file).fields == {"CGROUP": b"/y"}


def test_a_mask_has_room_for_all_layers(file: int) -> None:
    state(file, dict.fromkeys(LAYERS, "why"), {})
    assert read_statement(file).missing == list(LAYERS)
