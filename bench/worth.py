"""What a core is worth that some tool gave back, beside the full core and what the kernel keeps of it."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import SAME
from bench.process import Mapping
from bench.report import size_text

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III")
_ET_CORE = 4
_PT_LOAD, _PT_NOTE = 1, 4
_NT_PRSTATUS, _NT_FILE = 1, 0x46494C45
_SLACK = 64 << 10
"""Bytes that lie between segments for the sake of alignment."""
_OWN = re.compile(r"(?:^#\d+ +(?:0x[0-9a-f]+ in )?|frame #\d+: [^`]*`)(bench_\w+|main)\b")
"""A frame of the crashee's own functions, as gdb and as lldb print it."""
_THREAD = re.compile(r"^(?:Thread \d+ |\*? *thread #\d+)")

Frames = list[list[str]]
Call = Callable[[Iterable[str]], tuple[int | None, str, str]]
"""Runs a program; returns its exit code (None: it hung), standard output and standard error."""


class NotACore(Exception):
    """What came back is no ELF core that can be read."""


@dataclass(frozen=True)
class Image:
    """One ELF core: PT_LOADs as (p_vaddr, p_filesz, p_memsz), threads, (start, end) of files, checksums of pages."""

    loads: list[tuple[int, int, int]]
    threads: int
    files: frozenset[tuple[int, ...]]
    pages: dict[int, int]
    idle: int
    """Bytes of the file that no header refers to."""


@dataclass(frozen=True)
class Truth:
    """One process: the kernel's full core of it, what the kernel keeps of that under the filter, its mappings."""

    full: Image
    kept: dict[int, int]
    """The p_filesz that the kernel gives each p_vaddr."""
    mappings: list[Mapping]


class Judge:
    """Looks at what came back with the debuggers and readers that are there."""

    def __init__(self, program: Path, call: Call) -> None:
        """Take what runs programs, and the program that crashed."""
        self._program = str(program)
        self._call = call
        self._readelf = shutil.which("eu-readelf")
        self._debuggers = [name for name in ("gdb", "lldb") if shutil.which(name)]
        self.frames: Frames = []
        self._readable = False

    def learn(self, full: Path) -> list[str]:
        """Take the full core as what all others are measured by; return what cannot be judged."""
        missing = []
        if "gdb" not in self._debuggers:
            missing.append("frames were not compared: no gdb")
        else:
            self.frames = self._frames("gdb", full)
            if not self.frames:
                missing.append("frames were not compared: gdb shows none of the full core")
        self._readable = self._readelf is not None and not self._complaint(full)
        if not self._readable:
            missing.append("program headers were not read by eu-readelf")
        return missing

    def by_programs(self, path: Path) -> list[str]:
        """Say what debuggers and readers make of it; nothing of what is as in the full core."""
        words = []
        minidump = _magic(path) == b"MDMP"
        if minidump:
            words.append("a minidump, no ELF core")
        if self.frames:
            for name in self._debuggers if minidump else ("gdb",):
                found = self._frames(name, path)
                if not found:
                    words.append(f"{name} shows no frames")
                elif found != self.frames:
                    right = sum(stack in self.frames for stack in found)
                    words.append(f"{name}: the right frames in {right} of {len(self.frames)} threads")
                else:
                    words.append(f"{name} shows the same frames")
        if self._readable and not minidump and (said := self._complaint(path)):
            words.append(f"eu-readelf: {said}")
        return words

    def _frames(self, debugger: str, core: Path) -> Frames:
        """Return the names of the program's own functions on each stack, sorted: numbers of threads differ."""
        argv: tuple[str, ...]
        if debugger == "gdb":
            argv = ("gdb", "-nx", "-batch", "-ex", "thread apply all bt", self._program, str(core))
        else:
            argv = ("lldb", "--batch", "--no-lldbinit", "-o", "thread backtrace all", "-c", str(core), self._program)
        stacks: Frames = []
        for line in self._call(argv)[1].splitlines():
            if _THREAD.match(line.strip()):
                stacks.append([])
            elif stacks and (found := _OWN.search(line.strip())):
                stacks[-1].append(found[1])
        return sorted(stack for stack in stacks if stack)

    def _complaint(self, core: Path) -> str:
        code, _, said = self._call(("eu-readelf", "-l", "-n", str(core)))
        if code == 0 and not said.strip():
            return ""
        return said.strip().partition("\n")[0].rpartition(": ")[2] or f"exit code {code}"


