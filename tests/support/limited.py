"""Cores for limits to cut: of every shape, with pages that are written, written full of zeros, or holes."""

from __future__ import annotations

from pathlib import Path

from support.builder import (
    EM_386,
    EM_AARCH64,
    EM_PPC,
    EM_PPC64,
    PT_LOAD,
    Load,
    Note,
    kernel_notes,
    make_core,
    mte_tags,
    page,
    parse_core,
)
from support.samples import PAGE

A, B = 0x10000, 0x40000
XSAVE_LAYOUT = Note("LINUX", 0x205, bytes(range(96)))
NOTES = [*kernel_notes([(B, B + 4 * PAGE, 0, "/dev/zero (deleted)")], threads=2), XSAVE_LAYOUT]


def write_sparse(path: Path, core: bytes, holes: set[int]) -> None:
    """Write a core without the pages, named by their offsets, that hold nothing; all else is written, zeros too."""
    with path.open("wb") as file:
        file.truncate(len(core))
        for at in range(0, len(core), PAGE):
            if at not in holes:
                file.seek(at)
                file.write(core[at : at + PAGE])


PATTERNS = ("x0.x", "..x.", "0000", "xx..", "....", "x", ".", "0")


def patterned(patterns: list[str], **options: object) -> tuple[bytes, set[int]]:
    """Make a core whose pages are given by letters: written, written full of zeros, or a hole."""
    loads = [
        Load(A + 0x100000 * i, b"".join(page(b"x" if letter == "x" else b"") for letter in pattern))
        for i, pattern in enumerate(patterns)
    ]
    extra = [mte_tags(load) for load in loads] if options.get("machine") == EM_AARCH64 else []
    notes = options.pop("notes", NOTES)
    core = make_core(loads, notes, extra_phdrs=extra, **options)  # type: ignore[arg-type]
    phdrs = [phdr for phdr in parse_core(core)[1] if phdr.p_type == PT_LOAD]
    return core, {
        phdr.p_offset + i * PAGE
        for phdr, pattern in zip(phdrs, patterns, strict=True)
        for i, letter in enumerate(pattern)
        if letter == "."
    }


SHAPES: dict[str, dict[str, object]] = {
    "x86-64": {},
    "i386": {"bits": 32, "machine": EM_386, "notes": [*kernel_notes(bits=32, machine=EM_386), XSAVE_LAYOUT]},
    "ppc": {
        "bits": 32, "machine": EM_PPC, "little_endian": False,
        "notes": kernel_notes(bits=32, machine=EM_PPC, little_endian=False),
    },
    "ppc64": {
        "machine": EM_PPC64, "little_endian": False, "notes": kernel_notes(machine=EM_PPC64, little_endian=False),
    },
    "xnum": {"xnum": True},
    "memory tags": {"machine": EM_AARCH64, "notes": kernel_notes(machine=EM_AARCH64)},
}  # fmt: skip
