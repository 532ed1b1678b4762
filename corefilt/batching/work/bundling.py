"""Packs a core that was filtered with the files that it belongs to, and leaves the bundle beside it."""

from __future__ import annotations

from corefilt.batching.files.safe_paths import OpenPlace
from corefilt.bundle.write import SUFFIX, BundleRequest, write_bundle
from corefilt.corefile.corefile import open_core
from corefilt.errors import OutputError
from corefilt.filtering.options import Options
from corefilt.io.sinks import NamedFile, NewFileSink
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.batching.task import Task
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Source


class Bundling(NamedFile):
    """The bundle of an output; called with the output that is whole, before that gets its name.

    ``lacking`` says afterwards what the bundle has not.
    """

    def __init__(
        self, task: Task, target: OpenPlace, source: Source, before: Callable[[int], None] | None = None
    ) -> None:
        """Look at its place; ``before`` is what else is done with the output, first. Raises OutputError."""
        self._place = OpenPlace(target.folder, target.leaf + SUFFIX, target.path + SUFFIX)
        self._task, self._source, self._before = task, source, before
        self.path = self._place.path
        self.lacking = ""
        if not task.force and self._place.status() is not None:
            raise OutputError(f"{self.path}: exists", "-f replaces it")

    def open(self, source: Source | None) -> Sink:
        """Open a file without a name that becomes the bundle. Raises OutputError."""
        return NewFileSink(self.path, replace=self._task.force, folder=self._place.folder)

    def __call__(self, fd: int) -> None:
        """Write the bundle of an output. Raises CorefiltError's children."""
        if self._before is not None:
            self._before(fd)
        sysroot = self._task.options.get("sysroot")
        request = BundleRequest(str(sysroot) if sysroot is not None else None)
        with open_core(f"/proc/self/fd/{fd}", spool=True) as core:
            report = write_bundle(core, self, request, Options(), owner_fd=self._source.fd)
        lacking = [f"{printable(file.path)} ({file.status})" for file in report.lacking]
        self.lacking = f"the bundle lacks {', '.join(lacking)}" if lacking else ""
