"""Moves ranges of an output to lower offsets once it is known what the output lacks."""

from __future__ import annotations

from corefilt import _fast
from corefilt.io.movers import NOT_FOR_THESE, SCRATCH, TURN, explained
from corefilt.io.sources import Extents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.io.sinks import Sink


def relocate(sink: Sink, moves: Iterable[tuple[int, int, int]]) -> None:
    """Move ``(from, to, length)`` ranges of the output, ascending, to lower offsets in bytes. Raises OutputError."""
    extents, scratch = Extents(sink.reader), bytearray(SCRATCH)
    try:
        for start, target, length in moves:
            at, end = sink.base + start, sink.base + start + length
            shift = target - start
            while at < end:
                data, stop = extents.first(at, end)
                if data > at:
                    _empty(sink, at + shift, data - at)
                while data < stop:
                    length = min(stop - data, TURN)
                    data += _fast.move(_fast.READWRITE, sink.reader, data, sink.fd, data + shift, length, scratch)[0]
                at = stop
    except OSError as error:
        raise explained(error, sink.name, sink.name, None) from None


def _empty(sink: Sink, offset: int, length: int) -> None:
    """Make a hole of a range, or write zeros where the file system has none."""
    try:
        _fast.punch(sink.fd, offset, length)
    except OSError as error:
        if error.errno not in NOT_FOR_THESE:
            raise
        while length:
            piece = min(length, SCRATCH)
            _fast.write_at(sink.fd, offset, bytes(piece))
            offset, length = offset + piece, length - piece
