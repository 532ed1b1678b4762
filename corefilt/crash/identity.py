"""Whose crash it is, from the core alone: no file that it names is opened, and no payload but a few pages is read."""

from __future__ import annotations

import os

from corefilt import _fast
from corefilt.corefile.elf import PT_NOTE
from corefilt.corefile.memory import Memory
from corefilt.corefile.notes import AT_EXECFN
from corefilt.corefile.owner import Owner as Owner
from corefilt.corefile.registers import read_threads
from corefilt.crash.command_line import CommandLine, command_line, environment
from corefilt.crash.modules import VDSO, Module, find_modules
from corefilt.crash.signal import Signal, signal_of
from corefilt.crash.writer import writer_of
from corefilt.evidence.when import written_at
from corefilt.evidence.where import host_of, kernel_of
from corefilt.text import moment, printable
from corefilt.value import FrozenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from corefilt.corefile.corefile import CoreFile

# What is read for it in all, in bytes: 300 modules take some 1 MiB, a command line of the most 6 MiB.
MOST_READ = 64 << 20
# Notes that the vDSO's own image has take less than 1 KiB.
_MOST_OF_NOTES = 1 << 16
VDSO_NOTE = "note of the vDSO"


class ThreadInfo(FrozenValue):
    """A thread: its number (LWP) in its own pid namespace, program counter, stack pointer, whether it crashed."""

    __slots__ = ("crashed", "pc", "sp", "tid")

    def __init__(self, tid: int, pc: int, sp: int, crashed: bool) -> None:
        self.tid: Final = tid
        self.pc: Final = pc
        self.sp: Final = sp
        self.crashed: Final = crashed


class Identity(FrozenValue):
    """What a core tells of the process; None is what it does not.

    ``pid`` is the process's and ``tid`` the crashed thread's number in their own pid namespace, ``uid`` and ``gid`` are
    those of its user namespace, ``comm`` is the name of its first thread. ``executable`` is the path of the mapped
    program, ``execfn`` the name by which it was started (AT_EXECFN). ``kernel`` is the release by the vDSO's own note
    (``kernel_source`` is VDSO_NOTE), ``writer`` who wrote the core. ``time`` (seconds since the epoch), ``host`` and
    their sources are in no core: ``with_metadata`` fills them in. ``threads`` and ``modules`` are None where they were
    not read, because the core passes only once; ``environment`` also where it was not asked for.
    """

    __slots__ = (
        "comm", "command_line", "elf_class", "environment", "execfn", "executable", "gid", "host", "host_source",
        "kernel", "kernel_source", "machine", "modules", "page_size", "pid", "signal", "threads", "tid", "time",
        "time_source", "uid", "writer",
    )  # fmt: skip

    def __init__(
        self,
        pid: int | None,
        tid: int | None,
        uid: int | None,
        gid: int | None,
        comm: bytes | None,
        executable: bytes | None,
        execfn: bytes | None,
        command_line: CommandLine | None,
        signal: Signal | None,
        threads: tuple[ThreadInfo, ...] | None,
        modules: tuple[Module, ...] | None,
        elf_class: int,
        machine: str,
        page_size: int,
        writer: str,
        kernel: str | None = None,
        kernel_source: str | None = None,
        host: str | None = None,
        host_source: str | None = None,
        time: float | None = None,
        time_source: str | None = None,
        environment: tuple[bytes, ...] | None = None,
    ) -> None:
        self.pid: Final = pid
        self.tid: Final = tid
        self.uid: Final = uid
        self.gid: Final = gid
        self.comm: Final = comm
        self.executable: Final = executable
        self.execfn: Final = execfn
        self.command_line: Final = command_line
        self.signal: Final = signal
        self.threads: Final = threads
        self.modules: Final = modules
        self.elf_class: Final = elf_class
        self.machine: Final = machine
        self.page_size: Final = page_size
        self.writer: Final = writer
        self.kernel: Final = kernel
        self.kernel_source: Final = kernel_source
        self.host: Final = host
        self.host_source: Final = host_source
        self.time: Final = time
        self.time_source: Final = time_source
        self.environment: Final = environment

    @property
    def build_id(self) -> bytes | None:
        """The program's own."""
        if self.executable is None:
            return None
        return next((module.build_id for module in self.modules or () if module.path == self.executable), None)

    def as_dict(self) -> dict[str, object]:
        """The key ``identity`` of JSON reports, without modules: they have their own."""
        found: dict[str, object] = {
            "pid": self.pid,
            "tid": self.tid,
            "uid": self.uid,
            "gid": self.gid,
            "comm": _text(self.comm),
            "executable": _text(self.executable),
            "execfn": _text(self.execfn),
            "build_id": self.build_id.hex() if self.build_id is not None else None,
            "command_line": self.command_line.as_dict() if self.command_line is not None else None,
            "signal": self.signal.as_dict() if self.signal is not None else None,
            "threads": len(self.threads) if self.threads is not None else None,
            "class": f"ELF{self.elf_class}",
            "machine": self.machine,
            "page_size": self.page_size,
            "writer": self.writer,
            "kernel": self.kernel,
            "kernel_source": self.kernel_source,
            "host": self.host,
            "host_source": self.host_source,
            "time": self.time,
            "time_source": self.time_source,
        }
        if self.environment is not None:
            found["environment"] = [printable(entry) for entry in self.environment]
        return found

    def lines(self) -> list[str]:
        """The same for a person, one line for each thing that is known."""
        numbers = {"pid": self.pid, "uid": self.uid, "gid": self.gid}
        who = [f"{name} {value}" for name, value in numbers.items() if value is not None]
        found = [f"process: {printable(self.comm or b'(name not known)')}" + (f" ({', '.join(who)})" if who else "")]
        if self.executable is not None or self.execfn is not None:
            built = f", build-id {self.build_id.hex()}" if self.build_id is not None else ""
            label = "started as" if self.executable is None else "executable"
            found.append(f"{label}: {printable(self.executable or self.execfn or b'')}{built}")
        if self.command_line is not None:
            source = "" if self.command_line.source == "stack" else f" (from {self.command_line.source})"
            found.append(f"command line: {self.command_line}{source}")
        if self.signal is not None:
            found.append(f"signal: {self.signal.words}")
        if self.threads:
            crashed = next((f", LWP {thread.tid} crashed" for thread in self.threads if thread.crashed), "")
            found.append(f"threads: {len(self.threads)}{crashed}")
        written = {"unknown": "not known"}.get(self.writer, self.writer)
        found.append(f"written by: {written}" + (f", Linux {self.kernel}" if self.kernel is not None else ""))
        if self.time is not None:
            found.append(f"time: {moment(self.time)}" + (f" ({self.time_source})" if self.time_source else ""))
        if self.host is not None:
            found.append(f"host: {printable(self.host)}" + (f" ({self.host_source})" if self.host_source else ""))
        if self.environment is not None:
            found += [f"environment: {printable(entry)}" for entry in self.environment]
        return found


