"""What is told on standard output, and said on standard error."""

from __future__ import annotations

import os
import sys

from corefilt.errors import OutputError
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

    from rich.console import RenderableType

    from corefilt.errors import CorefiltError
    from corefilt.filtering.report import Report

# Wide enough for any path that people have.
WIDE = 1000


def tell(text: str) -> None:
    """Write text to standard output. Raises OutputError, or BrokenPipeError where nobody reads."""
    need_standard_output()
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail once more when the interpreter ends.
        sys.stdout = None
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from None


def need_standard_output() -> None:
    """Raise OutputError where standard output is closed: what should go there would be lost."""
    if sys.stdout is None:
        raise OutputError("standard output: is closed", "redirect it to a file, or to /dev/null")


def say(text: str) -> None:
    """Write lines to standard error, if there is one; on a terminal they end with words."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(fitting(text, sys.stderr) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def say_report(summary: Callable[[], str], report: Report, more: Iterable[str], *, quiet: bool) -> None:
    """Say what a run did; with ``quiet`` only its warnings, and ``more`` of them."""
    if not quiet:
        say(summary())
        return
    for warning in [*report.warnings, *more]:
        say(f"corefilt: {printable(report.input)}: {printable(warning)}")


def one_failed(pid: int, error: CorefiltError) -> dict[str, object]:
    """Say what is wrong with one process of several, of which the others are still done; the same for JSON."""
    from corefilt.filtering.report import error_as_dict

    say(f"corefilt: {error}" + (f"\n  try: {error.hint}" if error.hint else ""))
    return {"pid": pid, "error": error_as_dict(type(error).__name__, str(error), error.hint, error.exit_code)["error"]}


def draw(*things: RenderableType) -> None:
    """Have rich draw things, and tell them; on anything but a terminal plain, and as wide as they are."""
    from io import StringIO

    from rich.console import Console

    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(file=StringIO(), force_terminal=terminal, highlight=False, width=None if terminal else WIDE)
    for thing in things:
        console.print(thing)
    tell("\n".join(line.rstrip() for line in console.file.getvalue().split("\n")))  # type: ignore[attr-defined]


def fitting(text: str, stream: TextIO) -> str:
    """Return text folded for the terminal that a stream is; for anything else as it is."""
    if not stream.isatty():
        return text
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told[:4]):
        return folded(text, int(told[:4]))
    try:
        return folded(text, os.get_terminal_size(stream.fileno()).columns or 80)
    except (OSError, ValueError):
        return folded(text, 80)


def folded(text: str, width: int) -> str:
    """Return text whose lines are at most so wide, but for longer words; the rest of a line stands further in."""
    if all(len(line) <= width for line in text.split("\n")):
        return text
    from textwrap import wrap

    lines: list[str] = []
    for line in text.split("\n"):
        inside = " " * min(len(line) - len(line.lstrip()) + 4, width // 2)
        # Blanks between columns stay where nothing is folded.
        lines += [line] if len(line) <= width else wrap(
            line, width, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return "\n".join(lines)
