"""Damages small cores of every class, byte order and layout by a seed: fields, bytes, lengths, and what was cut off."""

from __future__ import annotations

import random
from collections.abc import Callable

from support.builder import (
    EM_386,
    EM_PPC,
    EM_PPC64,
    EM_X86_64,
    FileEntry,
    Load,
    kernel_notes,
    library,
    make_core,
    parse_core,
    patched,
)
from support.samples import PAGE, noise, tagged

A, B, C, D = 0x10000, 0x40000, 0x80000, 0x100000
SHM = "/dev/zero (deleted)"
SHAPES = [(64, True, EM_X86_64), (64, False, EM_PPC64), (32, True, EM_386), (32, False, EM_PPC)]
LAYOUTS = ("kernel", "xnum", "gcore", "gcore-notes-first", "unaligned", "memory tags", "annotated")

EHDR = (
    "e_phoff", "e_phnum", "e_shoff", "e_shnum", "e_shentsize", "e_shstrndx", "e_flags", "e_ehsize", "e_version",
    "e_entry",
)  # fmt: skip
PHDR = ("p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
SHDR = ("sh_name", "sh_type", "sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_entsize")


def base(bits: int, little_endian: bool, machine: int, layout: str) -> bytes:
    """Make a sound core with something of every sort in it."""
    if layout == "memory tags":
        return tagged(interleaved=bits == 32)
    shape = {"bits": bits, "little_endian": little_endian, "machine": machine}
    loads, files = library(0x20000000, "/usr/lib/a.so", **shape)  # type: ignore[arg-type]
    loads = [
        Load(A, noise(1, 1) + bytes(PAGE)),
        Load(B, noise(2, 2)),
        Load(C, b"", memsz=PAGE, flags="---"),
        *loads[:5],
        Load(D, noise(2, 3), memsz=3 * PAGE),
        Load(D + 4 * PAGE, noise(1, 4), flags="r-x"),
    ]
    entries = [FileEntry(B, B + 2 * PAGE, 0, SHM), *files]
    if layout == "unaligned":
        offset, placed = 0x1235, []
        for load in loads:
            placed.append(Load(load.vaddr, load.data, load.memsz, load.flags, offset=offset if load.data else None))
            offset += len(load.data) + 3
        loads = placed
    notes = kernel_notes(entries, threads=2, stack_pointers=[A + 64], **shape)  # type: ignore[arg-type]
    more = {"layout": layout} if layout.startswith("gcore") else {"xnum": layout == "xnum"}
    return make_core(loads, notes, **shape, **more)  # type: ignore[arg-type]


def damaged(seed: int) -> tuple[bytes, str]:
    """A core that something has happened to, and in words what."""
    draw = random.Random(seed)
    bits, little, machine = draw.choice(SHAPES)
    layout = draw.choice(LAYOUTS)
    core = base(bits, little, machine, layout)
    done = [f"seed {seed}: {bits} bits, {'little' if little else 'big'}, {layout}"]
    happens: list[Callable[[bytes, random.Random], tuple[bytes, str]]] = [
        _field, _field, _field, _cut, _byte, _noise, _longer, _shared,
    ]  # fmt: skip
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3))):
        core, words = draw.choice(happens)(core, draw)
        done.append(words)
    return core, "; ".join(done)


def _parsed(core: bytes) -> tuple[int, int, int, int]:
    """How many program headers and sections a core has, where its table ends, and its class."""
    ehdr, phdrs = parse_core(core)
    there = ehdr.e_shoff and ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize <= len(core)
    return len(phdrs), ehdr.e_shnum if there else 0, ehdr.e_phoff + len(phdrs) * ehdr.e_phentsize, ehdr.bits


def _field(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    try:
        phnum, shnum, _, bits = _parsed(core)
    except Exception:
        return _byte(core, draw)
    table = draw.choice(("", "phdr", "phdr", *(("shdr",) if shnum else ())))
    name = draw.choice({"": EHDR, "phdr": PHDR, "shdr": SHDR}[table])
    count = {"": 1, "phdr": max(phnum, 1), "shdr": shnum}[table]
    field = f"{table}[{draw.randrange(count)}].{name}" if table else name
    limit = 1 << bits
    value = draw.choice(
        (
            0, 1, 3, 7, 0x40, 0x1000, 0x1001, 0xFFFF, 0x10000, len(core), len(core) - 1, len(core) + 1,
            draw.randrange(len(core)), draw.randrange(len(core)) & ~7, draw.randrange(len(core)) & ~(PAGE - 1),
            (1 << 31) - 1, (1 << 32) - 1, (1 << 62), (1 << 63) - 1, (1 << 64) - 1, limit - PAGE,
        )
    )  # fmt: skip
    while True:
        try:
            return patched(core, {field: value % limit}), f"{field} = {value % limit:#x}"
        except Exception:
            # It is a narrower field, or the table is not where the header says.
            limit = 1 << 32 if limit > 1 << 32 else 1 << 16 if limit > 1 << 16 else 0
            if not limit:
                return _byte(core, draw)


def _cut(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    end = draw.choice((draw.randrange(len(core) + 1), len(core) - draw.choice((0, 1, 39, 40, 63, 64, 65, 128))))
    return core[: max(end, 0)], f"cut at {end:#x}"


def _byte(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    if not core:
        return core, "nothing"
    out, at = bytearray(core), draw.randrange(min(len(core), 0x800))
    out[at] = draw.randrange(256)
    return bytes(out), f"byte {at:#x}"


def _noise(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    if not core:
        return core, "nothing"
    out, at = bytearray(core), draw.randrange(len(core))
    length = draw.choice((2, 4, 8, 64, 512))
    out[at : at + length] = draw.choice((draw.randbytes(length), bytes(length), b"\xff" * length))[: len(out) - at]
    return bytes(out), f"{length} bytes at {at:#x}"


def _longer(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    length = draw.choice((1, 8, 64, PAGE))
    return core + draw.choice((bytes(length), draw.randbytes(length))), f"{length} bytes more"


def _shared(core: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Let one segment stand where another does."""
    try:
        _, phdrs = parse_core(core)
        one, other = draw.randrange(len(phdrs)), draw.randrange(len(phdrs))
        at = phdrs[other].p_offset + draw.choice((0, 0, 1, 8, PAGE, -PAGE, 100))
        return patched(core, {f"phdr[{one}].p_offset": at}), f"phdr[{one}] at {at:#x}"
    except Exception:
        return _byte(core, draw)
