"""``corefilt man [PAGE]``: a manual page as roff, for where man does not look into this environment."""

from __future__ import annotations

from corefilt.cli.generate.files import manual_page, manual_pages
from corefilt.cli.options import make_parser
from corefilt.cli.streams import tell
from corefilt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Prints a manual page as roff, for man to show:
  corefilt man | man -l -
  corefilt man corefilt-handle | man -l -"""


def parser() -> Parser:
    """The options of ``corefilt man``."""
    p = make_parser("man", DESCRIPTION)
    p.add_argument(
        "page",
        metavar="PAGE",
        nargs="?",
        default="corefilt",
        help=f"its name: {', '.join(manual_pages())} (default corefilt)",
    )
    return p


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    name = parser().parse_args(argv).page
    pages = manual_pages()
    if name not in pages:
        raise UsageError(f"there is no manual page {name!r}", f"the pages are {', '.join(pages)}")
    tell(manual_page(name))
    return 0
