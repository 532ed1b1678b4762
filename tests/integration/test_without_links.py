"""Outputs on file systems without hard links: vfat, and FUSE servers that know no links or no flags of rename."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel.dumps import may_change_system
from support.builds import PATIENCE
from support.run import assert_error, corefilt

from corefilt.io import tempfiles

FLT = "0x31"
on_the_system = pytest.mark.skipif(
    not may_change_system(), reason="needs root and COREFILT_TEST_SYSTEM=1, because it mounts file systems"
)


def refusing(code: int) -> Callable[..., None]:
    def refuse(*about: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.fixture(params=["link", "renameat2", "neither"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave only one way to give a file its name."""
    if request.param != "link":
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    if request.param == "neither":
        monkeypatch.setattr(tempfiles, "_rename_noreplace", refusing(errno.EINVAL))
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_new_name(way: str, folder: int, tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"whole")
    tempfiles.rename_to_new("temporary", "name", folder)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"name": b"whole"}


def test_a_name_that_is_taken(way: str, folder: int, tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"whole")
    (tmp_path / "name").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        tempfiles.rename_to_new("temporary", "name", folder)
    assert (tmp_path / "name").read_bytes() == b"other"
    assert (tmp_path / "temporary").read_bytes() == b"whole"


def test_a_name_that_cannot_be_had_in_the_end(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    monkeypatch.setattr(os, "rename", refusing(errno.EIO))
    monkeypatch.setattr(tempfiles, "_rename_noreplace", refusing(errno.EINVAL))
    (tmp_path / "temporary").write_bytes(b"whole")
    with pytest.raises(OSError, match="Input/output"):
        tempfiles.rename_to_new("temporary", "name", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


def test_other_errors_are_told(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refusing(errno.ENOSPC))
    (tmp_path / "temporary").write_bytes(b"whole")
    with pytest.raises(OSError, match="No space"):
        tempfiles.rename_to_new("temporary", "name", folder)


# By what each is made and mounted; the first is the kernel's own, the other a FUSE server.
MOUNTS = {
    "vfat": ("mkfs.vfat", "mount", "-t", "vfat"),
    "exfat": ("mkfs.exfat", "mount.exfat-fuse"),
}


@pytest.fixture(params=MOUNTS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a file system without hard links."""
    make, *mount = MOUNTS[request.param]
    for program in (make, mount[0], "losetup"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    where, image = tmp_path / "mounted", tmp_path / "image"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run([make, image], check=True, capture_output=True)
    found = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
    loop = found.stdout.strip()
    try:
        done = subprocess.run([*mount, loop, where], capture_output=True, check=False, timeout=PATIENCE)
        if done.returncode:
            pytest.skip(f"{request.param} is not mounted here: {done.stderr.decode().strip()}")
        try:
            yield where
        finally:
            subprocess.run(["umount", where], check=True, timeout=PATIENCE)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


@on_the_system
@pytest.mark.parametrize("piped", [False, True])
def test_a_file_system_without_hard_links(piped: bool, place: Path, core: Path) -> None:
    expected = core.parent / "expected"
    assert corefilt(FLT, core, "-o", expected).code == 0
    out = place / "out.core"
    args = [FLT, "-" if piped else core, "-o", out]
    pipe = core.read_bytes() if piped else None
    done = corefilt(*args, pipe=pipe)
    assert done.code == 0, done.err
    assert out.read_bytes() == expected.read_bytes()
    assert os.listdir(place) == ["out.core"]
    out.write_bytes(b"other")
    assert_error(corefilt(*args, pipe=pipe), "exists")
    assert out.read_bytes() == b"other"
    done = corefilt(*args, "-f", pipe=pipe)
    assert done.code == 0, done.err
    assert out.read_bytes() == expected.read_bytes()
    assert os.listdir(place) == ["out.core"]
