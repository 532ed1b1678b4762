"""Runs programs on a terminal of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.run import COREFILT, environment

ROWS = 40


def told_on_a_terminal(
    command: Sequence[str | Path], variables: Mapping[str, str], *, width: int = 80, **options: Any
) -> tuple[int, bytes]:
    """Run a command with a terminal of ``width`` columns as standard error; its exit code and what came there.

    ``options`` are Popen's; without them standard output is the terminal, too.
    """
    controller, terminal = pty.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))
        streams = {"stdin": subprocess.DEVNULL, "stdout": terminal, **options}
        with subprocess.Popen(command, stderr=terminal, env=variables, **streams) as process:
            os.close(terminal)
            said = b""
            while True:
                try:
                    part = os.read(controller, 1 << 16)
                except OSError:  # EIO: nobody holds the terminal any more
                    break
                said += part
    finally:
        os.close(controller)
    return process.returncode, said


def on_a_terminal(*arguments: str | Path, width: int = 80, without: str, **extra: str) -> bytes:
    """Run corefilt with a terminal of ``width`` columns for all that it says; give what came there.

    ``without`` is a variable that its environment is not to have, ``extra`` are those that it has besides.
    """
    variables = {name: value for name, value in environment().items() if name != without}
    code, said = told_on_a_terminal([*COREFILT, *arguments], {**variables, **extra}, width=width)
    assert code == 0, said
    return said
