"""Processes of language runtimes, made by hand: a few objects of each in memory, as a core of them holds them.

Nothing here imports corefilt. Offsets are those of the runtimes' own headers: CPython 3.11's, Go 1.19's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from support.builder import Load, kernel_notes, make_core, nt_prstatus
from support.samples import PAGE

EXE, HEAP, UNUSED, STACK = 0x400000, 0x7F0000000000, 0x7F0000200000, 0x7E0000000000
UNUSED_PAGES = 32
# The process's, and its first thread's.
PID = 4242
PT_DYNAMIC, PT_NOTE, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_GNU_HASH = 2, 4, 4, 5, 6, 0x6FFFFEF5


class Made(NamedTuple):
    """A core, and addresses in it that a walk has to keep."""

    core: bytes
    needed: list[int]


class Space:
    """Memory that is written to by address, in pages."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        # Pages at which another mapping begins.
        self.breaks: set[int] = set()

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
            if found and found[-1][0] + len(found[-1][1]) == n * PAGE and n not in self.breaks:
                found[-1][1].extend(self.pages[n])
            else:
                found.append((n * PAGE, bytearray(self.pages[n])))
        return [Load(start, bytes(data)) for start, data in found]


def gnu_hash(name: str) -> int:
    """The hash of .gnu.hash."""
    value = 5381
    for byte in name.encode():
        value = (value * 33 + byte) % (1 << 32)
    return value


def image(base: int, symbols: dict[str, int], data_pages: int, *, gnu: bool = False, sections: int = 0) -> bytes:
    """The first page of a program at ``base``: headers, and a table of dynamic symbols; its data follow behind it.

    With ``gnu`` the table is hashed as .gnu.hash, with ``sections`` section headers follow the data, and there is a
    build ID.
    """
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(24)
    for name, address in symbols.items():
        table += struct.pack("<IBBHQQ", names.index(name.encode()), 0x11, 0, 2, address, 8)
    count = len(symbols) + 1
    # Each symbol chains to the one before it, down to 0.
    hashes = struct.pack("<III", 1, count, count - 1) + struct.pack(f"<{count}I", 0, *range(count - 1))
    if gnu:
        # One bucket: the chain ends where the lowest bit is set.
        chain = [gnu_hash(name) & ~1 | (n == count - 2) for n, name in enumerate(symbols)]
        hashes = struct.pack(f"<IIIIQI{len(chain)}I", 1, 1, 1, 0, 0, 1, *chain)
    at = base + 0x200
    hash_tag = DT_GNU_HASH if gnu else DT_HASH
    places = {DT_SYMTAB: at, DT_STRTAB: at + len(table), hash_tag: at + len(table) + len(names)}
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in places.items()) + bytes(16)
    body = table + names + hashes
    dynamic_at = 0x200 + len(body) + 7 & ~7
    phdrs = [
        (1, 5, 0, base, base, PAGE, PAGE, PAGE),
        (1, 6, PAGE, base + PAGE, base + PAGE, data_pages * PAGE, data_pages * PAGE, PAGE),
        (PT_DYNAMIC, 4, dynamic_at, base + dynamic_at, base + dynamic_at, len(dynamic), len(dynamic), 8),
        (PT_NOTE, 4, 0x180, base + 0x180, base + 0x180, 36, 36, 4),
    ]
    e_shoff = (1 + data_pages) * PAGE if sections else 0
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base, 64, e_shoff, 0, 64, 56, len(phdrs), 64, sections, 0
    )
    head += b"".join(struct.pack("<IIQQQQQQ", *phdr) for phdr in phdrs)
    head = head.ljust(0x180, b"\0") + struct.pack("<III", 4, 20, 3) + b"GNU\0" + bytes(range(1, 21))
    return (head.ljust(0x200, b"\0") + body).ljust(dynamic_at, b"\0") + dynamic


