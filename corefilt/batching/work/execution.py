"""What carrying a task out has in common, wherever its core comes from: options, progress, and the outcome."""

from __future__ import annotations

import os
import time

from corefilt.batching.files.safe_paths import OpenPlace
from corefilt.batching.sources import containers as wrappings
from corefilt.corefile.corefile import CoreFile
from corefilt.corefile.owner import Owner
from corefilt.errors import CorefiltError, NotACoreError, OutputError
from corefilt.filtering.options import Options
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task
    from corefilt.filtering.report import Report

    Told: TypeAlias = Callable[[int], None]


def safely(task: Task, work: Callable[[], Outcome]) -> Outcome:
    """What the work gives, or an outcome with what it raised: failed, or skipped for what is no core after all."""
    began = time.monotonic()
    status = "failed"
    try:
        return work()
    except NotACoreError as error:
        status, reason = "skipped", str(error)
    except CorefiltError as error:
        reason = f"{error} ({error.hint})" if error.hint else str(error)
    except MemoryError:
        reason = "out of memory"
    except OSError as error:
        reason = f"{error.filename or 'system'}: {error.strerror or error}"
    except Exception as error:
        reason = f"{type(error).__name__}: {error} (this is a bug in corefilt: please report it)"
    return task.outcome(status, reason.removeprefix(f"{task.source}: "), seconds=time.monotonic() - began)


class Watch:
    """Passes progress on, and stops a task that would fill the file system up."""

    # Bytes that go by between two looks.
    STRIDE = 64 << 20

    def __init__(self, target: OpenPlace | None, task: Task, on_progress: Told | None) -> None:
        """Look once. Raises OutputError."""
        self._folder = target.folder if target is not None else -1
        self._task, self._told, self._passed = task, on_progress, 0
        self._look()

    def __call__(self, count: int) -> None:
        """Count bytes that went by. Raises OutputError where too little is free."""
        self._passed += count
        if self._passed >= self.STRIDE:
            self._passed = 0
            self._look()
        if self._told is not None:
            self._told(count)

    def _look(self) -> None:
        if self._folder < 0 or not self._task.keep_free or self._task.dry_run:
            return
        room = os.fstatvfs(self._folder)
        free = room.f_bavail * room.f_frsize
        if free < self._task.keep_free:
            raise OutputError(
                f"{self._task.output or self._task.source}: only {show_size(free)} free on its file system",
                "free some space, or set --keep-free",
            )


def options_of(task: Task, on_progress: Told | None) -> Options:
    """The writer's options of a task."""
    compress = wrappings.own_compression(task.wrapping) if task.compress == "same" else task.compress
    values: dict[str, Any] = dict(task.options)
    return Options(
        **values,
        compress=compress or "none",
        force=task.force,
        dry_run=task.dry_run,
        on_progress=on_progress,
    )


def outcome_of(
    task: Task, core: CoreFile, report: Report, before: int, *, marked: bool | None, seconds: float
) -> Outcome:
    """What became of a core whose file takes ``before`` bytes; ``marked`` is None where nothing was written."""
    identity = Owner(core.notes, core.ehdr)
    executable = identity.executable if identity.executable is not None else identity.comm
    reasons = list(report.warnings)
    if marked is False:
        reasons.append("its file system keeps no attributes: another run cannot see that this was done")
    if task.held is not None and not task.dry_run:
        reasons.append(task.held.lost)
    return task.outcome(
        "filtered",
        "; ".join(reasons),
        damage="; ".join(report.warnings),
        output=task.source if task.replace else task.output,
        input_bytes=report.input_bytes,
        output_bytes=report.output_bytes,
        allocated_before=before,
        allocated_after=report.allocated_bytes,
        undecided_bytes=report.assumed_bytes,
        executable=os.fsdecode(executable) if executable is not None else None,
        command_line=_command_line(core) if task.command_line else None,
        signal=identity.signal,
        kinds={name: (kept + dropped, kept) for name, kept, dropped, _ in report.kinds},
        seconds=seconds,
    )


def _command_line(core: CoreFile) -> str | None:
    from corefilt.crash.command_line import command_line

    found = command_line(core, core.memory() if core.source.seekable else None)
    return str(found) if found is not None else None
