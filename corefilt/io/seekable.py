"""Seekable zstd: frames of their own with a table of their sizes behind them, as zstd's contrib/seekable_format has it.

The format is zstd_seekable_compression_format.md, version 0.1.0, in zstd's repository. A decoder that does not know it
passes over the table, which is a frame to be skipped.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corefilt.io.sources import FileSource

# Decompressed bytes of a frame: what has to be decompressed at least to read one byte. Heap-like memory took 2 % more
# space so than in one frame.
FRAME = 4 << 20
TABLE_MAGIC, SEEKABLE_MAGIC = 0x184D2A5E, 0x8F92EAB1
# Magic number and Frame_Size of the frame to be skipped; Compressed_Size and Decompressed_Size of an entry;
# Number_Of_Frames, Seek_Table_Descriptor and Seekable_Magic_Number at the very end.
HEAD, ENTRY, FOOTER = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")


def ends_with_table(source: FileSource) -> bool:
    """Whether a file ends as one with a seek table does."""
    return source.size > FOOTER.size and source.peek(source.size - 4, 4) == FOOTER.pack(0, 0, SEEKABLE_MAGIC)[-4:]


class SeekableEncoder:
    """Has an encoder of zstd end a frame every FRAME bytes, and writes the table at the end."""

    def __init__(self, inner: Any) -> None:
        """Take the encoder, a ZstdCompressor."""
        self._inner = inner
        self._entries = bytearray()
        self._written = self._taken = 0

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """What can be said by now."""
        view, out = memoryview(data), []
        while view:
            piece = view[: FRAME - self._taken]
            view, self._taken = view[len(piece) :], self._taken + len(piece)
            made = self._inner.compress(piece)
            self._written += len(made)
            out.append(made)
            if self._taken == FRAME:
                out.append(self._end_frame())
        return b"".join(out)

    def flush(self) -> bytes:
        """The end of the last frame, and the table."""
        last = self._end_frame() if self._taken or not self._entries else b""
        count = len(self._entries) // ENTRY.size
        table = bytes(self._entries) + FOOTER.pack(count, 0, SEEKABLE_MAGIC)
        return last + HEAD.pack(TABLE_MAGIC, len(table)) + table

    def _end_frame(self) -> bytes:
        end: bytes = self._inner.flush(self._inner.FLUSH_FRAME)
        self._entries += ENTRY.pack(self._written + len(end), self._taken)
        self._written = self._taken = 0
        return end
