"""What must hold of a core at every instant of a run in place, and runs of it in this process."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import corefilt
from corefilt.filtering.options import Options
from corefilt.filtering.report import Report
from corefilt.filtering.write import write_filtered
from support.builder import PT_NOTE, SHT_NULL, parse_core, parse_notes, parse_sections
from support.opening import open_file
from support.run import table_moves

SHT_NOBITS = 8


def in_place(path: Path, wanted: int, **options: object) -> Report:
    """Filter a core in place, within this process."""
    with open_file(path) as core:
        return write_filtered(core, wanted, "-", Options(in_place=True, **options))  # type: ignore[arg-type]


def copied(core: bytes, wanted: int, folder: Path, **options: object) -> bytes:
    """Return what the same filter makes of a core in another file."""
    source, out = folder / "copied.in", folder / "copied.out"
    source.write_bytes(core)
    corefilt.filter(source, out, filter=wanted, force=True, sync=False, **options)  # type: ignore[arg-type]
    return out.read_bytes()


def assert_valid(before: bytes, after: bytes, least: bytes) -> None:
    """Hold a core that is being filtered against the full one, by an independent reader.

    Every program header holds as much as in the full core, or less, but no less than in ``least``, which the same
    filter made; and each of these bytes is right. Notes are whole, and sections that have bytes have the right ones.
    """
    old, was = parse_core(before)
    new, now = parse_core(after)
    moved = {"e_phoff": new.e_phoff} if table_moves(old, was) else {}
    assert new._replace(e_shoff=0) == old._replace(e_shoff=0, **moved)
    for index, (first, then, last) in enumerate(zip(was, now, parse_core(least)[1], strict=True)):
        where = f"program header {index}"
        assert then._replace(p_offset=0, p_filesz=0) == first._replace(p_offset=0, p_filesz=0), where
        assert last.p_filesz <= then.p_filesz <= first.p_filesz, where
        kept = after[then.p_offset : then.p_offset + then.p_filesz]
        assert len(kept) == then.p_filesz, where
        assert kept == before[first.p_offset : first.p_offset + then.p_filesz], f"{where}: other bytes"
        if first.p_type == PT_NOTE:
            assert then.p_filesz == first.p_filesz
    assert parse_notes(after) == parse_notes(before)
    # Of a section of memory only as much is there as the program headers say; the others are whole, but for tables that
    # they lie over.
    ours, theirs = without_tables(before), without_tables(after)
    for first, then in zip(parse_sections(before), parse_sections(after), strict=True):
        assert then._replace(sh_type=0, sh_offset=0, sh_size=0) == first._replace(sh_type=0, sh_offset=0, sh_size=0)
        assert then.sh_size <= first.sh_size
        if first.sh_type not in (SHT_NULL, SHT_NOBITS) and not first.sh_addr:
            assert then.sh_type == first.sh_type
            piece = theirs[then.sh_offset : then.sh_offset + then.sh_size]
            assert piece == ours[first.sh_offset : first.sh_offset + first.sh_size]


def assert_done(before: bytes, after: bytes, least: bytes) -> None:
    """Hold a core that was filtered in place: only sizes changed, and only dropped bytes are zero now."""
    assert_valid(before, after, least)
    assert len(after) == len(before)
    now, then = parse_core(after)[1], parse_core(least)[1]
    assert [phdr.p_filesz for phdr in now] == [phdr.p_filesz for phdr in then]
    assert [phdr.p_offset for phdr in now] == [phdr.p_offset for phdr in parse_core(before)[1]]
    changed = bytearray(len(before))
    for first, last in zip(parse_core(before)[1], now, strict=True):
        for at in range(first.p_offset + last.p_filesz, first.p_offset + first.p_filesz):
            changed[at] = 1
    for start, length in tables(before):
        changed[start : start + length] = bytes([2]) * length
    for at, (byte, old, mark) in enumerate(zip(after, before, changed, strict=True)):
        assert mark == 2 or byte == old or (mark == 1 and byte == 0), f"byte {at:#x}"


def tables(core: bytes) -> list[tuple[int, int]]:
    """Return where the program and the section headers stand, and their lengths."""
    ehdr = parse_core(core)[0]
    return [(ehdr.e_phoff, ehdr.phnum * ehdr.e_phentsize), (ehdr.e_shoff, ehdr.e_shnum * ehdr.e_shentsize)]


def without_tables(core: bytes) -> bytes:
    """Return a core with zeros in place of its program and section headers."""
    bare = bytearray(core)
    for start, length in tables(core):
        bare[start : start + length] = bytes(len(bare[start : start + length]))
    return bytes(bare)


def table_of(core: bytes) -> tuple[int, bytes]:
    """Return where the program header table stands, and its bytes."""
    ehdr = parse_core(core)[0]
    return ehdr.e_phoff, core[ehdr.e_phoff : ehdr.e_phoff + ehdr.phnum * ehdr.e_phentsize]


def with_sizes(core: bytes, sizes: Sequence[int]) -> bytes:
    """Return the core with other p_filesz in its program headers, and nothing else changed."""
    ehdr, _ = parse_core(core)
    out = bytearray(core)
    at, form = (32, "Q") if ehdr.bits == 64 else (16, "I")
    for i, size in enumerate(sizes):
        place = ehdr.e_phoff + i * ehdr.e_phentsize + at
        struct.pack_into("<>"[not ehdr.little_endian] + form, out, place, size)
    return bytes(out)


def allocated(path: Path) -> int:
    """Return how many bytes of the disk a file takes."""
    return os.stat(path).st_blocks * 512
