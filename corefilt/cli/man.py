"""``corefilt man [PAGE]``: a manual page as roff, for where man does not look into this environment."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.generate.files import manual_page, manual_pages
from corefilt.cli.words import Parser, tell
from corefilt.errors import UsageError

DESCRIPTION = """\
Prints a manual page as roff, for man to show:
  corefilt man | man -l -
  corefilt man corefilt-handle | man -l -"""


def parser() -> Parser:
    """The options of ``corefilt man``."""
    p = Parser("corefilt man", DESCRIPTION)
    p.add_argument("page", metavar="PAGE", nargs="?", default="corefilt", help="its name (default corefilt)")
    p.add_argument("--version", action="version", version=f"corefilt {__version__}")
    return p


def run(argv: list[str]) -> int:
    """Print it; returns the exit code."""
    name = parser().parse_args(argv).page
    pages = manual_pages()
    if name not in pages:
        raise UsageError(f"there is no manual page {name!r}", f"there is {', '.join(pages)}")
    tell(manual_page(name))
    return 0