def read_image(path: Path) -> Image:
    """Read a little-endian core of 64 bits, all of its payload included."""
    if path.stat().st_size < _EHDR.size:
        raise NotACore("no ELF header")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = _EHDR.unpack_from(data)
        e_ident, e_type, e_phoff, e_phnum = header[0], header[1], header[5], header[10]
        if e_ident[:5] != b"\x7fELF\x02" or e_type != _ET_CORE:
            raise NotACore("no ELF core")
        end = e_phoff + e_phnum * _PHDR.size
        if end > len(data):
            raise NotACore("program headers beyond the end of the file")
        loads: list[tuple[int, int, int]] = []
        pages: dict[int, int] = {}
        referred, content = end, b""
        for p_type, _, p_offset, p_vaddr, _, p_filesz, p_memsz, _ in _PHDR.iter_unpack(data[e_phoff:end]):
            if p_offset + p_filesz > len(data):
                raise NotACore("a segment goes beyond the end of the file")
            referred += p_filesz
            if p_type == _PT_NOTE:
                content += data[p_offset : p_offset + p_filesz]
            elif p_type == _PT_LOAD:
                loads.append((p_vaddr, p_filesz, p_memsz))
                for done in range(0, p_filesz, _PAGE):
                    pages[p_vaddr + done] = zlib.crc32(data[p_offset + done : p_offset + done + _PAGE])
        notes = list(_notes(content))
        return Image(
            loads,
            sum(n_type == _NT_PRSTATUS for n_type, _ in notes),
            frozenset(entry for n_type, desc in notes if n_type == _NT_FILE for entry in _files(desc)),
            pages,
            max(len(data) - referred, 0),
        )


def by_bytes(found: Image, truth: Truth) -> list[str]:
    """Say how a core differs from the full one, and from what the kernel keeps of that."""
    if not found.pages and not found.threads:
        return [f"every p_filesz is 0, that of the notes too; {size_text(found.idle)} that no header refers to"]
    words = []
    headers = {(p_vaddr, p_memsz) for p_vaddr, _, p_memsz in truth.full.loads}
    there = sum((p_vaddr, p_memsz) in headers for p_vaddr, _, p_memsz in found.loads)
    if there < len(headers):
        words.append(f"{there} of {len(headers)} program headers")
    if found.threads != truth.full.threads:
        words.append(f"{found.threads} of {truth.full.threads} threads")
    if not truth.full.files <= found.files:
        words.append(f"{len(truth.full.files & found.files)} of {len(truth.full.files)} entries of NT_FILE")
    return words + _payload(found, truth)


def _payload(found: Image, truth: Truth) -> list[str]:
    moving = _pages((each.start, each.end) for each in truth.mappings if each.name.startswith("[vvar"))
    shared = _pages((each.start, each.end) for each in truth.mappings if each.shared_anonymous)
    kept = _pages((p_vaddr, p_vaddr + p_filesz) for p_vaddr, p_filesz in truth.kept.items())
    held = found.pages.keys()
    words = [
        _amount(shared & held, "of shared memory still there"),
        _amount(kept - held - moving, "missing"),
        _amount(held - kept - shared - moving, "more than the kernel keeps"),
        _amount(
            [page for page in held & truth.full.pages.keys() - moving if found.pages[page] != truth.full.pages[page]],
            "with other bytes",
        ),
    ]
    if found.idle > _SLACK:
        words.append(f"{size_text(found.idle)} that no header refers to")
    words = [word for word in words if word]
    return words or [f"payload: {SAME} as the kernel's"]


def _pages(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {page for start, end in ranges for page in range(start, end, _PAGE)}


def _amount(pages: Collection[int], what: str) -> str:
    return f"{size_text(len(pages) * _PAGE)} {what}" if pages else ""


def _notes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _NHDR.size <= len(data):
        n_namesz, n_descsz, n_type = _NHDR.unpack_from(data, at)
        desc = at + _NHDR.size + (n_namesz + 3 & ~3)
        yield n_type, data[desc : desc + n_descsz]
        at = desc + (n_descsz + 3 & ~3)


def _files(desc: bytes) -> Iterator[tuple[int, ...]]:
    """Yield (start, end) of what NT_FILE lists."""
    if len(desc) >= 16:
        (count,) = struct.unpack_from("<Q", desc)
        for at in range(16, min(16 + 24 * count, len(desc) - 23), 24):
            yield struct.unpack_from("<QQ", desc, at)


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
