"""The cores of a directory: what was looked at is looked at again only where it has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corefilt.store import directory as directories
from corefilt.store.attributes import FACTS, KEEP, OWNER
from corefilt.store.directory import Directory, core_of, kept_cores, remove


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for n in range(3):
            put(tmp_path / str(n))
    except OSError:
        pytest.skip("no attributes here")
    yield fd
    os.close(fd)


def put(path: Path, uid: int = 5) -> None:
    path.write_bytes(b"core")
    os.setxattr(path, OWNER, b"0")
    os.setxattr(path, FACTS + "uid", b"%d" % uid)


def test_what_has_changed_is_looked_at_again(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def noted(fd: int, name: str) -> object:
        looked.append(name)
        return core_of(fd, name)

    monkeypatch.setattr(directories, "core_of", noted)
    directory = Directory(fd)

    def again() -> list[str]:
        looked.clear()
        found = directory.cores()
        assert sorted(found, key=lambda core: core.name) == sorted(kept_cores_of(tmp_path), key=lambda core: core.name)
        return sorted(looked)

    def kept_cores_of(path: Path) -> list[object]:
        before = looked.copy()
        try:
            return list(kept_cores(fd))
        finally:
            looked[:] = before

    assert again() == ["0", "1", "2"] and again() == []
    os.setxattr(tmp_path / "1", KEEP, b"")
    assert again() == ["1"] and again() == []
    os.link(tmp_path / "2", tmp_path / "3")
    assert again() == ["2", "3"]
    (tmp_path / "0").unlink()
    put(tmp_path / "0", uid=6)
    (tmp_path / "3").unlink()
    assert again() == ["0", "2"]
    (tmp_path / "4").write_bytes(b"of somebody else")
    (tmp_path / "5").symlink_to("0")
    assert again() == ["4"] and again() == []


def test_a_removal_is_told_before_it_is_done(fd: int, tmp_path: Path) -> None:
    (core,) = [core for core in kept_cores(fd) if core.name == "0"]
    there = []
    assert remove(fd, core, lambda: there.append((tmp_path / "0").exists()))
    assert there == [True] and not (tmp_path / "0").exists()
    assert not remove(fd, core, lambda: there.append(False))
    os.setxattr(tmp_path / "1", KEEP, b"")
    (core,) = [core for core in kept_cores(fd) if core.name == "1"]
    assert not remove(fd, core, lambda: there.append(False)) and there == [True]
