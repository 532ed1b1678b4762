"""``corefilt set FILTER (PID... | -- COMMAND...)``: sets the filter of processes, or runs a command under it."""

from __future__ import annotations

import os
import signal
import sys

from corefilt.cli.options import make_parser
from corefilt.cli.parser import pid_number
from corefilt.cli.streams import one_failed, say
from corefilt.errors import ProcessError, UsageError
from corefilt.filterbits import ALIASES, NAMES, describe, parse_filter
from corefilt.procfs.coredump_filter import set_filter
from corefilt.procfs.pid import ProcFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Sets the coredump_filter of running processes, or of a command, which replaces corefilt. Children inherit the filter,
it survives exec, and threads share it."""
# What a shell says of a command that is not there, and of one that cannot be run.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
# What Python ignores, and what it runs should not find ignored.
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


def parser() -> Parser:
    """The options of ``corefilt set``; what follows ``--`` is not its business."""
    p = make_parser("set", DESCRIPTION)
    p.add_argument("filter", metavar="FILTER", help="which mappings to keep")
    p.add_argument("pid", metavar="PID", nargs="*", type=pid_number, help="a process")
    return p


def run(argv: list[str]) -> int:
    """Set it; returns the exit code, 1 where one process of several failed. Does not return from a command."""
    at = argv.index("--") if "--" in argv else len(argv)
    options, command = argv[:at], argv[at + 1 :]
    for word in options:
        if word[:1] == "-" and word[1:].split(",")[0] in {**NAMES, **ALIASES}:
            # parse_filter has the words for it, argparse would not let it come so far.
            parse_filter(word)
    arguments = parser().parse_intermixed_args(options)
    wanted, warnings = parse_filter(arguments.filter)
    if bool(command) == bool(arguments.pid):
        raise UsageError(
            "give either process IDs or a command after --", "corefilt set FILTER PID..., or FILTER -- COMMAND..."
        )
    for warning in warnings:
        say(f"corefilt: {warning}")
    failed = False
    for pid in arguments.pid or [os.getpid()]:
        try:
            with ProcFolder(pid) as folder:
                before, after = set_filter(folder, wanted)
        except ProcessError as error:
            one_failed(pid, error)
            failed = True
            continue
        if after != wanted:
            missing = wanted & ~after
            say(f"corefilt: {folder.name}: this kernel does not know {describe(missing)}; the filter is {after:#x}")
        if not arguments.quiet and not command:
            say(f"corefilt: {folder.name}: filter {describe(after)}, was {int(before):#x}")
    return 1 if failed else _become(command) if command else 0


def _become(command: list[str]) -> int:
    """Run the command in this process's place; returns what a shell would where that cannot be."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except (FileNotFoundError, NotADirectoryError) as error:
        code, why = NOT_FOUND, error.strerror
    except OSError as error:
        code, why = NOT_EXECUTABLE, error.strerror
    except ValueError:
        code, why = NOT_FOUND, "it has no name"
    from corefilt.text import printable

    say(f"corefilt: {printable(command[0])}: cannot be run: {why}")
    return code
