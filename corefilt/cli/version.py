"""``corefilt version``: what ``corefilt --version`` says."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.options import make_parser
from corefilt.cli.parser import tell_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = "Shows the version, the engines of this machine and the libraries. Include this in a bug report."


def parser() -> Parser:
    """The options of ``corefilt version``."""
    return make_parser("version", DESCRIPTION)


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    parser().parse_args(argv)
    tell_version(f"corefilt {__version__}")
    return 0
