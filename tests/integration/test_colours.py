"""Colours: on a terminal that can show them, and never where NO_COLOR asks for none."""

import re
import subprocess
from pathlib import Path

import pytest
from support.run import COREFILT, environment
from support.terminal import on_a_terminal

COLOUR = re.compile(rb"\x1b\[[0-9;]*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])[0-9;]*m")


def shown(*arguments: str, **extra: str) -> bytes:
    return on_a_terminal(*arguments, without="NO_COLOR", **{"TERM": "xterm-256color", **extra})


@pytest.mark.parametrize("command", [["inspect"], ["all", "-n", "--progress", "always"]], ids=" ".join)
def test_no_color(command: list[str], core: Path) -> None:
    arguments = [*command[:1], str(core), *command[1:]]
    assert not COLOUR.search(shown(*arguments, NO_COLOR="1"))


def test_colours_without_it(core: Path) -> None:
    assert COLOUR.search(shown("inspect", str(core)))


def test_an_empty_no_color_asks_for_nothing(core: Path) -> None:
    assert COLOUR.search(shown("inspect", str(core), NO_COLOR=""))


def test_a_terminal_without_colours(core: Path) -> None:
    assert b"\x1b" not in shown("inspect", str(core), TERM="dumb")


def test_a_pipe_gets_no_colours(core: Path) -> None:
    variables = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    done = subprocess.run([*COREFILT, "inspect", core], capture_output=True, env=variables, check=True)
    assert b"\x1b" not in done.stdout + done.stderr
