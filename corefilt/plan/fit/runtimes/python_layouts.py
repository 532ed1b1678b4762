"""Where CPython has the fields of its structures: a table up to 3.12, from 3.13 on what the runtime publishes.

The table is what offsetof gives with the headers of Debian's 3.11.2 and of 3.12.1; 3.13's and 3.14's _Py_DebugOffsets
are read in the order of Include/internal/pycore_runtime.h (3.13) and pycore_debug_offsets.h (3.14). Tried on cores:
3.11, 3.12 and 3.13. 3.14 is untested.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.plan.fit.runtimes.reader import MemoryReader

COOKIE = b"xdebugpy"
MOST_OF_OFFSETS = 1 << 10
# A field that lies further in than this is no field; interpreters take 383,552 bytes in 3.12.
MOST_OF_A_STRUCTURE = 1 << 20
# Py_TPFLAGS_HEAPTYPE is the same bit in all of these versions.
HEAP_TYPE = 1 << 9
# enum _frameowner: from here on it is the runtime that owns a frame (3.12 and later).
OWNED_BY_RUNTIME = 3


class PythonLayout(NamedTuple):
    """Offsets in bytes: of the runtime, interpreters, threads, frames, code objects, and of the objects in them.

    ``through`` is where a thread has the structure that has the frame (None: it has the frame itself).
    """

    version: tuple[int, int]
    interpreters: int
    interpreter_next: int
    threads: int
    # Where an interpreter has its dictionaries of modules, of sys and of builtins, by which pystack knows it.
    dictionaries: tuple[int, ...]
    thread_next: int
    thread_size: int
    through: int | None
    frame: int
    previous: int
    code: int
    localsplus: int
    # Who a frame belongs to, a byte; from OWNED_BY_RUNTIME on it is none of Python's code.
    owner: int
    filename: int
    name: int
    qualname: int
    linetable: int
    localsplusnames: int
    localspluskinds: int
    nlocalsplus: int
    instructions: int
    # A str begins with this much where it is ASCII, and where it is not.
    ascii: int
    compact: int
    # Where a heap type has its cached keys, and how long it is; a static type is ``type_size`` long.
    heap_type: int
    type_size: int
    # Whether the lowest bits of a reference in a frame are tags.
    tagged: bool = False


TABLE = {
    (3, 11): PythonLayout(
        (3, 11), interpreters=40, interpreter_next=0, threads=16, dictionaries=(888, 904, 912), thread_next=8,
        thread_size=360, through=56, frame=8, previous=48, code=32, localsplus=72, owner=69, filename=112, name=120,
        qualname=128, linetable=136, localsplusnames=96, localspluskinds=104, nlocalsplus=76, instructions=184,
        ascii=48, compact=72, heap_type=904, type_size=408,
    ),
    (3, 12): PythonLayout(
        (3, 12), interpreters=40, interpreter_next=0, threads=72, dictionaries=(944, 352, 360), thread_next=8,
        thread_size=288, through=56, frame=0, previous=8, code=0, localsplus=72, owner=70, filename=112, name=120,
        qualname=128, linetable=136, localsplusnames=96, localspluskinds=104, nlocalsplus=72, instructions=192,
        ascii=40, compact=56, heap_type=920, type_size=416,
    ),
}  # fmt: skip

# The sections of _Py_DebugOffsets behind cookie, version and free_threaded: names of 64-bit numbers, as many as are
# needed here.
_PUBLISHED = {
    (3, 13): (
        "runtime: size finalizing interpreters",
        "interpreter: size id next threads gc modules sysdict builtins gil gil_state enabled locked holder",
        "thread: size prev next interp frame thread_id native_id chunk status",
        "frame: size previous code instr localsplus owner",
        "code: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds instructions",
        "object: size type", "type: size name repr flags", "tuple: size item length", "list: size item length",
        "dict: size keys values", "float: size value", "long: size tag digit", "bytes: size length value",
        "str: size state length ascii",
    ),
    (3, 14): (
        "runtime: size finalizing interpreters",
        "interpreter: size id next threads threads_main gc modules sysdict builtins gil gil_state enabled locked "
        "holder code_generation tlbc",
        "thread: size prev next interp frame thread_id native_id chunk status",
        "frame: size previous code instr localsplus owner stackpointer tlbc_index",
        "code: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds instructions "
        "tlbc",
        "object: size type", "type: size name repr flags", "tuple: size item length", "list: size item length",
        "set: size used table mask", "dict: size keys values", "float: size value", "long: size tag digit",
        "bytes: size length value", "str: size state length ascii",
    ),
}  # fmt: skip


def published(raw: bytes, order: str) -> PythonLayout | str:
    """The layout that a runtime publishes at its beginning, or why it cannot be used."""
    if raw[:8] != COOKIE or len(raw) < 24:
        return "it publishes no offsets"
    version, free_threaded = struct.unpack_from(order + "QQ", raw, 8)
    found = version >> 24 & 0xFF, version >> 16 & 0xFF
    sections = _PUBLISHED.get(found)
    if sections is None:
        return f"CPython {found[0]}.{found[1]} is not known"
    if free_threaded:
        return "free-threaded CPython is not known"
    names = [f"{name}.{field}" for name, _, fields in (s.partition(": ") for s in sections) for field in fields.split()]
    if len(raw) < 24 + 8 * len(names):
        return "its offsets are cut short"
    at = dict(zip(names, struct.unpack_from(f"{order}{len(names)}Q", raw, 24), strict=True))
    if max(at.values()) > MOST_OF_A_STRUCTURE:
        return "its offsets are not those of CPython"
    return PythonLayout(
        found,
        interpreters=at["runtime.interpreters"],
        interpreter_next=at["interpreter.next"],
        threads=at["interpreter.threads"],
        dictionaries=tuple(at[f"interpreter.{name}"] for name in ("modules", "sysdict", "builtins")),
        thread_next=at["thread.next"],
        thread_size=at["thread.size"],
        through=None,
        frame=at["thread.frame"],
        previous=at["frame.previous"],
        code=at["frame.code"],
        localsplus=at["frame.localsplus"],
        owner=at["frame.owner"],
        filename=at["code.filename"],
        name=at["code.name"],
        qualname=at["code.qualname"],
        linetable=at["code.linetable"],
        localsplusnames=at["code.localsplusnames"],
        localspluskinds=at["code.localspluskinds"],
        # co_nlocalsplus follows co_firstlineno.
        nlocalsplus=at["code.firstlineno"] + 4,
        instructions=at["code.instructions"],
        ascii=at["str.ascii"],
        # PyCompactUnicodeObject has a length and a pointer more.
        compact=at["str.ascii"] + 16,
        heap_type=928,
        type_size=at["type.size"],
        tagged=found >= (3, 14),
    )


def layout_at(reader: MemoryReader, runtime: int, version: tuple[int, int] | None) -> PythonLayout | str:
    """The layout for the runtime at an address; ``version`` is what its file's name says."""
    if reader.has(runtime, 8) and reader.data(runtime, 8) == COOKIE:
        length = MOST_OF_OFFSETS
        while length > 24 and not reader.has(runtime, length):
            length //= 2
        return published(reader.data(runtime, length), reader.order)
    found = TABLE.get(version) if version is not None else None
    if found is None:
        return f"CPython {version[0]}.{version[1]} is not known" if version else "its version is not known"
    return found
