"""``corefilt verify FULL FILTERED``: proves the promises on two finished cores."""

from __future__ import annotations

import sys

from corefilt.cli.arguments import need_named
from corefilt.cli.options import make_parser
from corefilt.cli.progress import bar_for
from corefilt.cli.reportfile import STDOUT, refuse_report_over, with_json_target, write_json
from corefilt.cli.streams import fitting, need_standard_output, say, tell
from corefilt.filterbits import parse_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Compares a filtered core with the full one: every kept byte is the same at its address, none was invented, program
headers, notes and sections agree, and no two claim the same bytes. With --filter, every mapping has what that filter
keeps, or at most that if --fit or --minimal cut the core; give the evidence options that the core was filtered with.
With --truncate, it ends where the kernel would have ended it. Both cores can be compressed, or URLs.

exit status: 0 every promise is kept, 4 one is broken"""


def parser() -> Parser:
    """The options of ``corefilt verify``."""
    p = make_parser("verify", DESCRIPTION)
    p.add_argument("full", metavar="FULL", help="the core that was filtered")
    p.add_argument("filtered", metavar="FILTERED", help="the filtered core")
    return p


def run(argv: list[str]) -> int:
    """Verify one core; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    wanted, warnings = parse_filter(arguments.filter) if arguments.filter is not None else (None, [])
    need_named("verify", arguments.full, arguments.filtered)
    refuse_report_over(arguments.json, arguments.full, arguments.filtered)
    from corefilt.verify import verify

    with bar_for(arguments) as bar:
        verdict = verify(
            arguments.full,
            arguments.filtered,
            filter=wanted,
            assume=arguments.assume,
            maps=arguments.maps,
            pid=arguments.pid,
            sysroot=arguments.sysroot,
            dumper=arguments.dumper,
            truncate=arguments.truncate,
            scrubbed=arguments.scrubbed,
            progress=bar.reach,
        )
    for warning in warnings:
        say(f"corefilt: {warning}")
    if arguments.json is not None:
        write_json(verdict.as_dict(), arguments.json)
    if arguments.json != STDOUT:
        need_standard_output()
        tell(fitting(str(verdict), sys.stdout) + "\n")
    if not verdict.holds and verdict.short and arguments.truncate is None:
        say("corefilt: FILTERED ends before what its headers claim; --truncate SIZE checks what a limit has cut")
    return 0 if verdict.holds else 4
