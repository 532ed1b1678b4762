"""The name that core_pattern would make for a process, as far as it can be foreseen."""

from __future__ import annotations

import os

from corefilt.doctor.settings import Settings
from corefilt.doctor.subject import Subject
from corefilt.procfs.core_pattern import expand, specifiers

# What is known only when the crash is there: the signal, the time, the processor, the thread.
AT_THE_CRASH = "stCiI"


def unforeseen(template: bytes) -> str:
    """The specifiers of a template that only the crash knows, as people write them."""
    return ", ".join(f"%{letter}" for letter in dict.fromkeys(specifiers(template)) if letter in AT_THE_CRASH)


def split(pattern: bytes) -> tuple[bytes, bytes]:
    """The folder of a template, with its last ``/``, and the rest: no value ever brings a ``/`` with it."""
    at = pattern.rfind(b"/") + 1
    return pattern[:at], pattern[at:]


def foreseen(template: bytes, subject: Subject, settings: Settings, *, uses_pid: bool = False) -> bytes:
    """What a template makes of a process; of what only the crash knows, something of that length."""
    soft = subject.limits["Max core file size"][0]
    path = os.fsencode(subject.program.path) if subject.program is not None else subject.comm
    own = subject.status.get("NSpid", str(subject.pid)).split()[-1]
    values = {
        "p": own, "P": str(subject.pid), "i": own, "I": str(subject.pid),
        "u": str(subject.uids[0]), "g": str(subject.gids[0]), "d": "1", "s": "11", "t": "1700000000",
        "c": str((1 << 64) - 1 if soft is None else soft), "C": "0", "h": os.uname().nodename,
    }  # fmt: skip
    raw = {"e": subject.comm, "f": path.rpartition(b"/")[2], "E": path, "F": b""}
    return expand(template, lambda letter: raw[letter] if letter in raw else values[letter].encode(), uses_pid=uses_pid)
