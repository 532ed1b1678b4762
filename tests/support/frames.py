"""A core of x86-64 with call frame information that tests write themselves, and a stack to unwind with it."""

from __future__ import annotations

import struct

from support.builder import Load, Note, kernel_notes, make_core, note_bytes, nt_prstatus, page

BASE, TABLES, HEAP, STACK = 0x400000, 0x400200, 0x800000, 0x7FFF0000
PROGRAM = "/bin/victim"
BUILD_ID = b"\x5a" * 20
_NOTE = note_bytes([Note("GNU", 3, BUILD_ID)])


def image(tables: bytes) -> bytes:
    """A program of one page at BASE: its headers, a build-id, and at TABLES what PT_GNU_EH_FRAME means."""
    phdrs = [
        (1, 5, 0, BASE, 0x1000),
        (4, 4, 0x180, BASE + 0x180, len(_NOTE)),
        (0x6474E550, 4, 0x200, TABLES, len(tables)),
    ]
    raw = (
        b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(phdrs), 0, 0, 0)
    )
    for kind, flags, offset, vaddr, size in phdrs:
        raw += struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, vaddr, size, size, 8)
    return page(raw.ljust(0x180, b"\0") + _NOTE.ljust(0x80, b"\0") + tables[:0xE00])


def core_of(
    tables: bytes, words: list[int], *, pc: int = 0x400800, raw_stack: bytes = b"", uid: int = 0, heap: int = 0
) -> bytes:
    """A core whose only thread is at ``pc`` with ``words``, then ``raw_stack``, at its stack pointer, STACK + 0x800.

    ``heap`` is the size of its anonymous memory, in pages.
    """
    stack = bytes(0x800) + struct.pack(f"<{len(words)}Q", *words) + raw_stack
    status = bytearray(nt_prstatus(77).desc)
    struct.pack_into("<Q", status, 112 + 16 * 8, pc)
    struct.pack_into("<Q", status, 112 + 19 * 8, STACK + 0x800)
    notes = kernel_notes([(BASE, BASE + 0x1000, 0, PROGRAM)], {3: BASE + 64})
    owner = bytearray(notes[1].desc)
    struct.pack_into("<I", owner, 16, uid)
    loads = [Load(BASE, image(tables), flags="r-x"), Load(STACK, page(stack[:0x4000], 4).ljust(0x4000, b"\0"))]
    if heap:
        loads.insert(1, Load(HEAP, page(b"h", heap)))
    return make_core(loads, [Note("CORE", 1, bytes(status)), Note("CORE", 3, bytes(owner)), *notes[2:]])


def cie(instructions: bytes = b"\x0c\7\x08\x90\1", augmentation: bytes = b"zR") -> bytes:
    """A common entry: CFA is rsp + 8, the return address stands below it; addresses are relative, of 4 bytes."""
    body = struct.pack("<IB", 0, 1) + augmentation + b"\0\1\x78\x10\1\x1b" + instructions
    body = body.ljust(-(-len(body) // 4) * 4, b"\0")
    return struct.pack("<I", len(body)) + body


def tables(functions: list[tuple[int, int, bytes]], first: bytes | None = None) -> bytes:
    """.eh_frame_hdr and .eh_frame behind it, of (start, size, instructions), as they stand at TABLES."""
    first = cie() if first is None else first
    at = TABLES + 12 + 8 * len(functions)
    frame, rows, here = first, [], at + len(first)
    for start, size, instructions in functions:
        body = struct.pack("<iI", start - (here + 8), size) + b"\0" + instructions
        body = body.ljust(-(-len(body) // 4) * 4, b"\0")
        frame += struct.pack("<II", len(body) + 4, here + 4 - at) + body
        rows.append((start - TABLES, here - TABLES))
        here += len(body) + 8
    head = b"\1\x1b\3\x3b" + struct.pack("<iI", at - (TABLES + 4), len(rows))
    return head + b"".join(struct.pack("<ii", *row) for row in sorted(rows)) + frame


def crash_core(function: int = 0, *, uid: int = 0, heap: int = 0) -> bytes:
    """A core whose three frames are certain; another ``function`` is another crash."""
    first, second, third = 0x400800 + 0x40 * function, 0x400900, 0x400A00
    functions = [(first, 0x40, b"\x41\x0e\x10"), (second, 0x40, b"\x0e\x28"), (third, 0x40, b"\x07\x10")]
    return core_of(tables(functions), [0, second + 5, 1, 2, 3, 4, third + 7], pc=first + 4, uid=uid, heap=heap)
