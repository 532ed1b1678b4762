"""Makes the input: a core in the kernel's layout, half of it private, half of it shared anonymous memory."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096
BLOCK = 1 << 20
SEGMENTS = 32
"""PT_LOADs, private and shared in turn, so that half of the bytes is kept in many pieces and not in one."""

ANON_PRIVATE = 0x1
ANON_SHARED = 0x2

KEPT = {100: 0x33, 50: 0x31, 0: 0x10}
"""Per cent of the payload that is kept: the filter that keeps it."""

_ALL = 0x33
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")
E_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
ET_CORE, EM_X86_64, EV_CURRENT = 4, 62, 1
PT_LOAD, PT_NOTE = 1, 4
_PF_RW = 6
_NT_PRSTATUS, _NT_PRPSINFO, _NT_AUXV, NT_FILE, _NT_SIGINFO = 1, 3, 6, 0x46494C45, 0x53494749
AT_NULL, AT_PAGESZ, _AT_UID, _AT_SECURE = 0, 6, 11, 23
_SIGABRT = 6
_FIRST_ADDRESS = 0x7F0000000000
_SHARED_NAME = b"/dev/zero (deleted)\0"


@dataclass(frozen=True)
class Segment:
    """One mapping: where it was in memory, and whether it was shared."""

    p_vaddr: int
    p_memsz: int
    shared: bool

    def dumped(self, coredump_filter: int) -> int:
        """Return the bytes of it that the kernel writes under this filter."""
        return self.p_memsz if coredump_filter & (ANON_SHARED if self.shared else ANON_PRIVATE) else 0


@dataclass(frozen=True)
class Core:
    """What a core of one process looks like under any filter; nothing is on disk until ``write``."""

    segments: tuple[Segment, ...]
    block: bytes = field(repr=False)

    @property
    def payload(self) -> int:
        """The bytes of all mappings together."""
        return sum(segment.p_memsz for segment in self.segments)

    @property
    def data_start(self) -> int:
        """Where the payload begins: the same under every filter."""
        return page_up(self._notes_start + len(self._notes()))

    @property
    def nt_file_bytes(self) -> int:
        """The size of the NT_FILE note's content."""
        return len(self._nt_file())

    def size(self, coredump_filter: int) -> int:
        """Return the size of the whole core under this filter."""
        return self.data_start + sum(segment.dumped(coredump_filter) for segment in self.segments)

    def kept_ranges(self, coredump_filter: int) -> list[tuple[int, int]]:
        """Return (offset, length) of what this filter keeps of the full core, the head included, joined."""
        ranges = [(0, self.data_start)]
        offset = self.data_start
        for segment in self.segments:
            if segment.dumped(coredump_filter):
                start, length = ranges[-1]
                if start + length == offset:
                    ranges[-1] = (start, length + segment.p_memsz)
                else:
                    ranges.append((offset, segment.p_memsz))
            offset += segment.p_memsz
        return ranges

    def head(self, coredump_filter: int) -> bytes:
        """Return everything before the payload: ELF header, program headers, notes, the gap to the page."""
        notes = self._notes()
        e_ident = E_IDENT, ET_CORE, EM_X86_64, EV_CURRENT
        e_phnum = 1 + len(self.segments)
        parts = [EHDR.pack(*e_ident, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, e_phnum, 0, 0, 0)]
        parts.append(PHDR.pack(PT_NOTE, 0, self._notes_start, 0, 0, len(notes), 0, 4))
        p_offset = self.data_start
        for segment in self.segments:
            p_filesz = segment.dumped(coredump_filter)
            where = p_offset, segment.p_vaddr, 0
            parts.append(PHDR.pack(PT_LOAD, _PF_RW, *where, p_filesz, segment.p_memsz, PAGE))
            p_offset += p_filesz
        parts.append(notes)
        return b"".join(parts).ljust(self.data_start, b"\0")

    def write(self, path: Path, coredump_filter: int) -> None:
        """Write the core that the kernel would have written under this filter, and wait for the disk."""
        with path.open("xb", buffering=0) as out:
            _write_all(out.fileno(), memoryview(self.head(coredump_filter)))
            for piece in self._payload(coredump_filter):
                _write_all(out.fileno(), piece)
            os.fsync(out.fileno())

    def write_sparse(self, path: Path, data: int, piece: int) -> None:
        """Write the full core with ``data`` bytes of payload in pieces that lie evenly; all else is holes."""
        start, payload = self.data_start, self.payload
        count = max(data // piece, 1)
        stride = max(payload // count // PAGE * PAGE, piece)
        with path.open("xb", buffering=0) as out:
            _write_all(out.fileno(), memoryview(self.head(_ALL)))
            for number in range(count):
                at = start + number * stride
                turn = number * 4099 % BLOCK
                for done in range(0, piece, BLOCK):
                    part = memoryview(self.block + self.block)[turn : turn + min(BLOCK, piece - done)]
                    os.pwrite(out.fileno(), part, at + done)
            out.truncate(start + payload)
            os.fsync(out.fileno())

    def _payload(self, coredump_filter: int) -> Iterator[memoryview]:
        """Yield random bytes, in each MiB of each mapping another turn of one block."""
        twice = memoryview(self.block + self.block)
        number = 0
        for segment in self.segments:
            for done in range(0, segment.p_memsz, BLOCK):
                if segment.dumped(coredump_filter):
                    turn = number * 4099 % BLOCK
                    yield twice[turn : turn + min(BLOCK, segment.p_memsz - done)]
                number += 1

    @property
    def _notes_start(self) -> int:
        return EHDR.size + PHDR.size * (1 + len(self.segments))

    def _notes(self) -> bytes:
        pid = 4242
        prstatus = struct.pack("<iiihHQQiiii", _SIGABRT, 0, 0, _SIGABRT, 0, 0, 0, pid, 1, pid, pid)
        prstatus = prstatus.ljust(328, b"\0") + struct.pack("<ii", 1, 0)
        prpsinfo = struct.pack("<bcbbIQIIiiii16s80s", 0, b"R", 0, 0, 0, 0, 0, 0, pid, 1, pid, pid, b"bench", b"bench")
        siginfo = struct.pack("<iii", _SIGABRT, 0, -6).ljust(128, b"\0")
        auxv = struct.pack("<8Q", AT_PAGESZ, PAGE, _AT_UID, 0, _AT_SECURE, 0, AT_NULL, 0)
        return b"".join(
            (
                note(_NT_PRSTATUS, prstatus),
                note(_NT_PRPSINFO, prpsinfo),
                note(_NT_SIGINFO, siginfo),
                note(_NT_AUXV, auxv),
                note(NT_FILE, self._nt_file()),
            )
        )

    def _nt_file(self) -> bytes:
        shared = [segment for segment in self.segments if segment.shared]
        head = struct.pack("<QQ", len(shared), PAGE)
        entries = (struct.pack("<QQQ", each.p_vaddr, each.p_vaddr + each.p_memsz, 0) for each in shared)
        return head + b"".join(entries) + _SHARED_NAME * len(shared)


def plan_core(payload: int) -> Core:
    """Lay out a core with about this many bytes of memory, at least one page per mapping."""
    p_memsz = max(payload // SEGMENTS // PAGE, 1) * PAGE
    stride = p_memsz + PAGE
    segments = (Segment(_FIRST_ADDRESS + n * stride, p_memsz, n % 2 == 1) for n in range(SEGMENTS))
    return Core(tuple(segments), os.urandom(BLOCK))


def page_up(length: int) -> int:
    """Return a length rounded up to whole pages."""
    return -(-length // PAGE) * PAGE


def note(n_type: int, desc: bytes) -> bytes:
    """Return one note of the owner CORE."""
    padded = desc.ljust(-(-len(desc) // 4) * 4, b"\0")
    return _NHDR.pack(5, len(desc), n_type) + b"CORE\0\0\0\0" + padded


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]
