"""Where a report goes: the value of ``--json``, whether it can be written there, and how."""

from __future__ import annotations

import os
import stat

from corefilt.cli.streams import need_standard_output, say, tell
from corefilt.errors import ReportPlaceError
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sources import Source

STDOUT = "-"


def with_json_target(argv: list[str]) -> list[str]:
    """The arguments with a bare ``--json`` spelled out; its FILE comes with ``=`` or not at all."""
    end = argv.index("--") if "--" in argv else len(argv)
    return [f"--json={STDOUT}" if word == "--json" and i < end else word for i, word in enumerate(argv)]


def json_target(argv: list[str]) -> str | None:
    """Where the report should go, from the bare arguments: for a run that failed before they were parsed."""
    words = [word for word in with_json_target(argv) if word.startswith("--json=")]
    return words[-1].partition("=")[2] if words else None


def write_json(report: dict[str, object], target: str, *, force: bool | None = None) -> None:
    """Write one JSON object, to standard output or a file, which ``force`` replaces; see ``may_replace``.

    Raises OutputError or ReportPlaceError.
    """
    from corefilt.documents.strict_json import as_json

    text = as_json(report) + "\n"
    if target == STDOUT:
        tell(text)
        return
    write_file(target, text, force=may_replace(target, force))


def may_replace(target: str, force: bool | None) -> bool:
    """Whether what a name leads to may be replaced by a report: None is for a command without -f.

    Such a command replaces a report. Raises ReportPlaceError for a file with something else, which may be a core.
    """
    if force is not None:
        return force
    status = status_of(target)
    if status is not None and stat.S_ISREG(status.st_mode) and status.st_size:
        try:
            with open(target, "rb") as file:
                first = file.read(1)
        except OSError:
            first = b""
        if first != b"{":
            raise ReportPlaceError(f"--json={target}: exists, and is not a report", "name another file, or remove it")
    return True


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
    if sink.notice is not None:
        say(f"corefilt: {printable(sink.name)}: {printable(sink.notice)}")


def write_all(fd: int, raw: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view) :]


def check_report_place(target: str | None, source: Source, output: str | None, *, force: bool | None = None) -> None:
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
    if same or (output is not None and os.path.realpath(target) == os.path.realpath(_path_of(output))):
        raise ReportPlaceError(f"--json={target} is a core of this run", "name another file for the report")
    probe_file(target, force=force)


def refuse_report_over(target: str | None, *cores: str) -> None:
    """Raise ReportPlaceError where the report would be written over one of the cores."""
    if target is not None and target != STDOUT and any(_is_file(target, core) for core in cores):
        raise ReportPlaceError(f"--json={target} is a core of this run", "name another file for the report")


def is_named_twice(target: str, argv: list[str]) -> bool:
    """Whether a report's file is standard input, or stands among the arguments once more: it may be a core."""
    names = {part for word in argv for part in (word, word.partition("=")[2])} - {target, ""}
    return _is_file(target, 0) or any(_is_file(target, name) for name in names)


def probe_file(target: str, *, force: bool | None = None) -> None:
    """Find out whether a report could be written, without leaving anything. Raises OutputError or ReportPlaceError."""
    status = status_of(target)
    if status is not None and not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        # A stream is opened once only: its reader takes the end of that for the end of the report.
        return
    from corefilt.io.sinks import NewFileSink, open_text

    sink = open_text(target, force=may_replace(target, force))
    if isinstance(sink, NewFileSink):
        sink.abort()


def status_of(name: str) -> os.stat_result | None:
    """What a name leads to, links included; None for nothing, or where that cannot be told."""
    try:
        return os.stat(name)
    except (OSError, ValueError):
        return None


def _path_of(name: str) -> str:
    """The path that an argument stands for, which can be a ``file://`` URL."""
    if "://" not in name:
        return name
    from corefilt.io.remote.url import local_path

    return local_path(name)


def _is_file(target: str, name: str | int) -> bool:
    try:
        return os.path.samestat(os.stat(target), os.stat(_path_of(name) if isinstance(name, str) else name))
    except (OSError, ValueError):
        return False
