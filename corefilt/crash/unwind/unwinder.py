"""Unwinds a thread: frame by frame, by call frame information, else by the chain that the machine's ABI keeps."""

from __future__ import annotations

from corefilt.corefile.elf import EM_AARCH64, EM_PPC, EM_PPC64, EM_X86_64, PF_X
from corefilt.crash.process_memory import OVERRUN
from corefilt.crash.unwind.bad import BadFrame
from corefilt.crash.unwind.cfa import apply, row_at
from corefilt.crash.unwind.eh_frame import Frames
from corefilt.crash.unwind.go import GoTable, go_table
from corefilt.crash.unwind.machines import MACHINES
from corefilt.value import ValueObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from corefilt.corefile.registers import Thread
    from corefilt.crash.modules import Module
    from corefilt.crash.process_memory import ProcessMemory
    from corefilt.crash.unwind.cfa import Registers
    from corefilt.crash.unwind.machines import Machine

# Frames that are looked at. Three count for a signature, behind those of a handler and of a runtime's reporter: Java's
# has 20.
MOST_FRAMES = 64


class Frame(ValueObject):
    """One frame: ``pc`` is an address in the function (behind a call: in the call), ``start`` the function's first.

    ``how`` tells what found this frame: ``registers``, ``cfi``, or the name of a chain. ``name`` is known of Go alone;
    ``signal`` tells that the frame is the one that the kernel puts on the stack for a handler.
    """

    __slots__ = ("how", "module", "name", "pc", "signal", "start")

    def __init__(
        self,
        pc: int,
        start: int | None,
        module: Module | None,
        how: str,
        name: bytes | None = None,
        signal: bool = False,
    ) -> None:
        self.pc: Final = pc
        self.start: Final = start
        self.module: Final = module
        self.how: Final = how
        self.name: Final = name
        self.signal: Final = signal


class Backtrace:
    """The frames, the first called last; ``complete`` tells that the end of the stack was reached."""

    __slots__ = ("complete", "frames")

    def __init__(self) -> None:
        """Begin without frames."""
        self.frames: list[Frame] = []
        self.complete = False


