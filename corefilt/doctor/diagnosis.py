"""All rows about one process, in the order in which the kernel would come to them."""

from __future__ import annotations

from corefilt.doctor.kernel import kernel_rows
from corefilt.doctor.limits import core_limit, file_size_limit
from corefilt.doctor.live import Live
from corefilt.doctor.memory import alive, data_of, filter_row, left_out
from corefilt.doctor.pattern import pattern_rows
from corefilt.doctor.place import place_rows
from corefilt.doctor.privileges import dumpable, program_readable, program_rights
from corefilt.doctor.row import NO, Row
from corefilt.doctor.settings import Settings
from corefilt.doctor.subject import Subject
from corefilt.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.procfs.pid import ProcFolder


def diagnose(folder: ProcFolder, settings: Settings | None = None) -> list[Row]:
    """Why the process would or would not leave a core. Raises ProcessError for one that is gone."""
    settings = settings or Settings()
    subject = Subject(folder)
    rows = [*kernel_rows(), alive(subject)]
    if not subject.has_memory:
        return rows
    try:
        live = Live(folder)
    except ProcessError:
        if not folder.exists():
            raise
        # What a stranger may not see of its memory leaves the other rows as they are.
        live = None
    rows += [dumpable(subject, settings), program_rights(subject, settings), program_readable(subject, settings)]
    rows += pattern_rows(subject, settings)
    rows += [core_limit(subject, settings), file_size_limit(subject, settings)]
    rows += place_rows(subject, settings, data_of(live))
    return [*rows, filter_row(live), left_out(live)]


def writes_core(rows: list[Row]) -> bool:
    """Whether nothing stands in the way."""
    return all(row.answer != NO for row in rows)
