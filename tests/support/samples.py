"""Cores that several tests use: small, and in the sample every mapping is different from every other."""

from __future__ import annotations

import random
from dataclasses import replace

from support.builder import (
    AT_SYSINFO_EHDR,
    EM_AARCH64,
    VSYSCALL,
    FileEntry,
    Image,
    Load,
    elf_image,
    kernel_notes,
    library,
    make_core,
    mte_tags,
    page,
)

PAGE = 4096
HUGE = 2 << 20
ANON, SHARED, SHARED_FILE, STACK, VDSO = 0x1000000, 0x2000000, 0x3000000, 0x7FFD00000000, 0x7FFD10000000
LIBRARY = 0x7F0000001000
HEAP = Load(0x8000000, page(b"heap", 2))
VDSO_LOAD = Load(VDSO, elf_image([Image(0, 0x0F00, "r-x")]), flags="r-x")
VDSO_AUXV = {AT_SYSINFO_EHDR: VDSO}


def noise(pages: int, seed: int = 0) -> bytes:
    """Make pages that no other seed makes, without a zero byte run to mistake for a hole."""
    return random.Random(seed).randbytes(pages * PAGE)


def sample_core(anon_pages: int = 4, shared_pages: int = 4, **options: object) -> bytes:
    """Make a core of one process: heap, shared memory, a library, a dropped guard, stack, vDSO, vsyscall.

    What 0x33 drops is clean text; what 0x31 drops besides is the shared memory, `shared_pages` long.
    """
    loads, files = library(0x7F0000000000, "/usr/lib/libvictim.so.1")
    shared_end = SHARED + shared_pages * PAGE
    return make_core(
        [
            Load(ANON, noise(anon_pages, 1)),
            Load(SHARED, noise(shared_pages, 2)),
            Load(SHARED_FILE, noise(2, 3)),
            *loads,
            Load(0x7FFC00000000, b"", memsz=PAGE, flags="---"),
            Load(STACK, noise(2, 4)),
            Load(VDSO, elf_image([Image(0, 0x0F00, "r-x")]), flags="r-x"),
            Load(VSYSCALL, noise(1, 5), flags="--x"),
        ],
        kernel_notes(
            [
                FileEntry(SHARED, shared_end, 0, "/dev/zero (deleted)"),
                FileEntry(SHARED_FILE, SHARED_FILE + 2 * PAGE, 0, "/var/lib/victim/table.db"),
                *files,
            ],
            {AT_SYSINFO_EHDR: VDSO},
            threads=2,
        ),
        **options,  # type: ignore[arg-type]
    )


def nameless(*loads: Load, named: bool = True, **auxv: dict[int, int]) -> bytes:
    """Make a core of mappings that NT_FILE does not list, or without NT_FILE."""
    return make_core(loads, kernel_notes([] if named else None, auxv.get("auxv")))


def vvar_core(content: bytes, pages: int = 4, flags: str = "r--", gap: int = 0) -> bytes:
    """Make a core with a mapping before and one behind [vdso]."""
    before = VDSO - gap - pages * PAGE
    return nameless(
        HEAP,
        Load(before, page(content, pages), flags=flags),
        VDSO_LOAD,
        Load(VDSO + PAGE + gap, page(content, 2), flags=flags),
        auxv=VDSO_AUXV,
    )


def tagged(*, interleaved: bool = False) -> bytes:
    """Make a core of ARM's with memory tags for three mappings."""
    a, b, c = 0x10000, 0x40000, 0x80000
    loads = [Load(a, page(b"a", 4)), Load(b, noise(2, 1)), Load(c, b"", memsz=PAGE)]
    tags = [mte_tags(load) for load in loads]
    if interleaved:
        tags[0] = replace(tags[0], offset=0x2000)
        loads[0] = replace(loads[0], offset=0x2200)
        loads[1] = replace(loads[1], offset=0x7000)
        tags[1] = replace(tags[1], offset=0x9000)
    notes = kernel_notes([(a, a + 4 * PAGE, 0, "/dev/zero (deleted)")], machine=EM_AARCH64)
    return make_core(loads, notes, machine=EM_AARCH64, extra_phdrs=tags)
