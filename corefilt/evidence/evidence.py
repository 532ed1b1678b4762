"""What lies beside a core: a map of its process, the files it had mapped, and an earlier run's COREFILT note.

All of it is joined with the core's mappings by address, never by name: on overlayfs and in a chroot the names differ.
"""

from __future__ import annotations

import os

from corefilt.corefile.mappings import Mappings, flags_text
from corefilt.errors import EvidenceError, UsageError
from corefilt.io.sources import Source
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefilt_note import Record
    from corefilt.evidence.sysroot import Sysroot
    from corefilt.procfs.maps import Areas, Nature
    from corefilt.procfs.snapshot import FileFacts, Seen

# A map of which no more than this share of the core's mappings has the same address, protection and file offset is
# of another process. Of two runs of one program without randomised addresses 98 % can fit; of two with them, one
# mapping does ([vsyscall]).
LEAST_FITTING = 0.5
# A core of a part of a process, or one that lost its end, has fewer mappings than the process had.
MANY_MORE = 16


class Copy:
    """What the file below --sysroot shows of one mapping.

    ``reason`` says why it was not used, or is None. ``differs`` is where the mapping differs first, in bytes from its
    begin, or None; ``same`` tells whether it is the very file that was mapped, by build-id or inode; ``first`` are its
    first four bytes, if the core's were not to be had.
    """

    __slots__ = ("differs", "executable", "first", "reason", "same")

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        self.differs: int | None = None
        self.executable = self.same = False
        self.first: bytes | None = None


class Area:
    """What a map and the process say of one mapping."""

    __slots__ = ("device", "facts", "inode", "nature", "path")

    def __init__(
        self,
        nature: Nature,
        path: bytes | None,
        device: tuple[int, int],
        inode: int,
        facts: FileFacts | None,
    ) -> None:
        self.nature, self.path, self.device, self.inode, self.facts = nature, path, device, inode, facts


class Evidence:
    """All evidence beside the core; ``complete`` tells whether the map lists every mapping."""

    __slots__ = (
        "_areas", "_at", "_facts", "_looked", "_memory", "_small", "complete", "copies", "mappings", "notices",
        "records", "sysroot", "told_of_copies",
    )  # fmt: skip

    def __init__(self) -> None:
        self._areas: Areas | None = None
        self._at: dict[int, int] = {}
        self._facts: dict[int, FileFacts] = {}
        self.complete = self._looked = False
        # The core's mappings with the map's names, where NT_FILE is missing.
        self.mappings: Mappings | None = None
        self.sysroot: Sysroot | None = None
        self.copies: dict[int, Copy] = {}
        # What memory_device found, once it was asked.
        self._memory: list[tuple[int, int] | None] = []
        self._small: dict[tuple[int, int], bool] = {}
        self.records: dict[int, Record] = {}
        self.notices: list[str] = []
        self.told_of_copies: list[str] = []

    def area(self, m: int) -> Area | None:
        """What the map says of mapping ``m``, or None where it does not list it."""
        i = self._at.get(m)
        if i is None or self._areas is None:
            return None
        areas = self._areas
        return Area(areas.nature[i], areas.path[i], areas.device[i], areas.inode[i], self._facts.get(i))

    def alike(self, m: int) -> tuple[object, ...]:
        """What two mappings without a file must have in common for this evidence to say the same of both."""
        i, areas = self._at.get(m), self._areas
        record = id(self.records.get(m))
        if i is None or areas is None:
            return record, id(self.copies.get(m))
        where = (areas.device[i], areas.path[i]) if areas.nature[i].what == "file" else None
        return record, id(areas.nature[i]), id(self._facts.get(i)), id(self.copies.get(m)), where

    def small_pages(self, device: tuple[int, int], huge: int) -> bool | None:
        """Whether a device is known not to be hugetlbfs, whose pages have at least ``huge`` bytes, or to be it.

        A device is one file system: one mapping on it that has not the shape of huge pages, or one that is named
        /anon_hugepage, speaks for all.
        """
        areas = self._areas
        if not self._looked and areas is not None:
            self._looked = True
            for i, nature in enumerate(areas.nature):
                if nature.what == "file" and (areas.start[i] | areas.end[i] | areas.offset[i]) & (huge - 1):
                    self._small[areas.device[i]] = True
                elif areas.path[i] == b"/anon_hugepage (deleted)":
                    self._small.setdefault(areas.device[i], False)
        return self._small.get(device)

    def memory_device(self, huge: int) -> tuple[int, int] | None:
        """The device of the tmpfs that holds memfd and System V memory of small pages, where that is known."""
        areas = self._areas
        if areas is not None and not self._memory:
            names = (b"/memfd:", b"/SYSV", b"/dev/zero (deleted)")
            rows = zip(areas.path, areas.device, strict=True)
            named = (device for path, device in rows if path is not None and path.startswith(names))
            self._memory = [next((device for device in named if self.small_pages(device, huge)), None)]
        return self._memory[0] if self._memory else None

    def file_names(self) -> list[tuple[int, int, int, bytes]] | None:
        """What NT_FILE would hold, where a map lists every mapping: (start, end, offset in bytes, path)."""
        areas = self._areas
        if areas is None or not self.complete:
            return None
        rows = ((i, areas.path[i]) for i in self._at.values() if areas.nature[i].what == "file")
        return [(areas.start[i], areas.end[i], areas.offset[i], path) for i, path in rows if path is not None]

    def believe(self, areas: Areas, facts: dict[int, FileFacts], mappings: Mappings, source: str) -> None:
        """Take a map as that of the core's process. Raises EvidenceError where its addresses do not fit."""
        at = join(areas, mappings)
        if not len(mappings) or len(at) <= LEAST_FITTING * len(mappings):
            raise EvidenceError(
                f"{source}: does not match this core: it has {len(at)} of {counted(len(mappings), 'mapping')}",
                "take the map of the process that dumped this core",
            )
        self._areas, self._facts, self._at = areas, facts, at
        self.complete = len(at) == len(mappings)
        if len(at) < len(mappings):
            self.notices.append(f"{source}: lacks {len(mappings) - len(at)} of {counted(len(mappings), 'mapping')}")


