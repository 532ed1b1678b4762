"""What a filter keeps of a process that is alive, by the rules that decide a core's mappings.

The rules are asked about the core that the process would leave under a filter that keeps nothing: every mapping
stands in its tables, no byte of it is there, and what the evidence beside a core would be is the process itself.
"""

from __future__ import annotations

import os
import threading
import time
from array import array

from corefilt.classify.classifier import Classifier
from corefilt.classify.context import Context, vvar_candidates
from corefilt.classify.payload import Payload
from corefilt.corefile.elf import PF_R, PF_W, PF_X, PT_LOAD, Ehdr, Phdrs
from corefilt.corefile.mappings import Mappings
from corefilt.corefile.notes import AT_NULL, AT_PAGESZ, Notes
from corefilt.corefile.nt_file import FileNote
from corefilt.errors import EvidenceError, ProcessError
from corefilt.evidence.evidence import Evidence
from corefilt.io.sources import Source
from corefilt.plan.layout import kept_bytes
from corefilt.procfs.coredump_filter import read_filter, read_limits
from corefilt.procfs.snapshot import DEADLINE, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.procfs.maps import Areas
    from corefilt.procfs.pid import ProcFolder

_FLAGS = {ord("r"): PF_R, ord("w"): PF_W, ord("x"): PF_X}


class KeptShare:
    """What a filter keeps of one mapping, or of several, in bytes; ``count`` is their number, ``size`` their length.

    ``kept`` is the most that it may be, ``undecided`` how much of it hangs on an assumption, and ``data`` the most that
    would not be holes. ``resident`` is what is in memory or in swap now, None where smaps does not tell.
    """

    __slots__ = ("count", "data", "kept", "resident", "size", "undecided")

    def __init__(
        self,
        *,
        size: int = 0,
        kept: int = 0,
        data: int = 0,
        undecided: int = 0,
        resident: int | None = 0,
        count: int = 0,
    ) -> None:
        self.size, self.kept, self.data, self.undecided = size, kept, data, undecided
        self.resident, self.count = resident, count

    def __add__(self, other: KeptShare) -> KeptShare:
        known = self.resident is not None and other.resident is not None
        return KeptShare(
            size=self.size + other.size,
            kept=self.kept + other.kept,
            data=self.data + other.data,
            undecided=self.undecided + other.undecided,
            resident=(self.resident or 0) + (other.resident or 0) if known else None,
            count=self.count + other.count,
        )

    def as_dict(self) -> dict[str, object]:
        """The bytes with the keys that they have in JSON."""
        return {
            "size": self.size,
            "resident": self.resident,
            "kept": self.kept,
            "data": self.data,
            "undecided": self.undecided,
        }


class Live:
    """A process as it is now: its ``filter``, ``limits``, ``areas``, and the ``findings`` of their kinds, in order.

    ``notices`` say what could not be looked at.
    """

    def __init__(self, folder: ProcFolder) -> None:
        """Look at all of it. Raises ProcessError."""
        self.pid, self.name = folder.pid, folder.name
        self.filter = read_filter(folder)
        self.limits = read_limits(folder)
        self.limit = self.limits["Max core file size"]
        try:
            process = Process(folder.pid, folder.fd, sizes=True)
        except EvidenceError as error:
            # The class's own hint is about an option that was not given here.
            raise ProcessError(str(error), error.hint if error.hint != EvidenceError.hint else "") from None
        self.areas: Areas = process.areas
        self.notices = list(process.notices)
        ehdr = _ehdr(folder)
        notes = _notes(folder, ehdr, self.areas)
        nothing, everything = (_mappings(self.areas, ehdr, notes, present=present) for present in (False, True))
        self.page_size = nothing.page_size
        evidence = Evidence()
        evidence.believe(self.areas, process.facts, nothing, self.name)
        vvar = vvar_candidates(nothing)
        payload = Payload(everything, vvar)
        classifier = Classifier(Context(ehdr, nothing, payload, evidence, vvar=vvar), nothing)
        with _Memory(folder) as memory:
            payload.read_from(memory)
            if memory.late:
                self.notices.append(f"{self.name}: its memory did not all answer within {DEADLINE:g} s")
        self.findings = classifier.decide_all()

    def share(self, m: int, wanted: int) -> KeptShare:
        """What a filter would keep of mapping ``m``."""
        size, resident = self.areas.end[m] - self.areas.start[m], self.areas.resident[m]
        least, _, most = self.findings[m].levels(wanted)
        kept = kept_bytes(most, size, self.page_size)
        # Of memory without a file, absent pages become holes; of a file or shared memory the kernel reads in what it
        # dumps, to the file's end (get_dump_page in mm/gup.c of Linux 6.18; held against a core in tests/kernel).
        absent = resident >= 0 and self.areas.nature[m].what == "memory"
        return KeptShare(
            size=size,
            kept=kept,
            data=min(kept, resident) if absent else kept,
            undecided=kept - kept_bytes(least, size, self.page_size),
            resident=resident if resident >= 0 else None,
            count=1,
        )

    def by_kind(self, wanted: int) -> Iterator[tuple[str, KeptShare]]:
        """For every kind that is there: its name, and what a filter would keep of its mappings."""
        sums: dict[str, KeptShare] = {}
        for m, finding in enumerate(self.findings):
            sums[finding.kind] = sums.get(finding.kind, KeptShare()) + self.share(m, wanted)
        yield from sorted(sums.items())


