"""Cores of processes that are attached to one segment, each at an address of its own."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

from support.builder import FileEntry, Load, kernel_notes, make_core

PAGE = 4096
BLOCK = 128 << 10
SEGMENT = "/SYSV00000000 (deleted)"
"""Memory of which processes have the same piece, as its name in NT_FILE."""


def segment(blocks: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(blocks * BLOCK)


def attached(
    content: bytes, number: int, *, at: int = 0x7F0000000000, file_offset: int = 0, **options: object
) -> bytes:
    """Make a core of one process: heap, the segment at another address than any other's, a stack."""
    start = at + number * (1 << 30)
    own = random.Random(number + 1000)
    loads = [
        Load(0x10000, own.randbytes(3 * PAGE)),
        Load(start, content),
        Load(start + (1 << 29), b"", memsz=PAGE, flags="---"),
        Load(0x7FFD00000000, own.randbytes(2 * PAGE)),
    ]
    files = [FileEntry(start, start + len(content), file_offset, SEGMENT)]
    return make_core(loads, kernel_notes(files, pid=number + 1, threads=2), **options)  # type: ignore[arg-type]


def group(folder: Path, count: int, blocks: int = 8, *, changes: bool = True) -> list[Path]:
    """Write cores of a segment that changes between the dumps: each has one block that no other has."""
    paths = []
    folder.mkdir(exist_ok=True)
    for number in range(count):
        content = bytearray(segment(blocks))
        if changes:
            at = number % blocks * BLOCK
            content[at : at + 16] = number.to_bytes(16, "little")
        path = folder / f"core.{number}"
        path.write_bytes(attached(bytes(content), number))
        paths.append(path)
    return paths


def sums(paths: list[Path]) -> list[str]:
    return [sha256(path.read_bytes()).hexdigest() for path in paths]
