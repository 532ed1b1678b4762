"""``corefilt handle``: what core_pattern starts, by hand."""

from __future__ import annotations

from corefilt.cli.options import make_parser
from corefilt.handler.crash_info import PATTERN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = f"""\
Saves the core that the kernel sends on standard input, filtered by what /proc shows of its process.
The kernel starts it, from /proc/sys/kernel/core_pattern: |.../corefilt-handle {PATTERN}
/etc/corefilt.conf, which must belong to root, says what it does with a core. Its messages go to the journal."""


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
