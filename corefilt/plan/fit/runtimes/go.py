"""Go: every goroutine's descriptor and stack, from runtime.allgs, which delve walks."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import PF_W
from corefilt.plan.fit.runtimes.images import LoadedImage
from corefilt.plan.fit.runtimes.reader import LostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.reader import MemoryReader
    from corefilt.plan.fit.runtimes.scene import Scene, Walk

# debug/buildinfo of Go 1.18 and later: the magic, the size of a pointer, flags, and from byte 32 on the version with
# its length as a varint before it. The section .go.buildinfo is the first one of the data segment, or nearly so.
BUILDINFO = b"\xff Go buildinf:"
LOOKED_THROUGH = 1 << 16
INLINE = 2

# struct g of runtime/runtime2.go, in bytes: stack.lo, stack.hi, m, sched.sp, sched.g and syscallsp stand where they do
# from Go 1.17 to 1.24; the whole is 376 to 448 bytes long, and another may follow at once. Tried: 1.19.
LO, HI, PANIC, M, SP, SELF, SYSCALLSP = 0, 8, 32, 48, 56, 72, 112
G, SIZE = 448, 376
# atomicstatus stands behind syscallpc, stktopsp and param, and since Go 1.23 (by the minor version) behind syscallbp.
STATUS, STATUS_SINCE_23 = 144, 152
DEAD = 6
# What is kept behind a pointer of a g: defer records, waiting sudogs, labels, strings.
OBJECT = 64
# runtime.m is longer than a page in no version; delve reads its first fields.
MACHINE = 512
# A goroutine's stack is 1 GB at most; half of that is no stack that anybody reads.
MOST_OF_A_STACK = 64 << 20
MOST_GOROUTINES = 1 << 21
# Data in which allgs is looked for where no symbol tells: kubelet's takes 10 MiB.
MOST_OF_DATA = 64 << 20
VERSIONS = range(17, 25)


def build_version(reader: MemoryReader, start: int) -> str | None:
    """The version of Go that built the image that is mapped at an address; None where it is none of Go's."""
    try:
        image = LoadedImage(reader, b"", start)
    except LostError:
        return None
    for low, high, flags in image.segments():
        if not flags & PF_W:
            continue
        data = reader.memory.read(low, min(high - low, LOOKED_THROUGH))
        at = data.find(BUILDINFO)
        if at >= 0 and len(data) > at + 33:
            if not data[at + 15] & INLINE:
                return ""
            length = data[at + 32]
            return data[at + 33 : at + 33 + length].decode("ascii", "replace") if length < 0x80 else ""
    return None


def walk(walk: Walk, scene: Scene, path: bytes, start: int) -> None:
    """Keep allgs, each g, what lies behind its pointers, and its stack. Raises LostError."""
    reader = scene.reader
    if reader.word != 8:
        raise LostError("structures of 32-bit Go are not known")
    version = build_version(reader, start)
    parts = (version or "").removeprefix("go").split(".")
    if parts[0] != "1" or len(parts) < 2 or not parts[1].isdigit() or int(parts[1]) not in VERSIONS:
        raise LostError(f"Go {version or 'before 1.18'} is not known; known are 1.{VERSIONS[0]} to 1.{VERSIONS[-1]}")
    image = LoadedImage(reader, path, start)
    root, array_at, count = _allgs(image, reader)
    reader.keep(root, 24)
    reader.keep(array_at, 8 * count)
    words: set[int] | None = None
    status = STATUS if int(parts[1]) < 23 else STATUS_SINCE_23
    for g in reader.words(array_at, count):
        reader.keep(g, G)
        if reader.number(g + status, 4) == DEAD:
            # It has ended and waits to be used again, with its stack; delve reads no more than that.
            continue
        walk.threads += 1
        low, high, machine = reader.pointer(g + LO), reader.pointer(g + HI), reader.pointer(g + M)
        if machine:
            reader.keep(machine, MACHINE)
        _keep_targets(reader, g, low, high)
        if not low < high or high - low > MOST_OF_A_STACK:
            continue
        tops = [reader.pointer(g + SP), reader.pointer(g + SYSCALLSP)]
        if machine:
            # It may be running: its stack begins where a thread's registers, or what a signal saved of them, point.
            words = _addresses(scene) if words is None else words
            tops += [word for word in words if low <= word < high]
        top = min((top for top in tops if low <= top < high), default=high)
        reader.keep(top, high - top)


def _addresses(scene: Scene) -> set[int]:
    registers = {register for thread in scene.threads for register in thread.registers}
    return registers | scene.words_of_stacks()


def _keep_targets(reader: MemoryReader, g: int, low: int, high: int) -> None:
    memory, flags = reader.memory, reader.core.table.p_flags
    # Where its stack ends another begins, of which nothing is needed there.
    for word in set(reader.words(g + PANIC, (SIZE - PANIC) // 8)):
        i = memory.find(word) if word else None
        if i is not None and flags[i] & PF_W and not low <= word <= high:
            reader.keep(word, OBJECT)


def _allgs(image: LoadedImage, reader: MemoryReader) -> tuple[int, int, int]:
    """Where the slice runtime.allgs lies, its array, and how many it has. Raises LostError."""
    name = b"runtime.allgs"
    at = image.symbols_of_file({name}).get(name)
    for place in (at,) if at is not None else _slices(image, reader):
        there, count, room = reader.words(place, 3)
        if 0 < count <= room and count <= MOST_GOROUTINES and _are_goroutines(reader, there, count):
            return place, there, count
    raise LostError("runtime.allgs was not found")


def _slices(image: LoadedImage, reader: MemoryReader) -> list[int]:
    """Where in the image's data something could be a slice: a pointer, a length, and a capacity no smaller."""
    found = []
    left = MOST_OF_DATA
    for low, high, flags in image.segments():
        if not flags & PF_W:
            continue
        at, end = low, min(high, low + left)
        left -= end - low
        while at < end:
            # The data segment goes on as .bss in another mapping.
            words = reader.whole_words(at, end)
            found += [
                at + 8 * n
                for n, there in enumerate(words[:-2])
                if there > 4096 and 0 < words[n + 1] <= words[n + 2] <= MOST_GOROUTINES and not there & 7
            ]
            i = reader.memory.find(at)
            at = reader.memory.end(i) if i is not None else end
    return found


def _are_goroutines(reader: MemoryReader, there: int, count: int) -> bool:
    """Whether an array holds addresses of struct g only: each has its own address in sched.g."""
    try:
        return all(g and reader.pointer(g + SELF) == g for g in reader.words(there, count))
    except LostError:
        return False
    except struct.error:
        return False
