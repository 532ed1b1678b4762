"""What a backtrace needs beside stacks: of the smallest core that --fit makes, and of --minimal."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.builder import PT_DYNAMIC, FileEntry, Image, Load, elf_image, kernel_notes, library, make_core, parse_core
from support.fitting import pages
from support.samples import noise

import corefilt
from corefilt.errors import FitError

BASE, HEAP, STACK, PAGE = 0x7F0000000000, 0x555500000000, 0x7FFD00000000, 4096
AT_PHDR, AT_PHENT, AT_PHNUM, AT_BASE = 3, 4, 5, 7
PT_PHDR = 6
POINTERS = [STACK + PAGE + 64]


def fitted(core: bytes, tmp_path: Path, **options: Any) -> bytes:
    """Fit a core, to the smallest size that works if no other is asked for."""
    full, out = tmp_path / "full", tmp_path / "out"
    full.write_bytes(core)
    if not options:
        with pytest.raises(FitError) as caught:
            corefilt.filter(full, out, filter="all", fit=0)
        options = {"fit": caught.value.smallest}
    corefilt.filter(full, out, filter="all", force=True, sync=False, **options)
    return out.read_bytes()


def kept(core: bytes, start: int, count: int) -> list[int]:
    """Which of ``count`` pages from an address on a core has."""
    there = pages(core)
    return [n for n in range(count) if start + n * PAGE in there]


def test_what_stands_between_code_is_none(tmp_path: Path) -> None:
    """A JIT compiler's code can lie around its data; what points there, or to the end of all code, returns to none."""
    data, last = HEAP + 0x10000, HEAP + 0x20000
    stack = bytearray(noise(4, 1))
    struct.pack_into(
        "<QQQQ", stack, 2 * PAGE, HEAP + 2 * PAGE + 5, data + 2 * PAGE + 5, last + PAGE + 5, last + 3 * PAGE + 9
    )
    loads = [
        Load(HEAP, noise(4, 2), flags="r-x"), Load(data, noise(4, 3)),
        Load(last, noise(4, 4)[: 3 * PAGE + 9], flags="r-x"), Load(STACK, bytes(stack)),
    ]  # fmt: skip
    out = fitted(make_core(loads, kernel_notes([], stack_pointers=POINTERS)), tmp_path, minimal=True)
    assert [kept(out, start, 4) for start in (HEAP, data, last)] == [[2], [], [1]]


def listed(at_base: int, path: str) -> bytes:
    """Make a process with a linker in whose data, behind RELRO, a list begins that has two nodes on the heap."""
    loads, files = library(BASE, path)
    head, first, second = BASE + 0x5100, HEAP + 7 * PAGE + 64, HEAP + 12 * PAGE + 64
    data, heap = bytearray(noise(1, 1)), bytearray(noise(16, 2))
    struct.pack_into("<QQ", data, 0x100, first, second)
    struct.pack_into("<QQ", heap, first - HEAP, second, head)
    struct.pack_into("<QQ", heap, second - HEAP, head, first)
    loads = [replace(load, data=bytes(data)) if load.vaddr == BASE + 0x5000 else load for load in loads]
    notes = kernel_notes(files, {AT_BASE: at_base}, stack_pointers=POINTERS)
    return make_core([Load(HEAP, bytes(heap)), *loads, Load(STACK, noise(4, 3))], notes)


@pytest.mark.parametrize(
    ("at_base", "path", "found"),
    [
        (BASE, "/lib/ld.so.1", True),
        (BASE, "/lib/libc.so.6", True),
        (0, "/lib/libc.so.6", True),
        (0, "/lib/ld.so.1", False),
    ],
)
def test_the_linkers_lists_of_threads_are_needed(at_base: int, path: str, found: bool, tmp_path: Path) -> None:
    """By them libthread_db finds threads; the linker is where AT_BASE says, whatever its file is called."""
    out = fitted(listed(at_base, path), tmp_path)
    assert kept(out, HEAP, 16) == ([6, 7, 8, 11, 12, 13] if found else [])
    assert (BASE + 0x5000 in pages(out)) == found


@pytest.mark.parametrize("at_phdr", [BASE + 64, 0])
def test_a_programs_dynamic_section_is_needed(at_phdr: int, tmp_path: Path) -> None:
    """It leads to all libraries, so an unwritable mapping that holds it is kept whole, however large it is."""
    size = 40 * PAGE
    images = [
        Image(64, 4 * 56, type=PT_PHDR),
        Image(0, PAGE),
        Image(PAGE, size),
        Image(PAGE + 30 * PAGE, 64, type=PT_DYNAMIC),
    ]
    data = bytearray(noise(40, 1))
    data[30 * PAGE : 30 * PAGE + 16] = bytes(16)
    loads = [Load(BASE, elf_image(images), flags="r--"), Load(BASE + PAGE, bytes(data), flags="r--")]
    files = [FileEntry(load.vaddr, load.vaddr + len(load.data), load.vaddr - BASE, "/usr/bin/victim") for load in loads]
    auxv = {AT_PHDR: at_phdr, AT_PHENT: 56, AT_PHNUM: 4}
    core = make_core([*loads, Load(STACK, noise(4, 3))], kernel_notes(files, auxv, stack_pointers=POINTERS))
    found = {phdr.p_vaddr: phdr.p_filesz for phdr in parse_core(fitted(core, tmp_path))[1]}
    assert found[BASE + PAGE] == (size if at_phdr else 0)
