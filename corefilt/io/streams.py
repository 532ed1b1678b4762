"""Bytes that come in pieces as a file that can be read once, which is what the standard library's readers take."""

from __future__ import annotations

import io
import os

from corefilt.io import compression, decoding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from corefilt.io.sources import FileSource


class _Pieces(io.RawIOBase):
    """Made of pieces that come one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._held = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._held:
            self._held = memoryview(next(self._pieces, b""))
        room = memoryview(buffer).cast("B")
        taken = self._held[: len(room)]
        room[: len(taken)] = taken
        self._held = self._held[len(taken) :]
        return len(taken)


def stream(
    read: Callable[[], bytes],
    layers: tuple[str, ...],
    on_fault: Callable[[decoding.StreamFault], None] | None = None,
) -> BinaryIO:
    """What ``read`` gives, decompressed by the layers from the outside in; ``on_fault`` hears what is wrong with it."""
    pieces = iter(read, b"")
    for name in layers:
        pieces = decoding.decoded(name, _reader(_Pieces(pieces)), on_fault=on_fault)
    return io.BufferedReader(_Pieces(pieces), compression.PIECE)


def _reader(file: _Pieces) -> Callable[[], bytes]:
    return lambda: file.read(compression.PIECE) or b""


def from_start(source: FileSource) -> Callable[[], bytes]:
    """Reads a file's bytes in order, beside whoever else reads it."""
    at = 0

    def read() -> bytes:
        nonlocal at
        piece = os.pread(source.fd, compression.PIECE, at)
        at += len(piece)
        return piece

    return read


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """All of a file, piece by piece."""
    while piece := file.read(compression.PIECE):
        yield piece


def first_bytes(
    read: Callable[[], bytes], name: str, count: int, on_fault: Callable[[EOFError], None] | None = None
) -> bytes:
    """The first bytes that a compressed stream holds, or as many as there are; of a faulty one, what came."""
    held = b""
    try:
        for piece in decoding.decoded(name, read):
            held += piece[: count - len(held)]
            if len(held) == count:
                break
    except EOFError as fault:
        if on_fault is not None:
            on_fault(fault)
    return held
