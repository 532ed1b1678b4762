"""``python -m corefilt``: while the command line is loaded, SIGINT ends the process silently.

Python raises KeyboardInterrupt wherever it is; among imports that prints a traceback, and there is nothing to clean up.
``scripts/corefilt`` does the same.
"""

import sys

# The module signal takes 2 ms to load, in which an interrupt would come too early.
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

if __name__ == "__main__":
    _interruptible = getsignal(SIGINT) is default_int_handler
    if _interruptible:
        signal(SIGINT, SIG_DFL)
    from corefilt.cli import main

    sys.exit(main(interruptible=_interruptible))
