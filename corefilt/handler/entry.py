"""What the kernel starts: ``corefilt-handle [--config FILE] %P %u %g %s %t %c %d %F``, the core on standard input."""

from __future__ import annotations

import os
import sys

from ..errors import CorefiltError, UsageError
from .config import PATH, Config, read_config
from .crash import Crash, parse_crash
from .messages import ERROR, Messages
from .parent import handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: list[str]) -> int:
    """Save one core; returns 0, or 1 where none was saved, 2 where that was not asked for."""
    _reserve()
    sys.dont_write_bytecode = True
    os.environ.clear()
    messages = Messages()
    try:
        path, numbers = PATH, argv
        if argv[:1] == ["--config"] and len(argv) > 1:
            path, numbers = argv[1], argv[2:]
        crash = parse_crash(numbers)
        if os.geteuid():
            raise UsageError("only root can take a core from the kernel")
        config = read_config(path)
    except CorefiltError as error:
        messages.say(f"no core was saved: {error}" + (f" ({error.hint})" if error.hint else ""), ERROR)
        return error.exit_code
    messages = Messages(journal=config.journal)
    return _run(crash, config, messages)


def _run(crash: Crash, config: Config, messages: Messages) -> int:
    try:
        return 0 if handle(crash, 0, config, messages) is not None else 1
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