class _Memory(Source):
    """A process's memory by address; what cannot be read is not there.

    A page can be that of a file whose server does not answer, so all of them together have until the deadline.
    """

    def __init__(self, folder: ProcFolder) -> None:
        try:
            fd = os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder.fd)
        except OSError:
            fd = -1
        super().__init__(fd, f"{folder.name}: mem", owned=fd >= 0)
        self.late = False
        self._until = time.monotonic() + DEADLINE

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    def peek(self, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        if not self.late:
            # Daemons do not hold up the end of the interpreter, whatever they wait for.
            worker = threading.Thread(target=_read_at, args=(self.fd, offset, length, pieces), daemon=True)
            worker.start()
            worker.join(max(0, self._until - time.monotonic()))
            self.late = worker.is_alive()
        return pieces[0] if pieces else b""


def _read_at(fd: int, offset: int, length: int, pieces: list[bytes]) -> None:
    try:
        pieces.append(os.pread(fd, length, offset))
    except (OSError, OverflowError):
        return


def _ehdr(folder: ProcFolder) -> Ehdr:
    """The ELF header of the program; without the right to read it, that of this one."""
    for program in ("exe", "/proc/self/exe"):
        try:
            with open(os.open(program, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder.fd), "rb") as file:
                return Ehdr(file.read(64))
        except (OSError, ValueError):
            continue
    raise ProcessError(f"{folder.name}: its program has no ELF header that can be read")


def _notes(folder: ProcFolder, ehdr: Ehdr, areas: Areas) -> Notes:
    """The notes that a core of the process would have, as far as they tell of its mappings."""
    notes = Notes()
    raw, word = folder.read("auxv"), 8 if ehdr.wide else 4
    words = [ehdr.number(raw[i : i + word]) for i in range(0, len(raw) - word + 1, word)]
    for key, value in zip(words[::2], words[1::2], strict=False):
        if key == AT_NULL:
            break
        notes.auxv.setdefault(key, value)
    files = (i for i, nature in enumerate(areas.nature) if nature.what == "file")
    notes.files = FileNote.of(
        [(areas.start[i], areas.end[i], areas.offset[i], areas.path[i] or b"") for i in files], ehdr
    )
    return notes


def _mappings(areas: Areas, ehdr: Ehdr, notes: Notes, *, present: bool) -> Mappings:
    """The mappings as a core has them, of which all bytes are ``present`` at their addresses, or none."""
    table = Phdrs(len(areas))
    sizes = array("Q", (end - start for start, end in zip(areas.start, areas.end, strict=True)))
    table.p_type = array("I", [PT_LOAD]) * len(areas)
    table.p_flags = array("I", (sum(_FLAGS.get(c, 0) for c in nature.perms) for nature in areas.nature))
    table.p_vaddr = table.p_offset = areas.start
    table.p_memsz = sizes
    if present:
        table.p_filesz = sizes
    mappings = Mappings(ehdr, table, notes)
    mappings.page_size = notes.auxv.get(AT_PAGESZ) or os.sysconf("SC_PAGE_SIZE")
    return mappings
