"""What this machine's kernel does with cores, and what it shows of processes."""

from __future__ import annotations

import os

from corefilt.doctor.fact import Fact
from corefilt.doctor.kernel import kernel_rows
from corefilt.doctor.row import OK
from corefilt.doctor.settings import FILE, PIPE, SOCKET, Settings, read_sysctl
from corefilt.doctor.versions import lacking
from corefilt.filterbits import describe
from corefilt.io.movers import MOVERS
from corefilt.text import printable

GROUP = "kernel"
_WAYS = {
    FILE: "cores are files by this name",
    PIPE: "cores go through a pipe to this program",
    SOCKET: "cores go to the server of this socket",
}


def kernel_facts() -> list[Fact]:
    """The kernel's release, configuration and sysctls."""
    settings = Settings()
    facts = [Fact(GROUP, "release", f"{os.uname().release} {os.uname().machine}")]
    facts += [Fact(GROUP, row.name, "yes" if row.answer == OK else row.answer, row.reason) for row in kernel_rows()]
    if settings.pattern is not None:
        uses_pid = ", with .PID appended" if settings.way == FILE and settings.uses_pid else ""
        facts.append(
            Fact(GROUP, "core_pattern", printable(settings.pattern) or "empty", _WAYS[settings.way] + uses_pid)
        )
    facts.append(suid_dumpable(settings))
    for name, meaning in (
        ("core_pipe_limit", "how many pipe readers the kernel waits for; 0: none"),
        ("core_file_note_size_limit", "a longer NT_FILE is left out of the core"),
        ("core_sort_vma", "1: small mappings come first in a core"),
        ("core_modes", "ways that this kernel supports"),
    ):
        value = read_sysctl(f"kernel/{name}")
        if value is not None:
            facts.append(Fact(GROUP, name, printable(value.replace(b"\n", b" ")), meaning))
    known = [name for name in MOVERS if not lacking(name)]
    facts.append(Fact(GROUP, "engines", ", ".join(known), "ways to move bytes that this kernel has a call for"))
    return [*facts, *_proc_facts()]


def _proc_facts() -> list[Fact]:
    facts = []
    try:
        with open("/proc/self/coredump_filter", "rb") as file:
            own = int(file.read(), 16)
        facts.append(Fact(GROUP, "filter", describe(own), "what children of this shell get"))
    except (OSError, ValueError):
        pass
    try:
        with open("/proc/self/smaps", "rb") as file:
            flags = b"\nVmFlags:" in file.read(1 << 16)
        meaning = "kinds by --pid are exact" if flags else "kinds by --pid are less exact"
        facts.append(Fact(GROUP, "VmFlags in smaps", "yes" if flags else "no", meaning))
    except OSError:
        facts.append(Fact(GROUP, "VmFlags in smaps", "no", "there is no smaps: kinds by --pid are less exact"))
    return facts


def suid_dumpable(settings: Settings) -> Fact:
    """What becomes of a process that changed its privileges."""
    if settings.suid_dumpable == 1:
        left = "a core that its user can read"
    elif settings.suid_dumpable != 2:
        left = "no core"
    elif settings.leads_somewhere_safe:
        left = "a core that only root can read"
    else:
        left = "no core: core_pattern begins with none of /, | and @"
    name, value = "suid_dumpable", str(settings.suid_dumpable)
    return Fact(GROUP, name, value, f"a process that changed its privileges leaves {left}")
