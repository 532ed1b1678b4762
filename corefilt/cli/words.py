"""What all commands share: saying things, and JSON."""

from __future__ import annotations

import os
import stat
import sys

from corefilt.errors import OutputError, ReportPlaceError
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

    from rich.console import RenderableType

    from corefilt.errors import CorefiltError
    from corefilt.filtering.report import Report
    from corefilt.io.sources import Source

STDOUT = "-"
# Wide enough for any path that people have.
WIDE = 1000


def tell_version(version: str) -> None:
    """Tell what a report of a bug should name."""
    from corefilt.doctor.versions import lines

    tell("\n".join([version, *lines()]) + "\n")


def with_json_target(argv: list[str]) -> list[str]:
    """The arguments with a bare ``--json`` spelled out; its FILE comes with ``=`` or not at all."""
    end = argv.index("--") if "--" in argv else len(argv)
    return [f"--json={STDOUT}" if word == "--json" and i < end else word for i, word in enumerate(argv)]


def json_target(argv: list[str]) -> str | None:
    """Where the report should go, from the bare arguments: for a run that failed before they were parsed."""
    words = [word for word in with_json_target(argv) if word.startswith("--json=")]
    return words[-1].partition("=")[2] if words else None


def say_report(summary: Callable[[], str], report: Report, more: Iterable[str], *, quiet: bool) -> None:
    """Say what a run did; with ``quiet`` only its warnings, and ``more`` of them."""
    if not quiet:
        say(summary())
        return
    for warning in [*report.warnings, *more]:
        say(f"corefilt: {printable(report.input)}: {printable(warning)}")


def say(text: str) -> None:
    """Write lines to standard error, if there is one; on a terminal they end with words."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(fitting(text, sys.stderr) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


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


def one_failed(pid: int, error: CorefiltError) -> dict[str, object]:
    """Say what is wrong with one process of several, of which the others are still done; the same for JSON."""
    from corefilt.filtering.report import error_as_dict

    say(f"corefilt: {printable(str(error))}" + (f"\n  try: {printable(error.hint)}" if error.hint else ""))
    return {"pid": pid, "error": error_as_dict(type(error).__name__, str(error), error.hint, error.exit_code)["error"]}


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


def draw(*things: RenderableType) -> None:
    """Have rich draw things, and tell them; on anything but a terminal plain, and as wide as they are."""
    from io import StringIO

    from rich.console import Console

    terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(file=StringIO(), force_terminal=terminal, highlight=False, width=None if terminal else WIDE)
    for thing in things:
        console.print(thing)
    tell("\n".join(line.rstrip() for line in console.file.getvalue().split("\n")))  # type: ignore[attr-defined]


def write_json(report: dict[str, object], target: str, *, force: bool = True) -> None:
    """Write one JSON object, to standard output or a file, which ``force`` replaces. Raises OutputError."""
    from corefilt.documents.strict_json import as_json

    text = as_json(report) + "\n"
    if target == STDOUT:
        tell(text)
        return
    write_file(target, text, force=force)


def write_file(target: str, text: str, *, force: bool) -> None:
    """Write a report as cores are written: 0600 whatever the umask, whole or not at all, over a file with ``force``.

    Raises OutputError.
    """
    from corefilt.io.sinks import open_text, reported

    raw = text.encode()
    sink = open_text(target, force=force)
    try:
        with reported(target):
            write_all(sink.fd, raw)
        sink.commit(len(raw), sync=False)
    except BaseException:
        sink.abort()
        raise


def write_all(fd: int, raw: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view) :]


def check_report_place(target: str | None, source: Source, output: str | None, *, force: bool = True) -> None:
    """Find out before anything is written whether the report can be. Raises ReportPlaceError or OutputError."""
    if target is None:
        return
    if target == STDOUT:
        need_standard_output()
        return
    status = status_of(target)
    same = status is not None and (status.st_dev, status.st_ino) == source.identity
    if output is not None and status is not None and not stat.S_ISCHR(status.st_mode):
        same = same or _is_file(target, 1 if output == STDOUT else output)
    if same or (output is not None and os.path.realpath(target) == os.path.realpath(output)):
        raise ReportPlaceError(f"--json={target} is a core of this run", "name another file for the report")
    probe_file(target, force=force)


def status_of(name: str) -> os.stat_result | None:
    """What a name leads to, links included; None for nothing, or where that cannot be told."""
    try:
        return os.stat(name)
    except (OSError, ValueError):
        return None


def probe_file(target: str, *, force: bool) -> None:
    """Find out whether a report could be written, without leaving anything. Raises OutputError."""
    status = status_of(target)
    if status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        # A stream is opened once only: its reader takes the end of that for the end of the report.
        return
    from corefilt.io.sinks import NewFileSink, open_text

    sink = open_text(target, force=force)
    if isinstance(sink, NewFileSink):
        sink.abort()


def refuse_report_over(target: str | None, *cores: str) -> None:
    """Raise ReportPlaceError where the report would be written over one of the cores."""
    if target is not None and target != STDOUT and any(_is_file(target, core) for core in cores):
        raise ReportPlaceError(f"--json={target} is a core of this run", "name another file for the report")


def is_named_twice(target: str, argv: list[str]) -> bool:
    """Whether a report's file is standard input, or stands among the arguments once more: it may be a core."""
    names = {part for word in argv for part in (word, word.partition("=")[2])} - {target, ""}
    return _is_file(target, 0) or any(_is_file(target, name) for name in names)


def _is_file(target: str, name: str | int) -> bool:
    try:
        return os.path.samestat(os.stat(target), os.stat(name))
    except (OSError, ValueError):
        return False
