"""What killed the process: the signal, why the kernel sent it, and the fault address or the sender."""

from __future__ import annotations

from corefilt.corefile.elf import EM_MIPS
from corefilt.corefile.signals import NAMES, OTHERWISE, number_of
from corefilt.value import FrozenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from corefilt.corefile.elf import Ehdr
    from corefilt.corefile.notes import Notes

# Those that dump no core stand in cores that a debugger wrote of a live process (signal(7)).
_LIVE = {
    1: "SIGHUP", 2: "SIGINT", 9: "SIGKILL", 10: "SIGUSR1", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP", 20: "SIGTSTP",
}  # fmt: skip
# Where pr_cursig stands in struct elf_prstatus, in bytes.
_PR_CURSIG = 12
# si_code, include/uapi/asm-generic/siginfo.h of Linux 6.18. Those of a program that sends are the same for all signals.
SI_USER, SI_QUEUE, SI_TKILL, SI_KERNEL = 0, -1, -6, 0x80
_SENT = {
    SI_USER: ("SI_USER", "kill"),
    SI_QUEUE: ("SI_QUEUE", "sigqueue"),
    SI_TKILL: ("SI_TKILL", "tgkill"),
}
_OTHERS = {
    -2: ("SI_TIMER", "a timer expired"),
    -3: ("SI_MESGQ", "a message arrived in a queue"),
    -4: ("SI_ASYNCIO", "asynchronous I/O completed"),
    -5: ("SI_SIGIO", "a descriptor became ready"),
    SI_KERNEL: ("SI_KERNEL", "sent by the kernel, without an address"),
}
_CODES: dict[str, dict[int, tuple[str, str]]] = {
    "SIGILL": {
        1: ("ILL_ILLOPC", "illegal opcode"), 2: ("ILL_ILLOPN", "illegal operand"),
        3: ("ILL_ILLADR", "illegal addressing mode"), 4: ("ILL_ILLTRP", "illegal trap"),
        5: ("ILL_PRVOPC", "privileged opcode"), 6: ("ILL_PRVREG", "privileged register"),
        7: ("ILL_COPROC", "coprocessor error"), 8: ("ILL_BADSTK", "internal stack error"),
        9: ("ILL_BADIADDR", "unimplemented instruction address"),
    },
    "SIGFPE": {
        1: ("FPE_INTDIV", "integer division by zero"), 2: ("FPE_INTOVF", "integer overflow"),
        3: ("FPE_FLTDIV", "floating-point division by zero"), 4: ("FPE_FLTOVF", "floating-point overflow"),
        5: ("FPE_FLTUND", "floating-point underflow"), 6: ("FPE_FLTRES", "inexact floating-point result"),
        7: ("FPE_FLTINV", "invalid floating-point operation"), 8: ("FPE_FLTSUB", "subscript out of range"),
    },
    "SIGSEGV": {
        1: ("SEGV_MAPERR", "nothing is mapped at the address"), 2: ("SEGV_ACCERR", "the mapping forbids the access"),
        3: ("SEGV_BNDERR", "failed bounds check"), 4: ("SEGV_PKUERR", "forbidden by a protection key"),
        8: ("SEGV_MTEAERR", "asynchronous memory tag mismatch"), 9: ("SEGV_MTESERR", "memory tag mismatch"),
        10: ("SEGV_CPERR", "control protection fault (shadow stack)"),
    },
    "SIGBUS": {
        1: ("BUS_ADRALN", "misaligned address"), 2: ("BUS_ADRERR", "no memory behind the mapping (a truncated file?)"),
        3: ("BUS_OBJERR", "hardware error"), 4: ("BUS_MCEERR_AR", "memory error, in use"),
        5: ("BUS_MCEERR_AO", "memory error, not in use"),
    },
    "SIGTRAP": {
        1: ("TRAP_BRKPT", "breakpoint"), 2: ("TRAP_TRACE", "trace trap"), 3: ("TRAP_BRANCH", "branch trap"),
        4: ("TRAP_HWBKPT", "hardware breakpoint"), 6: ("TRAP_PERF", "performance event"),
    },
    "SIGSYS": {1: ("SYS_SECCOMP", "forbidden by seccomp"), 2: ("SYS_USER_DISPATCH", "syscall user dispatch")},
}  # fmt: skip


