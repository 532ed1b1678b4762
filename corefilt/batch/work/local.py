"""Filters the core of one task to where it goes, and makes the outcome of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial

from corefilt.batch.files.lock import lock_file
from corefilt.batch.files.run_as_owner import Refused, as_owner, owner_to_become
from corefilt.batch.files.safe_paths import OpenPlace, enter, make_place
from corefilt.batch.sources import containers as wrappings
from corefilt.batch.sources.apport import APPORT
from corefilt.batch.task import Task
from corefilt.batch.work import provenance
from corefilt.batch.work.apply_policy import decided, delete
from corefilt.batch.work.core_opening import opened_core
from corefilt.batch.work.execution import Watch, options_of, outcome_of, safely
from corefilt.batch.work.output_check import as_plain_file, check
from corefilt.batch.work.outputs import ArchiveFile, BesideFile, ReplacedFile
from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import InputError
from corefilt.filterbits import CoredumpFilter
from corefilt.filtering.options import wants_fit
from corefilt.filtering.write import write_filtered
from corefilt.io.opening import spooled
from corefilt.io.sources import FileSource
from corefilt.plan.note_slot import takes_a_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batch.outcome import Outcome
    from corefilt.batch.policy.policy import Policy
    from corefilt.io.sinks import NamedFile
    from corefilt.io.sources import Source

    Told = Callable[[int], None]


def filtered(task: Task, on_progress: Told | None) -> Outcome:
    """Do it. Raises CorefiltError's children and OSError."""
    if task.replace and any(layer in wrappings.CONTAINERS for layer in task.wrapping):
        return task.outcome("kept", f"is inside {_article(task)}, which stays as it is: --to DIR takes the core out")
    with enter(task.source, task.root) as place:
        if not task.replace:
            return _filtered_here(task, place, on_progress)
        status = place.status()
        if status is None:
            raise InputError(f"{task.source}: is not there any more")
        if status.st_nlink > 1 and not task.force:
            return task.outcome("kept", f"has {status.st_nlink} names (hard links); -f replaces this one")
        try:
            owner = owner_to_become(place.folder, status)
            if owner is None or task.dry_run:
                return _filtered_here(task, place, on_progress)
            return as_owner(owner, partial(_filtered_safely, task, place))
        except Refused as refused:
            return task.outcome("kept", str(refused))


def _filtered_safely(task: Task, place: OpenPlace) -> Outcome:
    return safely(task, lambda: _filtered_here(task, place, None))


def _article(task: Task) -> str:
    container = next(layer for layer in task.wrapping if layer in wrappings.CONTAINERS)
    return "a report of apport" if container == APPORT else f"a {container}"


def _filtered_here(task: Task, place: OpenPlace, on_progress: Told | None) -> Outcome:
    fd, status = place.open()
    source = FileSource(fd, task.source, size=status.st_size)
    try:
        if task.policy is not None:
            choice = _chosen(task, task.policy, source, place)
            if not isinstance(choice, Task):
                return choice
            task = choice
        if task.replace:
            mark = provenance.read(fd)
            if mark is not None and mark.is_of(task) and mark.stands_for(fd):
                return _unchanged(task, status, mark, task.source)
            lock_file(fd, task.source)
            return _written(task, source, place, place, on_progress)
        if task.output is None:
            return _written(task, source, place, None, on_progress)
        with make_place(task.output, task.output_root) as target:
            mark = _mark_at(target)
            if mark is not None and mark.is_of(task) and mark.input == provenance.Fingerprint.of(fd):
                return _unchanged(task, status, mark, task.output)
            return _written(task, source, place, target, on_progress)
    finally:
        source.close()


def _chosen(task: Task, policy: Policy, file: FileSource, place: OpenPlace) -> Task | Outcome:
    status = os.fstat(file.fd)
    choice = decided(
        task,
        policy,
        partial(_opened, task, file),
        age=time.time() - status.st_mtime,
        stored=status.st_blocks * 512,
    )
    if isinstance(choice, Task) or choice.status != "deleted" or not task.replace or task.dry_run:
        return choice
    return delete(choice, file, place)


