"""The numbers of the signals that dump core, which are not the same on all machines (signal(7))."""

from __future__ import annotations

_EVERYWHERE = {"SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGFPE": 8, "SIGSEGV": 11}
_MOST = {"SIGBUS": 7, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 31}
_SPARC = {"SIGBUS": 10, "SIGXCPU": 24, "SIGXFSZ": 25, "SIGSYS": 12}
# By the machine's name in elf.MACHINES.
_OTHERS = {
    "alpha": _SPARC,
    "mips": {"SIGBUS": 10, "SIGXCPU": 30, "SIGXFSZ": 31, "SIGSYS": 12},
    "parisc": {"SIGBUS": 10, "SIGXCPU": 12, "SIGXFSZ": 30, "SIGSYS": 31},
    "sparc": _SPARC,
    "sparc32plus": _SPARC,
    "sparcv9": _SPARC,
}

# Machines that number signals in their own way.
OTHERWISE = frozenset(_OTHERS)
NAMES = (*_EVERYWHERE, *_MOST)


def number_of(name: str, machine: str) -> int:
    """The number that a signal of NAMES has on a machine, by its name in elf.MACHINES."""
    found = _EVERYWHERE.get(name)
    return found if found is not None else _OTHERS.get(machine, _MOST)[name]


def show_signal(number: int) -> str:
    """The signal for people: its name where every machine calls it so, else the number."""
    return next((name for name, value in _EVERYWHERE.items() if value == number), str(number))
