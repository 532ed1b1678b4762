"""What the child tells the parent, in a form that can be read without trust: a few numbers, and words to show."""

from __future__ import annotations

import struct

# The core was filtered; was saved as it came; was not saved.
FILTERED, WHOLE, FAILED = range(3)
_FORM = struct.Struct("<BBBBQQQQH")
# Written to a pipe in one piece (PIPE_BUF).
MOST = 4096


class Result:
    """How it went: ``file`` is which of the two outputs has the core, sizes are in bytes.

    ``damaged`` tells that the core was cut or contradicts itself, ``compressed`` that the output is.
    """

    __slots__ = (
        "assumed", "compressed", "damaged", "dropped", "file", "input_bytes", "output_bytes", "status", "words",
    )  # fmt: skip

    def __init__(self, status: int, words: str = "") -> None:
        self.status, self.words = status, words
        self.file = 0
        self.damaged = self.compressed = False
        self.input_bytes = self.output_bytes = self.dropped = self.assumed = 0

    def pack(self) -> bytes:
        """The result as bytes, at most MOST; longer words are cut."""
        words = self.words.encode("utf-8", "backslashreplace")[: MOST - _FORM.size]
        sizes = (self.input_bytes, self.output_bytes, self.dropped, self.assumed)
        return _FORM.pack(self.status, self.file, self.damaged, self.compressed, *sizes, len(words)) + words


def unpack(raw: bytes) -> Result | None:
    """The result that these bytes are, or None where they are none."""
    if len(raw) < _FORM.size:
        return None
    status, file, damaged, compressed, *sizes, length = _FORM.unpack_from(raw)
    if status > FAILED or file > 1 or damaged > 1 or compressed > 1 or len(raw) != _FORM.size + length:
        return None
    result = Result(status, raw[_FORM.size :].decode("utf-8", "backslashreplace"))
    result.file, result.damaged, result.compressed = file, bool(damaged), bool(compressed)
    result.input_bytes, result.output_bytes, result.dropped, result.assumed = sizes
    return result
