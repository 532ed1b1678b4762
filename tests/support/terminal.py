"""Runs corefilt on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

from support.run import COREFILT, environment

ROWS = 40


def on_a_terminal(*arguments: str | Path, width: int = 80, without: str, **extra: str) -> bytes:
    """Run corefilt with a terminal of ``width`` columns for all that it says; give what came there.

    ``without`` is a variable that its environment is not to have, ``extra`` are those that it has besides.
    """
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))
    variables = {name: value for name, value in environment().items() if name != without}
    with subprocess.Popen(
        [*COREFILT, *arguments], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env={**variables, **extra}
    ) as process:
        os.close(terminal)
        said = b""
        while True:
            try:
                part = os.read(controller, 1 << 16)
            except OSError:  # EIO: nobody holds the terminal any more
                break
            said += part
    os.close(controller)
    assert process.returncode == 0, said
    return said
