"""Where a core is read from and where an output goes: a file or a URL, by one protocol; and the output itself."""

from __future__ import annotations

from typing import Protocol

from corefilt.errors import OutputError
from corefilt.io.sinks import NamedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from corefilt.batching.files.safe_paths import OpenPlace
    from corefilt.batching.task import Task
    from corefilt.batching.work.provenance import Fingerprint, Provenance
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Source


class Endpoint(Protocol):
    """A file or URL; the source of a task, or its target, or with --replace both at once."""

    @property
    def name(self) -> str:
        """The path or URL, for people."""

    @property
    def place(self) -> OpenPlace | None:
        """The open folder and the name in it; None for a URL."""

    @property
    def age(self) -> float | None:
        """Seconds since it was written, where that is known. Raises InputError."""

    @property
    def stored(self) -> int:
        """How many bytes it takes where it is. Raises InputError."""

    @property
    def keeps_marks(self) -> bool:
        """Whether what is written here can be marked beside its content."""

    def fingerprint(self) -> Fingerprint:
        """What tells its content from another one, as it was when it was first asked for. Raises InputError."""

    def is_file(self, status: os.stat_result) -> bool:
        """Whether it is the file that a status is of."""

    def changed(self) -> bool:
        """Whether its content is another one than that of the fingerprint; False where reading itself tells that."""

    def open(self, task: Task, folder: str | None = None) -> Source:
        """Open the core of a task, from its beginning; temporary files go to ``folder`` (None: to TMPDIR).

        Raises InputError.
        """

    def mark(self) -> Provenance | None:
        """Read how it came about, if it is as it was written; None where it tells nothing. Raises InputError."""

    def hand_over(self, fd: int) -> None:
        """Give an output in a folder what belongs to the source and not to its content: times, attributes."""

    def sink(self, output: TaskOutput) -> Sink:
        """Open what becomes the output here. Raises OutputError."""

    def complete(self, fd: int, output: TaskOutput) -> bool:
        """Mark an output that is whole, but for its name; False where this place keeps no marks. Raises OSError."""


class TaskOutput(NamedFile):
    """What a task makes of its source at its target; it is marked and checked before it gets its name.

    ``check`` holds what was written against the input, and raises. ``marked`` tells whether a later run will see what
    this one did: by a mark of the target, or by a note within.
    """

    def __init__(
        self, task: Task, source: Endpoint, target: Endpoint, check: Callable[[int], None] | None = None
    ) -> None:
        """Take the fingerprint of the source. Raises InputError."""
        self.task, self.source, self.target, self.check = task, source, target, check
        self.path = target.name
        self.fingerprint = source.fingerprint()
        self.undecided = 0
        self.marked = False

    def open(self, source: Source | None) -> Sink:
        """A sink that becomes it. Raises OutputError."""
        return self.target.sink(self)

    def on_decided(self, undecided_bytes: int) -> None:
        """Remember how many bytes depend on an assumption."""
        self.undecided = undecided_bytes

    def complete(self, fd: int) -> None:
        """Mark and check what is whole. Raises OutputError where the input has changed meanwhile."""
        self.marked = self.target.complete(fd, self) or self.marked
        self._stand_still()
        if self.check is not None:
            self.check(fd)
            self._stand_still()

    def _stand_still(self) -> None:
        if self.source.changed():
            name = self.path if self.target.place is not None else self.task.source
            raise OutputError(f"{name}: the core changed while it was read", "wait until nobody writes to it")
