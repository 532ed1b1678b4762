"""``corefilt digest CORE``: xxh3_128 of every segment."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.options import make_parser
from corefilt.cli.progress import bar_for
from corefilt.cli.words import STDOUT, refuse_report_over, say, tell, with_json_target, write_json
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Prints xxh3_128 of every segment's bytes in the file, with its number, type, size, addresses and flags; holes count
as zeros. If two cores have the same digest for a mapping, they hold the same bytes of it."""


def parser() -> Parser:
    """The options of ``corefilt digest``."""
    p = make_parser("digest", DESCRIPTION)
    p.add_argument("core", metavar="CORE", help="a core in a file")
    return p


def run(argv: list[str]) -> int:
    """Digest one core; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    refuse_report_over(arguments.json, arguments.core)
    from corefilt.verify import digest

    with bar_for(arguments) as bar:
        digests = [one.as_dict() for one in digest(arguments.core, progress=bar.reach)]
    if arguments.json is not None:
        report: dict[str, object] = {
            "schema": 1, "version": __version__, "input": arguments.core, "segments": digests
        }  # fmt: skip
        write_json(report, arguments.json)
    if arguments.json != STDOUT:
        tell("".join(_line(one) for one in digests))
    missing = [one for one in digests if one["missing"]]
    if missing:
        say(f"corefilt: {printable(arguments.core)}: is cut: bytes of {len(missing)} segments are missing")
    return 3 if missing else 0


def _line(one: dict[str, object]) -> str:
    place = f"{one['start']}-{one['end']} {one['flags']}"
    return f"{one['xxh3_128']}  {one['segment']:>5}  {one['type']:7}  {one['bytes']:>12}  {place}\n"
