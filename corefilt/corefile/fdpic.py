"""ELF-FDPIC: on which machines cores of it are written, and by what they can be told.

fs/binfmt_elf_fdpic.c writes ``struct elf_prstatus_fdpic``: struct elf_prstatus with two words,
pr_exec_fdpic_loadmap and pr_interp_fdpic_loadmap, between pr_reg and pr_fpvalid. Its size is the only mark that every
such core has. NT_SIGINFO and NT_FILE are written by fs/binfmt_elf.c alone; on ARM, that one wrote the wide struct
too from Linux 4.14 to 5.8. Sizes from include/linux/elfcore-compat.h and arch/*/include/asm/elf.h of Linux 6.18 and,
for what is gone, 4.9; those of ARM and m68k held against cores that Linux 6.12 wrote.
"""

from __future__ import annotations

from corefilt.corefile.elf import (
    EM_68K,
    EM_ARM,
    EM_BLACKFIN,
    EM_FRV,
    EM_RISCV,
    EM_SH,
    EM_TI_C6000,
    EM_XTENSA,
    PT_LOAD,
    Ehdr,
    Phdrs,
)


class FdpicMachine:
    """Sizes in bytes: ``plain`` of struct elf_prstatus, ``at`` where the loadmaps' addresses stand in the wide one.

    ``e_flags`` is what the ELF header of an FDPIC core has. ``mmu`` tells whether its FDPIC programs run with an MMU,
    or None where they do with and without.
    """

    __slots__ = ("at", "e_flags", "mmu", "plain", "word")

    def __init__(self, plain: int, at: int, *, word: int = 4, e_flags: int = 0, mmu: bool | None = False) -> None:
        """Hold them; ``word`` is the length of an address."""
        self.plain, self.at, self.word, self.e_flags, self.mmu = plain, at, word, e_flags, mmu

    @property
    def wide(self) -> int:
        """The size of struct elf_prstatus_fdpic."""
        return self.plain + 2 * self.word


MACHINES: dict[tuple[int, bool], FdpicMachine] = {
    (EM_ARM, False): FdpicMachine(148, 144, mmu=None),
    (EM_SH, False): FdpicMachine(168, 164, e_flags=0x8000),
    (EM_FRV, False): FdpicMachine(260, 256, e_flags=0x8000, mmu=None),
    (EM_BLACKFIN, False): FdpicMachine(296, 292, e_flags=0x2),
    (EM_TI_C6000, False): FdpicMachine(308, 304),
    (EM_68K, False): FdpicMachine(154, 150),
    (EM_XTENSA, False): FdpicMachine(588, 584),
    (EM_RISCV, False): FdpicMachine(204, 200),
    (EM_RISCV, True): FdpicMachine(376, 368, word=8),
}

# ARM's gate, which only a kernel with an MMU has, and lists in every core since Linux 5.10.
_ARM_VECTORS = 0xFFFF0000


class Fdpic:
    """What makes a core an FDPIC one: where the loadmaps of the program and of its loader lie (0: there is none)."""

    __slots__ = ("exec_loadmap", "interp_loadmap", "machine", "mmu")

    def __init__(self, machine: FdpicMachine, exec_loadmap: int, interp_loadmap: int, mmu: bool | None) -> None:
        """Hold them; ``mmu`` is None where the core does not tell."""
        self.machine, self.mmu = machine, mmu
        self.exec_loadmap, self.interp_loadmap = exec_loadmap, interp_loadmap

    @property
    def loadmaps(self) -> tuple[int, int]:
        """Both addresses, as --loadmaps takes them."""
        return self.exec_loadmap, self.interp_loadmap


def machine_of(ehdr: Ehdr) -> FdpicMachine | None:
    """The machine's entry, or None where there is no FDPIC."""
    return MACHINES.get((ehdr.e_machine, ehdr.wide))


def loadmaps_in(desc: bytes, ehdr: Ehdr) -> tuple[int, int] | None:
    """Both loadmaps' addresses from the descriptor of an NT_PRSTATUS, or None where it is not of the wide size."""
    machine = machine_of(ehdr)
    if machine is None or len(desc) != machine.wide:
        return None
    at, word = machine.at, machine.word
    return ehdr.number(desc[at : at + word]), ehdr.number(desc[at + word : at + 2 * word])


def has_mmu(machine: FdpicMachine, ehdr: Ehdr, table: Phdrs) -> bool | None:
    """Whether there is an MMU, or None where the core does not tell."""
    if machine.mmu is None and ehdr.e_machine == EM_ARM:
        gates = zip(table.p_type, table.p_vaddr, strict=True)
        if any(p_type == PT_LOAD and vaddr == _ARM_VECTORS for p_type, vaddr in gates):
            return True
    return machine.mmu
