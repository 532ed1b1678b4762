"""``corefilt status``: whether cores reach the handler, and what stands in their way."""

from __future__ import annotations

from corefilt.cli.options import make_parser
from corefilt.cli.reportfile import with_json_target, write_json
from corefilt.cli.streams import say, tell
from corefilt.errors import UsageError
from corefilt.handler.admin.status import Status
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Shows kernel.core_pattern now and after the next boot, whether the configuration, its account and its directory can be
used, whether anybody but root could change what the handler runs, and what the handler and the kernel last logged about
cores.
Exit status 0: cores reach the handler; 4: something prevents that. With --prometheus it is always 0."""
IN_THE_WAY = 4


def run(argv: list[str]) -> int:
    """Show it; returns the exit code."""
    arguments = parser().parse_args(with_json_target(argv))
    if arguments.prometheus and arguments.json is not None:
        raise UsageError("--prometheus and --json are two reports", "leave one of them out")
    status = Status(arguments.root)
    if arguments.prometheus:
        from corefilt.handler.admin.metrics import metrics

        tell(metrics(status))
        return 0
    if arguments.json is not None:
        write_json(status.as_dict(), arguments.json)
    else:
        tell("".join(f"{printable(line)}\n" for line in status.lines()))
        for line in (*status.problems, *status.recommendations):
            say(f"corefilt: {printable(line)}")
    return IN_THE_WAY if status.problems else 0


def parser() -> Parser:
    """The options."""
    return make_parser("status", DESCRIPTION)
