"""``corefilt list DIR...``: the cores of directories, one a line."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from corefilt import __version__
from corefilt.cli.arguments import need_local, need_named
from corefilt.cli.options import make_parser
from corefilt.cli.reportfile import with_json_target
from corefilt.cli.streams import need_standard_output, say, tell
from corefilt.corefile.signals import NAMES, show_signal
from corefilt.documents.strict_json import as_json
from corefilt.errors import CorefiltError, UsageError
from corefilt.sizes import show_size
from corefilt.store.listing import candidates, cores
from corefilt.text import moment, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from corefilt.cli.parser import Parser
    from corefilt.store.listing import StoredCore

DESCRIPTION = """\
Lists the cores below directories, or the named cores, one per line: time, process, user, signal, size, signature of the
crash, executable and file. Files are recognised by content, also compressed.

A signature that is not stored on a file yet (user.corefilt.signature) is computed, and stored there if permitted.
A ? behind it means that its quality is not unwound: other crashes can have the same signature; with --sysroot, such a
signature is computed again."""

HEADS = ("TIME", "PID", "UID", "SIGNAL", "SIZE", "SIGNATURE", "EXECUTABLE", "FILE")
# Columns are as wide as these, so that lines can be written as they come; signatures have 16 digits and a mark.
_LINE = "{:<23}  {:>7}  {:>5}  {:<7}  {:>9}  {:<17}  {:<30}  {}"


def parser() -> Parser:
    """The options of ``corefilt list``."""
    p = make_parser("list", DESCRIPTION)
    p.add_argument("places", metavar="DIR", nargs="+", help="a directory with all below it, or a core")
    return p


def run(argv: list[str]) -> int:
    """List cores; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    need_local(*arguments.places)
    need_named("list", *arguments.places)
    wanted = Wanted(arguments)
    if arguments.sysroot is not None:
        from corefilt.io.named_files import Root

        # What is wrong with it is told before anything is printed.
        Root(arguments.sysroot).close()
    found = candidates(arguments.places, by=arguments.sort, reverse=arguments.reverse)
    bad: list[CorefiltError] = []
    lines = _chosen(wanted, cores(found, sysroot=arguments.sysroot), bad)
    if arguments.json is not None:
        from corefilt.cli.inspection.document import write

        write(arguments.json, map(_as_json, lines))
    else:
        need_standard_output()
        tell(_LINE.format(*HEADS) + "\n")
        for core in lines:
            tell(_as_line(core))
    for error in bad:
        say(f"corefilt: {error}")
    return 1 if bad else 0


class Wanted:
    """Which cores are listed. Raises UsageError for a signal or signature that there is not."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.uid, self.signature = arguments.uid, arguments.signature
        self.executable, self.signal = arguments.executable, arguments.signal
        if self.signal is not None and self.signal not in NAMES and not self.signal.isdigit():
            raise UsageError(f"--signal: {self.signal!r} is not a signal", f"write a number, or {', '.join(NAMES)}")

    def fits(self, core: StoredCore) -> bool:
        """Whether a core is listed."""
        signature = core.signature.signature if core.signature is not None else None
        return (
            (self.uid is None or core.uid == self.uid)
            and (self.signature is None or signature == self.signature)
            and (self.executable is None or _matches(core, self.executable))
            and (self.signal is None or (core.signal is not None and self.signal in _names(core.signal)))
        )


def _matches(core: StoredCore, glob: str) -> bool:
    """Whether the executable matches; the name of the first thread in its place is that of a file anywhere."""
    name = os.fsdecode(core.comm or b"")
    if core.executable is not None or not name:
        return fnmatchcase(os.fsdecode(core.executable or b""), glob)
    return fnmatchcase(name, glob) or fnmatchcase(f"/{name}", glob)


def _names(signal: int) -> tuple[str, ...]:
    return str(signal), show_signal(signal)


def _chosen(
    wanted: Wanted, found: Iterator[StoredCore | CorefiltError], bad: list[CorefiltError]
) -> Iterator[StoredCore]:
    for core in found:
        if isinstance(core, CorefiltError):
            bad.append(core)
        elif wanted.fits(core):
            yield core


def _as_json(core: StoredCore) -> str:
    return as_json({"schema": 1, "version": __version__, **core.as_dict()}) + "\n"


def _as_line(core: StoredCore) -> str:
    found = core.signature
    signature = "-"
    if found is not None and found.signature is not None:
        signature = found.signature + ("" if found.certain is not None else "?")
    numbers = ["-" if n is None else str(n) for n in (core.pid, core.uid)]
    signal = show_signal(core.signal) if core.signal is not None else "-"
    executable = printable(core.executable or core.comm or b"-")
    cells = (moment(core.time), *numbers, signal, show_size(core.size), signature, executable)
    return _LINE.format(*cells, printable(os.fsencode(core.path))).rstrip() + "\n"
