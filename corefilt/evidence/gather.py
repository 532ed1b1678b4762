"""Gathers all evidence about one core: what lies beside it, what it was annotated with, and its mapped files."""

from __future__ import annotations

from corefilt.corefile.mappings import Mappings
from corefilt.corefile.nt_file import FileNote
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.evidence.evidence import Evidence
    from corefilt.evidence.sysroot import Sysroot
    from corefilt.procfs.snapshot import Seen


def gather(
    core: CoreFile,
    *,
    maps: str | None = None,
    pid: int | None = None,
    sysroot: str | None = None,
    process: Seen | None = None,
) -> Evidence | None:
    """Return what lies beside the core, and the note in it: the options are those of ``corefilt filter``.

    ``process`` is what was read of it already. What is opened is closed with the core. Raises EvidenceError for what
    cannot be used.
    """
    if maps is None and pid is None and sysroot is None and process is None and not core.notes.records:
        return None
    from corefilt.evidence.evidence import beside

    evidence = beside(core.source, core.maps.whole, maps=maps, pid=pid, process=process)
    if sysroot is not None:
        evidence.sysroot = _sysroot(core, sysroot)
    if core.notes.records:
        from corefilt.evidence.note_records import records_by_mapping, strangers

        evidence.records = records_by_mapping(core.notes.records, core.maps)
        unknown = strangers(core.notes.records, core.maps)
        if unknown:
            match = counted(unknown, "record of the COREFILT note matches", "records of the COREFILT note match")
            evidence.notices.append(f"{match} no mapping")
    names = evidence.file_names() if core.notes.files is None else None
    if names is not None:
        notes = core.notes.with_files(FileNote.of(names, core.ehdr))
        evidence.mappings = Mappings(core.ehdr, core.table, notes, like=core.maps)
    return evidence


def _sysroot(core: CoreFile, folder: str) -> Sysroot:
    from corefilt.evidence.sysroot import Sysroot, sysroot_for

    found = core.opened.get(folder)
    if not isinstance(found, Sysroot):
        found = core.opened[folder] = sysroot_for(folder, core.source.origin.fd)
    return found
