"""``corefilt uninstall``: has the kernel do with cores what it did before ``corefilt install``."""

from __future__ import annotations

from corefilt.cli.install import carry_out
from corefilt.cli.options import make_parser
from corefilt.handler.admin.install import plan_uninstall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Sets kernel.core_pattern to what it was before corefilt install, and removes /etc/sysctl.d/60-corefilt.conf. A value
that somebody else has set since then is not changed."""


def run(argv: list[str]) -> int:
    """Take the handler away; returns the exit code."""
    arguments = parser().parse_args(argv)
    carry_out(plan_uninstall(root=arguments.root, force=arguments.force), dry_run=arguments.dry_run)
    return 0


def parser() -> Parser:
    """The options."""
    return make_parser("uninstall", DESCRIPTION)
