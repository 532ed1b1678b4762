"""Builds ELF cores in memory, well-formed or hostile, and reads them back.

Nothing here imports corefilt: what the tests hold corefilt against must not share its mistakes. Field names
are those of elf.h.

    core = make_core([Load(0x1000, page(b"a")), Load(0x2000, memsz=4096)], kernel_notes())
    ehdr, phdrs = parse_core(core)
    assert payload_at(core, 0x1000, 1) == b"a"
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
EM_SPARC, EM_386, EM_68K, EM_MIPS, EM_PPC, EM_PPC64, EM_S390, EM_ARM = 2, 3, 4, 8, 20, 21, 22, 40
EM_SH, EM_SPARCV9, EM_X86_64, EM_XTENSA, EM_AARCH64, EM_RISCV = 42, 43, 62, 94, 183, 243
PT_NULL, PT_LOAD, PT_DYNAMIC, PT_NOTE = 0, 1, 2, 4
PT_GNU_RELRO = 0x6474E552
PT_AARCH64_MEMTAG_MTE = 0x70000002
PF_X, PF_W, PF_R = 1, 2, 4
PN_XNUM = 0xFFFF
SHT_NULL, SHT_PROGBITS, SHT_STRTAB, SHT_NOTE = 0, 1, 3, 7
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_FILE, NT_SIGINFO, NT_X86_XSTATE = 0x46494C45, 0x53494749, 0x202
AT_NULL, AT_PHDR, AT_PAGESZ, AT_BASE, AT_ENTRY, AT_SYSINFO_EHDR = 0, 3, 6, 7, 9, 33

VSYSCALL = 0xFFFFFFFFFF600000
"""Where x86-64 has its gate page, always the last program header."""

_LARGEST = 1 << 30
"""No test needs a core of more bytes in memory; an explicit offset beyond is a slip in the test."""

_EHDR = {64: "16sHHIQQQIHHHHHH", 32: "16sHHIIIIIHHHHHH"}
_PHDR = {64: "IIQQQQQQ", 32: "IIIIIIII"}
_SHDR = {64: "IIQQQQIIQQ", 32: "IIIIIIIIII"}
_EHDR_FIELDS = (
    "e_ident", "e_type", "e_machine", "e_version", "e_entry", "e_phoff", "e_shoff",
    "e_flags", "e_ehsize", "e_phentsize", "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx",
)  # fmt: skip
_PHDR_FIELDS = {
    64: ("p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align"),
    32: ("p_type", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_flags", "p_align"),
}
_SHDR_FIELDS = (
    "sh_name", "sh_type", "sh_flags", "sh_addr", "sh_offset",
    "sh_size", "sh_link", "sh_info", "sh_addralign", "sh_entsize",
)  # fmt: skip


def _format(kind: Mapping[int, str], bits: int, little_endian: bool) -> struct.Struct:
    return struct.Struct("<>"[not little_endian] + kind[bits])


def _up(value: int, step: int) -> int:
    return -(-value // step) * step if step > 1 else value


def ehsize(bits: int) -> int:
    return 64 if bits == 64 else 52


def phentsize(bits: int) -> int:
    return 56 if bits == 64 else 32


def shentsize(bits: int) -> int:
    return 64 if bits == 64 else 40


def page(content: bytes = b"", pages: int = 1, page_size: int = 4096) -> bytes:
    """Exactly `pages` pages that begin with the content; the rest is the content's last byte, or zeros."""
    return content.ljust(pages * page_size, content[-1:] or b"\0")[: pages * page_size]


def flag_bits(flags: str) -> int:
    """`rw-` as p_flags."""
    return PF_R * ("r" in flags) | PF_W * ("w" in flags) | PF_X * ("x" in flags)


