"""What the kernel starts: ``corefilt-handle [--config FILE] %P %u %g %s %t %c %d %F``, the core on standard input."""

from __future__ import annotations

import os
import sys

from corefilt.errors import CorefiltError, UsageError
from corefilt.handler.crash_info import parse_crash
from corefilt.handler.log import ERROR, Messages
from corefilt.handler.worker_process import Forked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from corefilt.handler.crash_info import Crash


def main(argv: list[str]) -> int:
    """Save one core; returns 0, or 1 where none was saved, 2 where that was not asked for."""
    _reserve()
    sys.dont_write_bytecode = True
    os.environ.clear()
    path, numbers = None, argv
    if argv[:1] == ["--config"] and len(argv) > 1:
        path, numbers = argv[1], argv[2:]
    try:
        crash = parse_crash(numbers)
        if os.geteuid():
            raise UsageError("only root can take a core from the kernel")
        return _run(crash, path)
    except CorefiltError as error:
        Messages().say(f"no core was saved: {error}" + (f" ({error.hint})" if error.hint else ""), ERROR)
        return error.exit_code


def _run(crash: Crash, path: str | None) -> int:
    messages = Messages()
    try:
        with Forked(crash, 0) as child:
            # Only now: what this loads, the child does not wait for.
            from corefilt.handler.config import PATH, read_config
            from corefilt.handler.supervisor import handle

            config = read_config(path or PATH)
            messages = Messages(journal=config.journal)
            return 0 if handle(crash, child, config, messages) is not None else 1
    except CorefiltError:
        raise
    except Exception as error:
        messages.say(f"process {crash.pid}: no core was saved: {type(error).__name__}: {error}", ERROR)
        return 1


def _reserve() -> None:
    """Have descriptors 0 to 2 open: the kernel leaves the last two closed, and the next file opened would be one."""
    fd = 0
    while fd <= 2:
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


def entry() -> NoReturn:
    """The installed program."""
    os._exit(main(sys.argv[1:]))
