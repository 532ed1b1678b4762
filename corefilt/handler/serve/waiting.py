"""``python -I -m corefilt.handler.serve.waiting``: a handler that has loaded everything before there is a core.

The server starts it, and gives it one connection by the socket that is its standard input; from there on it is the
program behind core_pattern. It shares no memory with the server or with another handler.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib import import_module

from corefilt.errors import CorefiltError
from corefilt.handler.entry import main
from corefilt.handler.log import ERROR, Messages
from corefilt.startup import after_loading, before_loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# The numbers of a crash are 120 bytes at most.
MOST_OF_NUMBERS = 256
# What ps and top show (TASK_COMM_LEN: 15 bytes).
WAITS, WORKS = "corefilt-ready", "corefilt-handle"
# What a handler loads while its process waits, in both processes, beside what settings ask for.
_LATER = ("config", "journal_facts", "records", "sandbox", "statement", "supervisor", "worker")


def wait(argv: list[str]) -> int:
    """Load, wait, and save one core; returns what the handler does, or 0 where the server ends before."""
    before_loading()
    sys.dont_write_bytecode = True
    load(argv[1] if argv[:1] == ["--config"] and len(argv) > 1 else None)
    after_loading()
    name_it(WAITS)
    numbers = take(0)
    if numbers is None:
        return 0
    name_it(WORKS)
    return main([*argv, *numbers])


def load(config: str | None) -> None:
    """Load all that a core takes by the settings as they are. They are read again once there is one."""
    for name in _LATER:
        import_module(f"corefilt.handler.{name}")
    from corefilt.handler import seccomp, worker
    from corefilt.handler.config import settings_of

    worker.load()
    seccomp.find_library()
    try:
        settings = settings_of(config)
    except CorefiltError:
        # What is wrong with them is said of the core that is not saved for it.
        return
    for name in worker.needed(settings):
        import_module(name)


def take(fd: int) -> list[str] | None:
    """Put the connection that comes by a socket in its place; the numbers that come with it, None where it ends."""
    server = socket.socket(fileno=fd)
    raw, fds, *_ = socket.recv_fds(server, MOST_OF_NUMBERS, 2)
    server.detach()
    if not raw:
        return None
    connection, *pidfds = fds
    os.dup2(connection, fd)
    os.close(connection)
    return [*raw.decode("ascii").split(), *map(str, pidfds)]


def name_it(name: str) -> None:
    """Have this process called so."""
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def entry() -> NoReturn:
    """The program that the server starts."""
    try:
        code = wait(sys.argv[1:])
    except Exception as error:
        Messages().say(f"a handler that waits for a core failed: {type(error).__name__}: {error}", ERROR)
        code = 1
    os._exit(code)


if __name__ == "__main__":
    entry()
