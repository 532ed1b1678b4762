"""Processes of language runtimes, made by hand: a few objects of each in memory, as a core of them holds them.

Nothing here imports corefilt. Offsets are those of the runtimes' own headers: CPython 3.11's, Go 1.19's.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from support.builder import Load, kernel_notes, make_core
from support.samples import PAGE

EXE, HEAP, UNUSED = 0x400000, 0x7F0000000000, 0x7F0000100000
UNUSED_PAGES = 32
PT_DYNAMIC, DT_HASH, DT_STRTAB, DT_SYMTAB = 2, 4, 5, 6


class Made(NamedTuple):
    """A core, and addresses in it that a walk has to keep."""

    core: bytes
    needed: list[int]


class Space:
    """Memory that is written to by address, in pages."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def put(self, address: int, data: bytes) -> None:
        """Write bytes, over what stands there."""
        for at, byte in enumerate(data, address):
            self.pages.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def words(self, address: int, *values: int) -> None:
        """Write words of 8 bytes."""
        self.put(address, struct.pack(f"<{len(values)}Q", *values))

    def loads(self) -> list[Load]:
        """A segment for each run of pages, writable."""
        found: list[tuple[int, bytearray]] = []
        for n in sorted(self.pages):
            if found and found[-1][0] + len(found[-1][1]) == n * PAGE:
                found[-1][1].extend(self.pages[n])
            else:
                found.append((n * PAGE, bytearray(self.pages[n])))
        return [Load(start, bytes(data)) for start, data in found]


