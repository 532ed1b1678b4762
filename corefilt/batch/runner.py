"""Carries out one task: with files, or with what is behind a URL on one side or both."""

from __future__ import annotations

from corefilt.batch.remote.url import is_url
from corefilt.batch.work.execution import safely

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batch.outcome import Outcome
    from corefilt.batch.task import Task


def run_task(task: Task, on_progress: Callable[[int], None] | None = None) -> Outcome:
    """Carry a task out; what goes wrong with this core is an outcome too, and ends nothing else.

    ``on_progress`` is told how many more bytes went by.
    """
    return safely(task, lambda: _filtered(task, on_progress))


def _filtered(task: Task, on_progress: Callable[[int], None] | None) -> Outcome:
    if is_url(task.source) or is_url(task.output or ""):
        from corefilt.batch.work.remote import filtered_remotely

        return filtered_remotely(task, on_progress)
    from corefilt.batch.work import local

    return local.filtered(task, on_progress)