@dataclass(frozen=True)
class Load:
    """One segment: a PT_LOAD unless `type` says otherwise.

    `data` is what the file holds: shorter than `memsz` for a mapping present in part, b"" for a dropped one.
    `memsz` None means as long as the data. `offset` None means laid out in turn; an explicit p_offset writes
    the data there, over what stands there, so that ranges can overlap. `filesz` sets p_filesz without bytes
    to go with it: with an `offset` it shows bytes that others wrote, or none.
    """

    vaddr: int
    data: bytes = b""
    memsz: int | None = None
    flags: str = "rw-"
    align: int | None = None
    offset: int | None = None
    filesz: int | None = None
    paddr: int = 0
    type: int = PT_LOAD


@dataclass(frozen=True)
class Note:
    """One note; the name gets its NUL here. `namesz` and `descsz` set the fields to something false."""

    name: str | bytes
    type: int
    desc: bytes
    namesz: int | None = None
    descsz: int | None = None

    def encode(self, little_endian: bool = True, align: int = 4) -> bytes:
        name = self.name if isinstance(self.name, bytes) else self.name.encode() + b"\0"
        head = struct.pack(
            "<>"[not little_endian] + "III",
            len(name) if self.namesz is None else self.namesz,
            len(self.desc) if self.descsz is None else self.descsz,
            self.type,
        )
        body = (head + name).ljust(_up(len(head) + len(name), align), b"\0")
        return (body + self.desc).ljust(_up(len(body) + len(self.desc), align), b"\0")


class FileEntry(NamedTuple):
    """One mapping in NT_FILE; `offset` in bytes, the note has it in pages."""

    start: int
    end: int
    offset: int
    path: str | bytes


def note_bytes(notes: Iterable[Note], little_endian: bool = True, align: int = 4) -> bytes:
    """Return the content of a PT_NOTE segment."""
    return b"".join(note.encode(little_endian, align) for note in notes)


