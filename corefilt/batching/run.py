"""``corefilt.batch``: many cores, from Python."""

from __future__ import annotations

from corefilt.batching.arguments import compression, one_of, path, paths, scrub_level, truth
from corefilt.batching.job import EVIDENCE, Job, clean_up, plan, task_options
from corefilt.batching.policy.toml_file import load_policy
from corefilt.batching.pool import MOST_JOBS, default_jobs, run_in_pool
from corefilt.filterbits import as_filter
from corefilt.filtering.hints import in_python
from corefilt.filtering.observer import observer
from corefilt.filtering.option import whole_number
from corefilt.filtering.options import refuse_unknown, taken_by
from corefilt.io.remote.url import local_path
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
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
    keep_free: int | str | None = None,
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
    with in_python("--to", "--replace", "--scrub", "--bundle"):
        job = Job(
            paths("sources", sources),
            as_filter(filter)[0],
            to=local_path(path("to", to)) if to is not None else None,
            replace=truth("replace", replace),
            options=task_options(options, one_of("evidence", evidence, EVIDENCE)),
            compress=compression(compress),
            verify=truth("verify", verify),
            force=truth("force", force),
            dry_run=truth("dry_run", dry_run),
            keep_free=parse_size(str(keep_free)) if keep_free is not None else None,
            policy=load_policy(path("policy", policy)) if policy is not None else None,
            scrub=scrub_level(scrub),
            bundle=truth("bundle", bundle),
            command_line=truth("command_line", command_line),
        )
        most_jobs = whole_number("jobs", MOST_JOBS)(jobs) if jobs is not None else default_jobs()
        most_writers = whole_number("writers", MOST_JOBS)(writers)
        # What cannot be called is to be told before anything is done, and so is an event that is set already.
        observer(progress, cancel, None)
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

            for task, outcome in run_in_pool(tasks, jobs=most_jobs, writers=most_writers, on_progress=passed):
                outcomes.append(outcome)
                passed(task, task.size)
    return outcomes
