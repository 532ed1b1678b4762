"""Carries out one task; whatever goes wrong with it is an outcome."""

from __future__ import annotations

from corefilt.batching.work.execution import safely

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task


def run_task(task: Task, on_progress: Callable[[int], None] | None = None) -> Outcome:
    """Carry a task out; what goes wrong with this core is an outcome too, and ends nothing else.

    ``on_progress`` is told how many more bytes went by.
    """
    return safely(task, lambda: _surveyed(task) if task.survey else _filtered(task, on_progress))


def _surveyed(task: Task) -> Outcome:
    from corefilt.batching.work.survey import survey

    return survey(task)


def _filtered(task: Task, on_progress: Callable[[int], None] | None) -> Outcome:
    from corefilt.batching.work.filter_task import filter_task

    return filter_task(task, on_progress)
