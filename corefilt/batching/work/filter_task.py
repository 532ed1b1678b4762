"""Filters the core of one task to where it goes, and makes the outcome of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial

from corefilt.batching.files.lock import lock_file
from corefilt.batching.files.run_as_owner import Refused, as_owner, owner_to_become
from corefilt.batching.files.safe_paths import enter, make_place
from corefilt.batching.sources import containers as wrappings
from corefilt.batching.sources.apport import APPORT
from corefilt.batching.task import Task
from corefilt.batching.work import provenance
from corefilt.batching.work.core_opening import opened_core
from corefilt.batching.work.endpoint import TaskOutput
from corefilt.batching.work.execution import Watch, options_of, outcome_of, safely
from corefilt.batching.work.local import LocalEndpoint
from corefilt.batching.work.output_check import as_plain_file, check
from corefilt.errors import FitError, InputError
from corefilt.filtering.options import wants_fit
from corefilt.filtering.write import write_filtered
from corefilt.io.opening import spooled
from corefilt.io.remote.url import is_url
from corefilt.io.sources import FileSource
from corefilt.plan.note_slot import takes_a_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.work.endpoint import Endpoint
    from corefilt.batching.work.execution import Told
    from corefilt.batching.work.provenance import Provenance
    from corefilt.batching.work.remote import RemoteEndpoint
    from corefilt.corefile.corefile import CoreFile
    from corefilt.io.shared_holders import Held
    from corefilt.io.sources import Source


def filter_task(task: Task, on_progress: Told | None) -> Outcome:
    """Do it. Raises CorefiltError's children and OSError."""
    if task.policy is not None:
        # Before a core's owner does the work, who may not be able to read this package.
        from corefilt.batching.work import apply_policy  # noqa: F401
    if task.replace:
        return _replaced(task, on_progress)
    with _source(task) as source:
        # A core that is not there leaves no folder of an output behind.
        source.fingerprint()
        chosen = _chosen(task, source)
        if not isinstance(chosen, Task):
            return chosen
        if chosen.output is None:
            return _written(chosen, source, None, on_progress)
        with _target(chosen, chosen.output) as target:
            mark = target.mark()
            if mark is not None and mark.is_of(chosen) and mark.input == source.fingerprint():
                return unchanged(chosen, source.stored, mark)
            return _written(chosen, source, target, on_progress)


def _source(task: Task) -> LocalEndpoint | RemoteEndpoint:
    if not is_url(task.source):
        return LocalEndpoint(enter(task.source, task.root))
    from corefilt.batching.work.remote import RemoteEndpoint

    return RemoteEndpoint(task.source, task.listed)


def _target(task: Task, output: str) -> LocalEndpoint | RemoteEndpoint:
    if not is_url(output):
        return LocalEndpoint(make_place(output, task.output_root))
    from corefilt.batching.work.remote import RemoteEndpoint

    return RemoteEndpoint(output, there=task.output_there)


def _replaced(task: Task, on_progress: Told | None) -> Outcome:
    """Put the output in the place of the file, as that one's owner, where nothing stands against it."""
    if any(layer in wrappings.CONTAINERS for layer in task.wrapping):
        return task.outcome(
            "kept", f"is inside {_article(task)}, which is not changed: use --to DIR to extract the core"
        )
    with LocalEndpoint(enter(task.source, task.root)) as file:
        status = file.place.status()
        if status is None:
            raise InputError(f"{task.source}: does not exist any more")
        if status.st_nlink > 1 and not task.force:
            does = "replaces" if task.policy is None else "replaces or deletes"
            return task.outcome("kept", f"has {status.st_nlink} hard links; -f {does} this one")
        try:
            owner = owner_to_become(file.place.folder, status)
            if owner is None or task.dry_run:
                return _replaced_here(task, file, on_progress)
            # The file is not open yet: its owner has to be able to read it.
            return as_owner(owner, lambda: safely(task, lambda: _replaced_here(task, file, None)))
        except Refused as refused:
            return task.outcome("kept", str(refused))


def _article(task: Task) -> str:
    container = next(layer for layer in task.wrapping if layer in wrappings.CONTAINERS)
    return "an apport report" if container == APPORT else f"a {container}"


def _replaced_here(task: Task, file: LocalEndpoint, on_progress: Told | None) -> Outcome:
    chosen = _chosen(task, file)
    if not isinstance(chosen, Task):
        if chosen.status == "deleted" and task.held is not None and not task.force:
            return _held(task, task.held, "deletes")
        if chosen.status != "deleted" or task.dry_run:
            return chosen
        from corefilt.batching.work.apply_policy import delete

        return delete(chosen, file.fd, file.place)
    mark = file.mark()
    if mark is not None and mark.is_of(chosen):
        return unchanged(chosen, file.stored, mark)
    lock_file(file.fd, chosen.source)
    return _written(chosen, file, file, on_progress, partial(_stays, file))


def _chosen(task: Task, source: Endpoint) -> Task | Outcome:
    """The task as its policy wants it, or an outcome where that leaves nothing to do."""
    if task.policy is None:
        return task
    from corefilt.batching.work.apply_policy import decided

    # What a rule asks about memory is looked for anywhere in the core.
    look = replace(task, survey=task.policy.asks_for_memory)
    return decided(task, task.policy, partial(source.open, look), age=source.age, stored=source.stored)


