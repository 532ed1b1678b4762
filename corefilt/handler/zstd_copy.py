"""A core compressed by zstd, read from one file and written into another."""

from __future__ import annotations

import io
import os

from corefilt.io.compression import Compression, encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Between two looks at the room that is left.
PIECE = 16 << 20


def compress(source: int, target: int, level: int, check: Callable[[int], None]) -> int:
    """Compress one whole file into another, which is emptied before; returns the bytes written. Raises OSError."""
    os.ftruncate(target, 0)
    worker = encoder(Compression("zstd", level))
    written = at = 0
    with io.FileIO(target, "r+", closefd=False) as out:
        out.seek(0)
        while piece := os.pread(source, PIECE, at):
            at += len(piece)
            written += _write(out, worker.compress(piece))
            check(len(piece))
        written += _write(out, worker.flush())
    return written


def _write(out: io.FileIO, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
    return len(data)
