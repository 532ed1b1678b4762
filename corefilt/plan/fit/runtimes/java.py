"""HotSpot: what jhsdb needs to attach, its threads with their names, and the methods of all their frames.

Roots are libjvm's own data and the thread list. Methods are reached from the words of native stacks: by the code blob
that a return address lies in, or as the Method itself that an interpreter's frame has. The heap is not followed: of
objects, only threads, their names and what a monitor's word on a stack points at are kept, and of these the headers.
"""

from __future__ import annotations

from corefilt.corefile.elf import PF_W, PF_X
from corefilt.plan.fit.runtimes.code_cache import CodeCache
from corefilt.plan.fit.runtimes.hotspot import Structures, target_of
from corefilt.plan.fit.runtimes.images import LoadedImage
from corefilt.plan.fit.runtimes.java_frames import JavaFrames
from corefilt.plan.fit.runtimes.metadata import Metadata
from corefilt.plan.fit.runtimes.objects import Objects
from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.reader import MemoryReader
    from corefilt.plan.fit.runtimes.scene import Scene, Walk

# libjvm's data take 1 MiB; what its pointers lead to is kept this far.
MOST_OF_DATA = 16 << 20
OBJECT = 256
# What the targets of static fields lead to in turn.
FIELD = 64
MOST_OF_A_STRUCTURE = 1 << 12
# How deep pointers are followed from static fields, by their types: jhsdb reads FileMapInfo, its header, and on.
LEVELS = 3
MOST_THREADS = 1 << 20


