"""``python -m corefilt`` and the console script: while the command line is loaded, SIGINT ends the process silently.

Python raises KeyboardInterrupt wherever it is; among imports that prints a traceback, and there is nothing to clean up.
"""

import sys

# The module signal takes 2 ms to load, in which an interrupt would come too early.
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> "NoReturn":
    """The installed program."""
    interruptible = _silence_interrupts()
    from corefilt.cli import entry as run

    run(interruptible=interruptible)


def _silence_interrupts() -> bool:
    """Have SIGINT end the process, where Python would raise it."""
    interruptible = getsignal(SIGINT) is default_int_handler
    if interruptible:
        signal(SIGINT, SIG_DFL)
    return interruptible


if __name__ == "__main__":
    _interruptible = _silence_interrupts()
    from corefilt.cli import main

    sys.exit(main(interruptible=_interruptible))
