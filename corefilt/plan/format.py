"""``--format``: the notes of a core as the other dumper writes them, from FDPIC to plain and back.

Toward plain, NT_PRSTATUS loses the two words of the loadmaps, which debuggers do not expect, and a COREFILT note keeps
them. Toward FDPIC it gets them, and the notes go that the FDPIC dumper does not write. Nothing else is touched: what
is between the notes, and every other note, stays byte for byte.
"""

from __future__ import annotations

import struct

from corefilt import _fast
from corefilt.corefile.corefilt_note import NAME, NT_COREFILT_KINDS, NT_COREFILT_ORIGIN, Origin, encode_origin
from corefilt.corefile.elf import PT_NOTE
from corefilt.corefile.fdpic import machine_of
from corefilt.corefile.notes import (
    AT_BASE,
    AT_ENTRY,
    MOST_WALKED,
    NT_AUXV,
    NT_FILE,
    NT_PRFPREG,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
)
from corefilt.errors import UsageError, VariantError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.elf import Ehdr
    from corefilt.corefile.fdpic import FdpicMachine

# What elf_fdpic_core_dump writes (fs/binfmt_elf_fdpic.c of Linux 6.18; held against cores of 6.12).
_OF_FDPIC = (NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_PRFPREG)
_NAMES = {NT_SIGINFO: "NT_SIGINFO", NT_FILE: "NT_FILE", 0x400: "NT_ARM_VFP", 0x401: "NT_ARM_TLS"}


class Conversion:
    """The notes of the output: ``data`` replaces those of program header ``phdr``; ``changes`` tells it in words.

    ``behind`` is where the padding ends that follows the notes of the input, ``e_flags`` are the output's.
    """

    __slots__ = ("behind", "changes", "data", "e_flags", "phdr")

    def __init__(self, phdr: int, data: bytes, e_flags: int, changes: list[str]) -> None:
        """Hold them; ``behind`` is not known yet."""
        self.phdr, self.data, self.e_flags, self.changes = phdr, data, e_flags, changes
        self.behind = 0


def parse_loadmaps(text: str) -> tuple[int, int]:
    """``EXEC,INTERP``, both addresses like 0xbdffffa8, 0 where there is none. Raises UsageError."""
    try:
        first, second = (int(word, 0) for word in text.split(","))
    except ValueError:
        raise UsageError(
            f"--loadmaps is {text!r}", "it takes two addresses, like 0xbdffffa8,0 for a program without a loader"
        ) from None
    return first, second


def check_loadmaps(to: str, loadmaps: tuple[int, int] | None) -> None:
    """Raise UsageError for addresses that a format has no use for."""
    if to == "same" and loadmaps is not None:
        raise UsageError("--loadmaps goes with --format fdpic", "add it, or leave --loadmaps out")


def convert(core: CoreFile, to: str, loadmaps: tuple[int, int] | None, *, annotated: bool) -> Conversion | None:
    """The notes in another format, or None where they have it already.

    ``loadmaps`` are the addresses to write, or None to look for them; where the output is ``annotated`` anew, the
    records that are there are left out. Raises VariantError for what has no such format or cannot be read.
    """
    name = core.source.name
    check_loadmaps(to, loadmaps)
    if to == "same":
        return None
    machine = machine_of(core.ehdr)
    if machine is None:
        raise VariantError(
            f"{name}: there is no ELF-FDPIC for {core.machine} ({8 if core.ehdr.wide else 4}-byte words)"
        )
    if loadmaps is not None and (to == "elf" or core.notes.of_fdpic):
        raise UsageError("--loadmaps says what a plain core lacks, for --format fdpic", "leave it out")
    if to == "elf" and core.notes.loadmaps is None and core.notes.prstatus in (0, machine.plain):
        return None
    if to == "fdpic" and core.notes.of_fdpic:
        return None
    phdr = _notes_of(core)
    ehdr, offset = core.ehdr, core.table.p_offset[phdr]
    raw = core.source.peek(offset, core.present[phdr])
    if to == "elf":
        made = _to_plain(name, ehdr, machine, phdr, offset, raw, annotated=annotated)
    else:
        pairs, e_flags = _loadmaps_for(core, machine, loadmaps)
        made = _to_fdpic(name, ehdr, machine, phdr, offset, raw, pairs, e_flags, annotated=annotated)
    made.behind = _behind_padding(core, phdr)
    return made


