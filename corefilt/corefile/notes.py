"""The notes of a core, as far as a filter needs them: who wrote it, NT_AUXV and NT_FILE."""

from __future__ import annotations

from corefilt import _fast
from corefilt.corefile import corefilt_note
from corefilt.corefile.elf import (
    EM_68K,
    EM_386,
    EM_AARCH64,
    EM_ARM,
    EM_PPC,
    EM_PPC64,
    EM_RISCV,
    EM_S390,
    EM_SH,
    EM_X86_64,
    PT_LOAD,
    PT_NOTE,
    Ehdr,
    Phdrs,
)
from corefilt.corefile.fdpic import loadmaps_in
from corefilt.corefile.nt_file import FileNote
from corefilt.errors import NotACoreError
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Source

NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV, NT_FILE, NT_SIGINFO = 1, 2, 3, 6, 0x46494C45, 0x53494749

# Where a stack pointer stands in NT_PRSTATUS, in bytes, by machine and class: pr_reg begins at 112 (ELFCLASS64), 72, or
# 70 (m68k), then come the registers as struct elf_gregset has them. Held against gdb's on x86-64 and i386, for the
# others taken from arch/*/include/uapi/asm/ptrace.h of Linux 6.18.
STACK_POINTERS = {
    (EM_X86_64, True): 264, (EM_386, False): 132, (EM_AARCH64, True): 360, (EM_ARM, False): 124,
    (EM_RISCV, True): 128, (EM_RISCV, False): 80, (EM_PPC64, True): 120, (EM_PPC, False): 76, (EM_S390, True): 248,
    (EM_SH, False): 132, (EM_68K, False): 130,
}  # fmt: skip
AT_NULL, AT_PHDR, AT_PAGESZ, AT_BASE, AT_ENTRY = 0, 3, 6, 7, 9
AT_PLATFORM, AT_RANDOM, AT_EXECFN, AT_SYSINFO_EHDR = 15, 25, 31, 33

# Notes are read in windows of this size; the notes of one thread take 3 to 6 KiB on x86-64.
WINDOW = 1 << 16
# Behind NT_FILE the notes are only checked, and no more than this much of them: a pipe must hold what is looked at.
MOST_BEHIND = 1 << 20
# The largest note is NT_FILE, of at most 16 MiB (core_file_note_size_limit, Linux 6.18).
MOST_OF_A_NOTE = 64 << 20
# Notes are looked through this far in all; 10,000 threads on x86-64 have 50 MiB of them.
MOST_WALKED = 64 << 20

_FOREIGN = {
    b"NetBSD-CORE": "NetBSD",
    b"FreeBSD": "FreeBSD",
    b"OpenBSD": "OpenBSD",
    b"DragonFly": "DragonFly BSD",
    b"QNX": "QNX",
    b"GNU/Solaris": "Solaris",
}
# Whose notes a dump of memory has, and what filters or reads those. QEMU's dump-guest-memory, which libvirt asks for
# its own, writes VMCOREINFO only where the guest's kernel gave it (seen with QEMU 7.2).
_OF_MACHINES = {
    b"VMCOREINFO": ("a dump of a kernel", "makedumpfile filters those"),
    b"QEMU": ("a dump of a virtual machine's memory", "crash reads those, and makedumpfile filters them"),
    b"Xen": ("a dump of a Xen machine's memory", "crash reads those"),
    b"VBCORE": ("a dump of a VirtualBox machine's memory", "crash reads those"),
}
# Whose notes tell of the process. delve (1.20) leaves the name out.
OF_THE_PROCESS = (b"CORE", b"")