def identify(core: CoreFile, *, with_environment: bool = False) -> Identity:
    """Whose core it is. Of a core that passes only once, what its first notes tell: no threads and no modules."""
    memory = core.memory(MOST_READ) if core.source.seekable else None
    owner = Owner(core.notes, core.ehdr)
    modules = find_modules(core, memory) if memory is not None else None
    execfn = core.notes.auxv.get(AT_EXECFN, 0)
    told = memory.text(execfn) if memory is not None and execfn else b""
    kernel = _kernel(core, memory, modules) if memory is not None and modules is not None else None
    return Identity(
        pid=owner.pid,
        tid=owner.tid,
        uid=owner.uid,
        gid=owner.gid,
        comm=owner.comm,
        executable=owner.executable,
        execfn=told or None,
        command_line=command_line(core, memory),
        signal=signal_of(core.notes, core.ehdr, core.machine, owner.pid),
        threads=threads_of(core),
        modules=tuple(modules) if modules is not None else None,
        elf_class=64 if core.ehdr.wide else 32,
        machine=core.machine,
        page_size=core.maps.page_size,
        writer=writer_of(core) if memory is not None else "unknown",
        kernel=kernel,
        kernel_source=VDSO_NOTE if kernel is not None else None,
        environment=tuple(environment(core, memory)) if with_environment and memory is not None else None,
    )


def with_metadata(identity: Identity, core: CoreFile) -> Identity:
    """The identity with what only the file tells, or files beside it: time, host, and the kernel's whole release."""
    fd, path = core.source.origin.fd, core.source.name
    found: dict[str, Any] = {}
    for name, told in (("time", written_at(fd, path)), ("host", host_of(fd, path)), ("kernel", kernel_of(path))):
        if told is not None:
            found[name], found[f"{name}_source"] = told
    return identity.but(**found)


def threads_of(core: CoreFile) -> tuple[ThreadInfo, ...] | None:
    """All threads in the order of their notes: the one that crashed first; None of a core that passes only once."""
    if not core.source.seekable:
        return None
    found = read_threads(core.source, core.ehdr, core.table)
    return tuple(ThreadInfo(thread.pid, thread.pc, thread.sp, n == 0) for n, thread in enumerate(found))


def _kernel(core: CoreFile, memory: Memory, modules: Sequence[Module]) -> str | None:
    """The kernel's release by the note that its vDSO has: LINUX_VERSION_CODE (arch/*/vdso/note.S of Linux 6.18)."""
    vdso = next((module for module in modules if module.path == VDSO), None)
    if vdso is None or vdso.table is None or vdso.bias is None:
        return None
    for i, p_type in enumerate(vdso.table.p_type):
        if p_type != PT_NOTE:
            continue
        notes = memory.read(vdso.bias + vdso.table.p_vaddr[i], min(vdso.table.p_filesz[i], _MOST_OF_NOTES))
        for n_type, name, n_namesz, desc, n_descsz in _fast.walk_notes(notes, big=core.ehdr.big)[0]:
            if n_type == 0 and notes[name : name + n_namesz] == b"Linux\0" and n_descsz == 4:
                code = core.ehdr.number(notes[desc : desc + 4])
                return f"{code >> 16}.{code >> 8 & 255}.{code & 255}"
    return None


def _text(raw: bytes | None) -> str | None:
    return os.fsdecode(raw).encode("utf-8", "backslashreplace").decode() if raw is not None else None
