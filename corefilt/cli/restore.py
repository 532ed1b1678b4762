"""``corefilt restore``: puts back what --shared-once took out."""

from __future__ import annotations

import os

from corefilt import __version__
from corefilt.cli.arguments import need_local, need_named
from corefilt.cli.options import make_parser
from corefilt.cli.reportfile import STDOUT, probe_file, with_json_target, write_json
from corefilt.cli.streams import say
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Restores cores from which --shared-once removed blocks of shared memory, byte for byte. A manifest stands for all of its
cores; it is deleted when all of them are complete."""


def parser() -> Parser:
    """The options of ``corefilt restore``."""
    p = make_parser("restore", DESCRIPTION)
    p.add_argument("places", metavar="MANIFEST|CORE", nargs="+", help="a manifest of --shared-once, or a core")
    return p


def run(argv: list[str]) -> int:
    """Restore; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    need_local(*arguments.places)
    need_named("restore", *arguments.places)
    if arguments.json not in (None, STDOUT):
        probe_file(arguments.json)
    from corefilt.batching.shared.restore import restore

    done = restore(arguments.places)
    if not arguments.quiet:
        for path in done:
            say(f"corefilt: {printable(path)}: whole again, {show_size(os.path.getsize(path))}")
        if not done:
            say("corefilt: nothing to restore: no file is a core that --shared-once reduced")
    if arguments.json is not None:
        write_json({"schema": 1, "version": __version__, "restored": done}, arguments.json)
    return 0
