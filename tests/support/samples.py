"""Cores that several tests use: small, with every mapping different from every other."""

from __future__ import annotations

import random

from support.builder import (
    AT_SYSINFO_EHDR,
    VSYSCALL,
    FileEntry,
    Image,
    Load,
    elf_image,
    kernel_notes,
    library,
    make_core,
)

PAGE = 4096
ANON, SHARED, SHARED_FILE, STACK, VDSO = 0x1000000, 0x2000000, 0x3000000, 0x7FFD00000000, 0x7FFD10000000


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
