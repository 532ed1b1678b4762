"""``corefilt.batch``: many cores, from Python."""

from __future__ import annotations

import os

from corefilt.batching.job import Job, clean_up, plan, task_options
from corefilt.batching.policy.toml_file import load_policy
from corefilt.batching.pool import default_jobs, run_in_pool
from corefilt.errors import UsageError
from corefilt.filterbits import as_filter
from corefilt.filtering.hints import in_python
from corefilt.filtering.observer import observer
from corefilt.filtering.options import refuse_unknown, taken_by
from corefilt.io.remote.url import local_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Unpack

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task
    from corefilt.filtering.keywords import BatchOptions, Evidence, ScrubLevel
    from corefilt.filtering.observer import Event


def batch(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    to: str | os.PathLike[str] | None = None,
    *,
    filter: int | str,
    replace: bool = False,
    compress: str = "same",
    verify: bool = False,
    force: bool = False,
    dry_run: bool = False,
    evidence: Evidence = "auto",
    policy: str | os.PathLike[str] | None = None,
    scrub: ScrubLevel | None = None,
    bundle: bool = False,
    command_line: bool = False,
    keep_free: int | None = None,
    jobs: int | None = None,
    writers: int = 1,
    progress: Callable[[int, int | None], object] | None = None,
    cancel: Event | None = None,
    **options: Unpack[BatchOptions],
) -> list[Outcome]:
    """Filter all cores of directories, files, globs and URLs into ``to``, or replace them (``replace``).

    The options are those of ``corefilt batch``. ``progress`` is called with the bytes of the files that are done and of
    all of them; ``cancel`` is an event like threading.Event: once it is set, CancelledError is raised, and a later
    call continues. Returns an outcome for each file that was found; a core that could not be filtered has the status
    ``failed`` and a reason, and raises nothing. Raises CorefiltError if the job cannot begin.
    """
    refuse_unknown("corefilt.batch()", options, dict(taken_by("batch")))
    names = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    with in_python("--to", "--replace", "--scrub", "--bundle"):
        job = Job(
            [os.fspath(name) for name in names],
            as_filter(filter)[0],
            to=local_path(os.fspath(to)) if to is not None else None,
            replace=replace,
            options=task_options(options, evidence),
            compress=compress,
            verify=verify,
            force=force,
            dry_run=dry_run,
            keep_free=keep_free,
            policy=load_policy(os.fspath(policy)) if policy is not None else None,
            scrub=scrub,
            bundle=bundle,
            command_line=command_line,
        )
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs is {jobs}", "it can be 1 or more")
        with job.lock():
            tasks, outcomes = plan(job)
            clean_up(job, tasks)
            watch = observer(progress, cancel, sum(task.size for task in tasks))
            told: dict[str, int] = {}

            def passed(task: Task, count: int) -> None:
                # What is inside can be larger than the file.
                before = told.get(task.name, 0)
                told[task.name] = min(before + count, task.size)
                if watch is not None:
                    watch(told[task.name] - before)

            for task, outcome in run_in_pool(
                tasks, jobs=jobs or default_jobs(), writers=writers, on_progress=passed
            ):  # fmt: skip
                outcomes.append(outcome)
                passed(task, task.size)
    return outcomes
