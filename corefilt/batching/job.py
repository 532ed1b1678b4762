"""A batch: what is found becomes tasks, or outcomes where there is nothing to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from corefilt.batching.files.lock import Lock
from corefilt.batching.files.safe_paths import open_folder
from corefilt.batching.outcome import Outcome
from corefilt.batching.sources import containers as wrappings
from corefilt.batching.sources.apport import APPORT
from corefilt.batching.sources.content import Content
from corefilt.batching.sources.find import Item, check_sources, find, look_into
from corefilt.batching.task import Task
from corefilt.errors import InputError, OutputError, UsageError
from corefilt.filtering.options import Options, checked_values
from corefilt.io.compression import SUFFIXES
from corefilt.io.remote.url import is_url, local_path
from corefilt.io.shared_holders import Holders
from corefilt.io.tempfiles import remove_leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from corefilt.batching.policy.policy import Policy
    from corefilt.batching.work.done_before import DoneBefore

# What --evidence can be.
EVIDENCE = ("auto", "none")
# What is left free of a file system unless something else is said: a twentieth of it, as journald leaves, up to 4 GiB.
KEEP_FREE_SHARE = 20
MOST_KEPT_FREE = 4 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for: ``sources``, and where to (``to``, or ``replace``); the rest is as in ``Task``.

    ``keep_free`` is None for what KEEP_FREE_SHARE says.
    """

    sources: Sequence[str]
    filter: int
    to: str | None = None
    replace: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    compress: str = "same"
    verify: bool = False
    force: bool = False
    dry_run: bool = False
    keep_free: int | None = None
    policy: Policy | None = None
    scrub: str | None = None
    bundle: bool = False
    command_line: bool = False
    by_signature: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant. Raises UsageError."""
        if self.to is not None and self.replace:
            raise UsageError("--to and --replace both name the destination", "leave one of them out")
        if not self.to and not self.replace and not self.dry_run:
            raise UsageError("missing --to DIR or --replace", "--replace writes each core where it was")
        if self.replace and any(is_url(local_path(source)) for source in self.sources):
            raise UsageError("--replace works on files, not behind URLs", "--to writes the cores elsewhere")
        if self.scrub is not None and self.replace:
            raise UsageError("--scrub would overwrite the originals with --replace", "--to DIR keeps them")
        if self.scrub is not None and any(is_url(local_path(name)) for name in (*self.sources, self.to or "")):
            raise UsageError("--scrub works on files, not behind URLs", "copy the cores to a directory first")
        if self.scrub is not None and any(self.options.get(name) for name in ("annotate", "loadmaps", "truncate")):
            raise UsageError("--scrub goes without --annotate, --loadmaps and --truncate", "leave them out")
        if self.bundle and (self.to is None or is_url(self.to)):
            raise UsageError("--bundle writes a file beside each filtered core", "--to DIR says where")
        if not self.sources:
            raise UsageError(
                "no SOURCE is named", "name a directory, a file, a glob, or - for a list on standard input"
            )

    @property
    def asks_for_crashes(self) -> bool:
        """Whether it has to be known of every core which crash it is before the first one is filtered."""
        return self.by_signature or (self.policy is not None and self.policy.asks_for_repeats)

    def lock(self) -> Lock:
        """Lock what the job writes to, so that no other one does; before, the directory of --to is made.

        Raises LockedError, OutputError, and InputError for a source that is not there.
        """
        check_sources(self.sources)
        if self.to is not None and is_url(self.to):
            return Lock([])
        if self.to is not None:
            return self._lock_output(self.to)
        if self.dry_run:
            return Lock([])
        try:
            return Lock(sorted({os.path.realpath(source) for source in self.sources if os.path.isdir(source)}))
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be opened: {error.strerror}") from None

    def _lock_output(self, to: str) -> Lock:
        try:
            if self.dry_run:
                _refuse_file(to)
                return Lock([])
            os.makedirs(to, mode=0o700, exist_ok=True)
            return Lock([to])
        except (FileExistsError, NotADirectoryError) as error:
            part = "a part of its path " if isinstance(error, NotADirectoryError) else ""
            raise OutputError(f"{to}: {part}is not a directory", "name a directory for --to") from None
        except OSError as error:
            raise OutputError(
                f"{to}: cannot be created or opened: {error.strerror}", "name another directory for --to"
            ) from None


def _refuse_file(to: str) -> None:
    """Raise NotADirectoryError or FileExistsError where making a directory would, and make nothing."""
    above = to
    while above and not os.path.lexists(above):
        above = os.path.dirname(above.rstrip(os.sep))
    if above and not os.path.isdir(above):
        raise FileExistsError if above == to else NotADirectoryError


def task_options(given: Mapping[str, Any], evidence: str) -> dict[str, Any]:
    """The options with which each core is filtered, of those that were given; ``evidence`` is auto or none.

    Raises UsageError for what cannot be meant.
    """
    # Several cores at a time are parallel enough.
    options = {"threads": 1, "compress_threads": 1, **checked_values(given)}
    if evidence == "auto":
        options["maps"] = "auto"
    made = Options(**options)
    if made.assume:
        from corefilt.classify.classifier import read_assumptions

        read_assumptions(made.assume)
    if made.loadmaps is not None:
        from corefilt.plan.format import check_loadmaps

        check_loadmaps(made.format, made.loadmaps)
    return {name: made.most_headers if name == "max_headers" else getattr(made, name) for name in options}


def plan(job: Job, found: Callable[[int], None] | None = None) -> tuple[list[Task], list[Outcome]]:
    """All tasks of a job, and an outcome for everything else that was found; ``found`` hears how many so far.

    Raises UsageError, and InputError for a source that is not there.
    """
    tasks: list[Task] = []
    outcomes: list[Outcome] = []
    taken: set[str] = set()
    own = _own_folder(job)
    _refuse_own_folder(job, own)
    items: Iterable[Item] = find(job.sources, own)
    before, holders = None, Holders()
    if job.to is not None and not job.dry_run and any(is_url(local_path(place)) for place in (job.to, *job.sources)):
        from corefilt.batching.work.done_before import DoneBefore

        items = list(items)
        before = DoneBefore(job.to, len(items))
    for item in items:
        asked = _asked(job, item, before, taken)
        if isinstance(asked, Outcome):
            outcomes.append(asked)
            continue
        for content, size in look_into(item):
            task = _task(job, item, content, size)
            if asked is not None and asked.output == task.output:
                task = replace(task, output_there=asked.output_there)
            elif before is not None:
                task = before.told(task)
            if content.reason:
                outcomes.append(task.outcome("failed" if content.unreadable else "skipped", content.reason))
            elif task.output is not None and task.output in taken:
                outcomes.append(
                    task.outcome(
                        "failed", f"{task.output} is already another core's output; use another --to for one of them"
                    )
                )
            else:
                tasks.append(_with_held(task, holders))
                if task.output is not None:
                    taken.add(task.output)
        if found is not None:
            found(len(tasks))
    return tasks, outcomes


def _with_held(task: Task, holders: Holders) -> Task:
    """The task with what the file that it may replace or delete holds for other cores; what is in doubt is nothing."""
    path = task.source if task.replace else task.output
    held = holders.of(path) if path is not None and not is_url(path) else None
    return task if held is None or held.doubt else replace(task, held=held)


def _asked(job: Job, item: Item, before: DoneBefore | None, taken: set[str]) -> Task | Outcome | None:
    """The outcome of what lies in a store and was filtered before, or its task, by its name alone.

    None of a file, which is looked into anyway, and with a policy, which may delete today what it kept before.
    """
    if before is None or item.listed is None or item.reason or job.policy is not None:
        return None
    packed = next((name for name, suffix in SUFFIXES.items() if item.below.endswith(suffix)), None)
    task = _task(job, item, Content((packed,) if packed is not None else ()), item.listed.size)
    if task.output is None or task.output in taken:
        return None
    asked = before.ask(task)
    if isinstance(asked, Outcome):
        taken.add(task.output)
    return asked


def clean_up(job: Job, tasks: Sequence[Task]) -> None:
    """Remove what a job that was killed has left in the folders that this one writes to."""
    if job.dry_run:
        return
    written = {_output_folder(task) if task.output else _folder_of(task) for task in tasks}
    for root, below in written:
        if is_url(root):
            continue
        try:
            folder = open_folder(root or os.curdir, below)
        except InputError:
            # Whoever writes there will say why it cannot be opened, or makes it first.
            continue
        try:
            remove_leftovers(folder)
        finally:
            os.close(folder)


def _output_folder(task: Task) -> tuple[str, str]:
    """The folder of --to, and the one of a task's output below it; of what is behind a URL its address."""
    folder = os.path.dirname(task.output or "")
    return (
        (folder, "") if is_url(folder) else (task.output_root, os.path.relpath(folder, task.output_root or os.curdir))
    )


