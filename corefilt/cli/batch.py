"""``corefilt batch FILTER SOURCE... (--to DIR | --replace)``."""

from __future__ import annotations

import os
import time

from corefilt.batching.job import Job, clean_up, plan, task_options
from corefilt.batching.pool import default_jobs, run_in_pool
from corefilt.cli.arguments import refuse_exchanged
from corefilt.cli.batchreport import JsonLines, Progress, refuse_report_over_sources, summary
from corefilt.cli.options import check_environment, given_options, make_parser
from corefilt.cli.progress import bar_for
from corefilt.cli.reportfile import STDOUT, probe_file, with_json_target, write_file
from corefilt.cli.streams import say
from corefilt.errors import UsageError
from corefilt.filterbits import describe, parse_filter
from corefilt.io.remote.url import local_path
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.policy.policy import Policy
    from corefilt.batching.shared.reduce import SharedOnce
    from corefilt.batching.task import Task
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Filters all cores of an archive. SOURCE is a directory with everything below it, a file, a glob, a URL (s3://, gs://,
sftp://, file://) with everything below it, or - for a list of paths on standard input, one per line or ended by NUL.
Files are recognised by content: cores, also compressed (zstd, lz4, xz, gzip, bzip2), in tar and zip archives, in
directories of systemd-coredump and abrt, and in apport reports.

An interrupted job continues where it stopped; reruns skip cores that are already filtered."""

EPILOG = """\
exit status: 0 done; 1 the job could not begin, or --shared-once or --dedupe failed when the cores were filtered;
2 usage; 4 done, but some cores could not be filtered"""

# Cores that a line of the summary names.
MOST_NAMED = 4


def parser() -> Parser:
    """The options of ``corefilt batch``."""
    p = make_parser("batch", DESCRIPTION, EPILOG)
    p.add_argument("filter", metavar="FILTER", help="which mappings to keep, as corefilt --help says")
    p.add_argument("sources", metavar="SOURCE", nargs="+", help="where cores are")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Raises UsageError."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    right = "the filter comes first: corefilt batch {} {}".format
    refuse_exchanged(arguments.filter, arguments.sources[0], right, default="0x33")
    check_environment(arguments, "batch")
    if arguments.shared_once and arguments.dedupe:
        raise UsageError("--shared-once and --dedupe both keep shared memory once", "leave one of them out")
    arguments.jobs = arguments.jobs or default_jobs()
    return arguments


def job_of(arguments: argparse.Namespace) -> tuple[Job, list[str]]:
    """The job that was asked for, and warnings. Raises UsageError and FilterError."""
    wanted, warnings = parse_filter(arguments.filter)
    job = Job(
        arguments.sources,
        int(wanted),
        to=local_path(arguments.to) if arguments.to is not None else None,
        replace=arguments.replace,
        options=task_options(given_options(arguments, "batch"), arguments.evidence),
        compress=arguments.compress or "same",
        verify=arguments.verify,
        force=arguments.force,
        dry_run=arguments.dry_run,
        keep_free=arguments.keep_free,
        policy=_policy(arguments.policy),
        scrub=arguments.scrub,
        bundle=arguments.bundle,
        command_line=arguments.command_line,
        by_signature=arguments.by_signature,
    )
    if (job.verify or job.replace or arguments.shared_once or arguments.dedupe) and not job.dry_run:
        # A library that is missing is to be told before anything is done.
        from corefilt import verify  # noqa: F401
    return job, warnings


def _policy(path: str | None) -> Policy | None:
    if path is None:
        return None
    from corefilt.batching.policy.toml_file import load_policy

    return load_policy(path)


def run(argv: list[str]) -> int:
    """Filter an archive; returns the exit code."""
    arguments = parse(argv)
    job, warnings = job_of(arguments)
    for target in _report_files(arguments).values():
        probe_file(target, force=arguments.force)
    began = time.monotonic()
    with job.lock(), Progress(bar_for(arguments, still=True)) as progress:
        tasks, outcomes = plan(job, progress.found)
        if job.asks_for_crashes:
            from corefilt.batching.work.survey import with_crashes

            tasks = list(with_crashes(tasks, lambda looks: _pool(looks, arguments)))
        for option, target in _report_files(arguments).items():
            refuse_report_over_sources(option, target, tasks, arguments.sources)
        with JsonLines(arguments.json, force=arguments.force) as lines:
            _carry_out(job, arguments, tasks, outcomes, lines, progress, began)
    if not job.dry_run and (arguments.shared_once or arguments.dedupe):
        for text in _kept_once(arguments, outcomes):
            say(text)
    for warning in warnings:
        say(f"corefilt: {warning}")
    return 4 if any(outcome.status == "failed" for outcome in outcomes) else 0


def _carry_out(
    job: Job, arguments: argparse.Namespace, tasks: list[Task], outcomes: list[Outcome], lines: JsonLines,
    progress: Progress, began: float,
) -> None:  # fmt: skip
    """Carry the tasks out, adding to ``outcomes``, and report however it ends."""
    clean_up(job, tasks)
    progress.begin(sum(task.size for task in tasks), len(tasks))
    for outcome in outcomes:
        lines.add(outcome)
    # Those have no task.
    known = len(outcomes)
    try:
        for outcome in _carried_out(tasks, arguments, progress):
            outcomes.append(outcome)
            lines.add(outcome)
    finally:
        progress.stop()
        for text in summary(
            outcomes,
            describe(parse_filter(arguments.filter)[0]),
            seconds=time.monotonic() - began,
            unfinished=len(tasks) - (len(outcomes) - known),
            quiet=arguments.quiet,
            verbose=arguments.verbose,
            by_signature=arguments.by_signature,
        ):
            say(text)
        if arguments.html is not None:
            _write_page(arguments, outcomes)


def _report_files(arguments: argparse.Namespace) -> dict[str, str]:
    """The files of reports by their options."""
    named = {"--html": arguments.html, "--json": arguments.json}
    return {option: target for option, target in named.items() if target not in (None, STDOUT)}


def _write_page(arguments: argparse.Namespace, outcomes: list[Outcome]) -> None:
    from corefilt.batching.report.html import About, page

    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    about = About(
        describe(parse_filter(arguments.filter)[0]),
        when,
        dry_run=arguments.dry_run,
        host=os.uname().nodename,
        sources=arguments.sources,
        by_signature=arguments.by_signature,
    )
    write_file(arguments.html, page(outcomes, about), force=arguments.force)


def _carried_out(tasks: list[Task], arguments: argparse.Namespace, progress: Progress) -> Iterator[Outcome]:
    for task, outcome in _pool(tasks, arguments, progress.passed):
        progress.done(task)
        yield outcome


def _pool(
    tasks: Iterable[Task], arguments: argparse.Namespace, on_progress: Callable[[Task, int], None] | None = None
) -> Iterator[tuple[Task, Outcome]]:
    if arguments.dask is not None:
        from corefilt.batching.cluster import run_on_cluster

        return run_on_cluster(tasks, arguments.dask)
    return run_in_pool(tasks, jobs=arguments.jobs, writers=arguments.writers, on_progress=on_progress)


def _kept_once(arguments: argparse.Namespace, outcomes: list[Outcome]) -> Iterator[str]:
    """Have shared memory stand once in what this job has written, now or before; in words what came of it."""
    from corefilt.batching.shared.dedupe import dedupe
    from corefilt.batching.shared.reduce import share_once
    from corefilt.io.remote.url import is_url

    cores = [
        outcome.output
        for outcome in outcomes
        if outcome.status in ("filtered", "unchanged") and outcome.output is not None and not is_url(outcome.output)
    ]
    shared = share_once(cores) if arguments.shared_once else None
    done = shared if shared is not None else dedupe(cores)
    if not arguments.quiet:
        yield f"corefilt: {done}"
        if shared is not None:
            yield from _needed(shared)
    if arguments.verbose:
        yield from (f"  skipped: {printable(path)}: {printable(why)}" for path, why in done.skipped.items())
    elif done.skipped:
        yield f"  {counted(len(done.skipped), 'core was', 'cores were')} skipped (-v says why)"


def _needed(done: SharedOnce) -> Iterator[str]:
    """Which cores must stay as they are, a line for each manifest; of many their number."""
    for manifest, cores in done.needed().items():
        names = ", ".join(printable(os.path.basename(core)) for core in cores)
        if len(cores) > MOST_NAMED:
            names = counted(len(cores), "core")
        yield (
            f"  other cores need blocks of {names}: neither delete nor filter these before "
            f"corefilt restore {printable(manifest)}"
        )
