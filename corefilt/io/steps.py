"""The engine's instructions: which bytes of the input, or which new bytes, come to stand where in the output."""

from __future__ import annotations

# To the end of the input, however far that is.
TO_THE_END = 1 << 63


class Step:
    """Something to be done in the order of the output: ``length`` bytes at ``source`` come to stand at ``target``.

    With ``put`` those bytes are written instead of what the input has there. A length of TO_THE_END is what is
    left of the input.
    """

    __slots__ = ("length", "put", "source", "target")

    def __init__(self, source: int, length: int, target: int, put: bytes | None = None) -> None:
        self.source, self.length, self.target, self.put = source, length, target, put
