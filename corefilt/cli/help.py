"""``corefilt help [COMMAND]``: what ``corefilt COMMAND --help`` says."""

from __future__ import annotations

from corefilt.cli.commands import COMMANDS
from corefilt.cli.options import make_parser
from corefilt.cli.streams import tell
from corefilt.errors import UsageError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = "Shows what corefilt COMMAND --help says; without COMMAND, what corefilt --help does."


def parser() -> Parser:
    """The options of ``corefilt help``."""
    p = make_parser("help", DESCRIPTION)
    p.add_argument("command", metavar="COMMAND", nargs="?", default="filter", help="a command (default: filter)")
    return p


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    name = parser().parse_args(argv).command
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command {name!r}", hint)
    made: Parser = __import__(f"corefilt.cli.{name}", fromlist=["parser"]).parser()
    tell(made.format_help())
    return 0