class Signal(FrozenValue):
    """A signal; None is what the core does not tell.

    ``name`` is its name on the core's machine, ``code`` is si_code and ``code_name`` its name, ``address`` is the fault
    address, ``sender_pid`` and ``sender_uid`` are who sent it, as the crashed process saw them.
    """

    __slots__ = ("address", "code", "code_name", "name", "number", "sender_pid", "sender_uid", "words")

    def __init__(
        self,
        number: int,
        name: str,
        code: int | None = None,
        code_name: str | None = None,
        address: int | None = None,
        sender_pid: int | None = None,
        sender_uid: int | None = None,
        words: str = "",
    ) -> None:
        self.number: Final = number
        self.name: Final = name
        self.code: Final = code
        self.code_name: Final = code_name
        self.address: Final = address
        self.sender_pid: Final = sender_pid
        self.sender_uid: Final = sender_uid
        self.words: Final = words

    def as_dict(self) -> dict[str, object]:
        """The signal as JSON: the address is a hex string."""
        return {
            "number": self.number,
            "name": self.name,
            "code": self.code,
            "code_name": self.code_name,
            "address": f"{self.address:#x}" if self.address is not None else None,
            "sender_pid": self.sender_pid,
            "sender_uid": self.sender_uid,
            "words": self.words,
        }


def signal_of(notes: Notes, ehdr: Ehdr, machine: str, pid: int | None = None) -> Signal | None:
    """The signal by NT_SIGINFO, else by NT_PRSTATUS's pr_cursig, or None where neither tells.

    ``machine`` is a name of elf.MACHINES, ``pid`` the crashed process's own.
    """
    info = notes.siginfo
    if len(info) < 12:
        raw = notes.crashed[_PR_CURSIG : _PR_CURSIG + 2]
        number = ehdr.number(raw) if len(raw) == 2 else 0
        return Signal(number, name_of(number, machine), words=name_of(number, machine)) if number else None
    number = _signed(info, 0, ehdr)
    # MIPS has si_code before si_errno (arch/mips/include/uapi/asm/siginfo.h).
    code = _signed(info, 4 if ehdr.e_machine == EM_MIPS else 8, ehdr)
    name = name_of(number, machine)
    # The union is aligned as its pointers are (struct siginfo, and compat_siginfo of 32-bit processes).
    at, word = (16, 8) if ehdr.wide else (12, 4)
    if number <= 0:
        return None
    if code in _SENT and len(info) >= at + 8:
        code_name, call = _SENT[code]
        sender, uid = _signed(info, at, ehdr), ehdr.number(info[at + 4 : at + 8])
        who = "the process itself" if pid is not None and sender == pid else f"process {sender} of user {uid}"
        return Signal(
            number, name, code, code_name, sender_pid=sender, sender_uid=uid, words=f"{name}: sent by {who} ({call})"
        )
    code_name, why = _CODES.get(name, {}).get(code) or _OTHERS.get(code) or ("", f"si_code {code}")
    told = f" ({code_name})" if code_name else ""
    if code > 0 and code != SI_KERNEL and name in _CODES and name != "SIGSYS" and len(info) >= at + word:
        address = ehdr.number(info[at : at + word])
        return Signal(number, name, code, code_name or None, address, words=f"{name} at {address:#x}: {why}{told}")
    return Signal(number, name, code, code_name or None, words=f"{name}: {why}{told}")


def name_of(number: int, machine: str) -> str:
    """What a machine calls a signal, or ``signal N`` where that is not known."""
    dumping = next((name for name in NAMES if number_of(name, machine) == number), None)
    if dumping is not None:
        return dumping
    return f"signal {number}" if machine in OTHERWISE else _LIVE.get(number, f"signal {number}")


def _signed(desc: bytes, at: int, ehdr: Ehdr) -> int:
    return int.from_bytes(desc[at : at + 4], "big" if ehdr.big else "little", signed=True)
