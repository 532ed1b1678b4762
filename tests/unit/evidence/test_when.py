"""When a core was written, by what tells so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corefilt.evidence.when import ABRT, ATTRIBUTE, MTIME, NAME, TIMESTAMP, written_at

STORED = "core.sleep.1000.0123456789abcdef0123456789abcdef.77.1700000000123456"


def told(path: Path) -> tuple[float, str] | None:
    with open(path, "rb") as file:
        return written_at(file.fileno(), str(path))


def made(path: Path) -> Path:
    path.write_bytes(b"")
    os.utime(path, (5, 5))
    return path


def test_by_the_last_change(tmp_path: Path) -> None:
    assert told(made(tmp_path / "core")) == (5, MTIME)


@pytest.mark.parametrize("ending", ["", ".zst", ".lz4", ".xz"])
def test_by_the_name_that_systemd_gives(tmp_path: Path, ending: str) -> None:
    assert told(made(tmp_path / f"{STORED}{ending}")) == (1700000000.123456, NAME)
    assert told(made(tmp_path / f"{STORED}x{ending}")) == (5, MTIME)


def test_by_an_attribute(tmp_path: Path) -> None:
    path = made(tmp_path / STORED)
    try:
        os.setxattr(path, TIMESTAMP, b"1600000000")
    except OSError:
        pytest.skip("no attributes here")
    assert told(path) == (1600000000, ATTRIBUTE)
    os.setxattr(path, TIMESTAMP, b"yesterday")
    assert told(path) == (1700000000.123456, NAME)


def test_by_what_abrt_put_beside_it(tmp_path: Path) -> None:
    path = made(tmp_path / "coredump")
    (tmp_path / "time").write_text("1500000000\n")
    assert told(path) == (1500000000, ABRT)
    assert told(made(tmp_path / "other")) == (5, MTIME)
    (tmp_path / "time").unlink()
    os.mkfifo(tmp_path / "time")
    assert told(path) == (5, MTIME)


def test_not_of_a_pipe(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    assert written_at(ours) is None
    os.close(ours)
    os.close(theirs)
    assert written_at(ours) is None
