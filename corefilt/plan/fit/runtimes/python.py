"""CPython: interpreters, threads, frames and their code objects, and locals a little deep, from _PyRuntime on.

pystack shows frames and locals of it, and gdb's py-bt what python3-dbg's macros show. Nothing is found by looking
around: every object is reached from the runtime by a field of a known type.
"""

from __future__ import annotations

import re

from corefilt.plan.fit.runtimes.images import LoadedImage
from corefilt.plan.fit.runtimes.python_layouts import HEAP_TYPE, OWNED_BY_RUNTIME, PythonLayout, layout_at
from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corefilt.plan.fit.runtimes.reader import MemoryReader
    from corefilt.plan.fit.runtimes.scene import Scene, Walk

# Where every version of these has its fields, in bytes: PyObject, PyVarObject, PyTypeObject.
TYPE, SIZE, TP_NAME, TP_FLAGS = 8, 16, 24, 168
TUPLE_ITEM, LIST_ITEM, BYTES_VALUE, DICT_KEYS, DICT_VALUES = 24, 24, 32, 32, 40
STATE, LENGTH = 32, 16
# PyDictKeysObject: the logarithms of the number of indices and of their bytes, the kind, the entries; indices.
LOG2_SIZE, LOG2_BYTES, KEYS_KIND, ENTRIES, INDICES = 8, 9, 10, 24, 32
GENERAL_KEYS = 0
# What lies before an object: the collector's head, and what leads to an instance's dictionary.
BEFORE = 32
# PyCFunctionObject: m_ml, m_self; PyMethodDef begins with ml_name.
METHOD, METHOD_SELF, METHOD_DEF = 16, 24, 32
# What any object has that is not looked into: a method's self and definition, a set's and a module's first fields.
OBJECT = 64

# Hostile cores: no program has more threads, frames or locals; a container's elements beyond so many are not shown.
MOST_INTERPRETERS = 1 << 10
MOST_THREADS = 1 << 16
MOST_FRAMES = 1 << 20
MOST_LOCALS = 1 << 12
MOST_ELEMENTS = 100
MOST_OF_A_STRING = 1 << 16
MOST_OF_A_CODE = 1 << 22
# How deep locals are kept.
DEPTH = 3

_VERSION = re.compile(rb"python(\d)\.(\d+)")


