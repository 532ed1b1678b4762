"""The tar that is written: GNU tar and the standard library read it, holes included."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from corefilt.bundle.tar import BundleMember, end, folder, link, member
from corefilt.errors import BundleError
from corefilt.io import tar as reading

PAGE = 4096


class Bytes:
    """Bytes as a file that can be read at any place."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.closed = False

    def read(self, offset: int, length: int) -> bytes:
        return self.raw[offset : offset + min(length, 3000)]

    def close(self) -> None:
        self.closed = True


def made(name: bytes, raw: bytes, extents: Sequence[tuple[int, int]] | None = None, size: int | None = None) -> bytes:
    file = Bytes(raw)
    entry = BundleMember(name, len(raw) if size is None else size, 1_700_000_000, lambda: file, extents=extents)
    out = b"".join(member(entry))
    assert file.closed and len(out) % 512 == 0
    return out


@pytest.mark.parametrize(
    ("extents", "size"),
    [
        ([(0, PAGE), (8 * PAGE, 100)], 8 * PAGE + 100),
        ([(PAGE, PAGE)], 8 * PAGE),
        ([], 3 * PAGE),
        ([(0, 1)], 1),
    ],
)
def test_holes_are_read_by_others(tmp_path: Path, extents: list[tuple[int, int]], size: int) -> None:
    raw = bytearray(size)
    for offset, length in extents:
        raw[offset : offset + length] = os.urandom(length)
    archive = made(b"core", bytes(raw), extents) + made(b"behind", b"x") + end()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile("core")
        assert file is not None and file.read() == raw
        assert tar.getnames() == ["core", "behind"]
    if shutil.which("tar") is None:
        pytest.skip("tar is not installed")
    (tmp_path / "a.tar").write_bytes(archive)
    subprocess.run(["tar", "-xf", "a.tar"], cwd=tmp_path, check=True, timeout=20)
    assert (tmp_path / "core").read_bytes() == raw
    assert (tmp_path / "behind").read_bytes() == b"x"


def test_names_of_any_bytes_and_length(tmp_path: Path) -> None:
    names = [b"root/\xff\n\"' x", b"root/" + b"long/" * 30 + b"x" * 120]
    archive = b"".join(made(name, b"") for name in names) + folder(b"root/d") + link(b"root/l", b"\xfe") + end()
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as tar:
        entries = tar.getmembers()
    assert [os.fsencode(entry.name) for entry in entries] == [*names, b"root/d", b"root/l"]
    assert entries[2].isdir() and os.fsencode(entries[3].linkname) == b"\xfe"
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, "", "")}
    assert entries[0].mtime == 1_700_000_000


def test_a_file_that_became_shorter() -> None:
    file = Bytes(b"x" * 10)
    with pytest.raises(BundleError, match="ends at byte 10"):
        list(member(BundleMember(b"root/x", 11, 0, lambda: file)))
    assert file.closed


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"9999999\n" + b"0\n" * (1 << 17), "more than 65536 bytes"),
        (b"5\n0\n", "cut off"),
    ],
)
def test_the_map_of_a_sparse_member_has_an_end(archive: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_OF_MAP", 1 << 16)
    info = tarfile.TarInfo("GNUSparseFile.0/core")
    info.size = 1 << 40
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    raw = info.tobuf(tarfile.PAX_FORMAT) + archive + bytes(-len(archive) % 512)
    with (
        pytest.raises(tarfile.ReadError, match=words),
        reading.open_tar(io.BytesIO(raw)) as tar,
    ):
        list(reading.members(tar))
