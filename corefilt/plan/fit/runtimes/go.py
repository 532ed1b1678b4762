"""Go: every goroutine's descriptor and stack, from runtime.allgs, which delve walks."""

from __future__ import annotations

import struct
from bisect import bisect_left

from corefilt.corefile.elf import PF_W
from corefilt.plan.fit.runtimes.images import LoadedImage
from corefilt.plan.fit.runtimes.reader import LostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.registers import Thread
    from corefilt.plan.fit.runtimes.reader import MemoryReader, Range
    from corefilt.plan.fit.runtimes.scene import Scene, Walk

# debug/buildinfo of Go 1.18 and later: the magic, the size of a pointer, flags, and from byte 32 on the version with
# its length as a varint before it. The section .go.buildinfo is the first one of the data segment where Go links, and
# follows .data where a C compiler does. To look through 4 MiB takes 2 ms of CPU.
# A mapping that the core has nothing of counts as a page.
BUILDINFO = b"\xff Go buildinf:"
LOOKED_THROUGH, WINDOW, NOTHING = 4 << 20, 1 << 20, 4096
INLINE, INFO = 2, 33 + 0x7F

# struct g of runtime/runtime2.go, in bytes: stack.lo, stack.hi, m, sched.sp, sched.g and syscallsp stand where they do
# from Go 1.17 to 1.24; the whole is 376 to 448 bytes long, and another may follow at once. Tried: 1.19.
LO, HI, PANIC, M, SP, SELF, SYSCALLSP = 0, 8, 32, 48, 56, 72, 112
G, SIZE = 448, 376
# atomicstatus stands behind syscallpc, stktopsp and param, and since Go 1.23 (by the minor version) behind syscallbp.
STATUS, STATUS_SINCE_23 = 144, 152
DEAD = 6
# What is kept behind a pointer of a g: defer records, waiting sudogs, labels, strings.
OBJECT = 64
# runtime.m is longer than a page in no version; delve reads its first fields. Without a C library the thread pointer
# points into it.
MACHINE = 512
G0, PROCID, GSIGNAL = 0, 72, 80
# Variables of the runtime that delve reads beside what allgs leads to, in its versions since Go 1.17, and their lengths
# in bytes at most (Go 1.19: 552 for a moduledata, 1,008 for m0).
ALLGS, ISCGO = b"runtime.allgs", b"runtime.iscgo"
VARIABLES = {
    ALLGS: 24, ISCGO: 1, b"runtime.allglen": 8, b"runtime.allm": 8, b"runtime.firstmoduledata": 1024,
    b"runtime.g0": G, b"runtime.m0": 1024,
}  # fmt: skip
# A goroutine's stack is 1 GB at most; half of that is no stack that anybody reads.
MOST_OF_A_STACK = 64 << 20
MOST_GOROUTINES = 1 << 21
# Data in which allgs is looked for where no symbol tells: kubelet's takes 10 MiB.
MOST_OF_DATA = 64 << 20
VERSIONS = range(17, 25)


def build_info(reader: MemoryReader, start: int) -> tuple[int, str] | None:
    """Where the image that is mapped at an address says by which version of Go it was built; None: it is not Go's."""
    try:
        image = LoadedImage(reader, b"", start)
    except LostError:
        return None
    for at in _marks(image, reader):
        info = reader.memory.read(at, INFO)
        if len(info) > 33:
            length = info[32]
            if not info[15] & INLINE or length >= 0x80:
                return at, ""
            return at, info[33 : 33 + length].decode("ascii", "replace")
    return None


def _marks(image: LoadedImage, reader: MemoryReader) -> Iterator[int]:
    """Where the beginning of build information stands in the image's data."""
    memory, left = reader.memory, LOOKED_THROUGH
    for low, high, flags in image.segments():
        # It is aligned, so no window ends within it.
        at = low // 16 * 16 if flags & PF_W else high
        while at < high and left > 0:
            window = memory.read(at, min(WINDOW, left, high - at))
            found = window.find(BUILDINFO)
            if found >= 0:
                yield at + found
            # A hostile core can have a million mappings without a byte.
            left -= max(len(window), NOTHING)
            i = memory.find(at)
            # The data segment goes on in another mapping, behind what the linker wrote to or as .bss.
            at = at + len(window) if window else memory.end(i) if i is not None else high