def _folder_of(task: Task) -> tuple[str, str]:
    """The folder of a task's source: the one that no link is followed below, and where it lies there."""
    folder = os.path.dirname(task.source)
    return (task.root, os.path.relpath(folder, task.root)) if task.root else (folder, "")


def _own_folder(job: Job) -> frozenset[tuple[int, int]]:
    """The folder of --to, which can lie in a source."""
    try:
        status = os.stat(job.to) if job.to is not None else None
    except OSError:
        status = None
    return frozenset() if status is None else frozenset({(status.st_dev, status.st_ino)})


def _refuse_own_folder(job: Job, own: frozenset[tuple[int, int]]) -> None:
    """Raise UsageError where a source is the folder of --to, in which nothing would be found."""
    for source in job.sources:
        try:
            status = os.stat(source)
        except (OSError, ValueError):
            continue
        if (status.st_dev, status.st_ino) in own:
            raise UsageError(
                f"{source} is both a source and the directory of --to",
                "--replace writes each core where it is; or name another directory",
            )


def _task(job: Job, item: Item, content: Content, size: int) -> Task:
    compress = wrappings.own_compression(content.wrapping) if job.compress == "same" else job.compress
    packs = compress is not None and compress != "none"
    made = Task(
        item.path, job.filter, root=item.root, wrapping=content.wrapping, member=content.member, replace=job.replace,
        options=job.options, compress=job.compress, verify=job.verify or job.replace, force=job.force,
        dry_run=job.dry_run, size=size, policy=job.policy, scrub=job.scrub, bundle=job.bundle,
        command_line=job.command_line, listed=item.listed,
    )  # fmt: skip
    if content.reason or job.dry_run:
        return made
    output = os.path.join(job.to, output_name(item.below, content, compress)) if job.to is not None else None
    if is_url(output or ""):
        return replace(made, output=output)
    status, room = _room_at(os.path.dirname(output or item.path))
    if job.keep_free is not None:
        room = job.keep_free
    return replace(made, output=output, output_root=job.to or "", keep_free=room, device=0 if packs else status)


def _room_at(folder: str) -> tuple[int, int]:
    """The device of a folder to be, and how many bytes of its file system should be left free."""
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status, room = os.stat(folder or os.curdir), os.statvfs(folder or os.curdir)
    return status.st_dev, min(room.f_blocks * room.f_frsize // KEEP_FREE_SHARE, MOST_KEPT_FREE)


def output_name(below: str, content: Content, compress: str | None) -> str:
    """The path of an output below --to: the input's, with the suffix of how it is compressed.

    What was inside something else lies in a folder of that one's name; the core of a report ends in ``.core``.
    """
    name = below
    if content.member is not None:
        steps = [step for step in content.member.split("/") if step not in ("", os.curdir)]
        name = os.path.join(below, *steps)
    elif APPORT in content.wrapping:
        name = below.removesuffix(".crash") + ".core"
    own = wrappings.own_compression(content.wrapping)
    wanted = None if compress is None or compress == "none" else compress.partition(":")[0]
    if wanted != own:
        if own is not None:
            name = name.removesuffix(SUFFIXES[own])
        if wanted is not None:
            name += SUFFIXES[wanted]
    return name
