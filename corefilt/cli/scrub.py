"""``corefilt scrub CORE -o OUT``: overwrites secrets in a copy of a core."""

from __future__ import annotations

from corefilt.cli.options import given_options, make_parser
from corefilt.cli.reportfile import STDOUT, check_report_place, write_json
from corefilt.cli.streams import say_report, tell
from corefilt.corefile.corefile import open_core
from corefilt.errors import ReportPlaceError, UsageError
from corefilt.filterbits import parse_filter
from corefilt.filtering.options import Options
from corefilt.scrub.request import make_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Writes a copy of a core in which secrets are overwritten: private keys, service tokens, password hashes, and values
next to a keyword. Everything that is found is searched for again in UTF-16, hexadecimal, URL and base64 forms.
CORE is not changed. A scrubbed core is not a clean core: docs/scrub.md lists what cannot be found.

levels:
  secrets   what the rules find (default)
  env       also the values of the environment and the arguments of the process
  stacks    also words on stacks that are neither small numbers nor addresses, and vector registers (x86-64)"""

EPILOG = """\
corefilt verify CORE OUT --scrubbed REPORT proves that nothing changed but what the report lists.

exit status: 0 done; 1 failed, OUT not created; 2 usage; 3 written, but CORE was damaged or truncated"""


def parser() -> Parser:
    """The options of ``corefilt scrub``."""
    p = make_parser("scrub", DESCRIPTION, EPILOG)
    p.add_argument("core", metavar="CORE", nargs="?", help="a core, or - for standard input")
    return p


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Raises UsageError."""
    arguments = parser().parse_intermixed_args(argv)
    if arguments.list_rules:
        return arguments
    if arguments.core is None:
        raise UsageError("CORE is missing", "corefilt scrub CORE -o OUT")
    if arguments.output is None and not arguments.dry_run:
        raise UsageError("-o OUT is missing: a core is never changed where it is", "name another file")
    if arguments.report == STDOUT == arguments.output and not arguments.dry_run:
        raise ReportPlaceError("--report and the core both want standard output", "--report FILE parts them")
    return arguments


def run(argv: list[str]) -> int:
    """Scrub one core; returns the exit code."""
    arguments = parse(argv)
    if arguments.list_rules:
        from corefilt.scrub.rules import list_rules

        tell("\n".join(list_rules()) + "\n")
        return 0
    from corefilt.scrub.write import write_scrubbed

    wanted, warnings = parse_filter(arguments.filter)
    request = make_request(
        arguments.level,
        secret_files=arguments.secret_file,
        rule_files=arguments.rule,
        certificates=arguments.certificate,
        files=arguments.files,
    )
    options = Options(**given_options(arguments, "scrub"), force=arguments.force, dry_run=arguments.dry_run)
    output = arguments.output or "-"
    with open_core(arguments.core, spool=True) as core:
        written = None if arguments.dry_run else output
        check_report_place(arguments.report, core.source, written, force=arguments.force)
        report = write_scrubbed(core, request, wanted, output, options)
    filtered = report.filtered
    filtered.notices += warnings
    say_report(lambda: report.summary(verbose=arguments.verbose), filtered, warnings, quiet=arguments.quiet)
    if arguments.report is not None:
        write_json(report.as_dict(), arguments.report, force=arguments.force)
    return 3 if filtered.damaged else 0
