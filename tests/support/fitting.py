"""Holds a core that was cut to fit against its input, by an independent reader."""

from __future__ import annotations

from itertools import pairwise

from support.builder import PT_LOAD, parse_core, parse_notes
from support.run import present
from support.samples import PAGE


def pages(core: bytes) -> dict[int, bytes]:
    """All pages of memory that a core holds, by their addresses; the last one of a mapping may be shorter."""
    found: dict[int, bytes] = {}
    for phdr in parse_core(core)[1]:
        if phdr.p_type == PT_LOAD:
            there = present(core, phdr)
            for at in range(0, there, PAGE):
                start = phdr.p_offset + at
                found[phdr.p_vaddr + at] = core[start : start + min(PAGE, there - at)]
    return found


def ranges(core: bytes) -> list[tuple[int, int, int]]:
    """What of the address space the mappings cover, with their flags; neighbours of the same flags as one."""
    found: list[tuple[int, int, int]] = []
    for phdr in parse_core(core)[1]:
        if phdr.p_type == PT_LOAD:
            start, end = phdr.p_vaddr, phdr.p_vaddr + phdr.p_memsz
            if found and found[-1][1:] == (start, phdr.p_flags):
                start = found.pop()[0]
            found.append((start, end, phdr.p_flags))
    return found


def assert_fits(before: bytes, after: bytes) -> None:
    """Hold a fitted core against its input: the same memory, the same notes and one more, other places."""
    old, new = pages(before), pages(after)
    assert not [address for address, content in new.items() if old.get(address) != content]
    assert ranges(after) == ranges(before)
    notes = [note for note in parse_notes(after) if note.name != "COREFILT"]
    assert notes == [note for note in parse_notes(before) if note.name != "COREFILT"]
    phdrs = [phdr for phdr in parse_core(after)[1] if phdr.p_filesz]
    taken = sorted((phdr.p_offset, phdr.p_offset + phdr.p_filesz) for phdr in phdrs)
    assert all(end <= start for (_, end), (start, _) in pairwise(taken))
    assert not [phdr for phdr in phdrs if phdr.p_type == PT_LOAD and phdr.p_offset % PAGE]
    assert not [phdr for phdr in phdrs if phdr.p_offset + phdr.p_filesz > len(after)]
