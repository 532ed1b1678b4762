"""``corefilt handle``: what core_pattern starts, by hand."""

from __future__ import annotations

from corefilt.cli.options import make_parser
from corefilt.handler.crash_info import PATTERN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = f"""\
Saves the core that the kernel sends on standard input, filtered with the evidence in /proc about its process. The
kernel starts it by /proc/sys/kernel/core_pattern, which corefilt install sets:
  |.../python3 -I -m corefilt.handler {PATTERN}
/etc/corefilt.conf, which must belong to root, has the settings. Messages go to the journal."""


def parser() -> Parser:
    """The options of ``corefilt handle``."""
    p = make_parser("handle", DESCRIPTION)
    p.add_argument("numbers", metavar="NUMBER", nargs="+", help=f"{PATTERN}, in this order".replace("%", "%%"))
    return p


def run(argv: list[str]) -> int:
    """Save one core; returns the exit code."""
    arguments = parser().parse_args(argv)
    from corefilt.handler.entry import main

    return main([*(["--config", arguments.config] if arguments.config is not None else []), *arguments.numbers])
