"""Folders to measure in: their file system, their free space, and that nothing stays behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import memory
from bench.measure import BenchError

COPIES = 3
"""Files of the size of the core that may exist at one time: the core, half of it, an output; and some air."""

_AIR = 256 << 20
_TMPFS_CANDIDATES = ("/dev/shm", "/tmp")


@dataclass(frozen=True)
class Place:
    """An empty folder of our own."""

    folder: Path
    file_system: str


@contextmanager
def temporary_place(parent: Path | None, size: int) -> Iterator[Place]:
    """Make a folder under ``parent`` with room for cores of ``size`` bytes, and remove it afterwards."""
    root = (parent or Path(tempfile.gettempdir())).absolute()
    if not root.is_dir():
        raise BenchError(f"{root} is not a folder")
    if reason := too_small(root, size):
        raise BenchError(f"{reason}; give another folder with --dir, or a smaller --size")
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=root) as name:
        folder = Path(name)
        yield Place(folder, file_system(folder))


def too_small(folder: Path, size: int) -> str | None:
    """Say why cores of ``size`` bytes have no room there; None if they have."""
    kind = file_system(folder)
    needed = COPIES * size + _AIR
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if kind == "tmpfs":
        free = min(free, memory.available())
    if free >= needed:
        return None
    return f"{kind} has {free / (1 << 30):.1f} GiB free, {needed / (1 << 30):.1f} GiB are needed"


def find_tmpfs(wanted: str, size: int) -> tuple[Path | None, str]:
    """Return a tmpfs with enough room, or None and the reason."""
    if wanted == "none":
        return None, "not wanted"
    candidates = _TMPFS_CANDIDATES if wanted == "auto" else (wanted,)
    reasons = []
    for name in candidates:
        folder = Path(name).absolute()
        if not folder.is_dir() or file_system(folder) != "tmpfs":
            reasons.append(f"{name} is not a tmpfs")
        elif not os.access(folder, os.W_OK | os.X_OK):
            reasons.append(f"{name} cannot be written to")
        elif reason := too_small(folder, size):
            reasons.append(f"{name}: {reason}")
        else:
            return folder, ""
    return None, "; ".join(reasons)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``, as the kernel names it."""
    resolved = path.resolve()
    device = os.stat(resolved).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        mounted_on = words[4].replace("\\040", " ")
        inside = resolved == Path(mounted_on) or Path(mounted_on) in resolved.parents
        score = len(mounted_on) + (1 << 16 if words[2] == number else 0)
        if inside and score >= best:
            best, kind = score, rest.split()[0]
    return kind
