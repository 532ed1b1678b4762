"""What every walk begins with, and what comes of it."""

from __future__ import annotations

from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.registers import Thread
    from corefilt.plan.fit.runtimes.reader import MemoryReader, Range


class Walk:
    """What was found of one runtime: the ``ranges`` of addresses that its tools need, or why there are none.

    ``threads`` are the runtime's own (goroutines for Go), ``frames`` those that were counted (None: not countable),
    ``missing`` says in words what of them is not reachable. ``kept`` tells whether the ranges were. ``stacks`` are
    stacks that the runtime allocated, from end to end; ``data`` are data segments of which the ranges have all that
    the tools read.
    """

    def __init__(self, name: str) -> None:
        """Begin with nothing."""
        self.name, self.ranges = name, list[tuple[int, int]]()
        self.threads = 0
        self.frames: int | None = None
        self.missing: list[str] = []
        self.stacks, self.data = list[tuple[int, int]](), list[tuple[int, int]]()
        self.reason: str | None = None
        self.kept = False

    def as_dict(self) -> dict[str, object]:
        """For the report."""
        return {
            "name": self.name,
            "kept": self.kept,
            "threads": self.threads,
            "frames": self.frames,
            "missing": self.missing,
            "reason": self.reason,
        }

    def line(self) -> str:
        """For a person."""
        counts = counted(self.threads, "goroutine" if self.name == "go" else "thread")
        counts += f", {counted(self.frames, 'frame')}" if self.frames is not None else ""
        missing = "; missing: " + ", ".join(self.missing) if self.missing else ""
        return f"runtime: {self.name}, {counts} reachable{missing}"

    def warning(self) -> str:
        """Why nothing was kept."""
        return f"nothing was added for {self.name}, as with --runtime none: {self.reason}"


class Scene:
    """What every walk begins with: the reader, the threads of the core and their native stacks."""

    def __init__(self, reader: MemoryReader, threads: list[Thread], stacks: list[list[Range]]) -> None:
        """Hold the three."""
        self.reader, self.threads, self.stacks = reader, threads, stacks

    def words_of_stacks(self) -> set[int]:
        """All words of the native stacks, as far as the core has them."""
        found: set[int] = set()
        for stack in self.stacks:
            for start, end in stack:
                found.update(self.reader.whole_words(start, end))
        return found
