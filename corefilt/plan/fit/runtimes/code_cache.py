"""HotSpot's compiled code: the blob that an address lies in, found by the segment maps of the code heaps."""

from __future__ import annotations

from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.plan.fit.runtimes.hotspot import Structures
    from corefilt.plan.fit.runtimes.reader import MemoryReader

MOST_HEAPS = 16
FREE = 0xFF
# A segment's number is at most 255 bytes back at a time; a code heap has 48 MiB by default, in segments of 128 bytes.
MOST_HOPS = 1 << 16
MOST_OF_A_BLOB = 1 << 23


class CodeCache:
    """The code heaps, and what is kept of the blobs in them."""

    def __init__(self, reader: MemoryReader, vm: Structures) -> None:
        """Find the heaps. Raises LostError."""
        self._reader, self._vm = reader, vm
        self._heaps: list[tuple[int, int, int, int]] = []
        self._seen: set[int] = set()
        self._lists: list[tuple[int, int]] = []
        at = reader.pointer(vm.static("CodeCache", "_heaps"))
        count = reader.number(at + vm.offset("GrowableArrayBase", "_len"), 4)
        data = reader.pointer(at + vm.offset("GrowableArray<int>", "_data"))
        if not 0 < count <= MOST_HEAPS:
            raise LostError(f"there are {count} code heaps")
        self._lists += [(at, 64), (data, 8 * count)]
        low, high = (vm.offset("VirtualSpace", name) for name in ("_low_boundary", "_high_boundary"))
        memory, segments = vm.offset("CodeHeap", "_memory"), vm.offset("CodeHeap", "_segmap")
        for heap in reader.words(data, count):
            self._lists.append((heap, vm.size("CodeHeap")))
            self._heaps.append(
                (
                    reader.pointer(heap + memory + low),
                    reader.pointer(heap + memory + high),
                    reader.pointer(heap + segments + vm.offset("VirtualSpace", "_low")),
                    reader.number(heap + vm.offset("CodeHeap", "_log2_segment_size"), 4),
                )
            )
        self._header = vm.size("HeapBlock")

    def keep(self) -> None:
        """Keep the heaps' own structures."""
        for at, length in self._lists:
            self._reader.keep(at, length)

    def holds(self, address: int) -> bool:
        """Whether it lies in a code heap."""
        return any(low <= address < high for low, high, _, _ in self._heaps)

    def blob_at(self, address: int) -> int:
        """Where the CodeBlob begins that an address lies in. Raises LostError."""
        return self._begin(address) + self._header

    def keep_blob_at(self, address: int) -> Iterable[int]:
        """Keep the blob that an address lies in; returns what could be its methods."""
        try:
            return self._keep_blob(self._begin(address))
        except TooMuchError:
            raise
        except LostError:
            return ()

    def _begin(self, address: int) -> int:
        """Where the block begins that an address lies in. Raises LostError."""
        reader = self._reader
        for low, high, segments, log2 in self._heaps:
            if low <= address < high and log2 < 32:
                n = address - low >> log2
                for _ in range(MOST_HOPS):
                    reader.keep(segments + n, 1)
                    back = reader.number(segments + n, 1)
                    if back == FREE or back > n:
                        break
                    if not back:
                        return low + (n << log2)
                    n -= back
                break
        raise LostError(f"no code at {address:#x}")

    def _keep_blob(self, block: int) -> Iterable[int]:
        if block in self._seen:
            return ()
        self._seen.add(block)
        reader, vm, blob = self._reader, self._vm, block + self._header
        size = reader.number(blob + vm.offset("CodeBlob", "_size"), 4)
        if not 0 < size <= MOST_OF_A_BLOB:
            raise LostError(f"no blob at {block:#x}")
        head = min(size, max(vm.size("nmethod"), 512))
        reader.keep(block, self._header + head)
        maps = reader.pointer(blob + vm.offset("CodeBlob", "_oop_maps"))
        if maps and vm.has("ImmutableOopMapSet", "_size"):
            reader.keep(maps, min(reader.number(maps + vm.offset("ImmutableOopMapSet", "_size"), 4), MOST_OF_A_BLOB))
        if not vm.has("nmethod", "_oops_offset") or not vm.has("nmethod", "_nmethod_end_offset"):
            reader.keep(blob, size)
            return reader.words(blob, size // 8)
        behind, end = (
            reader.number(blob + vm.offset("nmethod", name), 4) for name in ("_oops_offset", "_nmethod_end_offset")
        )
        found = reader.words(blob, head // 8)
        if 0 < behind <= end <= size:
            # Behind the code: its methods, what scopes it has where, and where exceptions are handled.
            reader.keep(blob + behind, end - behind)
            found += reader.words(blob + behind & ~7, (end - behind) // 8)
        return found