class _Machine:
    """One virtual machine, and what is kept of it."""

    def __init__(self, scene: Scene, image: LoadedImage) -> None:
        self._scene, self._reader, self._image = scene, scene.reader, image
        self._vm = Structures(scene.reader, image)
        self._metadata = Metadata(scene.reader, self._vm)
        self._code = CodeCache(scene.reader, self._vm)
        self._objects = Objects(scene.reader, self._vm, self._metadata)
        self._typed: dict[int, int] = {}
        self.threads = self.broken = self.uncounted = 0
        self.frames: int | None = None

    def walk(self) -> None:
        """Keep all of it."""
        self._keep_data()
        self._keep_statics()
        self._objects.keep_classes()
        threads = self._list_of_threads()
        self.threads = len(threads)
        for thread in threads:
            try:
                self._keep_thread(thread)
            except TooMuchError:
                raise
            except LostError:
                self.broken += 1
        self._code.keep()
        words = self._scene.words_of_stacks()
        words.update(register for thread in self._scene.threads for register in thread.registers)
        methods: list[int] = []
        for word in words:
            if self._code.holds(word):
                methods += self._code.keep_blob_at(word)
            elif self._objects.holds(word):
                self._objects.keep_header(word)
            else:
                methods.append(word)
        for word in dict.fromkeys(methods):
            self._metadata.keep_method(word)
        self._count_frames(threads)

    def _count_frames(self, threads: list[int]) -> None:
        try:
            frames = JavaFrames(self._reader, self._vm, self._metadata, self._code)
        except LostError:
            return
        self.frames = 0
        of_core = {thread.pid: thread for thread in self._scene.threads}
        for thread in threads:
            try:
                self.frames += frames.count(thread, of_core)
            except TooMuchError:
                raise
            except LostError:
                self.uncounted += 1

    # --- libjvm's data ------------------------------------------------------------------------------------

    def _keep_data(self) -> None:
        """Libjvm's data, and a little behind each pointer in them: settings, the path of the shared archive."""
        reader, memory = self._reader, self._reader.memory
        flags = reader.core.table.p_flags
        for low, high, p_flags in self._image.segments():
            if not p_flags & PF_W or high - low > MOST_OF_DATA:
                continue
            reader.keep(low, high - low)
            at = low
            while at < high:
                for word in set(reader.whole_words(at, high)):
                    i = memory.find(word) if word > 4096 else None
                    if i is None or not flags[i] & PF_W or flags[i] & PF_X or self._objects.holds(word):
                        continue
                    if not self._inside(word):
                        reader.keep(word, FIELD)
                i = memory.find(at)
                at = memory.end(i) if i is not None else high

    def _inside(self, word: int) -> bool:
        return any(low <= word < high for low, high, _ in self._image.segments())

    def _keep_statics(self) -> None:
        """What pointers in static fields lead to: as much as their type has, and a little behind its words."""
        reader = self._reader
        for address, of in self._vm.statics.values():
            kind = target_of(of)
            if not kind or not reader.has(address, 8):
                continue
            target = reader.pointer(address)
            if not target or self._objects.holds(target) or not reader.has(target, 8):
                continue
            length = self._keep_typed(target, kind, LEVELS)
            for n in range(min(length, OBJECT) // 8):
                if not reader.has(target + 8 * n, 8):
                    break
                word = reader.pointer(target + 8 * n)
                i = reader.memory.find(word) if word > 4096 else None
                if i is not None and reader.core.table.p_flags[i] & PF_W and not self._objects.holds(word):
                    reader.keep(word, OBJECT)

    def _keep_typed(self, target: int, kind: bytes, levels: int) -> int:
        """Keep as much as a type has, and what its pointers lead to; returns its size."""
        reader, vm = self._reader, self._vm
        try:
            length = min(max(vm.size(kind), FIELD), MOST_OF_A_STRUCTURE)
        except LostError:
            length = OBJECT
        if self._typed.get(target, 0) >= levels:
            return length
        self._typed[target] = levels
        reader.keep(target, length)
        for place, of in vm.pointers(kind) if levels > 1 else ():
            word = reader.pointer(target + place) if reader.has(target + place, 8) else 0
            if word and not self._objects.holds(word) and reader.has(word, 8):
                self._keep_typed(word, of, levels - 1)
        return length

    # --- threads ------------------------------------------------------------------------------------------

    def _list_of_threads(self) -> list[int]:
        reader, vm = self._reader, self._vm
        at = reader.pointer(vm.static("ThreadsSMRSupport", "_java_thread_list"))
        reader.keep(at, 64)
        count = reader.number(at + vm.offset("ThreadsList", "_length"), 4)
        if count > MOST_THREADS:
            raise LostError(f"the list of threads has {count}")
        there = reader.pointer(at + vm.offset("ThreadsList", "_threads"))
        reader.keep(there, 8 * count)
        return reader.words(there, count)

    def _keep_thread(self, thread: int) -> None:
        reader, vm = self._reader, self._vm
        reader.keep(thread, vm.size("JavaThread"))
        osthread = reader.pointer(thread + vm.offset("JavaThread", "_osthread"))
        reader.keep(osthread, vm.size("OSThread"))
        self._objects.keep_thread(self._objects.handle(thread + vm.offset("JavaThread", "_threadObj")))
        for field in ("_current_pending_monitor", "_current_waiting_monitor"):
            monitor = reader.pointer(thread + vm.offset("JavaThread", field))
            if monitor:
                reader.keep(monitor, vm.size("ObjectMonitor"))
                held = self._objects.handle(monitor + vm.offset("ObjectMonitor", "_object"))
                self._objects.keep_header(held)


def walk(walk: Walk, scene: Scene, path: bytes, start: int) -> None:
    """Keep what jhsdb needs. Raises LostError."""
    reader: MemoryReader = scene.reader
    if reader.word != 8:
        raise LostError("32-bit HotSpot is not known")
    machine = _Machine(scene, LoadedImage(reader, path, start))
    machine.walk()
    walk.threads, walk.frames = machine.threads, machine.frames
    if machine.broken:
        walk.missing.append(f"names of {counted(machine.broken, 'thread')}")
    if machine.uncounted:
        walk.missing.append(f"frames of {counted(machine.uncounted, 'thread')}, which could not be counted")