def _behind_padding(core: CoreFile, phdr: int) -> int:
    """Where the zeros end with which the kernel fills the last page of the notes up."""
    offsets = core.table.p_offset
    end = offsets[phdr] + core.present[phdr]
    behind = min((offset for i, offset in enumerate(offsets) if i != phdr and offset >= end), default=end)
    if behind - end >= max(core.maps.exec_page_size, core.maps.page_size):
        return end
    padding = core.source.peek(end, behind - end)
    return behind if len(padding) == behind - end and not any(padding) else end


def _notes_of(core: CoreFile) -> int:
    table, name = core.table, core.source.name
    there = [i for i, p_type in enumerate(table.p_type) if p_type == PT_NOTE and core.present[i]]
    if len(there) != 1:
        raise VariantError(f"{name}: has {len(there)} note segments, and a dumper writes one")
    if core.present[there[0]] > MOST_WALKED:
        raise VariantError(
            f"{name}: its notes are {counted(core.present[there[0]], 'byte')}, more than is read at once"
        )
    return there[0]


class _Note:
    """One note of the input: ``raw`` with its padding, and where its descriptor stands in that."""

    __slots__ = ("at", "desc_at", "n_descsz", "n_type", "name", "raw")

    def __init__(self, raw: bytes, at: int, n_type: int, name: bytes, desc_at: int, n_descsz: int) -> None:
        """Hold them; ``at`` is its offset in the core."""
        self.raw, self.at, self.n_type, self.name = raw, at, n_type, name
        self.desc_at, self.n_descsz = desc_at, n_descsz

    @property
    def desc(self) -> bytes:
        """The descriptor."""
        return self.raw[self.desc_at : self.desc_at + self.n_descsz]

    def is_core(self, n_type: int) -> bool:
        """Whether it is one of the kernel's own of a type."""
        return self.n_type == n_type and self.name == b"CORE\0"

    def with_desc(self, desc: bytes, ehdr: Ehdr) -> bytes:
        """The note with another descriptor whose length differs by a multiple of 4, so that the padding stays."""
        header = self.raw[:4] + struct.pack(ehdr.order + "I", len(desc)) + self.raw[8 : self.desc_at]
        return header + desc + self.raw[self.desc_at + self.n_descsz :]


def _each(name: str, ehdr: Ehdr, raw: bytes, offset: int) -> Iterator[_Note]:
    found, done = _fast.walk_notes(raw, big=ehdr.big)
    if done < len(raw):
        raise VariantError(f"{name}: note at {offset + done:#x}: is cut off, so the notes cannot be rewritten")
    for n_type, name_at, n_namesz, desc_at, n_descsz in found:
        start, end = name_at - 12, min(desc_at + (n_descsz + 3 & ~3), len(raw))
        yield _Note(
            raw[start:end], offset + start, n_type, raw[name_at : name_at + n_namesz], desc_at - start, n_descsz
        )


def _drops(note: _Note, annotated: bool) -> bool:
    """Whether a note of ours gives way to a new one."""
    return note.name == NAME and (note.n_type == NT_COREFILT_ORIGIN or (annotated and note.n_type == NT_COREFILT_KINDS))


def _to_plain(
    name: str, ehdr: Ehdr, machine: FdpicMachine, phdr: int, offset: int, raw: bytes, *, annotated: bool
) -> Conversion:
    out: list[bytes] = []
    pairs: list[tuple[int, int]] = []
    at, word = machine.at, machine.word
    for note in _each(name, ehdr, raw, offset):
        if _drops(note, annotated):
            continue
        if note.is_core(NT_PRSTATUS):
            _check_size(name, note, machine, (machine.wide,))
            desc = note.desc
            pairs.append((ehdr.number(desc[at : at + word]), ehdr.number(desc[at + word : at + 2 * word])))
            out.append(note.with_desc(desc[:at] + desc[at + 2 * word :], ehdr))
        else:
            out.append(note.raw)
    if not pairs:
        raise VariantError(f"{name}: has no NT_PRSTATUS that the loadmaps' addresses could be taken out of")
    origin = encode_origin(ehdr, Origin(ehdr.e_flags, pairs[:1] if len(set(pairs)) == 1 else pairs))
    changes = [
        f"NT_PRSTATUS of {counted(len(pairs), 'thread')} has {machine.plain} bytes instead of {machine.wide}",
        f"a COREFILT note of {len(origin)} bytes keeps the loadmaps' addresses ({pairs[0][0]:#x} and {pairs[0][1]:#x})",
    ]
    e_flags = ehdr.e_flags & ~machine.e_flags
    if e_flags != ehdr.e_flags:
        changes.append(f"e_flags is {e_flags:#x} instead of {ehdr.e_flags:#x}")
    return Conversion(phdr, origin + b"".join(out), e_flags, changes)