class _Interpreter:
    """One walk in the making."""

    def __init__(self, reader: MemoryReader, layout: PythonLayout) -> None:
        self._reader, self._layout = reader, layout
        self._type_names: dict[int, bytes] = {}
        self._seen: dict[int, int] = {}
        self.threads = self.frames = 0
        self.broken = 0

    def walk(self, runtime: int) -> None:
        """Every interpreter of a runtime."""
        reader, layout = self._reader, self._layout
        reader.keep(runtime, layout.interpreters + 64)
        at = reader.pointer(runtime + layout.interpreters)
        seen: set[int] = set()
        while at and at not in seen and len(seen) < MOST_INTERPRETERS:
            seen.add(at)
            reader.keep(at, max(layout.threads, layout.interpreter_next) + 2048)
            for field in layout.dictionaries:
                reader.keep(at + field, 8)
                self._object(reader.pointer(at + field), 0)
            self._threads_of(at)
            at = reader.pointer(at + layout.interpreter_next)
        if not self.threads:
            raise LostError("_PyRuntime leads to no thread")

    def _threads_of(self, interpreter: int) -> None:
        reader, layout = self._reader, self._layout
        at = reader.pointer(interpreter + layout.threads)
        seen: set[int] = set()
        while at and at not in seen and len(seen) < MOST_THREADS:
            seen.add(at)
            self.threads += 1
            reader.keep(at, layout.thread_size)
            try:
                self._frames_of(at)
            except TooMuchError:
                raise
            except LostError:
                self.broken += 1
            at = reader.pointer(at + layout.thread_next)

    def _frames_of(self, thread: int) -> None:
        reader, layout = self._reader, self._layout
        at = thread
        if layout.through is not None:
            at = reader.pointer(thread + layout.through)
            reader.keep(at, 64)
        frame = reader.pointer(at + layout.frame)
        seen: set[int] = set()
        while frame:
            if frame in seen or self.frames >= MOST_FRAMES:
                raise LostError("a chain of frames has no end")
            seen.add(frame)
            reader.keep(frame, layout.localsplus)
            code = self._reference(reader.pointer(frame + layout.code))
            if self._is_code(code):
                # A frame where C begins to call Python has a code object too, from 3.12 on.
                self.frames += reader.number(frame + layout.owner, 1) < OWNED_BY_RUNTIME
                self._code(code)
                self._locals(frame, code)
            for word in reader.words(frame, layout.localsplus // 8):
                # The function, globals, builtins and the frame object.
                self._shallow(word)
            frame = reader.pointer(frame + layout.previous)

    def _reference(self, word: int) -> int:
        return word & ~3 if self._layout.tagged else word

    def _is_code(self, code: int) -> bool:
        # From 3.12 on, None and the runtime's own trampolines stand where a frame of C begins.
        return bool(code) and self._type_name(code) == b"code"

    def _locals(self, frame: int, code: int) -> None:
        reader, layout = self._reader, self._layout
        count = reader.number(code + layout.nlocalsplus, 4)
        if count > MOST_LOCALS:
            raise LostError(f"a frame has {count} locals")
        start = frame + layout.localsplus
        reader.keep(start, 8 * count)
        for word in reader.words(start, count):
            self._object(self._reference(word), DEPTH)

    def _code(self, code: int) -> None:
        reader, layout = self._reader, self._layout
        if code in self._seen:
            return
        self._seen[code] = DEPTH
        length = layout.instructions + 2 * reader.number(code + SIZE, 8)
        if length > MOST_OF_A_CODE:
            raise LostError(f"a code object has {length} bytes")
        reader.keep(code - 16, 16 + length)
        for field in (layout.filename, layout.name, layout.qualname, layout.linetable, layout.localspluskinds):
            self._object(reader.pointer(code + field), 1)
        self._object(reader.pointer(code + layout.localsplusnames), 1, most=MOST_LOCALS)

    def builtins(self, words: Iterable[int], kind: int) -> None:
        """Built-in functions (of the type at ``kind``) that are being called: only native stacks tell of them."""
        reader, find = self._reader, self._reader.memory.find
        for word in words:
            if word & 7 or find(word) is None:
                continue
            try:
                if reader.pointer(word + TYPE) != kind:
                    continue
                self._type_name(word)
                reader.keep(word - BEFORE, BEFORE + OBJECT)
                method, itself = reader.words(word + METHOD, 2)
                reader.keep(method, METHOD_DEF)
                reader.keep_text(reader.pointer(method), 256)
                self._object(itself, 0)
            except TooMuchError:
                raise
            except LostError:
                continue

    # --- objects ------------------------------------------------------------------------------------------

    def _shallow(self, word: int) -> None:
        if word and not word & 7 and self._reader.has(word, 16):
            self._reader.keep(word, OBJECT)

    def _type_name(self, at: int) -> bytes:
        """The name of an object's type, which is kept."""
        reader, layout = self._reader, self._layout
        kind = reader.pointer(at + TYPE)
        if kind not in self._type_names:
            name = reader.pointer(kind + TP_NAME)
            self._type_names[kind] = reader.text(name, 256)
            heap = reader.number(kind + TP_FLAGS, 8) & HEAP_TYPE
            reader.keep(kind - 16, 16 + (layout.heap_type if heap else layout.type_size))
            reader.keep_text(name, 256)
            if heap:
                self._heap_type(kind)
        return self._type_names[kind]

    def _heap_type(self, kind: int) -> None:
        """What a heap type has behind PyTypeObject: its names, and the keys that its instances share."""
        reader, layout = self._reader, self._layout
        start = kind + layout.type_size
        for word in reader.words(start, (layout.heap_type - layout.type_size) // 8):
            if word and not word & 7 and reader.has(word, 64):
                reader.keep(word, OBJECT)

    def _object(self, at: int, depth: int, most: int = MOST_ELEMENTS) -> None:
        """Keep an object, and what it consists of up to a depth; what cannot be read of it is left out."""
        if not at or at & 7 or self._seen.get(at, -1) >= depth:
            return
        self._seen[at] = depth
        try:
            self._known(at, depth, most)
        except TooMuchError:
            raise
        except LostError:
            # A local that is torn costs no frame.
            return

    def _known(self, at: int, depth: int, most: int) -> None:
        reader, name = self._reader, self._type_name(at)
        reader.keep(at - BEFORE, BEFORE + OBJECT)
        if name == b"str":
            self._str(at)
        elif name == b"bytes":
            reader.keep(at, BYTES_VALUE + 1 + min(reader.number(at + SIZE, 8), MOST_OF_A_STRING))
        elif name in (b"int", b"bool"):
            # In 3.12 and later the number of digits is shifted by three, and small numbers have none.
            reader.keep(at, 24 + 4 * min(abs(reader.number(at + SIZE, 8, signed=True)), MOST_ELEMENTS))
        elif depth > 0:
            self._container(at, name, depth, most)

    def _str(self, at: int) -> None:
        reader, layout = self._reader, self._layout
        state = reader.number(at + STATE, 4)
        # struct {interned:2 (3.12: 16 bits from 3.14 on), kind:3, compact:1, ascii:1}: kind is 1, 2 or 4 bytes.
        length = reader.number(at + LENGTH, 8)
        kind, is_ascii = 4, False
        for shift in (2, 8, 16):
            if (state >> shift & 7) in (1, 2, 4) and state >> shift + 3 & 1:
                kind, is_ascii = state >> shift & 7, bool(state >> shift + 4 & 1)
                break
        reader.keep(at, min((layout.ascii if is_ascii else layout.compact) + (length + 1) * kind, MOST_OF_A_STRING))

    def _container(self, at: int, name: bytes, depth: int, most: int) -> None:
        reader = self._reader
        if name == b"tuple" or (name != b"list" and self._is_tuple(at)):
            count = min(reader.number(at + SIZE, 8), most)
            items = at + TUPLE_ITEM
        elif name == b"list":
            count = min(reader.number(at + SIZE, 8), most)
            items = reader.pointer(at + LIST_ITEM)
        elif name in (b"dict", b"collections.OrderedDict", b"collections.defaultdict"):
            self._dict(at, depth)
            return
        else:
            return
        reader.keep(items, 8 * count)
        for word in reader.words(items, count):
            self._object(word, depth - 1)

    def _is_tuple(self, at: int) -> bool:
        """Whether an object's type derives from tuple (Py_TPFLAGS_TUPLE_SUBCLASS), as named tuples do."""
        return bool(self._reader.number(self._reader.pointer(at + TYPE) + TP_FLAGS, 8) & 1 << 26)

    def _dict(self, at: int, depth: int) -> None:
        reader = self._reader
        keys, values = reader.words(at + DICT_KEYS, 2)
        reader.keep(at, 48)
        log2_bytes = min(reader.number(keys + LOG2_BYTES, 1), 32)
        count = min(reader.number(keys + ENTRIES, 8), MOST_ELEMENTS)
        start = keys + INDICES + (1 << log2_bytes)
        width = 3 if reader.number(keys + KEYS_KIND, 1) == GENERAL_KEYS else 2
        reader.keep(keys, INDICES + min(1 << log2_bytes, MOST_OF_A_STRING))
        reader.keep(start, 8 * width * count)
        entries = reader.words(start, width * count)
        for n in range(count):
            key, value = entries[n * width + width - 2 : n * width + width]
            self._object(key, 0)
            self._object(value, depth - 1)
        if values:
            reader.keep(values - 16, 16 + 8 * count)
            for word in reader.words(values, count):
                self._object(word, depth - 1)


def walk(walk: Walk, scene: Scene, path: bytes, start: int) -> None:
    """Keep what leads from _PyRuntime to every frame. Raises LostError."""
    reader = scene.reader
    if reader.word != 8:
        raise LostError("structures of 32-bit CPython are not known")
    image = LoadedImage(reader, path, start)
    runtime = image.symbol(b"_PyRuntime")
    if runtime is None:
        raise LostError("the image has no symbol _PyRuntime")
    found = _VERSION.search(path.rpartition(b"/")[2])
    layout = layout_at(reader, runtime, (int(found[1]), int(found[2])) if found is not None else None)
    if isinstance(layout, str):
        raise LostError(layout)
    interpreter = _Interpreter(reader, layout)
    interpreter.walk(runtime)
    kind = image.symbol(b"PyCFunction_Type")
    if kind is not None:
        interpreter.builtins(sorted(scene.words_of_stacks()), kind)
    walk.threads, walk.frames = interpreter.threads, interpreter.frames
    if interpreter.broken:
        walk.missing.append(f"frames of {counted(interpreter.broken, 'thread')}")
