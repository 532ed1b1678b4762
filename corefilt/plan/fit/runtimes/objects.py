"""HotSpot's objects, as far as frames need them: threads and their names, headers of locked objects."""

from __future__ import annotations

from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError
from corefilt.plan.fit.runtimes.zgc import ZBarrier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.hotspot import Structures
    from corefilt.plan.fit.runtimes.metadata import Metadata
    from corefilt.plan.fit.runtimes.reader import MemoryReader

HEADER = 24
# An instance of java.lang.Thread and its kin, and of what it refers to.
MOST_OF_A_THREAD = 512
REFERENCED = 64
MOST_OF_A_NAME = 1 << 16
# ZGC has four bits from this one on in each pointer; three of them also tell at which place it has its heap mapped.
VIEW = 42
MOST_OF_FIELDS = 1 << 12


class Objects:
    """The heap, of which little is kept."""

    def __init__(self, reader: MemoryReader, vm: Structures, metadata: Metadata) -> None:
        """Find the heap. Raises LostError."""
        self._reader, self._vm, self._metadata = reader, vm, metadata
        heap = reader.pointer(vm.static("Universe", "_collectedHeap"))
        start = heap + vm.offset("CollectedHeap", "_reserved")
        self._low = reader.pointer(start + vm.offset("MemRegion", "_start"))
        self._high = self._low + 8 * reader.pointer(start + vm.offset("MemRegion", "_word_size"))
        self._barrier: ZBarrier | None = None
        self._views: set[int] = set()
        try:
            self._barrier = ZBarrier(reader, vm, heap)
        except LostError:
            # Another collector's pointers are addresses.
            pass
        else:
            self._views.update(view for view in range(1, 16) if not view << VIEW & ~self._barrier.metadata)
        self._narrow = self._base("CompressedOops", "_narrow_oop")
        self._narrow_klass = self._base("CompressedKlassPointers", "_narrow_klass")
        self._klass = vm.offset("oopDesc", "_metadata._klass")
        self._layout = vm.offset("Klass", "_layout_helper")

    def _base(self, kind: str, name: str) -> tuple[int, int]:
        reader, vm = self._reader, self._vm
        base = reader.pointer(vm.static(kind, f"{name}._base"))
        return base, min(reader.number(vm.static(kind, f"{name}._shift"), 4), 8)

    def holds(self, address: int) -> bool:
        """Whether it lies in the heap."""
        return self._low <= address < self._high or address >> VIEW in self._views

    def handle(self, at: int) -> int:
        """What an OopHandle or a WeakHandle at an address leads to. Raises LostError."""
        place = self._reader.pointer(at)
        if not place:
            return 0
        self._reader.keep(place, 8)
        return self._reader.pointer(place)

    def _places(self, oop: int) -> list[int]:
        """Where the agent may read an object: behind its load barrier, and as it is where that is not used."""
        places = [oop]
        if self._barrier is not None:
            places += self._barrier.places(oop)
        return [place for place in dict.fromkeys(places) if self._reader.has(place, HEADER)]

    def keep_header(self, oop: int) -> None:
        """Keep an object's header, and its class with its name."""
        if not oop or oop & 7:
            return
        for place in self._places(oop):
            if self._klass_of(place) is not None:
                self._reader.keep(place, HEADER)

    def _klass_of(self, oop: int) -> int | None:
        """The class of an object, which is kept; None for what is not an object."""
        reader = self._reader
        base, shift = self._narrow_klass
        compressed = reader.number(oop + self._klass, 4)
        for klass in (base + (compressed << shift), reader.pointer(oop + self._klass)):
            try:
                if klass & 7 == 0 and klass > 4096:
                    self._metadata.keep_klass(klass)
                    return klass
            except TooMuchError:
                raise
            except LostError:
                continue
        return None

    def keep_classes(self) -> None:
        """Keep the classes that the machine knows by name, with their fields, by which jhsdb reads threads."""
        reader, vm = self._reader, self._vm
        for (kind, _), (address, _) in vm.statics.items():
            if kind not in (b"vmClasses", b"SystemDictionary"):
                continue
            try:
                klass = reader.pointer(address)
                self._metadata.keep_klass(klass)
                self._keep_fields(klass)
            except TooMuchError:
                raise
            except LostError:
                continue

    def _keep_fields(self, klass: int) -> None:
        reader, vm = self._reader, self._vm
        pool = reader.pointer(klass + vm.offset("InstanceKlass", "_constants"))
        length = reader.number(pool + vm.offset("ConstantPool", "_length"), 4)
        reader.keep(pool, vm.size("ConstantPool") + 8 * min(length, MOST_OF_FIELDS))
        fields = reader.pointer(klass + vm.offset("InstanceKlass", "_fields", "_fieldinfo_stream"))
        count = reader.number(fields, 4)
        reader.keep(fields, 8 + 2 * min(count, MOST_OF_FIELDS))
        for word in reader.words(pool + vm.size("ConstantPool"), min(length, MOST_OF_FIELDS)):
            try:
                self._metadata.keep_symbol(word)
            except TooMuchError:
                raise
            except LostError:
                continue

    def keep_thread(self, oop: int) -> None:
        """Keep a java.lang.Thread and what it refers to; of its name all. Raises LostError."""
        if not oop:
            return
        for place in self._places(oop) or [oop]:
            self._keep_thread_at(place)

    def _keep_thread_at(self, oop: int) -> None:
        reader, klass = self._reader, self._klass_of(oop)
        if klass is None:
            raise LostError(f"{oop:#x} is not a thread")
        size = min(reader.number(klass + self._layout, 4), MOST_OF_A_THREAD)
        reader.keep(oop, size)
        for target in self._references(oop, size):
            if self._klass_of(target) is not None:
                reader.keep(target, REFERENCED)
                for inner in self._references(target, 32):
                    self._keep_array(inner)

    def _references(self, oop: int, size: int) -> list[int]:
        reader = self._reader
        base, shift = self._narrow
        narrow = [base + (reader.number(oop + at, 4) << shift) for at in range(self._klass + 4, size, 4)]
        wide = [reader.pointer(oop + at) for at in range(self._klass + 8, size - 7, 8)]
        found = [
            target
            for target in dict.fromkeys([*narrow, *wide])
            if target != base and self.holds(target) and not target & 7
        ]
        return [place for target in found for place in self._places(target)]

    def _keep_array(self, oop: int) -> None:
        """Keep an array of bytes, as a String has it; its length stands behind the class."""
        reader = self._reader
        klass = self._klass_of(oop)
        if klass is None:
            return
        # Klass::array_layout_helper: the highest byte tells arrays of primitives, the one behind it the header's size.
        layout = reader.number(klass + self._layout, 4)
        if layout >> 30 != 3:
            return
        begin = layout >> 16 & 0xFF
        length = reader.number(oop + begin - 4, 4)
        reader.keep(oop, begin + min(length, MOST_OF_A_NAME))
