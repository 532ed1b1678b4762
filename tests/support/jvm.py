"""A JVM that is made by hand: libjvm's tables of its own structures, three threads, code, methods and a little heap.

Nothing here imports corefilt. The tables say where each field is, so the places are any; code heaps, frames and
scopes are OpenJDK 17's (or 21's) for x86-64.
"""

from __future__ import annotations

import struct
from functools import cache

from support.builder import EM_X86_64, Load, Note, kernel_notes, make_core
from support.runtimes import EXE, HEAP, STACK, UNUSED, UNUSED_PAGES, Made, Space, image
from support.samples import PAGE

JAVA, CODE = 0x20000000, 0x7E8000000000
LIBJVM = "/usr/lib/jvm/lib/server/libjvm.so"
DATA_PAGES = 4
# Where pr_reg of x86-64 has rbp, rip and rsp, in the descriptor of an NT_PRSTATUS.
RBP, RIP, RSP = 112 + 8 * 4, 112 + 8 * 16, 112 + 8 * 19
IN_NATIVE, IN_JAVA = 4, 8
SEGMENT_LOG2 = 7

# The size of each type, and its fields with their types.
TYPES: dict[str, tuple[int, dict[str, tuple[int, str]]]] = {
    "GrowableArrayBase": (8, {"_len": (0, "int")}),
    "GrowableArray<int>": (16, {"_data": (8, "int*")}),
    "VirtualSpace": (48, {"_low_boundary": (0, "char*"), "_high_boundary": (8, "char*"), "_low": (16, "char*")}),
    "CodeHeap": (128, {
        "_memory": (0, "VirtualSpace"), "_segmap": (48, "VirtualSpace"), "_log2_segment_size": (96, "int"),
    }),
    "HeapBlock": (16, {}),
    "CodeBlob": (104, {
        "_name": (96, "const char*"), "_size": (12, "int"), "_frame_size": (28, "int"), "_code_begin": (32, "address"),
        "_oop_maps": (80, "ImmutableOopMapSet*"),
    }),
    "ImmutableOopMapSet": (16, {"_size": (4, "int")}),
    "CompiledMethod": (200, {"_scopes_data_begin": (120, "address"), "_deopt_handler_begin": (128, "address")}),
    "nmethod": (352, {
        "_oops_offset": (256, "int"), "_nmethod_end_offset": (296, "int"), "_orig_pc_offset": (300, "int"),
        "_scopes_pcs_offset": (268, "int"), "_dependencies_offset": (272, "int"),
    }),
    "PcDesc": (16, {"_pc_offset": (0, "int"), "_scope_decode_offset": (4, "int")}),
    "Method": (88, {"_constMethod": (8, "ConstMethod*")}),
    "ConstMethod": (56, {
        "_constants": (8, "ConstantPool*"), "_constMethod_size": (24, "int"), "_name_index": (34, "u2"),
        "_signature_index": (36, "u2"), "_method_idnum": (38, "u2"),
    }),
    "ConstantPool": (64, {"_pool_holder": (24, "InstanceKlass*"), "_length": (60, "int")}),
    "Klass": (208, {"_name": (24, "Symbol*"), "_layout_helper": (8, "jint")}),
    "InstanceKlass": (464, {
        "_constants": (216, "ConstantPool*"), "_methods": (400, "Array<Method*>*"), "_fields": (440, "Array<u2>*"),
    }),
    "Array<Method*>": (16, {"_data": (8, "Method*")}),
    "Symbol": (8, {"_length": (4, "u2"), "_body": (6, "u1")}),
    "CollectedHeap": (64, {"_reserved": (16, "MemRegion")}),
    "MemRegion": (16, {"_start": (0, "HeapWord*"), "_word_size": (8, "size_t")}),
    "oopDesc": (16, {"_metadata._klass": (8, "Klass*")}),
    "ThreadsList": (32, {"_length": (0, "uint"), "_threads": (8, "JavaThread**")}),
    "JavaThread": (900, {
        "_anchor": (656, "JavaFrameAnchor"), "_osthread": (560, "OSThread*"), "_threadObj": (648, "OopHandle"),
        "_current_pending_monitor": (776, "ObjectMonitor*"), "_current_waiting_monitor": (784, "ObjectMonitor*"),
        "_thread_state": (824, "int"),
    }),
    "JavaFrameAnchor": (24, {
        "_last_Java_sp": (0, "intptr_t*"), "_last_Java_pc": (8, "address"), "_last_Java_fp": (16, "intptr_t*"),
    }),
    "JavaCallWrapper": (64, {"_anchor": (32, "JavaFrameAnchor")}),
    "OSThread": (216, {"_thread_id": (208, "pid_t")}),
    "ObjectMonitor": (128, {"_object": (8, "WeakHandle")}),
    "FileMapInfo": (32, {"_header": (8, "FileMapHeader*")}),
    "FileMapHeader": (600, {"_mapped_base_address": (592, "char*")}),
}  # fmt: skip