def _opened(task: Task, file: FileSource) -> Source:
    """The core in a file, which stays open beside it."""
    own = FileSource(os.dup(file.fd), file.name, size=file.size)
    most = task.options.get("max_headers")
    return wrappings.opened(own, task.wrapping, task.member, max_headers=most if isinstance(most, int) else MAX_HEADERS)


def _mark_at(target: OpenPlace) -> provenance.Provenance | None:
    """What a file that is there already tells, if it is as it was written."""
    if target.status() is None:
        return None
    fd, _ = target.open()
    try:
        mark = provenance.read(fd)
        return mark if mark is not None and mark.stands_for(fd) else None
    finally:
        os.close(fd)


def _unchanged(task: Task, status: os.stat_result, mark: provenance.Provenance, where: str) -> Outcome:
    allocated = status.st_blocks * 512
    return task.outcome(
        "unchanged",
        f"was done before, by corefilt {mark.version}",
        output=where,
        allocated_before=allocated,
        allocated_after=allocated if task.replace else None,
        undecided_bytes=mark.undecided,
    )


def _written(
    task: Task, file: FileSource, place: OpenPlace, target: OpenPlace | None, on_progress: Told | None
) -> Outcome:
    began = time.monotonic()
    folder = f"/proc/self/fd/{(target or place).folder}"
    copies = folder if target is not None else None
    verified = target is not None and not task.dry_run and (task.verify or task.replace)
    # What is chosen from has to be looked into before it is copied.
    chooses = (wants_fit(task.options) or task.scrub is not None) and not verified

    def open_source() -> Source:
        source = _opened(task, file)
        if (task.options.get("spool") or chooses) and not source.seekable:
            return _owning(source, partial(spooled, source, copies))
        return _owning(source, partial(as_plain_file, source, folder)) if verified else source

    with opened_core(open_source, copies) as core:
        source = core.source
        # Of a copy it is known by now what was wrong with its stream.
        damage = core.warnings[0] if core.damaged else source.check() if source.seekable else None
        if task.replace and damage is not None and not task.force:
            return task.outcome("kept", f"is damaged: {damage}; -f replaces it all the same")
        if task.replace and not task.dry_run and (idle := _nothing_to_do(task, core, file)) is not None:
            return idle
        output: str | NamedFile = os.devnull
        if target is not None:
            checks = None
            if verified and isinstance(source, FileSource):
                checks = partial(check, source, task=task, folder=folder)
            output = (ReplacedFile if task.replace else BesideFile)(task, target, file.fd, checks)
        watch = Watch(target, task, on_progress)
        made = output if isinstance(output, ArchiveFile) else None
        options = options_of(task, watch)
        if task.scrub is not None:
            from corefilt.batch.work.scrubbing import scrubbing

            complete = scrubbing(task, task.scrub, core, target, options)
            if made is not None:
                made.check = complete
        if target is not None and made is not None and not provenance.keeps_attributes(target.folder):
            made.marked = options.wish is None and takes_a_note(core)
            options.stamp = partial(provenance.stamp, task, made.fingerprint) if made.marked else None
        report = write_filtered(core, CoredumpFilter(task.filter), output, options)
        before = os.fstat(file.fd).st_blocks * 512
        marked = made.marked if made is not None else None
        return outcome_of(task, core, report, before, marked=marked, seconds=time.monotonic() - began)


def _nothing_to_do(task: Task, core: CoreFile, file: FileSource) -> Outcome | None:
    """The outcome where a filter takes nothing out, which the file is marked with; None where it takes something."""
    options = options_of(task, None)
    options.dry_run = True
    report = write_filtered(core, CoredumpFilter(task.filter), os.devnull, options)
    if report.output_bytes != report.input_bytes or report.changes:
        return None
    provenance.write(file.fd, task, provenance.Fingerprint.of(file.fd), report.assumed_bytes)
    before = os.fstat(file.fd).st_blocks * 512
    outcome = outcome_of(task, core, report, before, marked=None, seconds=report.seconds)
    return replace(outcome, status="unchanged", reason="the filter takes nothing out", allocated_after=before)


def _owning(source: Source, make: Callable[[], FileSource]) -> FileSource:
    try:
        return make()
    except BaseException:
        source.close()
        raise
