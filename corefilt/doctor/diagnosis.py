"""All rows about one process, in the order in which the kernel would come to them."""

from __future__ import annotations

from ..errors import ProcessError
from ..live import Live
from .kernel import kernel_rows
from .limits import core_limit, file_size_limit
from .memory import alive, data_of, filter_row, left_out
from .pattern import pattern_rows
from .place import place_rows
from .privileges import dumpable, program_readable, program_rights
from .row import NO, Row
from .settings import Settings
from .subject import Subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..procfolder import ProcFolder


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