def nt_file(
    entries: Iterable[FileEntry | tuple[int, int, int, str | bytes]],
    page_size: int = 4096,
    bits: int = 64,
    little_endian: bool = True,
    *,
    count: int | None = None,
) -> Note:
    """NT_FILE; `count` lies about the number of entries."""
    rows = [FileEntry(*entry) for entry in entries]
    words = [len(rows) if count is None else count, page_size]
    names = b""
    for entry in rows:
        words += [entry.start, entry.end, entry.offset // page_size]
        names += (entry.path if isinstance(entry.path, bytes) else entry.path.encode()) + b"\0"
    order = "<>"[not little_endian]
    return Note("CORE", NT_FILE, struct.pack(f"{order}{len(words)}{'Q' if bits == 64 else 'I'}", *words) + names)


def nt_auxv(values: Mapping[int, int], bits: int = 64, little_endian: bool = True) -> Note:
    """NT_AUXV with the closing AT_NULL."""
    words = [word for pair in values.items() for word in pair] + [AT_NULL, 0]
    order = "<>"[not little_endian]
    return Note("CORE", NT_AUXV, struct.pack(f"{order}{len(words)}{'Q' if bits == 64 else 'I'}", *words))


_PRSTATUS_SIZE = {
    (EM_X86_64, 64): 336, (EM_X86_64, 32): 296, (EM_386, 32): 144, (EM_AARCH64, 64): 392, (EM_ARM, 32): 148,
    (EM_RISCV, 64): 376, (EM_RISCV, 32): 204, (EM_SH, 32): 168, (EM_68K, 32): 154, (EM_XTENSA, 32): 588,
    (EM_PPC, 32): 268, (EM_PPC64, 64): 504, (EM_S390, 64): 336, (EM_S390, 32): 224,
}  # fmt: skip


# Where the stack pointer stands in NT_PRSTATUS: by the register's number in struct user_regs_struct and its like.
_STACK_POINTER = {
    (EM_X86_64, 64): 112 + 19 * 8, (EM_386, 32): 72 + 15 * 4, (EM_AARCH64, 64): 112 + 31 * 8, (EM_ARM, 32): 72 + 13 * 4,
    (EM_RISCV, 64): 112 + 2 * 8, (EM_RISCV, 32): 72 + 2 * 4, (EM_PPC64, 64): 112 + 8, (EM_PPC, 32): 72 + 4,
    (EM_S390, 64): 112 + 16 + 15 * 8,
}  # fmt: skip


def nt_prstatus(
    pid: int,
    bits: int = 64,
    little_endian: bool = True,
    *,
    machine: int = EM_X86_64,
    signal: int = 6,
    size: int | None = None,
    stack_pointer: int = 0,
    thread_pointer: int = 0,
) -> Note:
    """NT_PRSTATUS of one thread with zeroed registers but the stack pointer; `size` overrides the machine's own.

    `thread_pointer` is fs_base of x86-64.
    """
    if size is None:
        size = _PRSTATUS_SIZE.get((machine, bits), 376 if bits == 64 else 148)
    order = "<>"[not little_endian]
    desc = bytearray(size)
    struct.pack_into(order + "iiih", desc, 0, signal, 0, 0, signal)
    at = 32 if bits == 64 else 22 if machine == EM_68K else 24
    struct.pack_into(order + "iiii", desc, at, pid, 1, pid, pid)
    if stack_pointer:
        struct.pack_into(order + ("Q" if bits == 64 else "I"), desc, _STACK_POINTER[machine, bits], stack_pointer)
    if thread_pointer:
        struct.pack_into(order + "Q", desc, 112 + 21 * 8, thread_pointer)
    return Note("CORE", NT_PRSTATUS, bytes(desc))


def nt_prpsinfo(
    pid: int,
    bits: int = 64,
    little_endian: bool = True,
    *,
    machine: int = EM_X86_64,
    name: str = "victim",
    args: str = "victim --now ",
) -> Note:
    """NT_PRPSINFO: 136 bytes for LP64, 124 or 128 (RISC-V and Xtensa) for the others."""
    wide = bits == 32 and machine in (EM_RISCV, EM_XTENSA)
    size, pids, fname = (136, 24, 40) if bits == 64 else (128, 16, 32) if wide else (124, 12, 28)
    desc = bytearray(size)
    desc[1:2] = b"R"
    struct.pack_into("<>"[not little_endian] + "iiii", desc, pids, pid, 1, pid, pid)
    desc[fname : fname + 16] = name.encode()[:15].ljust(16, b"\0")
    desc[fname + 16 : fname + 96] = args.encode()[:79].ljust(80, b"\0")
    return Note("CORE", NT_PRPSINFO, bytes(desc))


def nt_siginfo(signal: int = 6, little_endian: bool = True) -> Note:
    return Note("CORE", NT_SIGINFO, struct.pack("<>"[not little_endian] + "iii", signal, 0, -6).ljust(128, b"\0"))


def kernel_notes(
    files: Iterable[FileEntry | tuple[int, int, int, str | bytes]] | None = (),
    auxv: Mapping[int, int] | None = None,
    *,
    pid: int = 4242,
    threads: int = 1,
    bits: int = 64,
    little_endian: bool = True,
    machine: int = EM_X86_64,
    page_size: int = 4096,
    stack_pointers: Sequence[int] = (),
) -> list[Note]:
    """Return the notes of a kernel of 3.7 or later, in its order; `files` None leaves NT_FILE out.

    `auxv` is added to an AT_PAGESZ of the page size; a vector without it is made by nt_auxv. `stack_pointers` are
    those of the first threads, of which there are at least as many.
    """
    shape = (bits, little_endian)
    pointers = [*stack_pointers, *[0] * max(threads, 1)]
    threads = max(threads, len(stack_pointers))
    notes = [
        nt_prstatus(pid, *shape, machine=machine, stack_pointer=pointers[0]),
        nt_prpsinfo(pid, *shape, machine=machine),
        nt_siginfo(6, little_endian),
        nt_auxv({AT_PAGESZ: page_size, **(auxv or {})}, *shape),
    ]
    if files is not None:
        notes.append(nt_file(files, page_size, *shape))
    notes += [
        nt_prstatus(pid + thread, *shape, machine=machine, stack_pointer=pointers[thread])
        for thread in range(1, threads)
    ]
    return notes


def make_core(
    loads: Sequence[Load],
    notes: Iterable[Note] | bytes = (),
    *,
    bits: int = 64,
    little_endian: bool = True,
    machine: int = EM_X86_64,
    layout: str = "kernel",
    xnum: bool = False,
    page_size: int = 4096,
    note_align: int = 4,
    note_segment: bool = True,
    extra_phdrs: Sequence[Load] = (),
    e_flags: int = 0,
    tail: bytes = b"",
    truncate_to: int | None = None,
    patch: Mapping[str, int] | None = None,
) -> bytes:
    """Build a core as bytes.

    `layout`: "kernel" (tables, notes, zeros to a page, payload; with many segments or `xnum` a section
    header at the end), "gcore" (gdb 13: payload first at unaligned offsets, then notes, names and section
    headers), "gcore-notes-first" (older gdb), "createdump" (.NET Core 2.1 and 3.1: section header 0, which e_shnum
    does not count, stands before the program headers) or "delve" (1.20: payload from the ELF header on, then the
    notes, then the program headers, PT_NOTE the last of them). `notes` may be raw bytes. `note_align` is the p_align of
    PT_NOTE, and 8 pads the notes to 8. `extra_phdrs` follow the PT_LOADs in table and file.

    Afterwards `tail` is appended, then `patch` sets fields, named as `e_phentsize`, `phdr[3].p_offset`
    (counted in the table, where 0 is PT_NOTE) or `shdr[0].sh_info`, then the file is cut to `truncate_to`.
    """
    if layout not in ("kernel", "gcore", "gcore-notes-first", "createdump", "delve"):
        raise ValueError(f"layout {layout!r}")
    createdump, delve = layout == "createdump", layout == "delve"
    if xnum and layout not in ("kernel", "createdump"):
        raise ValueError("only the kernel layout has the section header of PN_XNUM")
    segments = [*loads, *extra_phdrs]
    notes = notes if isinstance(notes, bytes) else note_bytes(notes, little_endian, 8 if note_align == 8 else 4)
    count = len(segments) + note_segment
    table_at = ehsize(bits) + (shentsize(bits) if createdump else 0)
    tables_end = table_at + count * phentsize(bits)

    # Where everything stands.
    kernel = layout in ("kernel", "createdump")
    default_align = page_size if kernel else 0 if delve else 1
    cursor = tables_end if not delve else ehsize(bits)
    note_offset = tables_end
    if layout not in ("gcore", "delve"):
        cursor += len(notes)
    if kernel:
        cursor = _up(cursor, page_size)
    data_start = cursor
    placed: list[tuple[Load, int]] = []
    for load in segments:
        placed.append((load, cursor if load.offset is None else load.offset))
        if load.offset is None:
            cursor += len(load.data)
    if layout in ("gcore", "delve"):
        note_offset, cursor = cursor, cursor + len(notes)
    if delve:
        table_at, cursor = cursor, cursor + count * phentsize(bits)
        tables_end = cursor

    out = bytearray(cursor)
    out[note_offset : note_offset + len(notes)] = notes
    for load, offset in placed:
        if not load.data:
            continue
        end = offset + len(load.data)
        if end > _LARGEST:
            raise ValueError(f"data at {offset:#x} would make a core of {end} bytes; use filesz= for a lie")
        if end > len(out):
            out.extend(bytes(end - len(out)))
        out[offset:end] = load.data

    # The program headers.
    phdr = _format(_PHDR, bits, little_endian)
    table: list[dict[str, int]] = []
    if note_segment:
        table.append(
            {
                "p_type": PT_NOTE, "p_flags": 0 if kernel else PF_R, "p_offset": note_offset, "p_vaddr": 0,
                "p_paddr": 0, "p_filesz": len(notes), "p_memsz": 0, "p_align": note_align if kernel else 1,
            }
        )  # fmt: skip
    for load, offset in placed:
        align = default_align if load.type == PT_LOAD else 0
        table.append(
            {
                "p_type": load.type,
                "p_flags": flag_bits(load.flags),
                "p_offset": offset,
                "p_vaddr": load.vaddr,
                "p_paddr": load.paddr,
                "p_filesz": len(load.data) if load.filesz is None else load.filesz,
                "p_memsz": len(load.data) if load.memsz is None else load.memsz,
                "p_align": align if load.align is None else load.align,
            }
        )
    if delve:
        table.append(table.pop(0))
    names = _PHDR_FIELDS[bits]
    out[table_at:tables_end] = b"".join(phdr.pack(*(row[name] for name in names)) for row in table)

    # The section headers.
    xnum = xnum or (kernel and count >= PN_XNUM)
    sections: list[tuple[int, ...]] = []
    if xnum or createdump:
        sections = [(0, SHT_NULL, 0, 0, 0, 1, 0, count, 0, 0)]
    elif not kernel and not delve:
        sections = _gcore_sections(table, len(out))
        out += b"\0note0\0load\0.shstrtab\0"
        out.extend(bytes(_up(len(out), 8) - len(out)))
    shdr = _format(_SHDR, bits, little_endian)
    packed = b"".join(shdr.pack(*section) for section in sections)
    e_shoff = ehsize(bits) if createdump else len(out) if sections else 0
    if createdump:
        out[e_shoff:table_at] = packed
    else:
        out += packed

    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if little_endian else 2, 1]) + bytes(9)
    out[: ehsize(bits)] = _format(_EHDR, bits, little_endian).pack(
        ident, ET_CORE, machine, 1, 0, table_at if count else 0, e_shoff, e_flags, ehsize(bits),
        phentsize(bits), PN_XNUM if xnum else count, shentsize(bits) if sections else 0,
        0 if createdump else len(sections), 0 if kernel or delve else len(sections) - 1,
    )  # fmt: skip
    out += tail
    for field, value in (patch or {}).items():
        _set_field(out, field, value, bits, little_endian, e_shoff, table_at)
    if data_start > len(out):
        out.extend(bytes(data_start - len(out)))
    return bytes(out[:truncate_to])


