"""What the child tells the parent, in a form that can be read without trust: a few numbers, and words to show."""

from __future__ import annotations

import struct

# The core was filtered; was saved unfiltered; was not saved.
FILTERED, WHOLE, FAILED = range(3)
_FORM = struct.Struct("<BBBBBQQQQHH")
# Written to a pipe in one piece (PIPE_BUF).
MOST = 4096


class Result:
    """How it went: ``file`` is which of the two outputs has the core, sizes are in bytes.

    ``damaged`` tells that the core was cut or contradicts itself, ``compressed`` that the output is, ``small`` that it
    was made minimal as a repeat. ``signature`` is what is recorded of the crash (empty: nothing).
    """

    __slots__ = (
        "assumed", "compressed", "damaged", "dropped", "file", "input_bytes", "output_bytes", "signature", "small",
        "status", "words",
    )  # fmt: skip

    def __init__(self, status: int, words: str = "") -> None:
        self.status, self.words = status, words
        self.file = 0
        self.damaged = self.compressed = self.small = False
        self.signature = b""
        self.input_bytes = self.output_bytes = self.dropped = self.assumed = 0

    def pack(self) -> bytes:
        """The result as bytes, at most MOST; longer words are cut."""
        room = MOST - _FORM.size - len(self.signature)
        words = self.words.encode("utf-8", "backslashreplace")[:room]
        sizes = (self.input_bytes, self.output_bytes, self.dropped, self.assumed)
        marks = (self.damaged, self.compressed, self.small)
        head = _FORM.pack(self.status, self.file, *marks, *sizes, len(self.signature), len(words))
        return head + self.signature + words


def unpack(raw: bytes) -> Result | None:
    """The result that these bytes are, or None where they are none."""
    if len(raw) < _FORM.size:
        return None
    status, file, *marks, a, b, c, d, signed, length = _FORM.unpack_from(raw)
    if status > FAILED or file > 1 or max(marks) > 1 or len(raw) != _FORM.size + signed + length:
        return None
    behind = _FORM.size + signed
    result = Result(status, raw[behind:].decode("utf-8", "backslashreplace"))
    result.file, result.signature = file, raw[_FORM.size : behind]
    result.damaged, result.compressed, result.small = map(bool, marks)
    result.input_bytes, result.output_bytes, result.dropped, result.assumed = a, b, c, d
    return result
