"""``corefilt FILTER [CORE] [-o OUT]``."""

from __future__ import annotations

import os

from corefilt.cli.arguments import read, refuse_exchanged
from corefilt.cli.commands import COMMANDS
from corefilt.cli.options import Arguments, check_environment, given_options, make_parser, taken_by
from corefilt.cli.progress import bar_for, told
from corefilt.cli.reportfile import STDOUT, check_report_place, with_json_target, write_json
from corefilt.cli.streams import say_report
from corefilt.corefile.corefile import open_core
from corefilt.errors import FilterError, ReportPlaceError, UsageError, did_you_mean
from corefilt.filterbits import ALIASES, NAMES, near_names, parse_filter
from corefilt.filtering.options import Options, check_output
from corefilt.filtering.write import write_filtered
from corefilt.io.sinks import NamedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.cli.parser import Parser

DESCRIPTION = (
    """\
Drops mappings from a finished core dump, as /proc/PID/coredump_filter does before the crash.

FILTER is a number like 0x33, or names joined by commas, read from left to right:
  """
    + "\n  ".join([", ".join(list(NAMES)[:3]), ", ".join(list(NAMES)[3:6]), ", ".join(list(NAMES)[6:])])
    + """
  default (0x33), all (0x1ff), none; for example: default,-shared-anonymous"""
)

EPILOG = """\
other commands (corefilt COMMAND --help):
{commands}

exit status: 0 done; 1 failed, OUT neither created nor changed, CORE (with -i) still valid; 2 usage; 3 written, but the
input was damaged or truncated; 4 with --strict: bytes are ambiguous, or a compressed core is cut off or damaged

environment: COREFILT_ENGINE selects an engine, as --engine does; COREFILT_TRACEBACK=1 prints a traceback if corefilt
fails; NO_COLOR turns colours off"""


def _other_commands() -> Iterator[str]:
    for name, (operands, purpose) in COMMANDS.items():
        if name != "filter":
            usage = f"{name} {operands}"
            if len(usage) > 34:
                yield f"  {usage}"
                usage = ""
            yield f"  {usage:<34} {purpose}"


def parser() -> Parser:
    """The options of ``corefilt filter``."""
    p = make_parser("filter", DESCRIPTION, EPILOG.format(commands="\n".join(_other_commands())))
    p.add_argument("filter", metavar="FILTER", help="which mappings to keep")
    p.add_argument("core", metavar="CORE", nargs="?", default="-", help="a core, or - for standard input (default)")
    return p


def parse(argv: list[str]) -> Arguments:
    """The arguments; raises UsageError, with the spelling to use for a filter that looks like an option."""
    names = {**NAMES, **ALIASES}
    valued = {flag for _, record in taken_by("filter") if not isinstance(record.default, bool) for flag in record.flags}
    for before, word in zip(["", *argv], argv, strict=False):
        # argparse would take -none for -n -o ne; what stands behind an option is its value.
        if before not in valued and word[:1] == "-" and (word[1:].split(",")[0] in names or word[1:2].isdigit()):
            raise FilterError(f"filter {word!r} starts with '-'", f"write default,{word}")
    if argv and argv[0][:1] != "-":
        _refuse_no_filter(*argv[:2])
    arguments = _read(with_json_target(argv))
    check_environment(arguments, "filter")
    _refuse_no_filter(arguments.filter, arguments.core)
    check_output(vars(arguments), arguments.output)
    if arguments.in_place and arguments.core == "-":
        raise UsageError("-i changes CORE, which cannot be standard input", "name the core")
    if arguments.output is None:
        arguments.output = "-"
    elsewhere = arguments.dry_run or arguments.in_place or arguments.name is not None
    writes_stdout = arguments.output == "-" and not elsewhere
    if arguments.json == STDOUT and writes_stdout:
        raise ReportPlaceError("--json and the core both go to standard output", "--json=FILE or -o OUT separates them")
    return arguments


def _read(argv: list[str]) -> Arguments:
    found = read("filter", argv)
    if found is None or not 1 <= len(found[1]) <= 2:
        return Arguments(**vars(parser().parse_intermixed_args(argv)))
    arguments, operands = found
    arguments.filter, arguments.core = operands if len(operands) == 2 else (operands[0], "-")
    return arguments


def _refuse_no_filter(word: str, core: str = "") -> None:
    """Raise UsageError for what is no filter but a misspelled command, or the core in the place of the filter."""
    try:
        parse_filter(word)
    except FilterError:
        near = did_you_mean(word, COMMANDS)
        if near:
            raise UsageError(f"{word!r} is neither a command nor a filter", near) from None
        if not os.path.isfile(word):
            if _may_mean_a_filter(word):
                raise
            hint = "corefilt help lists the commands and the names of filters"
            raise UsageError(f"{word!r} is neither a command nor a filter", hint) from None
        refuse_exchanged(word, core, "the filter comes first: corefilt {} {}".format, default="0x33")


def _may_mean_a_filter(word: str) -> bool:
    """Whether what is no filter looks like one: a list, a number, or a name that is misspelled."""
    letters = word.replace("-", "").replace("_", "")
    return not letters.isalpha() or not letters.strip("abcdefABCDEF") or bool(near_names(word))


def run(argv: list[str]) -> int:
    """Filter one core; returns the exit code."""
    arguments = parse(argv)
    wanted, warnings = parse_filter(arguments.filter)
    given = given_options(arguments, "filter")
    if arguments.values:
        from corefilt.filtering.naming import parse_given

        given["values"] = parse_given(arguments.values)
    options = Options(**given)
    with (
        open_core(
            arguments.core, max_headers=options.most_headers, spool=options.spool, seeks=options.fit_request is not None
        ) as core,
        bar_for(arguments, core.length) as bar,
    ):
        if core.source.compression is not None:
            from corefilt.io.decompress import keep_memory

            keep_memory()
        options.on_progress = told(bar)
        target, notices = (
            options.naming.file(core, force=options.force) if options.naming is not None else (arguments.output, [])
        )
        output = target.path if isinstance(target, NamedFile) else target
        written = None if arguments.dry_run or arguments.in_place else output
        check_report_place(arguments.json, core.source, written, force=arguments.force)
        report = write_filtered(core, wanted, target, options)
    if isinstance(target, NamedFile) and arguments.dry_run:
        notices.append(f"its name would be {target.path}")
    report.notices += warnings + notices
    say_report(lambda: report.summary(verbose=arguments.verbose), report, warnings, quiet=arguments.quiet)
    if arguments.json is not None:
        write_json(report.as_dict(), arguments.json, force=arguments.force)
    return 3 if report.damaged else 0
