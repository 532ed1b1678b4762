"""Filters the core of one task to where it goes, and makes the outcome of it."""

from __future__ import annotations

import os
import time

from ..core import Core
from ..filterbits import CoredumpFilter
from ..identity import Identity
from ..sources import open_source
from ..writer import Options, make_wish, write_filtered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..report import Report
    from .outcome import Outcome
    from .task import Task


def filtered(task: Task, on_progress: Callable[[int], None] | None, began: float) -> Outcome:
    """Do it. Raises CorefiltError's children and OSError."""
    with Core(open_source(task.source, max_headers=64 << 20)) as core:
        before = os.fstat(core.source.fd).st_blocks * 512
        output = task.output or os.devnull
        if task.output is not None and not task.dry_run:
            os.makedirs(os.path.dirname(task.output) or ".", exist_ok=True)
        report = write_filtered(core, CoredumpFilter(task.filter), output, options_of(task, on_progress))
        return _outcome(task, core, report, before, time.monotonic() - began)


def options_of(task: Task, on_progress: Callable[[int], None] | None) -> Options:
    """The writer's options of a task."""
    values = dict(task.options)
    wish = values.pop("fit", None)
    fit = make_wish(**wish) if isinstance(wish, dict) else None
    return Options(**values, fit=fit, force=task.force, dry_run=task.dry_run, on_progress=on_progress)  # type: ignore[arg-type]


def _outcome(task: Task, core: Core, report: Report, before: int | None, seconds: float) -> Outcome:
    identity = Identity(core.notes, core.ehdr)
    executable = identity.executable if identity.executable is not None else identity.comm
    return task.outcome(
        "filtered",
        "; ".join(report.warnings),
        output=task.output,
        input_bytes=report.input_bytes,
        output_bytes=report.output_bytes,
        allocated_before=before,
        allocated_after=report.allocated_bytes,
        undecided_bytes=report.assumed_bytes,
        executable=os.fsdecode(executable) if executable is not None else None,
        signal=identity.signal,
        kinds={name: (kept + dropped, kept) for name, kept, dropped, _ in report.kinds},
        seconds=seconds,
    )
