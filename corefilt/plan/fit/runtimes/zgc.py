"""Where ZGC has an object that a stale pointer means: what the agent's load barrier reads, as ZBarrier.java does.

A pointer says in bits of its own when it was last looked at. While objects are moved, a table has for each granule of
the heap where they went. JDK 21 calls the collector without generations XGC; the one with them jhsdb cannot read.
"""

from __future__ import annotations

from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.hotspot import Structures
    from corefilt.plan.fit.runtimes.reader import MemoryReader

# ZGranuleSize: 2 MiB.
GRANULE_SHIFT = 21
# ZForwardingEntry: one bit, 45 bits of where an object went, and its number in its page.
TO_BITS = 45
MOST_PROBES = 1 << 16
_WORD32 = (1 << 32) - 1


class ZBarrier:
    """Masks of pointers, and the table of what is moved."""

    def __init__(self, reader: MemoryReader, vm: Structures, heap: int) -> None:
        """Find them; ``heap`` is the CollectedHeap. Raises LostError where it is not ZGC's."""
        z = next((z for z in "ZX" if vm.has(f"{z}Heap", "_forwarding_table")), None)
        if z is None:
            raise LostError("not ZGC")
        globals_at = reader.pointer(vm.static(f"{z}GlobalsForVMStructs", "_instance_p"))

        def of_globals(name: str) -> int:
            return reader.pointer(
                reader.pointer(globals_at + vm.offset(f"{z}GlobalsForVMStructs", f"_{z}Address{name}"))
            )

        self._reader = reader
        self._offsets, self._good, self._bad = (of_globals(name) for name in ("OffsetMask", "GoodMask", "BadMask"))
        self.metadata = of_globals("MetadataMask")
        table = heap + vm.offset(f"{z}CollectedHeap", "_heap") + vm.offset(f"{z}Heap", "_forwarding_table")
        table += vm.offset(f"{z}ForwardingTable", "_map") + vm.offset(f"{z}GranuleMapForForwarding", "_map")
        self._map = reader.pointer(table)
        reader.keep(table, 8)
        self._size = vm.size(f"{z}Forwarding")
        self._start = vm.offset(f"{z}Forwarding", "_virtual") + vm.offset(f"{z}VirtualMemory", "_start")
        self._shift = vm.offset(f"{z}Forwarding", "_object_alignment_shift")
        entries = vm.offset(f"{z}Forwarding", "_entries")
        self._length = entries + vm.offset(f"{z}AttachedArrayForForwarding", "_length")
        if not self._good or not self._map:
            raise LostError("ZGC is not in use")

    def places(self, oop: int) -> list[int]:
        """Where the object is that a pointer means, and what the agent may take for it; what tells so is kept.

        The agent of JDK 17 and 21 looks in the wrong place for the bit of an entry that is filled
        (ZForwardingEntry.java), so it reads what has moved where it was.
        """
        if not oop & self._bad:
            return [oop]
        offset = oop & self._offsets
        found = [offset | self._good]
        try:
            found.append(self._moved(offset) | self._good)
        except TooMuchError:
            raise
        except LostError:
            # A word that is not a pointer.
            pass
        return found

    def _moved(self, offset: int) -> int:
        reader, place = self._reader, self._map + 8 * (offset >> GRANULE_SHIFT)
        reader.keep(place, 8)
        forwarding = reader.pointer(place)
        if not forwarding:
            return offset
        reader.keep(forwarding, self._size)
        start, shift = reader.pointer(forwarding + self._start), reader.number(forwarding + self._shift, 4)
        number, mask = offset - start >> min(shift, 32), reader.pointer(forwarding + self._length) - 1
        at = _hashed(number) & mask
        for _ in range(MOST_PROBES):
            place = forwarding + self._size + 8 * at
            reader.keep(place, 8)
            entry = reader.pointer(place)
            if not entry & 1:
                return offset
            if entry >> TO_BITS + 1 == number:
                return entry >> 1 & (1 << TO_BITS) - 1
            at = at + 1 & mask
        raise LostError("a table of moved objects has no end")


def _hashed(key: int) -> int:
    """ZHash::uint32_to_uint32."""
    key = ~key + (key << 15) & _WORD32
    key ^= key >> 12
    key = key + (key << 2) & _WORD32
    key ^= key >> 4
    key = key * 2057 & _WORD32
    return key ^ key >> 16
