"""Where the registers of call frame information stand among those of NT_PRSTATUS, by machine."""

from __future__ import annotations

from corefilt.corefile.elf import EM_386, EM_AARCH64, EM_PPC, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64
from corefilt.value import ValueObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final


class Machine(ValueObject):
    """``words`` maps DWARF's numbers to words of pr_reg; ``sp``, ``fp`` and ``ra`` are DWARF's.

    ``on_stack`` tells that a call pushes the return address, ``mask`` are the bits of a code address.
    """

    __slots__ = ("fp", "mask", "on_stack", "ra", "sp", "words")

    def __init__(
        self,
        words: Mapping[int, int],
        sp: int,
        ra: int,
        fp: int | None = None,
        on_stack: bool = False,
        mask: int = (1 << 64) - 1,
    ) -> None:
        self.words: Final = words
        self.sp: Final = sp
        self.ra: Final = ra
        self.fp: Final = fp
        self.on_stack: Final = on_stack
        self.mask: Final = mask


# The order of pr_reg is that of struct elf_gregset (arch/*/include/uapi/asm/ptrace.h of Linux 6.18), DWARF's numbers
# are those of each ABI's supplement; held against eu-stack on x86-64, i386, arm64, ppc64le and s390x.
_X86_64 = {
    0: 10, 1: 12, 2: 11, 3: 5, 4: 13, 5: 14, 6: 4, 7: 19, 8: 9, 9: 8, 10: 7, 11: 6, 12: 3, 13: 2, 14: 1, 15: 0, 16: 16,
}  # fmt: skip
_I386 = {0: 6, 1: 1, 2: 2, 3: 0, 4: 15, 5: 5, 6: 3, 7: 4, 8: 12}
_PPC = {**{i: i for i in range(32)}, 65: 36}
MACHINES = {
    (EM_X86_64, True): Machine(_X86_64, sp=7, ra=16, fp=6, on_stack=True),
    (EM_386, False): Machine(_I386, sp=4, ra=8, fp=5, on_stack=True, mask=(1 << 32) - 1),
    # Pointer authentication puts a signature above 48 bits.
    (EM_AARCH64, True): Machine({i: i for i in range(32)}, sp=31, ra=30, fp=29, mask=(1 << 48) - 1),
    (EM_PPC64, True): Machine(_PPC, sp=1, ra=65),
    (EM_PPC, False): Machine(_PPC, sp=1, ra=65, mask=(1 << 32) - 1),
    (EM_S390, True): Machine({i: 2 + i for i in range(16)}, sp=15, ra=14),
    # The topmost bit of an address tells the addressing mode.
    (EM_S390, False): Machine({i: 2 + i for i in range(16)}, sp=15, ra=14, mask=(1 << 31) - 1),
    (EM_RISCV, True): Machine({i: i for i in range(1, 32)}, sp=2, ra=1, fp=8),
}
