"""Counts Java's frames as HotSpot's serviceability agent walks them: interpreted, native, compiled with the inlined.

Frames of x86-64 alone are known (frame_x86.hpp, X86Frame.java; JDK 17 and 21 have the same).
"""

from __future__ import annotations

from typing import NamedTuple

from corefilt.corefile.elf import EM_X86_64
from corefilt.plan.fit.runtimes.reader import LostError, TooMuchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.registers import Thread
    from corefilt.plan.fit.runtimes.code_cache import CodeCache
    from corefilt.plan.fit.runtimes.hotspot import Structures
    from corefilt.plan.fit.runtimes.metadata import Metadata
    from corefilt.plan.fit.runtimes.reader import MemoryReader


class JavaFrame(NamedTuple):
    """One physical frame; ``own`` is the stack pointer that its code counts from."""

    pc: int
    fp: int
    own: int


# JavaThreadState of globalDefinitions.hpp: a thread that runs Java code has no anchor.
IN_JAVA = 8
# Where pr_reg has rbp (struct user_regs_struct).
RBP = 4
# Words from a frame pointer on: what an interpreter's frame and a call stub's have there.
SENDER_SP, METHOD, WRAPPER = -8, -24, -48
MOST_FRAMES = 1 << 16
# Of a thread that runs, where its frame begins is tried this far above its stack pointer; the agent looks as far.
MOST_TRIED = 128 << 10
# UNSIGNED5 of compressedStream.hpp writes a byte below 192 as it is, or (JDK 20 and later) one more than it is.
LOW, HIGH_BITS, MOST_OF_A_NUMBER, SHIFTED_SINCE = 192, 6, 5, 20


