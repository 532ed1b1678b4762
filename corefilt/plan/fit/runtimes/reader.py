"""Reads a process's memory for a walk, checks each read, and takes note of what is to be kept."""

from __future__ import annotations

import struct

from corefilt.crash.process_memory import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from corefilt.crash.process_memory import ProcessMemory

    Range = tuple[int, int]

# Blocks that are remembered: 256 MiB.
MOST_BLOCKS = 1 << 16
# What a walk may keep, in bytes.
MOST_KEPT = 256 << 20
# How many steps all walks of a core may take together. One is about a read of some bytes, and takes 2 microseconds, so
# these take 4 seconds; 2,500 goroutines take 50,000, a JVM with 106 threads and 8,400 frames 220,000.
MOST_STEPS = 1 << 21
# How many bytes that are read, words that are looked through, or blocks that are kept count as one.
BYTES_A_STEP, WORDS_A_STEP = 512, 2
# A string is at most this long.
MOST_OF_A_TEXT = 4096


class LostError(Exception):
    """A walk cannot go on from here: what it reads is not in the core, or is not what it should be."""


class TooMuchError(LostError):
    """A walk has no end in sight."""


class StepCount:
    """How many steps all walks of a core have taken."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, count: int) -> None:
        """Count some. Raises TooMuchError."""
        self.taken += count
        if self.taken > MOST_STEPS:
            raise TooMuchError(f"it takes more than {MOST_STEPS} steps")


class MemoryReader:
    """A process's memory for a walk; what is not there raises LostError. ``keep`` takes note of ranges, in bytes."""

    def __init__(self, process: ProcessMemory, steps: StepCount) -> None:
        """Read from it, with nothing kept; ``steps`` are those of all walks."""
        self.process, self.core, self.memory = process, process.core, process.memory
        self.word, self.order, self._byteorder = process.word_size, process.order, process.byteorder
        self._form = f"{self.order}%d{'Q' if self.word == 8 else 'I'}"
        self._kept: dict[int, None] = {}
        self._steps = steps

    def fresh(self) -> MemoryReader:
        """The same memory, and nothing kept."""
        return MemoryReader(self.process, self._steps)

    def ranges(self) -> list[Range]:
        """What was kept, in ascending ranges of whole blocks."""
        found: list[Range] = []
        for n in sorted(self._kept):
            if found and found[-1][1] == n * BLOCK:
                found[-1] = found[-1][0], (n + 1) * BLOCK
            else:
                found.append((n * BLOCK, (n + 1) * BLOCK))
        return found

    def keep(self, address: int, length: int) -> None:
        """Keep some bytes, whether or not the core holds them."""
        if length <= 0 or not 0 < address < 1 << 64:
            return
        if length > MOST_KEPT or len(self._kept) > MOST_KEPT // BLOCK:
            raise TooMuchError(f"it leads to more than {MOST_KEPT >> 20} MiB")
        blocks = range(address // BLOCK, (address + length - 1) // BLOCK + 1)
        self._steps.take(len(blocks))
        self._kept.update(dict.fromkeys(blocks))

    def step(self, words: int = 0) -> None:
        """Count a step, and what it takes to look through some words. Raises TooMuchError."""
        self._steps.take(1 + words // WORDS_A_STEP)

    def whole_words(self, start: int, end: int) -> array[int]:
        """The words of a range, as far as the core holds it. Raises TooMuchError."""
        found = self.memory.words(start, end)
        self.step(len(found))
        return found

    def _read(self, address: int, length: int) -> bytes:
        """As many of the bytes as there are. Raises TooMuchError."""
        found = self.process.read(address, length)
        if len(found) < length and self.process.full:
            raise TooMuchError(f"it looks at more than {MOST_BLOCKS * BLOCK >> 20} MiB")
        return found

    def data(self, address: int, length: int) -> bytes:
        """Exactly so many bytes. Raises LostError."""
        if address < 0 or length > 1 << 26:
            raise LostError(f"no {length} bytes at {address:#x}")
        self._steps.take(1 + length // BYTES_A_STEP)
        found = self._read(address, length)
        if len(found) < length:
            raise LostError(f"{address + len(found):#x} is not in the core")
        return found

    def number(self, address: int, size: int, *, signed: bool = False) -> int:
        """A number of ``size`` bytes. Raises LostError."""
        return int.from_bytes(self.data(address, size), self._byteorder, signed=signed)

    def pointer(self, address: int) -> int:
        """A word. Raises LostError."""
        return self.number(address, self.word)

    def words(self, address: int, count: int) -> list[int]:
        """So many words. Raises LostError."""
        self.step(count)
        return list(struct.unpack(self._form % count, self.data(address, count * self.word)))

    def has(self, address: int, length: int = 1) -> bool:
        """Whether so many bytes can be read."""
        try:
            self.data(address, length)
        except LostError:
            return False
        return True

    def text(self, address: int, most: int = MOST_OF_A_TEXT) -> bytes:
        """The bytes up to the first NUL. Raises LostError where there is none within ``most`` bytes."""
        found = b""
        self.step()
        while len(found) < most:
            at = address + len(found)
            piece = self._read(at, BLOCK - at % BLOCK)
            if not piece:
                raise LostError(f"{address:#x} is not text")
            before, nul, _ = piece.partition(b"\0")
            found += before
            if nul:
                return found[:most]
        raise LostError(f"the text at {address:#x} has no end")

    def keep_text(self, address: int, most: int = MOST_OF_A_TEXT) -> bytes:
        """Keep a text; returns it. Raises LostError."""
        found = self.text(address, most)
        self.keep(address, len(found) + 1)
        return found