class _Machine:
    """Objects of HotSpot, one behind the other, each on pages of its own so that what is kept shows."""

    def __init__(self, major: int) -> None:
        self.space, self.at, self.needed = Space(), HEAP + 0x1000, list[int]()
        self.major = major
        self.statics: dict[tuple[str, str], tuple[str, int]] = {}
        self.data = EXE + PAGE + 0x1000

    def room(self, size: int, *, needed: bool = True) -> int:
        at, self.at = self.at, self.at + -(-size // PAGE) * PAGE
        self.space.put(at, bytes(size))
        if needed:
            self.needed.append(at)
        return at

    def make(self, kind: str, **fields: int) -> int:
        """An object of a type, with some of its fields."""
        at = self.room(TYPES[kind][0])
        self.set(at, kind, **fields)
        return at

    def set(self, at: int, kind: str, **fields: int) -> None:
        for name, value in fields.items():
            place, of = TYPES[kind][1][name]
            self.number(at + place, value, {"u2": 2, "int": 4, "jint": 4, "uint": 4, "pid_t": 4}.get(of, 8))

    def number(self, at: int, value: int, size: int) -> None:
        self.space.put(at, (value % (1 << 8 * size)).to_bytes(size, "little"))

    def static(self, kind: str, name: str, of: str, value: int) -> None:
        """A static field among libjvm's data."""
        self.space.words(self.data, value)
        self.statics[kind, name] = of, self.data
        self.data += 16

    def text(self, value: str) -> int:
        at = self.room(len(value) + 1, needed=False)
        self.space.put(at, value.encode() + b"\0")
        return at

    def symbol(self, value: str) -> int:
        at = self.room(8 + len(value))
        self.set(at, "Symbol", _length=len(value))
        self.space.put(at + 6, value.encode())
        return at

    # --- classes and methods ------------------------------------------------------------------------------

    def klass(self, name: str, methods: int = 1, layout: int = 32) -> int:
        """A class with an array for its methods, a constant pool of six entries, and no fields."""
        pool, array = (self.room(64 + 8 * count, needed=False) for count in (6, methods))
        fields = self.room(8)
        at = self.make("InstanceKlass", _constants=pool, _methods=array, _fields=fields)
        self.set(at, "Klass", _name=self.symbol(name), _layout_helper=layout)
        self.set(pool, "ConstantPool", _pool_holder=at, _length=6)
        return at

    def method(self, klass: int, name: str, number: int) -> int:
        """A method of a class, with its name in the class's constant pool."""
        (pool,) = struct.unpack("<Q", self.read(klass + 216, 8))
        (array,) = struct.unpack("<Q", self.read(klass + 400, 8))
        self.needed += [pool, array]
        index = 1 + 2 * number
        self.space.words(pool + 64 + 8 * index, self.symbol(name), self.symbol("()V"))
        const = self.room(56 + 40)
        self.set(const, "ConstMethod", _constants=pool, _constMethod_size=12, _name_index=index,
                 _signature_index=index + 1, _method_idnum=number)  # fmt: skip
        at = self.make("Method", _constMethod=const)
        self.space.words(array + 8 + 8 * number, at)
        return at

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.space.pages[at // PAGE][at % PAGE : at % PAGE + length])

    # --- code ---------------------------------------------------------------------------------------------

    def code_heap(self) -> None:
        segments = self.room(PAGE)
        heap = self.make("CodeHeap", _log2_segment_size=SEGMENT_LOG2)
        self.set(heap, "VirtualSpace", _low_boundary=CODE, _high_boundary=CODE + 16 * PAGE)
        self.set(heap + 48, "VirtualSpace", _low=segments)
        heaps, array = self.room(8), self.room(16)
        self.space.words(heaps, heap)
        self.set(array, "GrowableArrayBase", _len=1)
        self.set(array, "GrowableArray<int>", _data=heaps)
        self.static("CodeCache", "_heaps", "GrowableArray<CodeHeap*>*", array)
        self.segments, self.code = segments, CODE
        self.space.put(segments, b"\xff" * (16 * PAGE >> SEGMENT_LOG2))

    def blob(self, name: str, frame_size: int, size: int = 2 * PAGE) -> int:
        """A blob in the code heap; its code begins behind 512 bytes."""
        block, self.code = self.code, self.code + -(-size // PAGE) * PAGE
        count = size >> SEGMENT_LOG2
        first = block - CODE >> SEGMENT_LOG2
        self.space.put(self.segments + first, bytes(min(n, 254) for n in range(count)))
        at = block + 16
        self.space.put(block, bytes(size))
        self.set(at, "CodeBlob", _size=size - 16, _frame_size=frame_size, _code_begin=at + 512, _name=self.text(name))
        self.needed.append(at)
        return at

    def compiled(self, method: int, scopes: dict[int, int], frame_size: int) -> int:
        """A compiled method: at each offset of its code, a depth of inlining."""
        at = self.blob("nmethod", frame_size)
        pcs, data, end = PAGE + 256, PAGE + 1024, PAGE + 1536
        self.set(at, "nmethod", _oops_offset=PAGE, _nmethod_end_offset=end, _scopes_pcs_offset=pcs, _orig_pc_offset=8,
                 _dependencies_offset=pcs + 16 * (len(scopes) + 2))  # fmt: skip
        self.set(at, "CompiledMethod", _scopes_data_begin=at + data, _deopt_handler_begin=at + 700)
        self.space.words(at + PAGE, method)
        # Scope n stands 200 * n bytes behind the begin and has n - 1 as its sender; the numbers take two bytes then.
        for depth in range(1, 3):
            self.space.put(at + data + 200 * depth, self.unsigned5(200 * (depth - 1)))
        rows = [(-1, 0), *((offset, 200 * depth) for offset, depth in scopes.items()), (0x7FFF, 0)]
        for n, row in enumerate(rows):
            self.space.put(at + pcs + 16 * n, struct.pack("<ii", *row))
        return at

    def unsigned5(self, value: int) -> bytes:
        """A number as JDK 17 compresses it, or as JDK 20 and later do, which write no zero."""
        shift = int(self.major >= 20)
        if value < 192 - shift:
            return bytes([value + shift])
        low = 192 - shift + (value - (192 - shift)) % 64
        return bytes([low + shift, (value - low >> 6) + shift])

    # --- the heap, threads --------------------------------------------------------------------------------

    def oop(self, at: int, klass: int, *words: int) -> None:
        """An object of Java with a compressed class pointer, which has shift 0 here as narrow oops have 3."""
        self.space.put(at, bytes(64))
        self.space.put(at, struct.pack("<QI", 1, klass - HEAP))
        self.space.put(at + 12, struct.pack(f"<{len(words)}I", *words))
        self.needed.append(at)

    def thread(self, number: int, name: str, klasses: tuple[int, int, int], state: int) -> int:
        """A JavaThread, its OSThread, its java.lang.Thread, and the name of that."""
        there = JAVA + number * 0x10000
        thread_class, string, array = klasses
        self.oop(there, thread_class, 0, (there + 0x1000) >> 3)
        self.oop(there + 0x1000, string, 0, (there + 0x2000) >> 3)
        self.oop(there + 0x2000, array, len(name))
        self.space.put(there + 0x2010, name.encode())
        handle = self.room(8)
        self.space.words(handle, there)
        return self.make("JavaThread", _osthread=self.make("OSThread", _thread_id=4242 + number), _threadObj=handle,
                         _thread_state=state)  # fmt: skip

    # --- libjvm's tables ----------------------------------------------------------------------------------

    def tables(self) -> dict[str, int]:
        """Write them, and what they are found by; returns the symbols."""
        names: dict[str, int] = {}
        strings = HEAP + 0xE0000
        for word in {"", *TYPES, *(of for _, of in self.static_names())}:
            names[word] = strings
            strings = self._string(strings, word)
        entries, at = HEAP + 0xD0000, HEAP + 0xD0000
        rows: list[tuple[str, str, str, int, int, int]] = []
        for kind, (_, fields) in TYPES.items():
            rows += [(kind, name, of, 0, place, 0) for name, (place, of) in fields.items()]
        rows += [(kind, name, of, 1, 0, address) for (kind, name), (of, address) in self.statics.items()]
        for kind, name, of, is_static, place, address in rows:
            for word in (kind, name, of):
                if word not in names:
                    names[word] = strings
                    strings = self._string(strings, word)
            self.space.words(at, names[kind], names[name], names[of], is_static, place, address)
            at += 48
        self.space.words(at, *[0] * 6)
        types, at = at + 48, at + 48
        for kind, (size, _) in TYPES.items():
            self.space.words(at, names[kind], size)
            at += 16
        self.space.words(at, 0, 0)
        symbols = {"gHotSpotVMStructs": entries, "gHotSpotVMTypes": types}
        for n, name in enumerate(("TypeName", "FieldName", "TypeString", "IsStatic", "Offset", "Address")):
            symbols[f"gHotSpotVMStructEntry{name}Offset"] = 8 * n
        symbols |= {"gHotSpotVMStructEntryArrayStride": 48, "gHotSpotVMTypeEntryTypeNameOffset": 0,
                    "gHotSpotVMTypeEntrySizeOffset": 8, "gHotSpotVMTypeEntryArrayStride": 16}  # fmt: skip
        places = {}
        for n, (name, value) in enumerate(symbols.items()):
            places[name] = EXE + PAGE + 0x100 + 8 * n
            self.space.words(places[name], value)
        return places

    def static_names(self) -> list[tuple[str, str]]:
        return list(self.statics)

    def _string(self, at: int, word: str) -> int:
        self.space.put(at, word.encode() + b"\0")
        return at + len(word) + 1


@cache
def java_core(major: int = 17, *, machine: int = EM_X86_64, running: str = "compiled", place: int = 40) -> Made:
    """HotSpot: a thread of an interpreted, a compiled (with one inlined) and a native frame; one that runs; one idle.

    The ``running`` thread is in compiled code, between two places that are described, called from an interpreted
    method; or in that, or elsewhere. The compiled frame of the other one returns to a ``place``; 40 is described.
    """
    made = _Machine(major)
    space = made.space
    klass = made.klass("app/Main", methods=2)
    first, second = made.method(klass, "first", 0), made.method(klass, "second", 1)
    klasses = made.klass("java/lang/Thread"), made.klass("java/lang/String", layout=24), made.klass("[B")
    # Klass::array_layout_helper: an array of bytes with a header of 16 bytes.
    made.set(klasses[2], "Klass", _layout_helper=0xC0100800)
    made.code_heap()
    interpreter, stub = made.blob("Interpreter", 0), made.blob("StubRoutines (1)", 0)
    native = made.blob("native nmethod", 6)
    made.set(native, "nmethod", _oops_offset=PAGE, _nmethod_end_offset=PAGE + 64)
    compiled = made.compiled(second, {40: 2, 80: 1}, 8)
    call_stub = stub + 600

    def interpreted(fp: int, method: int, caller: tuple[int, int, int]) -> None:
        """A frame at ``fp``: the caller's sp, pc and fp."""
        sp, pc, caller_fp = caller
        space.words(fp - 24, method, 0, sp, caller_fp, pc)

    def entry(fp: int, last: tuple[int, int, int] = (0, 0, 0)) -> None:
        """A call stub's frame: where the frames go on that called the machine (sp, pc, fp)."""
        sp, pc, last_fp = last
        made.set(fp + 64 + 32, "JavaFrameAnchor", _last_Java_sp=sp, _last_Java_pc=pc, _last_Java_fp=last_fp)
        space.words(fp - 48, fp + 64)

    for n in range(3):
        space.put(STACK + n * 8 * PAGE, bytes(8 * PAGE))
    threads = [
        made.thread(0, "main", klasses, IN_NATIVE),
        made.thread(1, "spinner", klasses, IN_JAVA),
        made.thread(2, "idle", klasses, IN_NATIVE),
    ]
    # native <- interpreted <- compiled (two methods) <- call stub <- deoptimized (one method) <- call stub
    sp = STACK + PAGE
    space.words(sp - 8, native + 520)
    made.set(threads[0] + 656, "JavaFrameAnchor", _last_Java_sp=sp, _last_Java_pc=native + 520, _last_Java_fp=0)
    fp = sp + 256
    space.words(sp + 8 * 4, fp, interpreter + 600)
    under = fp + 64
    interpreted(fp, first, (under, compiled + 512 + place, 0))
    space.words(under + 8 * 6, under + 512, call_stub)
    above = under + 1024
    entry(under + 512, (above, compiled + 700, 0))
    space.words(above + 8, compiled + 512 + 80)
    space.words(above + 8 * 6, above + 512, call_stub)
    entry(above + 512)
    # An object that a frame has locked.
    made.oop(JAVA + 0x50000, klass)
    space.words(above + 800, JAVA + 0x50000)
    # compiled, at no place that is described <- interpreted <- call stub
    sp = STACK + 9 * PAGE
    space.words(sp + 16 + 8 * 6, sp + 512, interpreter + 700)
    interpreted(sp + 512, second, (sp + 600, call_stub, sp + 900))
    entry(sp + 900)
    heap = made.room(64)
    made.static("Universe", "_collectedHeap", "CollectedHeap*", heap)
    made.set(heap + 16, "MemRegion", _start=JAVA, _word_size=0x100000 // 8)
    made.static("CompressedOops", "_narrow_oop._base", "address", 0)
    made.static("CompressedOops", "_narrow_oop._shift", "int", 3)
    made.static("CompressedKlassPointers", "_narrow_klass._base", "address", HEAP)
    made.static("CompressedKlassPointers", "_narrow_klass._shift", "int", 0)
    made.static("vmClasses", "_klasses[0]", "InstanceKlass*", klasses[0])
    made.static("StubRoutines", "_call_stub_return_address", "address", call_stub)
    made.static("Abstract_VM_Version", "_vm_major_version", "int", major)
    header = made.room(600)
    made.static("FileMapInfo", "_current_info", "FileMapInfo*", made.make("FileMapInfo", _header=header))
    monitor = made.make("ObjectMonitor")
    lock = made.room(8)
    made.oop(JAVA + 0x40000, klass)
    space.words(lock, JAVA + 0x40000)
    made.set(monitor, "ObjectMonitor", _object=lock)
    made.set(threads[2], "JavaThread", _current_waiting_monitor=monitor)
    array = made.room(24)
    space.words(array, *threads)
    listed = made.make("ThreadsList", _length=3, _threads=array)
    made.static("ThreadsSMRSupport", "_java_thread_list", "ThreadsList*", listed)
    symbols = made.tables()
    # An object that nothing of a stack or thread leads to.
    made.room(PAGE, needed=False)
    space.put(JAVA + 0x80000, b"an object")
    at = {"compiled": (STACK + 9 * PAGE, compiled + 512 + 60, 0), "elsewhere": (STACK + 9 * PAGE, 0, 0),
          "interpreted": (STACK + 9 * PAGE, interpreter + 700, STACK + 9 * PAGE + 512)}  # fmt: skip
    registers = [(STACK + PAGE, 0, 0), at[running], (STACK + 17 * PAGE, 0, 0)]
    return Made(_core(space, symbols, registers, machine), made.needed)


def _core(space: Space, symbols: dict[str, int], registers: list[tuple[int, int, int]], machine: int) -> bytes:
    first = image(EXE, symbols, DATA_PAGES).ljust(PAGE, b"\0")
    for n in range(DATA_PAGES):
        space.put(EXE + (1 + n) * PAGE + 1, b"\0")
    for n in range(UNUSED_PAGES):
        space.put(UNUSED + n * PAGE, b"unused")
    files = [(EXE, EXE + PAGE, 0, LIBJVM), (EXE + PAGE, EXE + (1 + DATA_PAGES) * PAGE, PAGE, LIBJVM)]
    notes = kernel_notes(files, machine=machine, stack_pointers=[sp for sp, _, _ in registers])
    at = [n for n, note in enumerate(notes) if note.type == 1]
    for n, (sp, pc, fp) in zip(at, registers, strict=True):
        desc = bytearray(notes[n].desc)
        for place, value in ((RSP, sp), (RIP, pc), (RBP, fp)):
            struct.pack_into("<Q", desc, place, value)
        notes[n] = Note(notes[n].name, 1, bytes(desc))
    loads = [Load(EXE, first, flags="r-x"), *space.loads()]
    return make_core(loads, notes, machine=machine)