class Notes:
    """What the notes say. ``files`` is None where there is no NT_FILE that can be read.

    ``stack_pointers`` are those of the threads, as far as the notes were looked at; ``records`` are those of a COREFILT
    note by address range, ``record_at`` where that note stands: its offset in the core and its length in bytes, or
    None. ``made`` is what a batch told of how it made the core (empty: nothing), ``signature`` what an annotation tells
    of the crash (empty: nothing), ``fitted`` tells that mappings were
    cut to fit a size, ``continued`` where parts of them begin that continue another, ``extents`` by address the memory
    of those whose p_memsz tells less, ``origin`` that --format made a plain core of an FDPIC one, ``shared`` that
    another core holds blocks of this one. ``prstatus`` is the size in bytes of the first PRSTATUS (0: there is none),
    ``loadmaps`` are the addresses in it, if it is FDPIC's; ``only_plain`` tells that there is a note which the FDPIC
    dumper never writes. ``crashed``, ``prpsinfo`` and ``siginfo`` are descriptors: of the first PRSTATUS, and of the
    two notes (empty: none). ``threads`` counts each PRSTATUS that was looked at; where it is more than one there can
    be more. ``notices`` say what was read otherwise than it is written.
    """

    __slots__ = (
        "auxv", "continued", "crashed", "extents", "files", "fitted", "loadmaps", "made", "notices", "only_plain",
        "origin", "prpsinfo", "prstatus", "record_at", "records", "shared", "siginfo", "signature", "stack_pointers",
        "threads", "warnings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.auxv: dict[int, int] = {}
        self.crashed = self.prpsinfo = self.siginfo = b""
        self.files: FileNote | None = None
        self.fitted = False
        self.continued: set[int] = set()
        self.extents: dict[int, int] = {}
        self.made = self.signature = b""
        self.records: dict[tuple[int, int], corefilt_note.Record] = {}
        self.record_at: tuple[int, int] | None = None
        self.origin: corefilt_note.Origin | None = None
        self.shared: corefilt_note.Shared | None = None
        self.loadmaps: tuple[int, int] | None = None
        self.only_plain = False
        self.prstatus = 0
        self.notices: list[str] = []
        self.stack_pointers: list[int] = []
        self.threads = 0
        self.warnings: list[str] = []

    @property
    def of_fdpic(self) -> bool:
        """Whether the notes are those of the FDPIC dumper."""
        return self.loadmaps is not None and not self.only_plain

    def with_files(self, files: FileNote) -> Notes:
        """The same notes with an NT_FILE."""
        notes = Notes()
        for name in self.__slots__:
            setattr(notes, name, getattr(self, name))
        notes.files = files
        return notes


def read_notes(source: Source, ehdr: Ehdr, table: Phdrs) -> Notes:
    """Read the notes up to NT_FILE.

    The kernel writes AUXV and FILE among the notes of the first thread, so nothing behind a second PRSTATUS
    can be one of them; gdb writes PRPSINFO first and the two at the end (linux_make_corefile_notes), so there
    the walk goes on. Raises NotACoreError for a core of another system. What is damaged becomes a warning.
    """
    notes = Notes()
    budget = MOST_WALKED
    for i in table.of_type(PT_NOTE):
        if table.p_filesz[i] and budget > 0:
            budget = _walk(source, ehdr, table.p_offset[i], table.p_filesz[i], notes, budget)
    if budget <= 0:
        notes.warnings.append(f"the notes are more than {show_size(MOST_WALKED)}; the rest was ignored")
    if not (notes.auxv or notes.files or notes.prpsinfo):
        _refuse_guest_memory(source.name, table)
    return notes


def _walk(source: Source, ehdr: Ehdr, at: int, length: int, notes: Notes, budget: int) -> int:
    """Walk one note segment; returns what is left of the budget, in bytes."""
    end = at + length
    first_type: int | None = None
    complete = False
    window = WINDOW
    while end - at >= 12 and budget > 0 and not (complete and end - at > MOST_BEHIND):
        chunk = source.peek(at, min(window, end - at))
        found, done = _fast.walk_notes(chunk, big=ehdr.big)
        for n_type, name_at, n_namesz, desc_at, n_descsz in found:
            name = chunk[name_at : name_at + n_namesz].rstrip(b"\0")
            _refuse_foreign(source.name, name)
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_KINDS:
                length = desc_at + (n_descsz + 3 & ~3) - name_at + 12
                _take_records(chunk[desc_at : desc_at + n_descsz], ehdr, notes, (at + name_at - 12, length))
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_FITS:
                _take_fits(chunk[desc_at : desc_at + n_descsz], ehdr, notes)
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_MADE:
                # The newest stands first.
                notes.made = notes.made or chunk[desc_at : desc_at + n_descsz].rstrip(b"\0")
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_SIGNATURE:
                notes.signature = notes.signature or chunk[desc_at : desc_at + n_descsz].rstrip(b"\0")
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_SCRUBBED:
                told = chunk[desc_at : desc_at + n_descsz].rstrip(b"\0")
                notes.notices.append(printable(told.decode("utf-8", "backslashreplace")))
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_ORIGIN:
                _take_origin(chunk[desc_at : desc_at + n_descsz], ehdr, notes)
                continue
            if name + b"\0" == corefilt_note.NAME and n_type == corefilt_note.NT_COREFILT_SHARED:
                _take_shared(chunk[desc_at : desc_at + n_descsz], ehdr, notes)
                continue
            if first_type is None:
                first_type = n_type
            elif n_type == NT_PRSTATUS and first_type == NT_PRSTATUS:
                complete = True
            if name in OF_THE_PROCESS and (not complete or n_type == NT_PRSTATUS):
                _take(n_type, chunk[desc_at : desc_at + n_descsz], ehdr, notes)
        complete = complete or (notes.files is not None and bool(notes.auxv) and first_type == NT_PRSTATUS)
        at, budget = at + done, budget - done
        if found and found[-1][0] == found[-1][2] == found[-1][4] == 0:
            notes.warnings.append(f"notes before {at:#x}: there are empty notes, which no dumper writes")
            return budget
        window = WINDOW
        if not done:
            window = _length_of_next(chunk, ehdr)
            if window > end - at:
                notes.warnings.append(
                    f"note at {at:#x}: n_namesz or n_descsz reaches {show_size(at + window - end)} past its segment"
                )
                return budget
            if window > MOST_OF_A_NOTE:
                notes.warnings.append(f"note at {at:#x}: is skipped: it claims {show_size(window)}")
                at, window = at + window, WINDOW
            elif len(chunk) < min(WINDOW, end - at) or (source.size is not None and at + window > source.size):
                return budget
    if end - at > MOST_BEHIND and first_type == NT_PRSTATUS:
        # No thread has so much behind NT_FILE.
        notes.threads = max(notes.threads, 2)
    return budget


def _length_of_next(chunk: bytes, ehdr: Ehdr) -> int:
    if len(chunk) < 12:
        return 12
    n_namesz, n_descsz = (ehdr.number(chunk[i : i + 4]) for i in (0, 4))
    return 12 + (n_namesz + 3 & ~3) + n_descsz


def _refuse_foreign(core: str, name: bytes) -> None:
    machine = _OF_MACHINES.get(name)
    if machine is not None:
        what, hint = machine
        raise NotACoreError(f"{core}: is {what}, not of a process (it has a {name.decode()} note)", hint)
    system = next((system for mark, system in _FOREIGN.items() if name.startswith(mark)), None)
    if system:
        raise NotACoreError(f"{core}: not a Linux core but one of {system} (note name {name.decode('latin-1')!r})")


def _refuse_guest_memory(core: str, table: Phdrs) -> None:
    """Raise NotACoreError where the segments are of physical memory, also where notes that would say so are lost.

    Nothing that dumps a process leaves all p_flags 0; p_paddr is what QEMU has such dumps for.
    """
    loads = [i for i, p_type in enumerate(table.p_type) if p_type == PT_LOAD]
    if not any(table.p_flags[i] for i in loads) and any(table.p_paddr[i] for i in loads):
        first = next(i for i in loads if table.p_paddr[i])
        raise NotACoreError(
            f"{core}: is a dump of a machine's memory, not of a process (program header {first}: p_flags is 0, and "
            f"p_paddr {table.p_paddr[first]:#x})",
            _OF_MACHINES[b"QEMU"][1],
        )


def _take(n_type: int, desc: bytes, ehdr: Ehdr, notes: Notes) -> None:
    if n_type == NT_PRSTATUS:
        notes.threads += 1
        if not notes.prstatus:
            notes.prstatus, notes.loadmaps, notes.crashed = len(desc), loadmaps_in(desc, ehdr), desc
        word, at = 8 if ehdr.wide else 4, STACK_POINTERS.get((ehdr.e_machine, ehdr.wide), len(desc))
        if at + word <= len(desc):
            notes.stack_pointers.append(ehdr.number(desc[at : at + word]))
    elif n_type == NT_PRPSINFO and not notes.prpsinfo:
        notes.prpsinfo = desc
    elif n_type == NT_AUXV and not notes.auxv:
        word = 8 if ehdr.wide else 4
        words = [ehdr.number(desc[i : i + word]) for i in range(0, len(desc) - word + 1, word)]
        for key, value in zip(words[::2], words[1::2], strict=False):
            if key == AT_NULL:
                break
            notes.auxv.setdefault(key, value)
    elif n_type == NT_SIGINFO:
        notes.only_plain = True
        notes.siginfo = notes.siginfo or desc
    elif n_type == NT_FILE and notes.files is None:
        notes.only_plain = True
        try:
            notes.files = FileNote(desc, ehdr)
        except ValueError as error:
            notes.warnings.append(f"NT_FILE cannot be used: {error}")
            return
        if notes.files.in_bytes:
            notes.notices.append(
                f"NT_FILE: the offsets are in bytes, not in pages of {notes.files.unit} as it says (createdump of .NET "
                "Core 2.1 writes them so), and are read as bytes"
            )


def _take_records(desc: bytes, ehdr: Ehdr, notes: Notes, place: tuple[int, int]) -> None:
    if notes.record_at is not None:
        # The newest stands first.
        return
    notes.record_at = place
    try:
        notes.records = corefilt_note.decode(desc, ehdr)
    except ValueError as error:
        notes.warnings.append(f"the COREFILT note cannot be used: {error}")


def _take_fits(desc: bytes, ehdr: Ehdr, notes: Notes) -> None:
    notes.fitted = True
    try:
        # Every run that cuts further adds one before the others.
        starts, extents = corefilt_note.decode_fits(desc, ehdr)
        notes.continued |= starts
        notes.extents = extents | notes.extents
    except ValueError as error:
        notes.warnings.append(f"the COREFILT note of a core that was cut to fit cannot be used: {error}")


def _take_shared(desc: bytes, ehdr: Ehdr, notes: Notes) -> None:
    if notes.shared is None:
        try:
            notes.shared = corefilt_note.decode_shared(desc, ehdr)
        except ValueError as error:
            notes.warnings.append(f"the COREFILT note of a core without its shared memory cannot be used: {error}")


def _take_origin(desc: bytes, ehdr: Ehdr, notes: Notes) -> None:
    if notes.origin is None:
        try:
            notes.origin = corefilt_note.decode_origin(desc, ehdr)
        except ValueError as error:
            notes.warnings.append(f"the COREFILT note of an FDPIC core cannot be used: {error}")