def _gcore_sections(table: Sequence[Mapping[str, int]], strings_at: int) -> list[tuple[int, ...]]:
    """Make the sections of gdb's layout: null, one per segment, the names."""
    sections: list[tuple[int, ...]] = [(0,) * 10]
    for row in table:
        note = row["p_type"] == PT_NOTE
        flags = 0 if note else SHF_ALLOC | SHF_WRITE * bool(row["p_flags"] & PF_W)
        flags |= SHF_EXECINSTR * bool(row["p_flags"] & PF_X)
        sections.append(
            (
                1 if note else 7, SHT_NOTE if note else SHT_PROGBITS, flags, row["p_vaddr"],
                row["p_offset"], row["p_filesz"], 0, 0, 1, 0,
            )
        )  # fmt: skip
    sections.append((12, SHT_STRTAB, 0, 0, strings_at, 22, 0, 0, 1, 0))
    return sections


def _set_field(
    out: bytearray, field: str, value: int, bits: int, little_endian: bool, e_shoff: int, e_phoff: int | None = None
) -> None:
    match = re.fullmatch(r"(?:(phdr|shdr)\[(\d+)\]\.)?(\w+)", field)
    if not match:
        raise ValueError(f"no such field: {field}")
    table, index, name = match[1], int(match[2] or 0), match[3]
    names: tuple[str, ...]
    if table == "phdr":
        at, layout, names = (e_phoff or ehsize(bits)) + index * phentsize(bits), _PHDR, _PHDR_FIELDS[bits]
    elif table == "shdr":
        at, layout, names = e_shoff + index * shentsize(bits), _SHDR, _SHDR_FIELDS
    else:
        at, layout, names = 0, _EHDR, _EHDR_FIELDS
    coder = _format(layout, bits, little_endian)
    values = list(coder.unpack_from(out, at))
    values[names.index(name)] = value
    coder.pack_into(out, at, *values)


