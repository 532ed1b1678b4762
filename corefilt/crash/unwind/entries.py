"""The entries of call frame information: what a function has of its own (FDE), and what many share (CIE)."""

from __future__ import annotations

from corefilt.crash.unwind.bad import BadFrame
from corefilt.value import ValueObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from corefilt.crash.unwind.cursor import Cursor

# The longest entry in libc, libstdc++, libjvm, node and python is 1.5 KiB.
MOST_OF_A_RECORD = 1 << 16


class Cie(ValueObject):
    """What entries have in common (DWARF 5, 6.4.1); ``signal`` is augmentation S, ``augmented`` z."""

    __slots__ = ("augmented", "code_align", "data_align", "encoding", "instructions", "ra", "signal")

    def __init__(
        self,
        code_align: int,
        data_align: int,
        ra: int,
        encoding: int,
        signal: bool,
        augmented: bool,
        instructions: bytes,
    ) -> None:
        self.code_align: Final = code_align
        self.data_align: Final = data_align
        self.ra: Final = ra
        self.encoding: Final = encoding
        self.signal: Final = signal
        self.augmented: Final = augmented
        self.instructions: Final = instructions


class Fde(ValueObject):
    """An entry: addresses ``[start, end)`` of a function or a part of one, and its instructions."""

    __slots__ = ("base", "cie", "end", "instructions", "start")

    def __init__(self, start: int, end: int, cie: Cie, instructions: bytes, base: int) -> None:
        self.start: Final = start
        self.end: Final = end
        self.cie: Final = cie
        self.instructions: Final = instructions
        self.base: Final = base


def parse_cie(cursor: Cursor) -> Cie:
    """What follows the identifier of a common entry. Raises BadFrame."""
    version = cursor.byte()
    if version not in (1, 3, 4):
        raise BadFrame(f"version {version} is not known")
    end = cursor.raw.find(b"\0", cursor.at, cursor.at + 16)
    if end < 0:
        raise BadFrame("an augmentation has no end")
    augmentation = cursor.take(end - cursor.at)
    cursor.at += 1
    if version == 4:
        cursor.take(2)
    if b"eh" in augmentation:
        raise BadFrame("an augmentation of gcc 2")
    code_align, data_align = cursor.uleb(), cursor.sleb()
    ra = cursor.byte() if version == 1 else cursor.uleb()
    encoding, signal = 0, False
    augmented = augmentation[:1] == b"z"
    if augmented:
        data = cursor.uleb()
        behind = cursor.at + data
        for letter in augmentation[1:].decode("latin-1"):
            if letter == "R":
                encoding = cursor.byte()
            elif letter == "P":
                cursor.pointer(cursor.byte())
            elif letter == "L":
                cursor.byte()
            elif letter == "S":
                signal = True
        cursor.at = behind
    return Cie(code_align, data_align, ra, encoding, signal, augmented, cursor.raw[cursor.at :])
