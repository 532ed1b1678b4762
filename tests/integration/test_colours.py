"""Colours: on a terminal that can show them, and never where NO_COLOR asks for none."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from support.run import COREFILT, environment

COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])[0-9;]*m")


def on_a_terminal(*args: str, **extra: str) -> bytes:
    """Run corefilt with a terminal for all that it says; give what came there."""
    variables = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*COREFILT, *args], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env={**variables, "TERM": "xterm-256color", **extra},
    ) as process:  # fmt: skip
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


@pytest.mark.parametrize("command", [["inspect"], ["all", "-n", "--progress", "always"]], ids=" ".join)
def test_no_color(command: list[str], core: Path) -> None:
    arguments = [*command[:1], str(core), *command[1:]]
    assert not COLOUR.search(on_a_terminal(*arguments, NO_COLOR="1"))


def test_colours_without_it(core: Path) -> None:
    assert COLOUR.search(on_a_terminal("inspect", str(core)))


def test_an_empty_no_color_asks_for_nothing(core: Path) -> None:
    assert COLOUR.search(on_a_terminal("inspect", str(core), NO_COLOR=""))


def test_a_terminal_without_colours(core: Path) -> None:
    assert b"\x1b" not in on_a_terminal("inspect", str(core), TERM="dumb")


def test_a_pipe_gets_no_colours(core: Path) -> None:
    variables = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    done = subprocess.run([*COREFILT, "inspect", core], capture_output=True, env=variables, check=True)
    assert b"\x1b" not in done.stdout + done.stderr