def patched(core: bytes, patch: Mapping[str, int]) -> bytes:
    """Give a core with other fields, named as make_core names them in its `patch`."""
    ehdr, _ = parse_core(core)
    out = bytearray(core)
    for field, value in patch.items():
        _set_field(out, field, value, ehdr.bits, ehdr.little_endian, ehdr.e_shoff)
    return bytes(out)


@dataclass(frozen=True)
class Image:
    """One program header of an ELF image that lies in a payload."""

    vaddr: int
    memsz: int
    flags: str = "r--"
    offset: int | None = None
    filesz: int | None = None
    align: int = 4096
    type: int = PT_LOAD


def elf_image(
    segments: Sequence[Image],
    *,
    relro: tuple[int, int] | None = None,
    bits: int = 64,
    little_endian: bool = True,
    machine: int = EM_X86_64,
    e_type: int = ET_DYN,
    phoff: int | None = None,
    size: int = 4096,
    patch: Mapping[str, int] | None = None,
) -> bytes:
    """Make the first `size` bytes of a shared object or program: ELF header, program headers, a filler.

    `relro` is (vaddr, memsz) of PT_GNU_RELRO. An Image without an offset has p_offset = p_vaddr. A `phoff`
    past `size` makes the result just long enough to hold the program headers there, as in BOLTed libraries;
    cut it where the table is to be out of sight. `patch` is that of make_core.
    """
    rows = list(segments)
    if relro is not None:
        rows.append(Image(*relro, align=1, type=PT_GNU_RELRO))
    at = ehsize(bits) if phoff is None else phoff
    phdr = _format(_PHDR, bits, little_endian)
    table = b""
    for row in rows:
        fields = {
            "p_type": row.type,
            "p_flags": flag_bits(row.flags),
            "p_offset": row.vaddr if row.offset is None else row.offset,
            "p_vaddr": row.vaddr,
            "p_paddr": row.vaddr,
            "p_filesz": row.memsz if row.filesz is None else row.filesz,
            "p_memsz": row.memsz,
            "p_align": row.align,
        }
        table += phdr.pack(*(fields[name] for name in _PHDR_FIELDS[bits]))
    out = bytearray(b"\xcc" * max(size, at + len(table)))
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if little_endian else 2, 1]) + bytes(9)
    out[: ehsize(bits)] = _format(_EHDR, bits, little_endian).pack(
        ident,
        e_type,
        machine,
        1,
        0x1040,
        at,
        0,
        0,
        ehsize(bits),
        phentsize(bits),
        len(rows),
        shentsize(bits),
        0,
        0,
    )
    out[at : at + len(table)] = table
    for field, value in (patch or {}).items():
        _set_field(out, field, value, bits, little_endian, 0)
    return bytes(out)