def image(base: int, symbols: dict[str, int], data_pages: int) -> bytes:
    """The first page of a program at ``base``: headers, and a table of dynamic symbols; its data follow behind it."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(24)
    for name, address in symbols.items():
        table += struct.pack("<IBBHQQ", names.index(name.encode()), 0x11, 0, 2, address, 8)
    count = len(symbols) + 1
    # Each symbol chains to the one before it, down to 0.
    hashes = struct.pack("<III", 1, count, count - 1) + struct.pack(f"<{count}I", 0, *range(count - 1))
    at = base + 0x200
    places = {DT_SYMTAB: at, DT_STRTAB: at + len(table), DT_HASH: at + len(table) + len(names)}
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in places.items()) + bytes(16)
    body = table + names + hashes
    dynamic_at = 0x200 + len(body) + 7 & ~7
    phdrs = [
        (1, 5, 0, base, base, PAGE, PAGE, PAGE),
        (1, 6, PAGE, base + PAGE, base + PAGE, data_pages * PAGE, data_pages * PAGE, PAGE),
        (PT_DYNAMIC, 4, dynamic_at, base + dynamic_at, base + dynamic_at, len(dynamic), len(dynamic), 8),
    ]
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0
    )
    head += b"".join(struct.pack("<IIQQQQQQ", *phdr) for phdr in phdrs)
    return (head.ljust(0x200, b"\0") + body).ljust(dynamic_at, b"\0") + dynamic


def process(space: Space, path: str, symbols: dict[str, int], data_pages: int) -> bytes:
    """A core of a program whose data and heap are ``space``, and some pages that nothing leads to."""
    first = image(EXE, symbols, data_pages).ljust(PAGE, b"\0")
    files = [
        (EXE, EXE + PAGE, 0, path),
        (EXE + PAGE, EXE + (1 + data_pages) * PAGE, PAGE, path),
    ]
    for n in range(UNUSED_PAGES):
        space.put(UNUSED + n * PAGE, b"unused")
    loads = [Load(EXE, first, flags="r-x"), *space.loads()]
    return make_core(loads, kernel_notes(files))  # type: ignore[arg-type]


def go_core(version: str = "go1.19.8", count: int = 5) -> Made:
    """Go: as many goroutines, each with a stack of two pages of which the upper one is in use; the last has ended."""
    minor = int(version.split(".")[1])
    space, data = Space(), EXE + PAGE
    space.put(data, b"\xff Go buildinf:" + b"\x08\x02" + bytes(16) + bytes([len(version)]) + version.encode())
    array = HEAP
    space.words(data + 0x100, array, count, count + 3)
    needed = [data, array]
    for n in range(count):
        g, stack = HEAP + (1 + n) * 0x400, HEAP + 0x10000 + n * 2 * PAGE
        low, high = stack, stack + 2 * PAGE
        space.words(array + 8 * n, g)
        space.words(g, low, high)
        space.words(g + 56, stack + PAGE + 256, EXE, g)
        space.words(g + 448 - 8, 0)
        space.words(g + (144 if minor < 23 else 152), 6 if n == count - 1 else 4)
        space.words(stack, 1)
        space.words(stack + PAGE + 256, 7, 8)
        needed += [g, *([stack + PAGE + 256] if n < count - 1 else [])]
    return Made(process(space, "/usr/bin/service", {}, 1), needed)


class _Python:
    """Objects of CPython 3.11, one behind the other."""

    def __init__(self) -> None:
        self.space, self.at, self.types = Space(), HEAP + 0x1000, dict[str, int]()
        for name in ("type", "str", "bytes", "tuple", "int", "code", "dict", "list"):
            self.types[name] = kind = self.room(408)
            text = self.room(16)
            self.space.put(text, name.encode() + b"\0")
            self.space.words(kind, 1, self.types["type"], 0, text)
            self.space.words(kind + 168, 0)

    def room(self, size: int) -> int:
        """Take some bytes, each object on a page of its own so that what is kept shows."""
        at, self.at = self.at + 64, self.at + -(-(size + 64) // PAGE) * PAGE
        self.space.put(at, bytes(size))
        return at

    def text(self, value: str) -> int:
        """A str that is ASCII."""
        at = self.room(64 + len(value))
        self.space.words(at, 1, self.types["str"], len(value), 0)
        self.space.put(at + 32, bytes([1 << 2 | 1 << 5 | 1 << 6]))
        self.space.put(at + 48, value.encode())
        return at

    def data(self, value: bytes) -> int:
        """A bytes."""
        at = self.room(64 + len(value))
        self.space.words(at, 1, self.types["bytes"], len(value), 0)
        self.space.put(at + 32, value)
        return at

    def items(self, *values: int) -> int:
        """A tuple."""
        at = self.room(64 + 8 * len(values))
        self.space.words(at, 1, self.types["tuple"], len(values), *values)
        return at

    def code(self, name: str) -> int:
        """A code object with one local."""
        at, text = self.room(256), self.text(name)
        self.space.words(at, 1, self.types["code"], 8)
        self.space.put(at + 72, struct.pack("<ii", 10, 1))
        names, kinds = self.items(self.text("level")), self.data(b" ")
        self.space.words(at + 96, names, kinds, self.text("/srv/app.py"), text, text, self.data(b"\x80\0"))
        return at

    def frame(self, code: int, previous: int, local: int) -> int:
        """An interpreter's frame."""
        at = self.room(96)
        self.space.words(at + 32, code)
        self.space.words(at + 48, previous)
        self.space.words(at + 72, local)
        return at


def python_core(path: str = "/usr/bin/python3.11", *, endless: bool = False) -> Made:
    """CPython: one interpreter, two threads of three frames and one; ``endless``: the first's frames go in a circle."""
    made = _Python()
    space, runtime = made.space, EXE + PAGE + 0x100
    interpreter, needed = made.room(4096), []
    space.words(runtime + 40, interpreter)
    after = 0
    for depth in (1, 3):
        frame, first = 0, 0
        for n in range(depth):
            local = made.items(made.text(f"local {n}"))
            code = made.code(f"function_{n}")
            frame = made.frame(code, frame, local)
            first = first or frame
            needed += [local, code, frame]
        if endless and depth == 3:
            space.words(first + 48, frame)
        thread, through = made.room(360), made.room(64)
        space.words(thread + 8, after)
        space.words(thread + 56, through)
        space.words(through + 8, frame)
        needed += [thread, through]
        after = thread
    space.words(interpreter + 16, after)
    return Made(process(space, path, {"_PyRuntime": runtime}, 1), [*needed, interpreter, runtime])
