"""Forty ways to use the command line wrongly, and the two lines that each is answered with."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.wrong_uses import USES

from corefilt.cli import COMMANDS, main
from corefilt.cli.examples import EXAMPLES
from corefilt.cli.options import taken_by


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a directory with a small core; give back the signal handlers that the command line sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COREFILT_ENGINE", raising=False)
    (tmp_path / "core").write_bytes(make_core([Load(0x1000, b"A" * 4096)], kernel_notes(None)))
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("line", USES)
def test_a_wrong_use_is_told_in_two_lines(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line says what is wrong, the second what to try, and nothing is written."""
    what, hint = USES[line]
    assert main(line.split()) == 2
    said = capsys.readouterr()
    first, *rest = said.err.splitlines()
    assert first.startswith("corefilt: ") and what in first
    assert [line[:7] for line in rest] == ["  try: "] * len(rest) and len(rest) <= 1
    assert hint in "".join(rest)
    assert os.listdir(folder) == ["core"]


def test_there_are_forty() -> None:
    assert len(USES) >= 40


@pytest.mark.parametrize(("command", "line"), [(name, line) for name, lines in EXAMPLES.items() for line, _ in lines])
def test_examples_are_what_the_parser_takes(command: str, line: str) -> None:
    words = line.partition("corefilt ")[2].partition(" > ")[0].partition(" | ")[0].partition(" -- ")[0].split()
    if command != "filter":
        assert words.pop(0) == command
    elif "<" in words:
        words = words[: words.index("<")]
    parser = __import__(f"corefilt.cli.{command}", fromlist=["parser"]).parser()
    parser.parse_intermixed_args(words)


def test_every_command_has_an_example() -> None:
    assert set(EXAMPLES) == set(COMMANDS) - {"handle"}, "the kernel calls the handler"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_by_three_ways(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``help COMMAND`` is --help; -h is a screen."""
    told = []
    for words in (["help", command], [command, "--help"], [command, "-h"]):
        try:
            assert main(words) == 0
        except SystemExit as leaving:
            assert leaving.code == 0
        told.append(capsys.readouterr().out)
    long, again, short = told
    assert long == again
    assert len(short.splitlines()) <= 48
    assert long.startswith("usage: corefilt")
    if command != "handle":
        assert long.index("examples:") < long.index("-h, --help")
        assert "examples:" in short
    if short != long:
        assert len(short) < len(long) / 2
        flags = {record.flags[-1] for _, record in taken_by(command)}
        assert {flag for flag in flags if flag not in short} == set()
