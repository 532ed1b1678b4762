"""A progress bar on standard error: how much of how much, in one unit, at which rate, since when and how long still."""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from corefilt.cli.options import Arguments

# Seconds after which a bar appears: most runs are done by then.
DELAY = 1.0
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
# Rows between two words of an iteration; telling each would take as long as making it.
STRIDE = 1024


class Bar:
    """A bar that appears after DELAY, or ``at_once``; rich is loaded only then. A context manager.

    It counts bytes, or what ``unit`` names. What is to stay on the screen at the end ``stays``. Where processes are
    started meanwhile, no thread may draw: it is ``still`` between two counts.
    """

    def __init__(
        self, total: int | None, *, unit: str = "", at_once: bool = False, stays: bool = False, still: bool = False
    ) -> None:
        """Begin to count; ``total`` is None where it is not known."""
        self.total, self._unit, self._at_once, self._stays, self._still = total, unit, at_once, stays, still
        self.done, self._began = 0, time.monotonic()
        self._description, self._stopped = "", False
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()

    def add(self, count: int) -> None:
        """Count what went by."""
        self.reach(self.done + count, self.total)

    def reach(self, done: int, total: int | None) -> None:
        """Have so much, of a total that may have become known."""
        self.done, self.total = done, total
        self._draw()

    def describe(self, text: str) -> None:
        """Say what is going on, before the bar."""
        self._description = text
        self._draw()

    def batches(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        """Pass rows on, some at once, counting them."""
        for at in range(0, len(rows), STRIDE):
            some = rows[at : at + STRIDE]
            yield some
            self.add(len(some))

    def stop(self) -> None:
        """Take it down, or leave it as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._stopped = True

    def _draw(self) -> None:
        if self._progress is None:
            if self._stopped or (not self._at_once and time.monotonic() - self._began < DELAY):
                return
            self._progress, self._task = self._begin()
        if self._task is None:
            raise AssertionError("a bar has a task")
        text = amounts(self.done, self.total, time.monotonic() - self._began, self._unit)
        self._progress.update(
            self._task, completed=self.done, total=self.total, description=self._description, amounts=text,
            refresh=self._still,
        )  # fmt: skip

    def _begin(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        progress = Progress(
            TextColumn("{task.description}{task.fields[amounts]}", markup=False), BarColumn(20), TimeElapsedColumn(),
            TextColumn("left:"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=not self._stays, auto_refresh=not self._still,
        )  # fmt: skip
        task = progress.add_task(self._description, total=self.total, amounts="")
        progress.start()
        return progress, task


class NoBar(Bar):
    """Stands where none is wanted."""

    def _draw(self) -> None: ...


def amounts(done: int, total: int | None, seconds: float, unit: str) -> str:
    """Return how much of how much there is, and how much a second: ``0.25 of 1.50 GiB, 0.31 GiB/s``."""
    rate = done / seconds if seconds > 0 else 0.0
    if unit:
        of = f" of {total}" if total is not None else ""
        return f"{done}{of} {unit}, {rate:.0f}/s"
    power = min((max(done, total or 0).bit_length() - 1) // 10, len(_UNITS) - 1) if done or total else 0
    scale, name = 1 << 10 * power, _UNITS[power]
    figures = 2 if power else 0
    of = f" of {total / scale:.{figures}f}" if total is not None else ""
    return f"{done / scale:.{figures}f}{of} {name}, {rate / scale:.{figures}f} {name}/s"


def bar_for(
    arguments: Arguments | argparse.Namespace,
    total: int | None = None,
    *,
    unit: str = "",
    prints: bool = False,
    still: bool = False,
) -> Bar:
    """Return the bar that ``--progress`` asks for; what ``prints`` rows has none of its own beside them."""
    always = arguments.progress == "always"
    shows = always or (arguments.progress == "auto" and on_terminal() and not getattr(arguments, "quiet", False))
    if prints and not always and sys.stdout is not None and sys.stdout.isatty():
        shows = False
    kind = Bar if shows else NoBar
    return kind(total, unit=unit, at_once=always or still, stays=always, still=still)


def on_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def told(bar: Bar) -> Callable[[int], None] | None:
    """Return what to call with bytes that went by, or None where nobody looks."""
    return None if isinstance(bar, NoBar) else bar.add
