"""Twins that wait to be told how to die: the kernel dumps one memory again and again, under any filter and limit."""

import os
import resource
import select
import signal
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kernel.dumps import FULL, PAGE, Core, dumping
from support.builds import PATIENCE

ALL = resource.RLIM_INFINITY
# As many as the machine the tests are run on starts in a few seconds, and as many as crash in a bad night.
CROWDS = [12, pytest.param(100, marks=pytest.mark.slow)]
NT_PRSTATUS, NT_PRPSINFO, NT_X86_XSTATE, NT_X86_XSAVE_LAYOUT = 1, 3, 0x202, 0x205
# What differs from twin to twin, by the note it stands in (x86-64): pids and times; pids; and XSTATE_BV, in which
# the processor says of unused registers now that they are, now that they are not.
MASKED = {NT_PRSTATUS: (32, 112), NT_PRPSINFO: (24, 40), NT_X86_XSTATE: (512, 520)}


class Waiting:
    """A process of which a twin can be had whenever one is wanted; cores appear in its working directory."""

    def __init__(self, process: "subprocess.Popen[bytes]", go: int, folder: Path) -> None:
        """Take the process, and the pipe's end on which its twins wait."""
        self._process, self._go, self.folder = process, go, folder
        self.smaps = b""
        self._waits = 0  # the pid of a twin that is to be told to die

    def dump(self, name: str, coredump_filter: int = FULL, limit: int = ALL, file_size: int = ALL) -> Path | None:
        """Let a twin die under a filter and soft limits; return its core, or None where it left none."""
        with dumping():
            self.ready(coredump_filter, limit, file_size)
            status = self.die()
        assert os.WIFSIGNALED(status), f"a twin ended with {status:#x}"
        found = [path for path in self.folder.iterdir() if path.name.startswith("core") and path.name != "cores"]
        if not found:
            return None
        (left,) = found
        to = self.folder / "cores" / name
        left.rename(to)
        return to

    def ready(self, coredump_filter: int = FULL, limit: int = ALL, file_size: int = ALL) -> int:
        """Have a twin that is to die under a filter and soft limits; return its pid."""
        pid = self._twin()
        Path(f"/proc/{pid}/coredump_filter").write_text(f"{coredump_filter:#x}")
        resource.prlimit(pid, resource.RLIMIT_CORE, (limit, ALL))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (file_size, ALL))
        self.smaps = self.smaps or Path(f"/proc/{pid}/smaps").read_bytes()
        return pid

    def release(self) -> None:
        """Let the twin that is ready die."""
        self._waits = 0
        os.write(self._go, b"d")

    def die(self) -> int:
        """Let the twin that is ready die; return its status when it is gone."""
        self.release()
        return self.status()

    def status(self) -> int:
        """The status of the twin, when it is gone."""
        return self._number()

    def dismiss(self) -> None:
        """End a twin that a test has left waiting: it would take the byte that the next one waits for."""
        if self._waits:
            os.kill(self._waits, signal.SIGKILL)
            self._waits = 0
            self._number()

    def _twin(self) -> int:
        assert self._process.stdin is not None
        self.dismiss()
        self._process.stdin.write(b"t")
        self._waits = self._number()
        return self._waits

    def _number(self) -> int:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert readable, "a twin does not die, or is not forked"
        (number,) = struct.unpack("i", self._process.stdout.read(4))
        return number


@contextmanager
def waiting(program: Path, folder: Path, sparse: int = 0) -> Iterator[Waiting]:
    """Start the program in a folder, and let it end."""
    (folder / "cores").mkdir(parents=True)
    reader, go = os.pipe()
    with ExitStack() as undo:
        undo.callback(os.close, go)
        undo.callback(os.close, reader)
        process = undo.enter_context(
            subprocess.Popen(
                [program, str(sparse), str(reader)],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(reader,),
                bufsize=0,
            )
        )
        it = Waiting(process, go, folder)
        undo.callback(it.dismiss)
        first = it.dump("first")
        # It has in a register what the loop finds there only the first time.
        if first is not None:
            first.unlink()
        yield it


def full_of(process: Waiting) -> Core:
    """Let a twin be dumped whole; what is known of its mappings lies beside, as ``smaps``."""
    core = process.dump("full")
    assert core is not None
    (process.folder / "smaps").write_bytes(process.smaps)
    return Core(core)


def notes_of(core: Core) -> Iterator[tuple[int, int, int, int]]:
    """Give type, offset, length of the name and of the descriptor of every note, padding left out."""
    at = core.phdrs[0].p_offset
    end = at + core.phdrs[0].p_filesz
    while at < end:
        namesz, descsz, kind = struct.unpack_from("<III", core.data, at)
        yield kind, at, namesz, descsz
        at += 12 + (namesz + 3) // 4 * 4 + (descsz + 3) // 4 * 4


def masked(content: bytes, full: Core) -> bytes:
    """Return a core, or the beginning of one, without what is masked; it stands where the full core has it."""
    out = bytearray(content)
    for kind, at, namesz, _ in notes_of(full):
        if kind in MASKED:
            desc = at + 12 + (namesz + 3) // 4 * 4
            first, behind = (min(desc + offset, len(out)) for offset in MASKED[kind])
            out[first:behind] = bytes(behind - first)
    return bytes(out)


def edges(full: Core) -> list[int]:
    """Return the limits that each piece of a core just fits, as the kernel counts them, by this file's own count."""
    pieces = [64, *[56] * len(full.phdrs)]
    for kind, _, namesz, descsz in notes_of(full):
        pieces += [12, namesz, *([16] * (descsz // 16) if kind == NT_X86_XSAVE_LAYOUT else [descsz])]
    with full.path.open("rb") as file:
        for load in full.phdrs[1:]:
            ends = range(load.p_offset, load.p_offset + load.p_filesz, PAGE)
            pieces += [PAGE for at in ends if os.lseek(file.fileno(), at, os.SEEK_HOLE) > at]
    written, limits = 0, []
    for piece in pieces:
        written += piece
        limits.append(written)
    return limits


def around(limits: Sequence[int]) -> list[int]:
    """Return each limit, and those one byte below and above it."""
    return sorted({limit + by for limit in limits for by in (-1, 0, 1)})