def join(areas: Areas, mappings: Mappings) -> dict[int, int]:
    """For each mapping that the map lists as it is in the core, the index there.

    Address and protection must be the same, and the offset where NT_FILE gives one; and where NT_FILE names no file,
    the map must not either: then it was made before or after the dump.
    """
    index = {(start, end): i for i, (start, end) in enumerate(zip(areas.start, areas.end, strict=True))}
    joined: dict[int, int] = {}
    for m in range(len(mappings)):
        i = index.get((mappings.start(m), mappings.end(m)))
        if i is None or areas.nature[i].perms != flags_text(mappings.flags(m)).encode():
            continue
        offset = mappings.file_offset(m)
        if offset is None and mappings.notes.files is not None and areas.nature[i].what == "file":
            continue
        if offset is not None and (areas.nature[i].what != "file" or areas.offset[i] != offset):
            continue
        joined[m] = i
    return joined


def most(mappings: Mappings) -> int:
    """How many mappings a map of the core's process can have; one that has more is not read to its end."""
    return MANY_MORE * len(mappings) + 4096


def beside(
    source: Source,
    mappings: Mappings,
    *,
    maps: str | None = None,
    pid: int | None = None,
    process: Seen | None = None,
) -> Evidence:
    """The map that was asked for; ``process`` is one that was read already.

    Raises EvidenceError for what cannot be used, UsageError for a map from two places. ``maps`` may be ``auto``,
    which goes on without one.
    """
    if maps is not None and pid is not None:
        raise UsageError("--maps and --pid both give the map", "--pid reads all that --maps does, and more")
    evidence = Evidence()
    core_path = path_of(source)
    if pid is not None:
        from corefilt.procfs.snapshot import Process

        process = Process(pid)
    if process is not None:
        evidence.believe(process.areas, process.facts, mappings, process.name)
        evidence.notices += process.notices
    elif maps == "auto":
        _find(evidence, mappings, core_path)
    elif maps is not None:
        from corefilt.evidence.sidecars import read_sidecar
        from corefilt.procfs.maps import parse

        sidecar = read_sidecar(maps, core_path)
        evidence.believe(parse(sidecar.text, sidecar.name, most=most(mappings)), {}, mappings, sidecar.name)
    return evidence


def path_of(source: Source) -> str | None:
    """The core's own path, also where it came as standard input; None for a pipe."""
    source = source.origin
    if not source.seekable:
        return None
    try:
        return os.readlink(f"/proc/self/fd/{source.fd}") if os.fstat(source.fd).st_nlink else None
    except OSError:
        return None


def _find(evidence: Evidence, mappings: Mappings, core_path: str | None) -> None:
    """Look for a map beside the core, and say what came of it."""
    from corefilt.evidence.sidecars import find_sidecars
    from corefilt.procfs.maps import parse

    refused: list[str] = []
    for sidecar in find_sidecars(core_path) if core_path is not None else ():
        try:
            evidence.believe(parse(sidecar.text, sidecar.name, most=most(mappings)), {}, mappings, sidecar.name)
        except EvidenceError as error:
            refused.append(str(error))
            continue
        evidence.notices.append(f"the map is {sidecar.name}")
        return
    evidence.notices += refused
    evidence.notices.append("--maps auto found no map of this process")
