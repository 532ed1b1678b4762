"""Holds an output against its input before it gets its name, by ``corefilt.verify``, which shares no code with us."""

from __future__ import annotations

import os

from corefilt.corefile.corefile import MAX_HEADERS
from corefilt.errors import OutputError
from corefilt.io.opening import as_core, spooled
from corefilt.io.sources import FileSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.batching.task import Task


def as_plain_file(source: Source, folder: str | None) -> FileSource:
    """A core as a file that begins with it: itself, or a copy without a name in ``folder`` (None: in TMPDIR).

    Raises InputError.
    """
    file = source.file
    return file if file is not None and not file.base else spooled(source, folder)


def check(full: FileSource, fd: int, task: Task, folder: str | None, scrubbed: str | None = None) -> None:
    """Hold what a task wrote to ``fd`` against the full core; temporary copies go to ``folder`` (None: TMPDIR).

    ``scrubbed`` is a report of what was overwritten.

    Raises OutputError with what is broken, InputError where one of them is cut meanwhile, and MissingLibraryError.
    """
    from corefilt.verify import verify

    name, truncate = task.output or task.source, task.options.get("truncate")
    written: Source = FileSource(fd, name, size=os.fstat(fd).st_size, owned=False)
    written = as_core(written, max_headers=MAX_HEADERS)
    try:
        if not written.seekable:
            written = spooled(written, folder)
        damage = written.check()
        if damage is not None:
            raise OutputError(f"{name}: the output cannot be read back: {damage}")
        verdict = verify(
            f"/proc/self/fd/{full.fd}",
            f"/proc/self/fd/{written.fd}",
            truncate=truncate if isinstance(truncate, str | int) else None,
            scrubbed=scrubbed,
            names=(full.name, name),
        )
    finally:
        written.close()
    if verdict.findings:
        more = f", and {len(verdict.findings) - 1} more" if len(verdict.findings) > 1 else ""
        raise OutputError(
            f"{name}: the output failed the check: {verdict.findings[0]}{more}",
            "this is a bug in corefilt, or a disk error: please report it; nothing was replaced",
        )
