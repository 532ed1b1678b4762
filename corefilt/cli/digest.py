"""``corefilt digest CORE``: xxh3_128 of every segment."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.arguments import need_named
from corefilt.cli.inspection.page import Page
from corefilt.cli.options import make_parser
from corefilt.cli.progress import bar_for
from corefilt.cli.reportfile import STDOUT, refuse_report_over, with_json_target, write_json
from corefilt.cli.streams import say
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser
    from corefilt.verify import Digest

DESCRIPTION = """\
Prints xxh3_128 of every segment's bytes in the file, with its number, size, address, flags and type; holes count as
zeros. If two cores have the same digest for a mapping, they hold the same bytes of it. --json has exact sizes."""

# 80 columns wide, but for long names of types.
HEADS = f"{'xxh3_128':32} segment  present {'address':16} flags type"


def parser() -> Parser:
    """The options of ``corefilt digest``."""
    p = make_parser("digest", DESCRIPTION)
    p.add_argument("core", metavar="CORE", help="a core in a file, or a URL")
    return p


def run(argv: list[str]) -> int:
    """Digest one core; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    need_named("digest", arguments.core)
    refuse_report_over(arguments.json, arguments.core)
    from corefilt.verify import digest

    with bar_for(arguments) as bar:
        digests = digest(arguments.core, progress=bar.reach)
    if arguments.json is not None:
        report: dict[str, object] = {
            "schema": 1, "version": __version__, "input": arguments.core,
            "segments": [one.as_dict() for one in digests],
        }  # fmt: skip
        if digests.damage is not None:
            report["damage"] = digests.damage
        write_json(report, arguments.json)
    if arguments.json != STDOUT:
        page = Page()
        page.line((HEADS, "bold"))
        page.lines(_line(one) for one in digests)
    missing = [one for one in digests if one.missing]
    if missing:
        what = f"bytes of {counted(len(missing), 'segment')} are missing"
        say(f"corefilt: {printable(arguments.core)}: the core is truncated: {what}")
    if digests.damage is not None:
        say(f"corefilt: {printable(arguments.core)}: {printable(digests.damage)}")
    return 3 if missing or digests.damage is not None else 0


def _line(one: Digest) -> str:
    known = one.as_dict()
    size, address = show_size(one.bytes), f"{one.header.p_vaddr:x}"
    return f"{one.xxh3_128} {one.segment:>7} {size:>8} {address:16} {one.header.flags:5} {known['type']}"
