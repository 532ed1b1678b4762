"""A temporary file in TMPDIR that is handed to where it belongs when it is whole.

It lets headers be settled when the payload has been seen, and leaves nothing where it belongs after an error.
"""

from __future__ import annotations

import os
import tempfile

from corefilt.io.sinks import Sink, reported
from corefilt.io.tempfiles import nameless_in


class HandoverSink(Sink):
    """A nameless temporary file; a child knows where it belongs."""

    seekable = True

    def __init__(self, name: str) -> None:
        """Open it; ``name`` is that of the place. Raises OutputError."""
        with reported(tempfile.gettempdir()):
            fd = nameless_in()
        super().__init__(fd, name, owned=True)
        self.reader = self.fd

    def commit(self, size: int, *, sync: bool) -> None:
        """Cut to size, and hand it over. Raises OutputError."""
        try:
            with reported(self.name):
                os.ftruncate(self.fd, size)
            self.hand_over(size)
        finally:
            self.close()

    def hand_over(self, size: int) -> None:
        """Bring ``size`` bytes to where they belong. Raises OutputError."""
        raise AssertionError("a child knows where")
