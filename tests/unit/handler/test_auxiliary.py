"""The auxiliary vector: of both sizes, of this process, and none that could be meant in two ways."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from corefilt.handler.auxiliary import AT_EGID, AT_EUID, AT_GID, AT_NULL, AT_SECURE, AT_UID, Auxiliary

PLAIN = [(6, 4096), (AT_UID, 7), (AT_EUID, 7), (AT_GID, 8), (AT_EGID, 8), (AT_SECURE, 0), (AT_NULL, 0)]


def packed(pairs: list[tuple[int, int]], form: str = "Q") -> bytes:
    return b"".join(struct.pack(f"={form}{form}", *pair) for pair in pairs)


@pytest.mark.parametrize("form", ["Q", "I"])
def test_a_users_own_program(form: str) -> None:
    raw = packed(PLAIN, form)
    assert Auxiliary(raw).is_plain(7, 8)
    assert not Auxiliary(raw).is_plain(8, 8)
    assert not Auxiliary(raw).is_plain(7, 7)


@pytest.mark.parametrize("form", ["Q", "I"])
@pytest.mark.parametrize("key", [AT_UID, AT_EUID, AT_GID, AT_EGID, AT_SECURE])
def test_what_takes_the_right_away(key: int, form: str) -> None:
    changed = [(name, value + 1 if name == key else value) for name, value in PLAIN]
    missing = [(name, value) for name, value in PLAIN if name != key]
    twice = [(key, dict(PLAIN)[key]), *PLAIN]
    for pairs in (changed, missing, twice):
        assert not Auxiliary(packed(pairs, form)).is_plain(7, 8)


def test_what_is_none() -> None:
    for raw in (b"", b"\0" * 4096, b"x" * 333, packed([(AT_NULL, 0), *PLAIN])):
        assert not Auxiliary(raw).is_plain(7, 8)


def test_of_this_process() -> None:
    raw = Path("/proc/self/auxv").read_bytes()
    assert Auxiliary(raw).values[AT_SECURE] == 0
    assert Auxiliary(raw).is_plain(os.getuid(), os.getgid())