def program(symbols: dict[str, int], data_pages: int = 1) -> bytes:
    """The file of a program with some pages of data, whose names of functions and data are in .symtab alone."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    table = bytes(24)
    for name, address in symbols.items():
        table += struct.pack("<IBBHQQ", names.index(name.encode()), 0x11, 0, 2, address, 8)
    end = (1 + data_pages) * PAGE
    at = end + 3 * 64
    rows = [(0,) * 10, (0, 2, 0, 0, at, len(table), 2, 1, 8, 24), (0, 3, 0, 0, at + len(table), len(names), 0, 0, 1, 0)]
    first = image(EXE, {}, data_pages, sections=3).ljust(end, b"\0")
    return first + b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in rows) + table + names


def process(
    space: Space, path: str, symbols: dict[str, int], data_pages: int, *, gnu: bool = False, sections: int = 0,
    stack_pointers: Sequence[int] = (), thread_pointer: int = 0,
) -> bytes:  # fmt: skip
    """A core of a program whose data and heap are ``space``, and some pages that nothing leads to.

    ``thread_pointer`` is the first thread's.
    """
    first = image(EXE, symbols, data_pages, gnu=gnu, sections=sections).ljust(PAGE, b"\0")
    files = [
        (EXE, EXE + PAGE, 0, path),
        (EXE + PAGE, EXE + (1 + data_pages) * PAGE, PAGE, path),
    ]
    for n in range(UNUSED_PAGES):
        space.put(UNUSED + n * PAGE, b"unused")
    loads = [Load(EXE, first, flags="r-x"), *space.loads()]
    first_thread, *notes = kernel_notes(files, stack_pointers=stack_pointers)  # type: ignore[arg-type]
    if thread_pointer:
        first_thread = nt_prstatus(PID, stack_pointer=stack_pointers[0], thread_pointer=thread_pointer)
    return make_core(loads, [first_thread, *notes])


def go_core(
    version: str = "go1.19.8", count: int = 5, *, allgs: int = 0x100, sections: int = 0, data_pages: int = 1,
    info_page: int = 0, on: str = "signals",
) -> Made:  # fmt: skip
    """Go: as many goroutines, each with a stack of two pages of which the upper one is in use; the last has ended.

    Build information is in the data's page ``info_page``, in which another mapping begins. ``on`` says what stack the
    thread is on: one of C's for "signals", the second goroutine's, or g0's, in whose m its thread pointer points.
    """
    minor = int(version.split(".")[1])
    space, data = Space(), EXE + PAGE
    for n in range(data_pages):
        space.put(data + n * PAGE, b"\0data")
    space.breaks.add(data // PAGE + info_page)
    told = b"\xff Go buildinf:" + b"\x08\x02" + bytes(16) + bytes([len(version)]) + version.encode()
    space.put(data + info_page * PAGE, told)
    array = HEAP
    space.words(data + allgs, array, count, count + 3)
    needed = [data + allgs, data + info_page * PAGE, array]
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
    # The first one runs: what a signal saved on another stack says where, in the page below what it last saved.
    machine, running = HEAP + 0x80000, HEAP + 0x10000 + PAGE - 128
    space.words(HEAP + 0x400 + 48, machine)
    space.words(machine, 0)
    needed.append(machine)
    pointer, storage = STACK + PAGE, 0
    if on == "signals":
        space.words(STACK + PAGE, 0, running, 0)
        needed.append(running)
    elif on == "goroutine":
        pointer = HEAP + 0x10000 + 3 * PAGE + 512
    else:
        # g0 and gsignal have stacks of two pages; it is the upper one of g0's that is in use.
        g0, signals, stack, storage = HEAP + 0x84000, HEAP + 0x85000, HEAP + 0x88000, machine + 144
        space.words(machine, g0)
        space.words(machine + 72, PID, signals)
        space.words(storage - 8, g0)
        for at, low in ((g0, stack), (signals, stack + 2 * PAGE)):
            space.words(at, low, low + 2 * PAGE)
            space.words(at + 48, machine)
            space.words(at + 440, 0)
            space.words(low, 1)
            space.words(low + PAGE, 1)
        pointer = stack + PAGE + 512
        needed += [g0, signals, pointer]
    core = process(
        space, "/usr/bin/service", {}, data_pages, sections=sections, stack_pointers=[pointer], thread_pointer=storage
    )
    return Made(core, needed)


class _Python:
    """Objects of CPython 3.11, one behind the other."""

    def __init__(self) -> None:
        self.space, self.at, self.types = Space(), HEAP + 0x1000, dict[str, int]()
        for name in (
            "type",
            "str",
            "bytes",
            "tuple",
            "int",
            "code",
            "dict",
            "list",
            "bool",
            "set",
            "Point",
            "function",
        ):
            self.types[name] = kind = self.room(904)
            text = self.room(16)
            self.space.put(text, name.encode() + b"\0")
            self.space.words(kind, 1, self.types["type"], 0, text)
            # Py_TPFLAGS_HEAPTYPE and Py_TPFLAGS_TUPLE_SUBCLASS.
            self.space.words(kind + 168, 1 << 9 | 1 << 26 if name == "Point" else 0)
        self.space.words(self.types["Point"] + 880, self.text("Point"))

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

    def number(self, value: int, kind: str = "int") -> int:
        """An int of one digit, or a bool."""
        at = self.room(64)
        self.space.words(at, 1, self.types[kind], 1)
        self.space.put(at + 24, struct.pack("<I", value))
        return at

    def listed(self, *values: int) -> list[int]:
        """A list, and its array."""
        at, array = self.room(64), self.room(8 * len(values))
        self.space.words(at, 1, self.types["list"], len(values), array)
        self.space.words(array, *values)
        return [at, array]

    def table(self, entries: dict[int, int], *, split: bool = False, unicode: bool = True) -> list[int]:
        """A dict, its keys, and its values where those are apart."""
        at, keys, values = self.room(64), self.room(256), self.room(64)
        self.space.words(at, 1, self.types["dict"], len(entries), 0, keys, values if split else 0)
        self.space.put(keys + 8, bytes([3, 3, int(unicode)]))
        self.space.words(keys + 24, len(entries))
        width = 2 if unicode else 3
        for n, (key, value) in enumerate(entries.items()):
            self.space.words(keys + 40 + 8 * width * n, *([] if unicode else [1]), key, 0 if split else value)
            self.space.words(values + 8 * n, value)
        return [at, keys, *([values] if split else [])]

    def locals(self, name: str) -> tuple[int, list[int]]:
        """A tuple with something of each type, and all that is to be kept of it."""
        text, number, yes, raw = self.text(name), self.number(7), self.number(1, "bool"), self.data(b"raw")
        listed, inner = self.listed(number, yes), self.text(f"in {name}")
        tables = [
            self.table({text: inner}),
            self.table({text: inner}, split=True),
            self.table({number: inner}, unicode=False),
        ]
        point, some = self.items(number, text), self.room(64)
        self.space.words(point + 8, self.types["Point"])
        self.space.words(some, 1, self.types["set"], 1)
        at = self.items(text, raw, listed[0], *(table[0] for table in tables), point, some, 3)
        needed = [
            text,
            number,
            yes,
            raw,
            inner,
            point,
            some,
            at,
            *listed,
            *(place for table in tables for place in table),
        ]
        return at, needed

    def builtin(self) -> tuple[int, list[int]]:
        """A function of C, and what names it."""
        at, method, text = self.room(64), self.room(32), self.room(16)
        self.space.put(text, b"acquire\0")
        self.space.words(method, text)
        self.space.words(at, 1, self.types["function"], method, self.text("self"))
        return at, [at, method, text]

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


def python_core(path: str = "/usr/bin/python3.11", *, endless: bool = False, gnu: bool = False) -> Made:
    """CPython: one interpreter, two threads of three frames and one; ``endless``: the first's frames go in a circle."""
    made = _Python()
    space, runtime = made.space, EXE + PAGE + 0x100
    interpreter, needed = made.room(4096), []
    space.words(runtime + 40, interpreter)
    after = 0
    for depth in (1, 3):
        frame, first = 0, 0
        for n in range(depth):
            local, kept = made.locals(f"local {n}")
            needed += kept
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
    function, kept = made.builtin()
    space.words(STACK + PAGE, 0, function, 8, 1)
    symbols = {"_PyRuntime": runtime, "PyCFunction_Type": made.types["function"], "other": runtime}
    core = process(space, path, symbols, 1, gnu=gnu, stack_pointers=[STACK + PAGE])
    return Made(core, [*needed, *kept, interpreter, runtime])
