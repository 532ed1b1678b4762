"""Hypothesis strategies that several tests draw from: cores as the kernel lays them out, and filters."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import strategies as st

from support.builder import (
    AT_SYSINFO_EHDR,
    EM_PPC,
    EM_X86_64,
    NT_FILE,
    FileEntry,
    Load,
    kernel_notes,
    library,
    make_core,
    parse_core,
    parse_notes,
)
from support.samples import HUGE, PAGE, VDSO_LOAD

PATHS = [
    "/dev/zero", "/dev/zero (deleted)", "/anon_hugepage (deleted)", "/SYSV00000000 (deleted)", "/memfd:x (deleted)",
    "/data/a", "/data/a (deleted)", "/usr/lib/liba.so", "/usr/lib/wine/a.dll", "/[aio] (deleted)", "/dev/dax0.0",
    "anon_inode:[io_uring]", "/huge/a", "/usr/lib/a.pe",
]  # fmt: skip
CONTENTS = st.sampled_from([b"\x7fELF", b"#!", b"MZ", b"text", b"\0"])
FLAGS = st.sampled_from(["rw-", "r--", "r-x", "rwx", "--x", "---"])


@st.composite
def payloads(draw: st.DrawFn, pages: int) -> bytes:
    """Draw pages, of which some are zero, that begin with something telling."""
    whole = bytearray()
    for _ in range(pages):
        whole += bytes(PAGE) if draw(st.booleans()) else random.Random(draw(st.integers(0, 99))).randbytes(PAGE)
    begin = draw(CONTENTS)
    whole[: len(begin)] = begin[: len(whole)]
    return bytes(whole)


class Drawn(bytes):
    """A core that a failing test shows in few words."""

    def __repr__(self) -> str:
        rows = [
            f"{phdr.p_vaddr:#x} {phdr.p_flags} {phdr.p_filesz:#x} of {phdr.p_memsz:#x} at {phdr.p_offset:#x}"
            for phdr in parse_core(self)[1]
        ]
        return f"<core: {'; '.join(rows)}; {[note.desc for note in parse_notes(self) if note.type == NT_FILE]}>"


@st.composite
def cores(draw: st.DrawFn) -> bytes:
    """Draw a core as the kernel lays it out: mappings of every name, present in whole, in part or not at all."""
    bits, little_endian, machine = draw(st.sampled_from([(64, True, EM_X86_64)] * 3 + [(32, False, EM_PPC)]))
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    loads: list[Load] = []
    files: list[FileEntry] = []
    address = 0x10000000
    for _ in range(draw(st.integers(1, 8))):
        address += draw(st.sampled_from([0, PAGE, 1 << 20]))
        what = draw(st.sampled_from(["nameless", "file", "file", "library", "vdso", "huge"]))
        if what == "library":
            some, names = library(address, draw(st.sampled_from(["/opt/lib.so", "/usr/lib/lib.so"])), **shape)
            for i in draw(st.sets(st.integers(0, 5), max_size=2)):
                some[i] = replace(some[i], data=b"", memsz=len(some[i].data))
            loads += some
            files += names
            address += 7 * PAGE
            continue
        if what == "huge":
            address = -(-address // HUGE) * HUGE
        pages = draw(st.integers(1, 3))
        there = draw(st.sampled_from([pages, pages, 1, 0]))
        memsz = HUGE if what == "huge" else pages * PAGE
        loads.append(Load(address, draw(payloads(there)), memsz=memsz, flags=draw(FLAGS)))
        if what == "vdso":
            loads[-1] = replace(VDSO_LOAD, vaddr=address, memsz=PAGE)
            memsz = PAGE
        elif what != "nameless":
            offset = draw(st.sampled_from([0, 0, PAGE, HUGE]))
            files.append(FileEntry(address, address + memsz, offset, draw(st.sampled_from(PATHS))))
        address += memsz
    auxv = {}
    vdso = [load.vaddr for load in loads if load.flags == "r-x" and load.memsz == PAGE]
    if vdso:
        auxv[AT_SYSINFO_EHDR] = vdso[0]
    named = draw(st.sampled_from([True, True, True, False]))
    return Drawn(make_core(loads, kernel_notes(files if named else None, auxv, **shape), **shape))


FILTERS = st.integers(0, 0x1FF)
