"""The threads of a core: their registers as NT_PRSTATUS has them, by machine."""

from __future__ import annotations

import struct

from corefilt import _fast
from corefilt.corefile.elf import (
    EM_68K,
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_MIPS,
    EM_PPC,
    EM_PPC64,
    EM_RISCV,
    EM_S390,
    EM_SH,
    EM_X86_64,
    PT_NOTE,
    Ehdr,
    Phdrs,
)
from corefilt.corefile.fdpic import loadmaps_in
from corefilt.corefile.notes import MOST_OF_A_NOTE, NT_PRSTATUS, OF_THE_PROCESS, STACK_POINTERS, WINDOW
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Source

# Notes of the name LINUX that have a thread's pointer to its own storage: i386's segment descriptors, and aarch64's
# tpidr_el0 (include/uapi/linux/elf.h of Linux 6.18).
NT_386_TLS, NT_ARM_TLS = 0x200, 0x401

# What stands before pr_pid and pr_reg in struct elf_prstatus, in bytes, by class; m68k aligns words to two bytes.
_PR_PID = {True: 32, False: 24}
_PR_REG = {True: 112, False: 72}
_OF_68K = -2
# pr_fpvalid stands behind the registers; ELFCLASS64 fills it up to a word.
_BEHIND = {True: 8, False: 4}

# Which word of pr_reg is the program counter and the thread pointer (None: not among them), by machine and class:
# struct elf_gregset in arch/*/include/uapi/asm/ptrace.h of Linux 6.18.
_WORDS: dict[tuple[int, bool], tuple[int, int | None]] = {
    (EM_X86_64, True): (16, 21), (EM_386, False): (12, None), (EM_AARCH64, True): (32, None),
    (EM_ARM, False): (15, None), (EM_RISCV, True): (0, 4), (EM_RISCV, False): (0, 4),
    (EM_PPC64, True): (32, 13), (EM_PPC, False): (32, 2), (EM_S390, True): (1, 18),
    (EM_68K, False): (18, None), (EM_SH, False): (16, 18), (EM_S390, False): (1, None),
    (EM_MIPS, True): (34, None), (EM_MIPS, False): (40, None),
}  # fmt: skip
# PowerPC's thread pointer stands this far behind the block that it means (TLS_TCB_OFFSET of glibc).
_PPC_OFFSET = 0x7000
# Which word of i386's pr_reg is xgs, which selects the descriptor of the thread pointer.
_XGS = 10


# EF_MIPS_ABI2 of e_flags: n32.
_ABI2 = 0x20


def _is_narrow_abi(ehdr: Ehdr) -> bool:
    """Whether a core of ELFCLASS32 has registers of 64 bits: x32's, and those of MIPS n32."""
    return not ehdr.wide and (ehdr.e_machine == EM_X86_64 or (ehdr.e_machine == EM_MIPS and bool(ehdr.e_flags & _ABI2)))


class Thread:
    """One thread: ``pid``, all words of its registers, and among them ``pc``, ``sp`` and ``tp`` (0: not known)."""

    __slots__ = ("pc", "pid", "registers", "sp", "tp")

    def __init__(self, desc: bytes, ehdr: Ehdr) -> None:
        """Decode the descriptor of an NT_PRSTATUS; raises ValueError where it is too short."""
        word, moved = 8 if ehdr.wide or _is_narrow_abi(ehdr) else 4, _OF_68K if ehdr.e_machine == EM_68K else 0
        at, pid = _PR_REG[ehdr.wide] + moved, _PR_PID[ehdr.wide] + moved
        end = len(desc) - _BEHIND[ehdr.wide]
        if loadmaps_in(desc, ehdr) is not None:
            end -= 2 * word
        if end < at:
            raise ValueError(f"NT_PRSTATUS of {counted(len(desc), 'byte')} holds no registers")
        self.pid = ehdr.number(desc[pid : pid + 4])
        count = (end - at) // word
        self.registers = list(struct.unpack_from(f"{ehdr.order}{count}{'Q' if word == 8 else 'I'}", desc, at))
        machine = ehdr.e_machine, ehdr.wide
        pc, tp = _WORDS.get((ehdr.e_machine, word == 8), (None, None))
        sp = STACK_POINTERS.get(machine, end)
        self.pc, self.sp, self.tp = self._word(pc), self._word((sp - at) // word), self._word(tp)
        if ehdr.e_machine in (EM_PPC, EM_PPC64) and self.tp:
            self.tp = max(0, self.tp - _PPC_OFFSET)

    def _word(self, i: int | None) -> int:
        return self.registers[i] if i is not None and i < len(self.registers) else 0

    def take_tls(self, n_type: int, desc: bytes, ehdr: Ehdr) -> None:
        """Learn the thread pointer from a note that follows the registers."""
        if n_type == NT_ARM_TLS and ehdr.e_machine == EM_AARCH64 and len(desc) >= 8:
            self.tp = ehdr.number(desc[:8])
        elif n_type == NT_386_TLS and ehdr.e_machine == EM_386:
            selected = self._word(_XGS) >> 3
            # struct user_desc: entry_number, base_addr, limit and flags.
            for i in range(0, len(desc) - 15, 16):
                if ehdr.number(desc[i : i + 4]) == selected:
                    self.tp = ehdr.number(desc[i + 4 : i + 8])


def read_threads(source: Source, ehdr: Ehdr, table: Phdrs) -> list[Thread]:
    """All threads in the order of their notes: the one that crashed first. For an input that can be sought."""
    threads: list[Thread] = []
    # Segments of notes that lie over each other are walked only as often as the input is long.
    budget = source.size or 0
    for i, p_type in enumerate(table.p_type):
        if p_type == PT_NOTE and table.p_filesz[i] and budget > 0:
            budget -= _walk(source, ehdr, table.p_offset[i], min(table.p_filesz[i], budget), threads)
    return threads


def _walk(source: Source, ehdr: Ehdr, at: int, length: int, threads: list[Thread]) -> int:
    start, end, window = at, at + length, WINDOW
    while end - at >= 12:
        chunk = source.peek(at, min(window, end - at))
        found, done = _fast.walk_notes(chunk, big=ehdr.big)
        for n_type, name_at, n_namesz, desc_at, n_descsz in found:
            name, desc = chunk[name_at : name_at + n_namesz], chunk[desc_at : desc_at + n_descsz]
            if n_type == NT_PRSTATUS and name.rstrip(b"\0") in OF_THE_PROCESS:
                try:
                    threads.append(Thread(desc, ehdr))
                except ValueError:
                    continue
            elif n_type in (NT_386_TLS, NT_ARM_TLS) and name == b"LINUX\0" and threads:
                threads[-1].take_tls(n_type, desc, ehdr)
        if found and found[-1][0] == found[-1][2] == found[-1][4] == 0:
            break
        if not done:
            if len(chunk) < min(window, end - at) or window > WINDOW:
                break
            window = 12 + sum(ehdr.number(chunk[i : i + 4]) + 3 & ~3 for i in (0, 4))
            if window > min(MOST_OF_A_NOTE, end - at):
                at, window = at + window, WINDOW
            continue
        at, window = at + done, WINDOW
    return end - start
