"""NT_FILE, the note that says which file was mapped where."""

from __future__ import annotations

from array import array
from itertools import pairwise

from corefilt import _fast
from corefilt.corefile.elf import END_OF_OFFSETS
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corefilt.corefile.elf import Ehdr

# A path of 6,063 bytes was seen in a core, and none that was longer.
MOST_OF_A_NAME = 1 << 16


class FileNote:
    """NT_FILE: which file was mapped where.

    ``unit`` is the page size that it says, in which offsets are counted; ``in_bytes`` tells that they are in bytes all
    the same, as createdump of .NET Core 2.1 writes them. ``ranges`` has start, end and offset of each entry.
    """

    __slots__ = ("_desc", "_names", "_numbered", "count", "in_bytes", "ranges", "unit")

    def __init__(self, desc: bytes, ehdr: Ehdr) -> None:
        """Decode the descriptor; raises ValueError with what is wrong."""
        word = 8 if ehdr.wide else 4
        if len(desc) < 2 * word:
            raise ValueError(f"{counted(len(desc), 'byte')} cannot hold a count")
        count = ehdr.number(desc[:word])
        room = (len(desc) - 2 * word) // (3 * word + 1)
        if count > room:
            raise ValueError(f"count is {count}, but {counted(len(desc), 'byte')} can hold only {room}")
        self._desc = desc
        self._numbered: tuple[list[bytes], array[int]] | None = None
        self.unit = ehdr.number(desc[word : 2 * word])
        self.ranges = array("Q", bytes(24 * count))
        self._names = array("Q", bytes(8 * (count + 1)))
        self.count = _fast.decode_nt_file(desc, self.ranges, self._names, wide=ehdr.wide, big=ehdr.big)
        if self.count < count:
            raise ValueError(f"count is {count}, but it has only {counted(self.count, 'name')}")
        self.in_bytes = self._are_bytes()

    def _are_bytes(self) -> bool:
        """Whether offsets that say to be in pages are in bytes: no file reaches so far, or neighbours tell.

        Read as pages, all of them would be multiples of ``unit`` pages. Of two mappings of one file that touch, the
        second begins in the file where the first ends; that holds in pages or in bytes.
        """
        offsets = self.ranges[2::3]
        if self.unit <= 1 or not offsets or not max(offsets) or any(offset % self.unit for offset in offsets):
            return False
        told = max(offsets) >= END_OF_OFFSETS // self.unit
        for i in range(self.count - 1):
            length = self.end(i) - self.start(i)
            if self.end(i) == self.start(i + 1) and length and self.path(i) == self.path(i + 1):
                between = offsets[i + 1] - offsets[i]
                if between * self.unit == length:
                    return False
                told = told or between == length
        return told

    @classmethod
    def of(cls, entries: Sequence[tuple[int, int, int, bytes]], ehdr: Ehdr) -> FileNote:
        """The note that would hold these: (start, end, offset in bytes, path)."""
        word = 8 if ehdr.wide else 4
        # Offsets in pages where they can be, as the kernel has them, for 32 bits hold no more than 4 GiB.
        unit = 1 if any(entry[2] % 4096 for entry in entries) else 4096
        numbers = [len(entries), unit]
        for start, end, offset, _ in entries:
            numbers += [start, end, offset // unit]
        mask = (1 << 8 * word) - 1
        table = b"".join((value & mask).to_bytes(word, "big" if ehdr.big else "little") for value in numbers)
        return cls(table + b"".join(entry[3].replace(b"\0", b"?") + b"\0" for entry in entries), ehdr)

    def start(self, i: int) -> int:
        """First address of entry ``i``."""
        return self.ranges[3 * i]

    def end(self, i: int) -> int:
        """First address behind entry ``i``."""
        return self.ranges[3 * i + 1]

    def offset(self, i: int) -> int:
        """Where entry ``i`` begins in its file, in bytes."""
        return self.ranges[3 * i + 2] * self.scale

    @property
    def scale(self) -> int:
        """What an entry's offset is counted in, in bytes."""
        return 1 if self.in_bytes else self.unit

    def path(self, i: int) -> bytes:
        """The file's name as the kernel wrote it; equal names are one object."""
        names, numbers = self.names
        return names[numbers[i]]

    @property
    def names(self) -> tuple[list[bytes], array[int]]:
        """The different names, and which of them each entry has."""
        if self._numbered is None:
            known: dict[bytes, int] = {}
            places = pairwise(self._names[: self.count + 1])
            found = (self._desc[start : min(end - 1, start + MOST_OF_A_NAME)] for start, end in places)
            numbers = array("I", (known.setdefault(name, len(known)) for name in found))
            self._numbered = list(known), numbers
        return self._numbered