def library(
    base: int, path: str, *, bits: int = 64, little_endian: bool = True, machine: int = EM_X86_64
) -> tuple[list[Load], list[FileEntry]]:
    """Map a shared library as ld.so does, everything present: headers, text, rodata, RELRO, data, .bss.

    The five file mappings take seven pages from `base`; a .bss page without a file follows.
    """
    head = elf_image(
        [
            Image(0x0000, 0x0F00, "r--"),
            Image(0x1000, 0x1F00, "r-x"),
            Image(0x3000, 0x0F00, "r--"),
            Image(0x4000, 0x3000, "rw-", filesz=0x1F00),
        ],
        relro=(0x4000, 0x1000),
        bits=bits,
        little_endian=little_endian,
        machine=machine,
    )
    pieces = [
        (0x0000, head, "r--"),
        (0x1000, page(b"text", 2), "r-x"),
        (0x3000, page(b"rodata"), "r--"),
        (0x4000, page(b"relro"), "r--"),
        (0x5000, page(b"data"), "rw-"),
    ]
    loads = [Load(base + at, data, flags=flags) for at, data, flags in pieces]
    files = [FileEntry(base + at, base + at + len(data), at, path) for at, data, _ in pieces]
    return [*loads, Load(base + 0x6000, page(b"bss"))], files