class JavaFrames:
    """Walks the stacks of Java threads."""

    def __init__(self, reader: MemoryReader, vm: Structures, metadata: Metadata, code: CodeCache) -> None:
        """Look the offsets up. Raises LostError where this machine's or this JDK's frames are not known."""
        if reader.core.ehdr.e_machine != EM_X86_64:
            raise LostError("frames of this machine are not known")
        self._reader, self._metadata, self._code = reader, metadata, code
        self._anchor = vm.offset("JavaThread", "_anchor")
        self._of_wrapper = vm.offset("JavaCallWrapper", "_anchor")
        self._registers = tuple(vm.offset("JavaFrameAnchor", f"_last_Java_{name}") for name in ("sp", "pc", "fp"))
        self._state = vm.offset("JavaThread", "_thread_state")
        self._osthread, self._id = vm.offset("JavaThread", "_osthread"), vm.offset("OSThread", "_thread_id")
        self._call_stub = reader.pointer(vm.static("StubRoutines", "_call_stub_return_address"))
        self._name, self._frame_size = vm.offset("CodeBlob", "_name"), vm.offset("CodeBlob", "_frame_size")
        self._begin = vm.offset("CodeBlob", "_code_begin")
        self._scopes = vm.offset("CompiledMethod", "_scopes_data_begin")
        self._deoptimized = vm.offset("CompiledMethod", "_deopt_handler_begin")
        self._original = vm.offset("nmethod", "_orig_pc_offset")
        self._places = tuple(vm.offset("nmethod", name) for name in ("_scopes_pcs_offset", "_dependencies_offset"))
        self._pair = tuple(vm.offset("PcDesc", name) for name in ("_pc_offset", "_scope_decode_offset"))
        self._stride = vm.size("PcDesc")
        if max(self._pair) + 4 > self._stride:
            raise LostError("libjvm's PcDesc is invalid")
        major = reader.number(vm.static("Abstract_VM_Version", "_vm_major_version"), 4)
        self._shift = int(major >= SHIFTED_SINCE)
        self._inlined: dict[tuple[int, int], int] = {}
        self._known: dict[int, tuple[int, bytes, int]] = {}

    def count(self, thread: int, threads: dict[int, Thread]) -> int:
        """How many frames a JavaThread has; ``threads`` are those of the core by number. Raises LostError."""
        frame = self._from_anchor(thread + self._anchor)
        if frame is not None:
            return self._walk(frame)
        if self._reader.number(thread + self._state, 4) != IN_JAVA:
            return 0
        osthread = self._reader.pointer(thread + self._osthread)
        running = threads.get(self._reader.number(osthread + self._id, 4))
        if running is None or not self._code.holds(running.pc):
            # It runs Java by its state, but is in a signal's handler or in libjvm: the agent shows no frame of it.
            return 0
        blob = self._blob(running.pc)
        if blob[1] == b"Interpreter":
            return self._walk(JavaFrame(running.pc, running.registers[RBP], running.sp))
        for sp in range(running.sp, running.sp + MOST_TRIED, 8):
            try:
                return self._walk(JavaFrame(running.pc, running.registers[RBP], sp), near=True)
            except TooMuchError:
                raise
            except LostError:
                continue
        raise LostError("the frame of a running thread was not found")

    def _from_anchor(self, anchor: int) -> JavaFrame | None:
        sp, pc, fp = (self._reader.pointer(anchor + at) for at in self._registers)
        if not sp:
            return None
        return JavaFrame(pc or self._reader.pointer(sp - 8), fp, sp)

    def _walk(self, frame: JavaFrame, *, near: bool = False) -> int:
        reader, count = self._reader, 0
        for _ in range(MOST_FRAMES):
            pc, fp, own = frame
            if pc == self._call_stub:
                further = self._from_anchor(reader.pointer(fp + WRAPPER) + self._of_wrapper)
                if further is None:
                    return count
                frame = further
                continue
            blob, name, words = self._blob(pc)
            if name == b"Interpreter":
                if not self._metadata.keep_method(reader.pointer(fp + METHOD)):
                    raise LostError(f"{fp:#x} is not a frame of the interpreter")
                count += 1
                frame = JavaFrame(reader.pointer(fp + 8), reader.pointer(fp), reader.pointer(fp + SENDER_SP))
            elif words > 0:
                if name.endswith(b"nmethod"):
                    count += self._frames_at(blob, pc, own, near=near)
                sender = own + 8 * words
                frame = JavaFrame(reader.pointer(sender - 8), reader.pointer(sender - 16), sender)
            else:
                raise LostError(f"the code at {pc:#x} has no frame")
            near = False
        raise LostError("a stack of Java has no end")

    def _blob(self, pc: int) -> tuple[int, bytes, int]:
        """The code at an address: where it begins, its name, and the words of its frames."""
        at = self._code.blob_at(pc)
        if at not in self._known:
            reader = self._reader
            name = reader.text(reader.pointer(at + self._name), 256)
            self._known[at] = at, name, reader.number(at + self._frame_size, 4, signed=True)
        return self._known[at]

    def _frames_at(self, blob: int, pc: int, sp: int, *, near: bool) -> int:
        """How many methods are in a frame of compiled code: one, and those that are inlined at this place."""
        reader = self._reader
        if pc == reader.pointer(blob + self._deoptimized):
            pc = reader.pointer(sp + reader.number(blob + self._original, 4))
        if (blob, pc) not in self._inlined:
            self._inlined[blob, pc] = self._inlined_at(blob, pc, near=near)
        return self._inlined[blob, pc]

    def _inlined_at(self, blob: int, pc: int, *, near: bool) -> int:
        reader, stride = self._reader, self._stride
        begin, end = (blob + reader.number(blob + place, 4) for place in self._places)
        wanted = pc - reader.pointer(blob + self._begin)
        if not begin < end:
            # What calls a native method.
            return 1
        raw = reader.data(begin, (end - begin) // stride * stride)
        reader.step(2 * len(raw) // stride)
        pairs = [
            tuple(int.from_bytes(raw[at + field : at + field + 4], "little", signed=True) for field in self._pair)
            for at in range(0, len(raw), stride)
        ]
        known = [(offset, scope) for offset, scope in pairs if scope]
        # What a running thread is at has no entry; the agent takes the one before it, or the first.
        at_it = [pair for pair in known if pair[0] == wanted]
        before = [pair for pair in known if pair[0] < wanted]
        if near and known and not at_it:
            at_it = [max(before, default=known[0])]
        if not at_it:
            raise LostError(f"nothing describes the frame at {pc:#x}")
        scope = at_it[0][1]
        scopes, count = reader.pointer(blob + self._scopes), 0
        while scope and count < MOST_FRAMES:
            scope, count = self._number(scopes + scope), count + 1
        return count

    def _number(self, at: int) -> int:
        found = 0
        for n in range(MOST_OF_A_NUMBER):
            byte = self._reader.number(at + n, 1)
            found += byte - self._shift << HIGH_BITS * n
            if byte < LOW:
                break
        return found