def unchanged(task: Task, stored: int, mark: Provenance) -> Outcome:
    """The outcome of a core whose output tells by its mark that it was done; its file takes ``stored`` bytes."""
    return task.outcome(
        "unchanged",
        f"filtered before, by corefilt {mark.version}",
        output=task.source if task.replace else task.output,
        allocated_before=stored,
        allocated_after=stored if task.replace else None,
        undecided_bytes=mark.undecided,
    )


def _written(
    task: Task,
    source: Endpoint,
    target: Endpoint | None,
    on_progress: Told | None,
    left_alone: Callable[[Task, CoreFile], Outcome | None] | None = None,
) -> Outcome:
    """Filter the source into the target, or nowhere; ``left_alone`` gives the outcome of a core that is not written."""
    try:
        return _write(task, source, target, on_progress, left_alone)
    except FitError as error:
        # A size on the command line is a demand; that of a rule was written before the core was there.
        if task.rule is None:
            raise
        smallest = replace(task, options={**task.options, "fit": error.smallest})
        outcome = _write(smallest, source, target, on_progress, left_alone)
        words = f"{str(error).removeprefix(f'{task.source}: ')} and was taken"
        return replace(outcome, reason="; ".join(filter(None, (words, outcome.reason))))


def _write(
    task: Task,
    source: Endpoint,
    target: Endpoint | None,
    on_progress: Told | None,
    left_alone: Callable[[Task, CoreFile], Outcome | None] | None,
) -> Outcome:
    began = time.monotonic()
    place = target.place if target is not None else None
    # Where copies and other temporary files go.
    folder = f"/proc/self/fd/{place.folder}" if place is not None else None
    writes = target is not None and not task.dry_run
    verified = writes and (task.verify or task.replace)
    with opened_core(partial(_opened, task, source, folder, verified=verified), folder) as core:
        full = core.source.file
        stays = left_alone(task, core) if left_alone is not None else None
        if stays is not None:
            return stays
        checks = None
        if verified and full is not None:
            checks = partial(check, full, task=task, folder=folder)
        output = TaskOutput(task, source, target, checks) if target is not None else None
        options = options_of(task, Watch(place, task, on_progress))
        if task.scrub is not None:
            from corefilt.batching.work.scrubbing import scrubbing

            complete = scrubbing(task, task.scrub, core, place, options)
            if output is not None:
                output.check = complete
        bundling = None
        if task.bundle and output is not None and place is not None:
            from corefilt.batching.work.bundling import Bundling

            bundling = output.check = Bundling(task, place, core.source.origin, output.check)
        if target is not None and output is not None and not target.keeps_marks:
            output.marked = options.fit_request is None and takes_a_note(core)
            options.stamp = partial(provenance.stamp, task, output.fingerprint) if output.marked else None
        report = write_filtered(core, task.filter, output or os.devnull, options)
        marked = output.marked if output is not None and writes else None
        outcome = outcome_of(task, core, report, source.stored, marked=marked, seconds=time.monotonic() - began)
        lacking = bundling.lacking if bundling is not None else ""
        return replace(outcome, reason="; ".join(filter(None, (lacking, outcome.reason))))


def _opened(task: Task, source: Endpoint, folder: str | None, *, verified: bool) -> Source:
    """The core, as a file where it is looked into before it is copied, or checked afterwards."""
    core = source.open(task, folder)
    if (task.options.get("spool") or wants_fit(task.options) or task.scrub is not None) and not core.seekable:
        return _owning(core, partial(spooled, core, folder))
    return _owning(core, partial(as_plain_file, core, folder)) if verified else core


def _stays(file: LocalEndpoint, task: Task, core: CoreFile) -> Outcome | None:
    """The outcome where a file is not replaced: it is damaged, or holds blocks for others, or a filter drops nothing.

    The last is marked on it. None where it is replaced.
    """
    # Of a copy it is known by now what was wrong with its stream.
    damage = core.warnings[0] if core.damaged else core.source.check() if core.source.seekable else None
    if damage is not None and not task.force:
        return task.outcome("kept", "is damaged; -f replaces it anyway", damage=damage)
    held = _held(task, task.held, "replaces") if task.held is not None and not task.force else None
    if task.dry_run:
        return held
    options = options_of(task, None)
    options.dry_run = True
    report = write_filtered(core, task.filter, os.devnull, options)
    if report.output_bytes != report.input_bytes or report.changes:
        return held
    provenance.write(file.fd, task, file.fingerprint(), report.assumed_bytes)
    before = file.stored
    outcome = outcome_of(task, core, report, before, marked=None, seconds=report.seconds)
    return replace(outcome, status="unchanged", reason=task.because("the filter drops nothing"), allocated_after=before)


def _held(task: Task, held: Held, does: str) -> Outcome:
    """The outcome of a core that others need, which would be replaced or deleted."""
    return task.outcome("kept", f"{held.reason}; {held.way_out}, -f {does} it anyway")


def _owning(source: Source, make: Callable[[], FileSource]) -> FileSource:
    try:
        return make()
    except BaseException:
        source.close()
        raise
