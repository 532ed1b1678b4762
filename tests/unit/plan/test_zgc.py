"""Where ZGC has the object that a pointer means: by masks, and by the table of what is being moved."""

from __future__ import annotations

import pytest

from corefilt.plan.fit.runtimes.reader import LostError
from corefilt.plan.fit.runtimes.zgc import ZBarrier

OFFSETS, GOOD, BAD, OLD = (1 << 42) - 1, 4 << 42, 11 << 42, 1 << 42
HEAP, GLOBALS, TABLE, FORWARDING = 0x1000, 0x2000, 0x3000, 0x10000
FIRST, SECOND, SIZE = 7, 9, 136


class Words:
    """Memory as words by address, and what is kept."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.kept: list[tuple[int, int]] = []

    def pointer(self, address: int) -> int:
        """A word."""
        if address not in self.words:
            raise LostError(f"{address:#x}")
        return self.words[address]

    def number(self, address: int, size: int) -> int:
        """A number."""
        return self.pointer(address) % (1 << 8 * size)

    def keep(self, address: int, length: int) -> None:
        """Take note."""
        self.kept.append((address, length))


class Tables:
    """Fields of ZGC, or of XGC."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.fields = {
            "CollectedHeap._heap": 192, "Heap._forwarding_table": 736, "ForwardingTable._map": 0,
            "GranuleMapForForwarding._map": 8, "Forwarding._virtual": 0, "VirtualMemory._start": 0,
            "Forwarding._object_alignment_shift": 16, "Forwarding._entries": 24,
            "AttachedArrayForForwarding._length": 0, "GlobalsForVMStructs._{}AddressOffsetMask": 16,
            "GlobalsForVMStructs._{}AddressGoodMask": 40, "GlobalsForVMStructs._{}AddressBadMask": 48,
            "GlobalsForVMStructs._{}AddressMetadataMask": 24,
        }  # fmt: skip
        self.fields = {letter + name.format(letter): place for name, place in self.fields.items()}

    def has(self, kind: str, name: str) -> bool:
        """Whether there is a field."""
        return f"{kind}.{name}" in self.fields

    def offset(self, kind: str, name: str) -> int:
        """Where."""
        return self.fields[f"{kind}.{name}"]

    def static(self, kind: str, name: str) -> int:
        """Where a static field is."""
        assert (kind, name) == (f"{self.letter}GlobalsForVMStructs", "_instance_p")
        return GLOBALS

    def size(self, kind: str) -> int:
        """The size of a type."""
        assert kind == f"{self.letter}Forwarding"
        return SIZE


def barrier(letter: str = "Z") -> tuple[ZBarrier, Words]:
    """One of a heap of which the second granule is being moved: two objects of four."""
    words = Words()
    words.words = {
        GLOBALS: GLOBALS + 8, HEAP + 936: TABLE, TABLE: 0, TABLE + 8: FORWARDING,
        FORWARDING: 1 << 21, FORWARDING + 16: 3, FORWARDING + 24: 4,
    }  # fmt: skip
    for n, (place, mask) in enumerate(((16, OFFSETS), (40, GOOD), (48, BAD), (24, 15 << 42))):
        words.words |= {GLOBALS + 8 + place: 0x2800 + 8 * n, 0x2800 + 8 * n: mask}
    return ZBarrier(words, Tables(letter), HEAP), words  # type: ignore[arg-type]


@pytest.mark.parametrize("letter", ["Z", "X"])
def test_a_pointer_that_is_good_means_itself(letter: str) -> None:
    found, words = barrier(letter)
    assert found.places(GOOD | 64) == [GOOD | 64]
    assert words.kept == [(HEAP + 936, 8)]


def test_where_nothing_is_moved_another_view_is_read() -> None:
    found, words = barrier()
    assert set(found.places(OLD | 64)) == {GOOD | 64}
    assert words.kept[1:] == [(TABLE, 8)]


def test_what_was_moved_is_looked_up() -> None:
    """The entries of the table are tried from its hash on, around its end."""
    found, words = barrier()
    at = FORWARDING + SIZE
    words.words |= {at + 8 * n: SECOND << 46 | 0x5000 << 1 | 1 for n in range(4)}
    old = OLD | (1 << 21) + 8 * SECOND
    assert found.places(old) == [GOOD | old & OFFSETS, GOOD | 0x5000]
    words.words |= {at + 8 * n: FIRST << 46 | 0x6000 << 1 | 1 for n in range(3)}
    words.words[at + 24] = SECOND << 46 | 0x5000 << 1 | 1
    assert found.places(old)[1] == GOOD | 0x5000
    assert (FORWARDING, SIZE) in words.kept
    assert (at + 24, 8) in words.kept


def test_what_was_not_moved_yet_is_where_it_was() -> None:
    found, words = barrier()
    words.words |= {FORWARDING + SIZE + 8 * n: 0 for n in range(4)}
    old = OLD | (1 << 21) + 8 * FIRST
    assert set(found.places(old)) == {GOOD | old & OFFSETS}


def test_a_table_of_others_alone_has_no_end() -> None:
    found, words = barrier()
    words.words |= {FORWARDING + SIZE + 8 * n: FIRST << 46 | 1 for n in range(4)}
    old = OLD | (1 << 21) + 8 * SECOND
    assert found.places(old) == [GOOD | old & OFFSETS]


def test_a_word_that_is_no_pointer_is_taken_as_it_is() -> None:
    found, _ = barrier()
    assert found.places(OLD | 9 << 21) == [GOOD | 9 << 21]


def test_another_collector_has_none() -> None:
    tables = Tables("Z")
    tables.fields.clear()
    with pytest.raises(LostError):
        ZBarrier(Words(), tables, HEAP)  # type: ignore[arg-type]