def walk(walk: Walk, scene: Scene, path: bytes, start: int) -> None:
    """Keep allgs, each g, what lies behind its pointers, and its stack. Raises LostError."""
    reader = scene.reader
    if reader.word != 8:
        raise LostError("structures of 32-bit Go are not known")
    told_at, version = build_info(reader, start) or (0, "")
    parts = version.removeprefix("go").split(".")
    if parts[0] != "1" or len(parts) < 2 or not parts[1].isdigit() or int(parts[1]) not in VERSIONS:
        raise LostError(f"Go {version or 'before 1.18'} is not known; known are 1.{VERSIONS[0]} to 1.{VERSIONS[-1]}")
    image = LoadedImage(reader, path, start)
    places = image.symbols_of_file(set(VARIABLES))
    root, array_at, count = _allgs(image, reader, places.get(ALLGS))
    reader.keep(told_at, 33 + len(version))
    reader.keep(root, 24)
    reader.keep(array_at, 8 * count)
    for name, at in places.items():
        reader.keep(at, VARIABLES[name])
    words, stacks = set[int](), []
    for thread, native in zip(scene.threads, scene.stacks, strict=True):
        own = _keep_machine(reader, thread)
        stacks += own
        words |= _words_of_thread(reader, thread, native, own)
    status, sorted_words = STATUS if int(parts[1]) < 23 else STATUS_SINCE_23, sorted(words)
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
        stacks.append((low, high))
        tops = [reader.pointer(g + SP), reader.pointer(g + SYSCALLSP)]
        if machine:
            # It may be running: its stack begins where a thread's registers, or what a signal saved of them, point.
            # The lowest word suffices; a hostile core can have many words and many goroutines.
            tops += sorted_words[(at := bisect_left(sorted_words, low)) : at + 1]
        top = min((top for top in tops if low <= top < high), default=high)
        reader.keep(top, high - top)
    walk.stacks = stacks
    if places.keys() == VARIABLES.keys() and not (reader.number(places[ISCGO], 1) and image.is_static):
        # A C library in the program has the lists of threads there, by which libthread_db finds them.
        walk.data = [(low, high) for low, high, flags in image.segments() if flags & PF_W]


def _keep_machine(reader: MemoryReader, thread: Thread) -> list[Range]:
    """Keep what a thread works with: its m, and of this g0 and gsignal; returns the stacks of theirs that are Go's."""
    machine = _machine(reader, thread)
    if machine is None:
        return []
    reader.keep(machine, MACHINE)
    of_signals, own = reader.pointer(machine + GSIGNAL), reader.pointer(machine + G0)
    stacks = []
    for g in (of_signals, own):
        # A thread that a C library made has its stack of there, and frames on it above what g0 says.
        is_of_c = g == own and thread.tp and not machine <= thread.tp < machine + MACHINE
        if g and reader.has(g, SIZE):
            reader.keep(g, G)
            low, high = reader.words(g + LO, 2)
            if low < high <= low + MOST_OF_A_STACK and not is_of_c:
                stacks.append((low, high))
    if len(stacks) == 2 and stacks[0][0] <= thread.sp < stacks[0][1]:
        # A signal may have interrupted what ran on the other.
        low, high = stacks[1]
        top = min((w for w in reader.whole_words(thread.sp, stacks[0][1]) if low <= w < high), default=high)
        reader.keep(top, high - top)
    return stacks


def _words_of_thread(reader: MemoryReader, thread: Thread, native: list[Range], own: list[Range]) -> set[int]:
    """The words of a thread's registers and native stacks; of the one it is on, up to the end that its m tells."""
    end = next((high for low, high in own if low <= thread.sp < high), None)
    if end is not None:
        native = [(thread.sp, end), *native[1:]]
    found = set(thread.registers)
    for start, stop in native:
        found.update(reader.whole_words(start, stop))
    return found


def _machine(reader: MemoryReader, thread: Thread) -> int | None:
    """The m of a thread, by the g that its own storage or a register points to; None where neither does."""
    stored = reader.memory.numbers(thread.tp - reader.word, 1) if thread.tp else []
    for g in (*stored, *thread.registers):
        if g and reader.has(g, SIZE):
            machine = reader.pointer(g + M)
            if machine and reader.has(machine, MACHINE) and reader.number(machine + PROCID, 8) == thread.pid:
                return machine
    return None


def _keep_targets(reader: MemoryReader, g: int, low: int, high: int) -> None:
    memory, flags = reader.memory, reader.core.table.p_flags
    # Where its stack ends another begins, of which nothing is needed there.
    for word in set(reader.words(g + PANIC, (SIZE - PANIC) // 8)):
        i = memory.find(word) if word else None
        if i is not None and flags[i] & PF_W and not low <= word <= high:
            reader.keep(word, OBJECT)


def _allgs(image: LoadedImage, reader: MemoryReader, at: int | None) -> tuple[int, int, int]:
    """Where the slice runtime.allgs lies (``at``: by its symbol), its array, and how many it has. Raises LostError."""
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
