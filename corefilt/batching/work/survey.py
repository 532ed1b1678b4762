"""Looks at which crash each core of a job is of, before any of them is filtered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from corefilt.batching.files.safe_paths import enter
from corefilt.batching.work.core_opening import opened_core
from corefilt.batching.work.local import LocalEndpoint
from corefilt.crash.repeats import ranks, summarize
from corefilt.io.remote.url import is_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task


def survey(task: Task) -> Outcome:
    """Look at the core of a task. Raises CorefiltError's children and OSError."""
    sysroot = task.options.get("sysroot")
    spools = bool(task.options.get("spool"))
    with (
        LocalEndpoint(enter(task.source, task.root)) as source,
        opened_core(partial(source.open, task), None, spools=spools) as core,
    ):
        found = summarize(core, sysroot=sysroot if isinstance(sysroot, str) else None)
    return task.outcome("kept", crash=found)


def with_crashes(
    tasks: Sequence[Task], run: Callable[[Iterable[Task]], Iterable[tuple[Task, Outcome]]]
) -> Iterator[Task]:
    """The tasks with the crash of each core and its place among repeats, found out by ``run``.

    What is behind a URL is not looked at: that would read it twice.
    """
    looks = [replace(task, survey=True, device=0) for task in tasks if not is_url(task.source)]
    found = {task.name: outcome.crash for task, outcome in run(looks) if outcome.crash is not None}
    places = ranks(found)
    for task in tasks:
        yield replace(task, crash=found.get(task.name), repeat=places.get(task.name))