def mte_tags(load: Load, page_size: int = 4096) -> Load:
    """Make the MTE tag segment of a mapping: 128 bytes for each page of 4 KiB that is present."""
    memsz = len(load.data) if load.memsz is None else load.memsz
    tags = b"\x5a" * (len(load.data) // page_size * (page_size // 32))
    return replace(load, data=tags, memsz=memsz, flags="", align=0, type=PT_AARCH64_MEMTAG_MTE)


class Ehdr(NamedTuple):
    """An ELF header, with what follows from it: `phnum` is the count with PN_XNUM resolved."""

    e_ident: bytes
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int
    bits: int
    little_endian: bool
    phnum: int


class Phdr(NamedTuple):
    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


class Shdr(NamedTuple):
    sh_name: int
    sh_type: int
    sh_flags: int
    sh_addr: int
    sh_offset: int
    sh_size: int
    sh_link: int
    sh_info: int
    sh_addralign: int
    sh_entsize: int


def parse_core(core: bytes) -> tuple[Ehdr, list[Phdr]]:
    """Read the ELF and program headers; raises ValueError or struct.error where they are not whole.

    The count of a PN_XNUM core comes from its section header, or, where that is cut off, from the place of
    the notes, which follow the table in the kernel's layout.
    """
    if core[:4] != b"\x7fELF" or core[4] not in (1, 2) or core[5] not in (1, 2):
        raise ValueError("not an ELF file")
    bits, little_endian = 32 * core[4], core[5] == 1
    fields = _format(_EHDR, bits, little_endian).unpack_from(core)
    phdr = _format(_PHDR, bits, little_endian)
    names = _PHDR_FIELDS[bits]
    order = [names.index(name) for name in Phdr._fields]
    e_phoff, e_shoff, phnum = fields[5], fields[6], fields[10]
    if phnum == PN_XNUM:
        if e_shoff and e_shoff + shentsize(bits) <= len(core):
            phnum = _format(_SHDR, bits, little_endian).unpack_from(core, e_shoff)[7]
        else:
            phnum = (phdr.unpack_from(core, e_phoff)[names.index("p_offset")] - e_phoff) // phdr.size
    table = memoryview(core)[e_phoff : e_phoff + phnum * phdr.size]
    if len(table) != phnum * phdr.size:
        raise ValueError("the program headers are cut off")
    phdrs = [Phdr._make([row[index] for index in order]) for row in phdr.iter_unpack(table)] if phnum else []
    return Ehdr._make([*fields, bits, little_endian, phnum]), phdrs


def parse_sections(core: bytes) -> list[Shdr]:
    """All section headers; with PN_XNUM that is the one which carries the count."""
    ehdr, _ = parse_core(core)
    shdr = _format(_SHDR, ehdr.bits, ehdr.little_endian)
    return [
        Shdr._make(shdr.unpack_from(core, ehdr.e_shoff + index * shdr.size))
        for index in range(ehdr.e_shnum if ehdr.e_shoff else 0)
    ]


def parse_notes(core: bytes) -> list[Note]:
    """Read the notes of every PT_NOTE, up to the first that does not fit."""
    ehdr, phdrs = parse_core(core)
    found = []
    for phdr in phdrs:
        if phdr.p_type != PT_NOTE:
            continue
        data = core[phdr.p_offset : phdr.p_offset + phdr.p_filesz]
        align = 8 if phdr.p_align == 8 else 4
        at = 0
        while at + 12 <= len(data):
            namesz, descsz, kind = struct.unpack_from("<>"[not ehdr.little_endian] + "III", data, at)
            desc_at = _up(at + 12 + namesz, align)
            if desc_at + descsz > len(data):
                break
            name = data[at + 12 : at + 12 + namesz].rstrip(b"\0").decode("latin-1")
            found.append(Note(name, kind, data[desc_at : desc_at + descsz]))
            at = _up(desc_at + descsz, align)
    return found


def payload_at(core: bytes, vaddr: int, n: int) -> bytes:
    """Find the `n` bytes that a core holds of an address; KeyError where it does not hold them all."""
    for phdr in parse_core(core)[1]:
        if phdr.p_type == PT_LOAD and phdr.p_vaddr <= vaddr and vaddr + n <= phdr.p_vaddr + phdr.p_filesz:
            at = phdr.p_offset + vaddr - phdr.p_vaddr
            found = core[at : at + n]
            if len(found) == n:
                return found
    raise KeyError(f"{n} bytes at {vaddr:#x} are not in the core")
