"""The tables by which ``_fast`` looks for words: one for the rules' anchors, one for values that are known."""

from __future__ import annotations

import math
import struct
import sys
from array import array

from corefilt import _fast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from corefilt.scrub.rule import Data

# Pairs (offset, number) that are taken from one call.
_ROOM = 1 << 14
# Bytes as often as processes have them, most first: by these the rarest three bytes of a word are chosen. Zero, small
# numbers and letters lead in heaps and stacks of CPython, a JVM and PostgreSQL.
_COMMON = b"\0\x01\x02\xff\x7f\x55\x03\x04\x08\x10\x20 etaoinsrldcupmhgfbyvk_.-/0123456789ESTARICNOLDPMUHGFBYVKWX=:w"
_RANK = {byte: len(_COMMON) - place for place, byte in enumerate(_COMMON)}


class Anchors:
    """Words that are found by a pair of their bytes, whatever their alignment. Three bytes are the least."""

    def __init__(self, words: list[tuple[int, bytes]]) -> None:
        """Index words, each with the number that is told where it stands."""
        self._table = bytearray(1 << 16)
        blob = bytearray()
        by_pair: dict[int, list[tuple[int, int, int, int]]] = {}
        followers: dict[int, set[bytes]] = {}
        for number, word in words:
            at = min(range(max(len(word) - 4, 1)), key=lambda k: _weight(word[k : k + 5]))
            for back in (at, at + 1):
                pair = int.from_bytes(word[back : back + 2], sys.byteorder)
                by_pair.setdefault(pair, []).append((number, back, len(blob), len(word)))
                followers.setdefault(pair, set()).add(word[back + 2 : back + 4])
            blob += word
        self._sieve = _sieve(followers)
        self._words = bytes(blob)
        buckets: list[list[tuple[int, int, int, int]]] = [[] for _ in range(256)]
        for each, (pair, entries) in enumerate(by_pair.items()):
            bucket = 1 + each % 255
            self._table[pair] = bucket
            buckets[bucket] += entries
        self._buckets, self._anchors, count = array("I"), array("I"), 0
        for entries in buckets:
            self._buckets.append(count)
            count += len(entries)
            for entry in entries:
                self._anchors.extend(entry)
        self._buckets.append(count)
        self._out = array("Q", bytes(16 * _ROOM))

    def find(self, data: Data | memoryview, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Where words stand of which the pair lies in a range: (offset, number)."""
        while start < stop:
            found, start = _fast.find_anchors(
                data, start, stop, self._sieve, self._table, self._buckets, self._anchors, self._words, self._out
            )
            yield from zip(self._out[0 : 2 * found : 2], self._out[1 : 2 * found : 2], strict=True)


def _weight(part: bytes) -> int:
    """How often the pairs of a part of a word are met, by the bytes that are looked at in either alignment."""
    ranks = [1 + _RANK.get(byte, 0) for byte in part]
    return sum(math.prod(ranks[start : start + 4]) for start in (0, 1))


# The set of words that end with the pair that is looked up, or a byte behind it.
_SHORT = 0x80


def _sieve(followers: Mapping[int, Collection[bytes]]) -> array[int]:
    """The sets in which a pair is looked up, and in the high byte those in which it can stand behind one.

    A word that ends before has any pair behind: such words are a set of their own.
    """
    sieve = array("H", (_SHORT << 8 if any(b"" in behind for behind in followers.values()) else 0,)) * (1 << 16)
    for number, (pair, behind) in enumerate(followers.items()):
        group = 1 << number % 7 if all(len(each) == 2 for each in behind) else _SHORT
        sieve[pair] |= group
        for each in behind:
            for end in (each,) if len(each) == 2 else (each + bytes((byte,)) for byte in range(256 if each else 0)):
                sieve[int.from_bytes(end, sys.byteorder)] |= group << 8
    return sieve


# What literals may take in all, in bytes: 10,000 values of 32 bytes in all their forms take 5 MiB.
MOST_OF_LITERALS = 64 << 20
LEAST_LITERAL = 7


class Literals:
    """Known bytes that are found by four of them at a multiple of 4; seven are the least.

    ``left_out`` counts those that could not be taken: too many begin alike, or there are too many bytes.

    With 60 values in all their forms (420 literals) this looked through 64 MiB of a CPython's memory at 2.2 GB/s of
    processor time, hyperscan 0.9.1 at 2.3, ahocorasick_rs 1.0.3 at 0.21 and pyahocorasick 2.3.1 at 0.02 (Linux 6.18,
    x86-64, beside other work). hyperscan is no gain for a library that only some of corefilt's machines have.
    """

    def __init__(self, words: Iterable[tuple[int, bytes]]) -> None:
        """Index words, each with the number that is told where it stands."""
        blob = bytearray()
        # Five items each, as below but for the second: a tuple of them would take three times as much.
        entries = array("I")
        alike = array("H", bytes(2 << _ALIKE_BITS))
        self.left_out = self.count = 0
        for number, word in words:
            at = _least_crowded(word, alike)
            if at is None or len(blob) + len(word) > MOST_OF_LITERALS:
                self.left_out += 1
                continue
            for back in range(at, at + 4):
                gram = int.from_bytes(word[back : back + 4], sys.byteorder)
                alike[_place(gram, _ALIKE_BITS)] += 1
                entries.extend((gram, number, back, len(blob), len(word)))
            blob += word
            self.count += 1
        self._words = bytes(blob)
        bits = max(16, min(24, (8 * len(entries) // 5).bit_length()))
        self._heads = array("I", bytes(4 << bits))
        self._bits = bytearray(1 << (bits - 3))
        self._literals = bytearray()
        for start in range(0, len(entries), 5):
            gram, *rest = entries[start : start + 5]
            place = _place(gram, bits)
            self._literals += struct.pack("=IIIIII", gram, self._heads[place], *rest)
            self._heads[place] = start // 5 + 1
            self._bits[place >> 3] |= 1 << (place & 7)
        self._out = array("Q", bytes(16 * _ROOM))

    def find(self, data: Data | memoryview, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Where words stand of which the four bytes lie in a range: (offset, number)."""
        while start < stop:
            found, start = _fast.find_literals(
                data, start, stop, self._bits, self._heads, self._literals, self._words, self._out
            )
            yield from zip(self._out[0 : 2 * found : 2], self._out[1 : 2 * found : 2], strict=True)


# Half of what is followed: other literals can have the same place in the table.
_MOST_ALIKE = _fast.ALIKE // 2


# How many literals share four bytes is counted by as many bits of their hash.
_ALIKE_BITS = 20


def _place(gram: int, bits: int) -> int:
    """The place of four bytes in a table, as ``_fast`` has it."""
    return (gram * 0x9E3779B1 & 0xFFFFFFFF) >> (32 - bits)


def _least_crowded(word: bytes, alike: array[int]) -> int | None:
    """Where seven bytes begin of which few literals share four, and no four are zero; None where there are none."""
    best: tuple[int, int] | None = None
    for at in range(0, min(len(word) - LEAST_LITERAL + 1, 64), 4):
        grams = [int.from_bytes(word[k : k + 4], sys.byteorder) for k in range(at, at + 4)]
        if all(grams):
            crowd = max(alike[_place(gram, _ALIKE_BITS)] for gram in grams)
            if best is None or crowd < best[0]:
                best = crowd, at
            if not crowd:
                break
    return best[1] if best is not None and best[0] < _MOST_ALIKE else None
