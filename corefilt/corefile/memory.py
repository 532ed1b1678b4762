"""The process's memory as a core holds it, read by address."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from corefilt.corefile.elf import Ehdr, Phdrs

# What is read of it at a time where only a part may be wanted.
PIECE = 256


class Memory:
    """The PT_LOADs of a core that can be sought, in the order of their addresses.

    Where hostile headers put two mappings over each other, an address belongs to the one that begins last. No more
    than ``budget`` bytes are read in all; then there is nothing any more.
    """

    def __init__(
        self,
        ehdr: Ehdr,
        table: Phdrs,
        loads: Iterable[int],
        present: Sequence[int],
        peek: Callable[[int, int], bytes],
        budget: int,
    ) -> None:
        """``loads`` are the PT_LOADs' numbers, ``present`` the bytes of each program header, by its number.

        ``peek`` reads the core at an offset.
        """
        self._ehdr, self._table, self._present, self._peek, self.budget = ehdr, table, present, peek, budget
        self.word = 8 if ehdr.wide else 4
        self._order = sorted(loads, key=table.p_vaddr.__getitem__)
        self._starts = array("Q", map(table.p_vaddr.__getitem__, self._order))

    def again(self, budget: int) -> Memory:
        """The same memory, of which ``budget`` bytes at most are read."""
        other = object.__new__(Memory)
        other.__dict__.update(self.__dict__, budget=budget)
        return other

    def find(self, address: int) -> int | None:
        """The program header whose mapping has the address, whether or not the core holds it."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        i = self._order[at]
        return i if address < self.end(i) else None

    def above(self, address: int) -> int | None:
        """The first program header of a mapping that begins behind the address."""
        at = bisect_right(self._starts, address)
        return self._order[at] if at < len(self._order) else None

    def start(self, i: int) -> int:
        """First address of a program header's mapping."""
        return self._table.p_vaddr[i]

    def end(self, i: int) -> int:
        """First address behind it."""
        return self._table.p_vaddr[i] + self._table.p_memsz[i]

    def flags(self, i: int) -> int:
        """A program header's p_flags."""
        return self._table.p_flags[i]

    def read(self, address: int, length: int) -> bytes:
        """Up to ``length`` bytes at an address, as far as one mapping goes on and the core holds it."""
        i = self.find(address)
        if i is None:
            return b""
        at = address - self.start(i)
        there = max(0, min(length, self._present[i] - at, self.budget))
        self.budget -= there
        return self._peek(self._table.p_offset[i] + at, there) if there else b""

    def words(self, start: int, end: int) -> array[int]:
        """The words of a range, as far as the core holds it, each at an address that is a multiple of its size."""
        start = -(-start // self.word) * self.word
        data = self.read(start, end - start)
        words = array("Q" if self.word == 8 else "I", data[: len(data) // self.word * self.word])
        if self._ehdr.big != (sys.byteorder == "big"):
            words.byteswap()
        return words

    def numbers(self, address: int, count: int) -> list[int]:
        """``count`` words at an address, or none where the core does not hold them all."""
        data = self.read(address, count * self.word)
        if len(data) < count * self.word:
            return []
        return [self._ehdr.number(data[i : i + self.word]) for i in range(0, len(data), self.word)]

    def text(self, address: int, most: int = 4096) -> bytes:
        """The bytes at an address up to the first NUL, at most so many."""
        found = b""
        while len(found) < most:
            piece = self.read(address + len(found), PIECE)
            found += piece.partition(b"\0")[0]
            if b"\0" in piece or len(piece) < PIECE:
                break
        return found[:most]

    def pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The parts of a range that lie in mappings: (program header, offset in it, offset behind)."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        while at < len(self._order) and self._starts[at] < end:
            i = self._order[at]
            first, last = max(start, self.start(i)), min(end, self.end(i))
            if first < last:
                yield i, first - self.start(i), last - self.start(i)
            at += 1
