"""``corefilt serve``: what the kernel connects to where core_pattern names a socket."""

from __future__ import annotations

import asyncio
import os
import sys

from corefilt.cli.options import make_parser
from corefilt.errors import UsageError
from corefilt.handler.config import settings_of
from corefilt.handler.log import NOTICE, Messages
from corefilt.handler.serve.handlers import Handlers
from corefilt.handler.serve.listener import listen
from corefilt.handler.serve.rules import parse_serve_rules
from corefilt.handler.serve.server import Server, leave_no_core, most_connections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser
    from corefilt.handler.serve.listener import Listening
    from corefilt.handler.serve.rules import ServeRules

# Set by systemd where standard error is the journal.
_JOURNAL = "JOURNAL_STREAM"

DESCRIPTION = """\
Listens on a socket that kernel.core_pattern names as @@/run/corefilt.sock (Linux 6.17 and later; corefilt install
--socket sets it). The kernel connects for every crash, and the rules under [serve] in /etc/corefilt.conf decide: a
handler process filters the core on its way, or the core is rejected or left. The socket is created with mode 0600, or
taken from systemd. SIGTERM and SIGINT stop the server once the cores that it has begun are saved; a second signal stops
it at once."""


def run(argv: list[str]) -> int:
    """Serve until a signal; returns the exit code."""
    arguments = parser().parse_args(argv)
    if os.geteuid():
        raise UsageError("only root can take cores from the kernel")
    config = settings_of(arguments.config)
    rules = parse_serve_rules(config.serve)
    leave_no_core()
    listening = listen(arguments.socket, os.environ)
    stderr = sys.stderr
    try:
        if _JOURNAL in os.environ:
            # Messages have their own way there; by standard error they would arrive twice.
            sys.stderr = None
        asyncio.run(_serve(listening, rules, Messages(journal=config.journal), arguments.config))
    finally:
        sys.stderr = stderr
        listening.close()
    return 0


async def _serve(listening: Listening, rules: ServeRules, messages: Messages, config: str | None) -> None:
    handlers = Handlers(rules.ready, config)
    server = Server(listening.socket, rules, handlers, messages, most_connections())
    try:
        server.refill()
        messages.say(f"takes cores at {listening.path}, {rules.at_once} at once", NOTICE)
        await server.run()
    finally:
        handlers.close()
    messages.say(f"takes no more cores at {listening.path}", NOTICE)


def parser() -> Parser:
    """The options."""
    made = make_parser("serve", DESCRIPTION)
    made.add_argument(
        "socket", metavar="SOCKET", nargs="?", help="where to create it; a socket from systemd needs no path"
    )
    return made