def _to_fdpic(
    name: str, ehdr: Ehdr, machine: FdpicMachine, phdr: int, offset: int, raw: bytes, pairs: list[tuple[int, int]],
    e_flags: int, *, annotated: bool,
) -> Conversion:  # fmt: skip
    out: list[bytes] = []
    lost: dict[str, int] = {}
    threads = 0
    for note in _each(name, ehdr, raw, offset):
        if _drops(note, annotated):
            continue
        if note.is_core(NT_PRSTATUS):
            _check_size(name, note, machine, (machine.plain, machine.wide))
            pair = pairs[min(threads, len(pairs) - 1)]
            threads += 1
            words = b"".join(address.to_bytes(machine.word, "big" if ehdr.big else "little") for address in pair)
            desc, at = note.desc, machine.at
            out.append(note.with_desc(desc[:at] + words + desc[at + note.n_descsz - machine.plain :], ehdr))
        elif note.name == NAME or (note.name == b"CORE\0" and note.n_type in _OF_FDPIC):
            out.append(note.raw)
        else:
            what = _NAMES.get(note.n_type, f"type {note.n_type:#x}")
            lost[what] = lost.get(what, 0) + 1
    if not threads:
        raise VariantError(f"{name}: has no NT_PRSTATUS that loadmaps could be written into")
    changes = [
        f"NT_PRSTATUS of {counted(threads, 'thread')} has {machine.wide} bytes instead of {machine.plain}, "
        f"with the loadmaps' addresses {pairs[0][0]:#x} and {pairs[0][1]:#x}"
    ]
    if lost:
        left = ", ".join(f"{count} {what}" for what, count in sorted(lost.items()))
        changes.append(f"notes that the FDPIC dumper does not write were left out: {left}")
    if e_flags != ehdr.e_flags:
        changes.append(f"e_flags is {e_flags:#x} instead of {ehdr.e_flags:#x}")
    return Conversion(phdr, b"".join(out), e_flags, changes)


def _check_size(name: str, note: _Note, machine: FdpicMachine, known: tuple[int, ...]) -> None:
    if note.n_descsz not in known:
        raise VariantError(
            f"{name}: note at {note.at:#x}: NT_PRSTATUS of {counted(note.n_descsz, 'byte')} is neither this machine's "
            f"plain one ({machine.plain}) nor its FDPIC one ({machine.wide})"
        )


def _loadmaps_for(
    core: CoreFile, machine: FdpicMachine, given: tuple[int, int] | None
) -> tuple[list[tuple[int, int]], int]:
    """The loadmaps' addresses for every NT_PRSTATUS, and the e_flags. Raises VariantError where they cannot be had."""
    e_flags = core.ehdr.e_flags | machine.e_flags
    if given is not None:
        if any(not 0 <= address < 1 << 8 * machine.word for address in given):
            raise UsageError(
                "--loadmaps has an address that this machine cannot have", f"{machine.word} bytes hold one"
            )
        return [given], e_flags
    origin = core.notes.origin
    if origin is not None:
        return origin.loadmaps, origin.e_flags
    if core.notes.loadmaps is not None:
        return [core.notes.loadmaps], e_flags
    found = _find(core)
    if not any(found):
        raise VariantError(
            f"{core.source.name}: no loadmaps were found in it",
            "--loadmaps EXEC,INTERP says where they are, 0,0 that there are none",
        )
    return [found], e_flags


def _find(core: CoreFile) -> tuple[int, int]:
    """Where the loadmaps lie on the initial stack, by AT_ENTRY and AT_BASE; 0 for what is not there."""
    from corefilt.corefile.loadmaps import MOST_SEARCHED, find
    from corefilt.corefile.notes import AT_EXECFN, AT_PLATFORM, AT_RANDOM

    if not core.source.seekable:
        return 0, 0
    auxv, memory = core.notes.auxv, core.memory()
    argument = next((auxv[key] for key in (AT_EXECFN, AT_RANDOM, AT_PLATFORM) if auxv.get(key)), 0)
    i = memory.find(argument) if argument else None
    if i is None:
        return 0, 0
    start = max(memory.start(i), memory.end(i) - MOST_SEARCHED)
    at_entry, at_base = auxv.get(AT_ENTRY, 0), auxv.get(AT_BASE, 0)
    stack = memory.read(start, memory.end(i) - start)
    exec_loadmap, interp_loadmap = find(
        stack, start, core.ehdr, (at_entry, at_base), lambda address: memory.find(address) is not None
    )
    return exec_loadmap, interp_loadmap if interp_loadmap != exec_loadmap else 0