class Unwinder:
    """Unwinds threads of one core."""

    def __init__(self, memory: ProcessMemory) -> None:
        """Begin with nothing known."""
        self._memory, self._frames = memory, Frames(memory)
        core = memory.core
        self._machine = MACHINES.get((core.ehdr.e_machine, core.ehdr.wide))
        self._go: dict[int, GoTable | None] = {}

    def unwind(self, thread: Thread, most: int = MOST_FRAMES) -> Backtrace:
        """The thread's frames, ``most`` at most."""
        trace = Backtrace()
        machine = self._machine
        if machine is None or not thread.pc:
            if thread.pc:
                trace.frames.append(Frame(thread.pc, None, self._memory.index.at(thread.pc), "registers"))
            return trace
        registers = {n: thread.registers[i] for n, i in machine.words.items() if i < len(thread.registers)}
        pc, exact, how = thread.pc & machine.mask, True, "registers"
        seen: set[tuple[int, int]] = set()
        while len(trace.frames) < most:
            place = pc if exact else pc - 1
            if (pc, registers.get(machine.sp, 0)) in seen:
                break
            seen.add((pc, registers.get(machine.sp, 0)))
            step = self._step(trace, machine, registers, place, pc, how)
            if step is None:
                break
            pc, registers, exact, how = step
            if not pc:
                trace.complete = True
                break
        return trace

    def _step(
        self, trace: Backtrace, machine: Machine, registers: Registers, place: int, pc: int, how: str
    ) -> tuple[int, Registers, bool, str] | None:
        """Add the frame; the caller's pc, its registers, whether that pc is exact and what found it, or None."""
        memory = self._memory
        module = memory.index.at(place)
        # Go's own table first: what Go's linker writes as call frame information is for debuggers, and in no core.
        go = self._go_function(module, place)
        if go is not None:
            trace.frames.append(Frame(place, go[0], module, how, go[1]))
            return self._chain_of_pointers(machine, registers, "go")
        fde = self._frames.at(place)
        if fde is not None:
            trace.frames.append(Frame(place, fde.start & machine.mask, module, how, signal=fde.cie.signal))
            try:
                row = row_at(memory, fde, place)
                if row.rules.get(fde.cie.ra, ("",))[0] == "undefined":
                    trace.complete = True
                    return None
                caller, _ = apply(memory, row, registers, machine.sp)
                found = caller.get(fde.cie.ra)
                # Only the innermost function, or what a signal interrupted, can have it in the register still.
                if fde.cie.ra not in row.rules and trace.frames[1:] and not trace.frames[-2].signal:
                    return None
                if found is not None:
                    return found & machine.mask, caller, fde.cie.signal, "cfi"
            except BadFrame:
                pass
            return None
        trace.frames.append(Frame(place, None, module, how))
        if len(trace.frames) == 1 and not (memory.flags(pc) or 0) & PF_X:
            return self._called_nowhere(machine, registers)
        if len(trace.frames) == 1 and memory.core.ehdr.e_machine in (EM_AARCH64, EM_PPC64, EM_PPC):
            # It may have called others since, so that this frame is one too many; eu-stack goes on so, too.
            link = registers.get(machine.ra, 0) & machine.mask
            if link and (memory.flags(link) or 0) & PF_X:
                return link, registers, False, "link register"
        if memory.core.ehdr.e_machine == EM_AARCH64:
            return self._chain_of_pointers(machine, registers, "x29")
        if memory.core.ehdr.e_machine in (EM_PPC64, EM_PPC):
            return self._back_chain(machine, registers)
        return None

    def _called_nowhere(self, machine: Machine, registers: Registers) -> tuple[int, Registers, bool, str] | None:
        """The caller of an address where no code is: nothing was done there yet."""
        if not machine.on_stack:
            found = registers.get(machine.ra)
            return (found & machine.mask, registers, False, "cfi") if found else None
        sp = registers.get(machine.sp, 0)
        found = self._memory.word(sp)
        if not found:
            return None
        return found & machine.mask, {**registers, machine.sp: sp + self._memory.word_size}, False, "cfi"

    def _chain_of_pointers(
        self, machine: Machine, registers: Registers, how: str
    ) -> tuple[int, Registers, bool, str] | None:
        """The caller by the frame pointer, at which the caller's and the return address stand."""
        memory = self._memory
        if machine.fp is None:
            return None
        at = registers.get(machine.fp, 0)
        if not at:
            return 0, registers, False, how
        before, found = memory.word(at), memory.word(at + memory.word_size)
        if before is None or found is None or at < registers.get(machine.sp, 0) - OVERRUN:
            return None
        found &= machine.mask
        if found and not (memory.flags(found) or 0) & PF_X:
            return None
        return found, {**registers, machine.fp: before, machine.sp: at + 2 * memory.word_size}, False, how

    def _back_chain(self, machine: Machine, registers: Registers) -> tuple[int, Registers, bool, str] | None:
        """The caller by the word at the stack pointer, which PowerPC's ABIs keep; the link register is saved there."""
        memory = self._memory
        caller = memory.word(registers.get(machine.sp, 0))
        if not caller or caller <= registers.get(machine.sp, 0):
            return (0, registers, False, "back chain") if caller == 0 else None
        found = memory.word(caller + (16 if memory.word_size == 8 else 4))
        if found is None or (found and not (memory.flags(found) or 0) & PF_X):
            return None
        return found, {**registers, machine.sp: caller}, False, "back chain"

    def _go_function(self, module: Module | None, place: int) -> tuple[int, bytes] | None:
        """The function of a Go program on a machine where its frame pointers are kept."""
        if module is None or self._memory.core.ehdr.e_machine not in (EM_X86_64, EM_AARCH64):
            return None
        if module.start not in self._go:
            self._go[module.start] = go_table(self._memory, module) if module.go_id is not None else None
        table = self._go[module.start]
        return table.function(place) if table is not None else None

    def is_signal_frame(self, address: int) -> bool:
        """Whether the code at an address returns from a signal handler."""
        fde = self._frames.at(address)
        return fde is not None and fde.cie.signal

    def function_at(self, address: int) -> int | None:
        """The first address of the function that an address is in, by call frame information or Go's table."""
        found = self._go_function(self._memory.index.at(address), address)
        if found is not None:
            return found[0]
        fde = self._frames.at(address)
        return fde.start if fde is not None else None
