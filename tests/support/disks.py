"""File systems of our own, on loop devices, for tests that are allowed to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# How each is made, and its size in MiB: no smaller one is accepted.
KINDS: dict[str, tuple[tuple[str, ...], int]] = {
    "ext4": (("mkfs.ext4", "-q", "-F"), 64),
    "ext4 of 1 KiB": (("mkfs.ext4", "-q", "-F", "-b", "1024"), 64),
    "xfs": (("mkfs.xfs", "-q"), 320),
    "btrfs": (("mkfs.btrfs", "-q"), 128),
}


def need_mounts(kind: str) -> None:
    """Skip unless the caller allows changes to the system and this file system can be made."""
    if os.environ.get("COREFILT_TEST_SYSTEM") != "1" or os.geteuid() != 0:
        pytest.skip("needs root and COREFILT_TEST_SYSTEM=1, because it mounts file systems on loop devices")
    if shutil.which(KINDS[kind][0][0]) is None:
        pytest.skip(f"{KINDS[kind][0][0]} is not installed")


def make_disk(kind: str, image: Path) -> Path:
    """Make a file system in a sparse file."""
    need_mounts(kind)
    command, size = KINDS[kind]
    with image.open("wb") as file:
        file.truncate(size << 20)
    subprocess.run([*command, image], check=True, capture_output=True)
    return image


@contextmanager
def mounted(image: Path, folder: Path, options: str = "") -> Iterator[Path]:
    """Mount an image while the body runs; where this kernel cannot, skip."""
    folder.mkdir(exist_ok=True)
    with_options = f"loop,{options}" if options else "loop"
    done = subprocess.run(["mount", "-o", with_options, image, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def disk(kind: str, folder: Path, options: str = "") -> Iterator[Path]:
    """Make and mount a file system of its own."""
    with mounted(make_disk(kind, folder / "image"), folder / "disk", options) as place:
        yield place


def fill(folder: Path, name: str = "junk") -> Path:
    """Write a file until no room is left."""
    path = folder / name
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    file.write(b"\xa5" * size)
                    os.fsync(file.fileno())
            except OSError:
                continue
    return path
