"""Tells which cores of a job an object store has filtered already, with as few requests as it takes.

What stands at an output tells which work made it, of which content of its source, and a listing tells the content that
the source has: nothing of a core has to be read to see that it was done. An output that is not listed is not asked for.
"""

from __future__ import annotations

import os
from dataclasses import replace

from corefilt.batching.files.safe_paths import enter
from corefilt.batching.work.filter_task import unchanged
from corefilt.batching.work.local import LocalEndpoint
from corefilt.batching.work.remote import RemoteEndpoint, fingerprint_of
from corefilt.errors import CorefiltError
from corefilt.io.remote.s3 import Names, listed
from corefilt.io.remote.url import Remote, is_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corefilt.batching.outcome import Outcome
    from corefilt.batching.task import Task
    from corefilt.batching.work.provenance import Provenance

# S3's price of a page of a listing, in requests for one object: so many outputs are worth one more page of their names.
PAGE = 12


class DoneBefore:
    """What is known of the outputs of a job."""

    def __init__(self, to: str, count: int) -> None:
        """List what is there, as far as it is worth it for so many cores. Raises UsageError or MissingLibraryError."""
        self._names = _names(to, 1 + count // PAGE) if is_url(to) else None

    def ask(self, task: Task) -> Task | Outcome:
        """The outcome of a task that was done before, or the task with what is known of its output."""
        task = self.told(task)
        if task.output is None or task.listed is None or task.output_there is not None:
            return task
        try:
            mark, there = _mark(task.output, task.output_root)
        except (CorefiltError, OSError):
            # The task runs into it again, and says so.
            return task
        if mark is not None and mark.is_of(task) and mark.input == fingerprint_of(task.listed):
            return unchanged(task, task.listed.size, mark)
        return replace(task, output_there=there)

    def told(self, task: Task) -> Task:
        """The task with what the listing tells of its output."""
        if self._names is None or task.output is None or self._names.tell(Remote(task.output).path) is not False:
            return task
        return replace(task, output_there=False)


def _mark(output: str, root: str) -> tuple[Provenance | None, bool | None]:
    """What an output tells, and whether there is one where only a store could say."""
    if is_url(output):
        endpoint = RemoteEndpoint(output)
        return endpoint.mark(), endpoint.there
    if not os.path.lexists(output):
        return None, None
    with LocalEndpoint(enter(output, root)) as file:
        return file.mark(), None


def _names(folder: str, most_pages: int) -> Names | None:
    """The names at a URL; None where they cannot be had by the page."""
    remote = Remote(folder)
    if not remote.scheme.s3:
        return None

    def attempt(fs: Any, fresh: bool) -> Names | None:
        return listed(fs, remote.path, most_pages)

    try:
        return remote.persistently(attempt)
    except CorefiltError:
        return None
