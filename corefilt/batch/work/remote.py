"""Tasks that read from a URL or write to one; everything else about them is as with files.

An object tells in its metadata how it came about, as a file does by an attribute; where there are none, a note within
the core tells it. Nothing behind a URL is ever replaced by what is made of it, or deleted.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from functools import partial

from corefilt import __version__
from corefilt.batch.files.safe_paths import OpenPlace, enter, make_place
from corefilt.batch.remote.download import open_remote
from corefilt.batch.remote.upload import RemoteFile
from corefilt.batch.remote.url import Remote, is_url, version_of
from corefilt.batch.sources import containers as wrappings
from corefilt.batch.task import Task
from corefilt.batch.work import provenance
from corefilt.batch.work.apply_policy import decided
from corefilt.batch.work.core_opening import opened_core
from corefilt.batch.work.execution import Watch, options_of, outcome_of
from corefilt.batch.work.output_check import as_plain_file, check
from corefilt.batch.work.provenance import Fingerprint, Provenance
from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import CorefiltError, OutputError
from corefilt.filterbits import CoredumpFilter
from corefilt.filtering.options import wants_fit
from corefilt.filtering.write import write_filtered
from corefilt.io.opening import spooled
from corefilt.io.sinks import NamedFile, NewFileSink
from corefilt.io.sources import FileSource
from corefilt.plan.note_slot import takes_a_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batch.outcome import Outcome
    from corefilt.io.sources import Source

# The name in an object's metadata.
METADATA = "corefilt"


class Input:
    """Where a task's core comes from: ``print`` tells it from another one, ``stored`` are the bytes that it takes."""

    def __init__(self, task: Task) -> None:
        """Ask for it, or open it. Raises InputError."""
        self.task = task
        self._fd = -1
        if is_url(task.source):
            remote = Remote(task.source)
            info, written = remote.info(), remote.modified()
            self.stored = int(info.get("size") or 0)
            version = hashlib.blake2b(repr(version_of(info)).encode(), digest_size=16).hexdigest()
            self.print = Fingerprint(self.stored, int((written or 0) * 1e9), version)
            self.age = time.time() - written if written is not None else None
        else:
            with enter(task.source, task.root) as place:
                self._fd, status = place.open()
            self.stored = status.st_blocks * 512
            self.print = Fingerprint.of(self._fd)
            self.age = time.time() - status.st_mtime

    def __enter__(self) -> Input:
        return self

    def __exit__(self, *about: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def open(self) -> Source:
        """The core, from its beginning. Raises InputError."""
        most = self.task.options.get("max_headers")
        most = most if isinstance(most, int) else MAX_HEADERS
        if self._fd < 0:
            return open_remote(self.task.source, max_headers=most)
        file = FileSource(os.dup(self._fd), self.task.source, size=self.print.size)
        return wrappings.opened(file, self.task.wrapping, self.task.member, max_headers=most)

    def check(self) -> None:
        """Raise OutputError where a file has changed; what is fetched is checked as it comes."""
        if self._fd >= 0 and Fingerprint.of(self._fd) != self.print:
            raise OutputError(
                f"{self.task.source}: the core changed while it was read", "wait until nobody writes to it"
            )


class _Made:
    """What both kinds of output share: their mark, and the check."""

    def __init__(self, task: Task, source: Input, check: Callable[[int], None] | None) -> None:
        self.task, self.source, self.check = task, source, check
        self.undecided = 0
        self.marked = False

    def complete(self, fd: int) -> bytes:
        """Check what is whole, and give its mark. Raises OutputError."""
        if self.check is not None:
            self.check(fd)
        self.source.check()
        whole = Fingerprint(os.fstat(fd).st_size, 0, Fingerprint.of(fd).head)
        made = Provenance(__version__, *provenance.work_of(self.task), self.source.print, whole, self.undecided)
        return made.encode()


class StoredFile(RemoteFile):
    """An output behind a URL."""

    def __init__(self, made: _Made, url: str) -> None:
        """Find the library for it. Raises UsageError or MissingLibraryError."""
        super().__init__(url, force=made.task.force)
        self.made = made
        made.marked = self.remote.scheme.metadata is not None

    def on_decided(self, undecided_bytes: int) -> None:
        """Remember how many bytes depend on an assumption."""
        self.made.undecided = undecided_bytes

    def complete(self, fd: int) -> None:
        """Check it, and have the metadata tell of it."""
        self.metadata[METADATA] = self.made.complete(fd).decode()


class FetchedFile(NamedFile):
    """An output in a folder, of what was behind a URL."""

    def __init__(self, made: _Made, place: OpenPlace) -> None:
        self.made, self.place, self.path = made, place, place.path

    def open(self, source: Source | None) -> NewFileSink:
        """A sink that becomes it. Raises OutputError."""
        if self.place.status() is not None and not self.made.task.force:
            raise OutputError(f"{self.path}: exists", "-f replaces it")
        return _FetchedSink(self)

    def on_decided(self, undecided_bytes: int) -> None:
        """Remember how many bytes depend on an assumption."""
        self.made.undecided = undecided_bytes

    def complete(self, fd: int) -> None:
        """Check it, give it the time of what it was made of, and mark it."""
        self.made.complete(fd)
        written = self.made.source.print.mtime_ns
        if written:
            os.utime(fd, ns=(written, written))
        self.made.marked |= provenance.write(fd, self.made.task, self.made.source.print, self.made.undecided)


class _FetchedSink(NewFileSink):
    def __init__(self, file: FetchedFile) -> None:
        self._file = file
        super().__init__(file.path, replace=file.made.task.force, folder=file.place.folder)

    def complete(self, size: int) -> None:
        self._file.complete(self.fd)


def filtered_remotely(task: Task, on_progress: Callable[[int], None] | None) -> Outcome:
    """Carry out a task of which one side, or both, is a URL. Raises CorefiltError's children and OSError."""
    with Input(task) as source:
        if task.policy is not None:
            choice = decided(task, task.policy, source.open, age=source.age, stored=source.stored)
            if not isinstance(choice, Task):
                return choice
            task = source.task = choice
        if task.output is None:
            return _written(task, source, None, on_progress)
        if is_url(task.output):
            mark = _mark_behind(task.output)
            if mark is not None and mark.is_of(task) and mark.input == source.print:
                return _unchanged(task, source, mark)
            return _written(task, source, None, on_progress)
        with make_place(task.output, task.output_root) as place:
            mark = _mark_at(place)
            if mark is not None and mark.is_of(task) and mark.input == source.print:
                return _unchanged(task, source, mark)
            return _written(task, source, place, on_progress)


def _mark_behind(url: str) -> Provenance | None:
    """What an object tells that is there already, if it is as it was written."""
    remote = Remote(url)
    if not remote.exists():
        return None
    if remote.scheme.metadata is not None:
        mark = Provenance.decode((remote.attribute(METADATA) or "").encode())
        size = int(remote.info().get("size") or 0)
        return mark if mark is not None and mark.output is not None and mark.output.size == size else None
    try:
        with CoreFile(open_remote(url, max_headers=MAX_HEADERS)) as core:
            return Provenance.decode(core.notes.made)
    except CorefiltError:
        return None


def _mark_at(place: OpenPlace) -> Provenance | None:
    if place.status() is None:
        return None
    fd, _ = place.open()
    try:
        mark = provenance.read(fd)
        return mark if mark is not None and mark.stands_for(fd) else None
    finally:
        os.close(fd)


def _unchanged(task: Task, source: Input, mark: Provenance) -> Outcome:
    return task.outcome(
        "unchanged",
        f"was done before, by corefilt {mark.version}",
        output=task.output,
        allocated_before=source.stored,
        undecided_bytes=mark.undecided,
    )


def _written(task: Task, source: Input, place: OpenPlace | None, on_progress: Callable[[int], None] | None) -> Outcome:
    began = time.monotonic()
    writes = task.output is not None and not task.dry_run
    folder = f"/proc/self/fd/{place.folder}" if place is not None else tempfile.gettempdir()

    def open_source() -> Source:
        opened = source.open()
        try:
            # What is chosen from, and what is checked, has to be a file.
            if writes and task.verify:
                return as_plain_file(opened, folder)
            if not opened.seekable and (task.options.get("spool") or wants_fit(task.options)):
                return spooled(opened, folder)
        except BaseException:
            opened.close()
            raise
        return opened

    with opened_core(open_source, folder) as core:
        opened = core.source
        options = options_of(task, Watch(place, task, on_progress))
        checks = None
        if writes and task.verify and isinstance(opened, FileSource):
            checks = partial(check, opened, task=task, folder=folder)
        made = _Made(task, source, checks)
        output: str | NamedFile = os.devnull
        if writes and task.output is not None:
            output = FetchedFile(made, place) if place is not None else StoredFile(made, task.output)
            told = made.marked if place is None else provenance.keeps_attributes(place.folder)
            if not told and options.wish is None and takes_a_note(core):
                options.stamp = partial(provenance.stamp, task, source.print)
                made.marked = True
        report = write_filtered(core, CoredumpFilter(task.filter), output, options)
        marked = made.marked if writes else None
        return outcome_of(task, core, report, source.stored, marked=marked, seconds=time.monotonic() - began)
