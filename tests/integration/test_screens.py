"""Screens of 80 and 120 columns: what commands and errors show there is not cut off, and loses no word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, page
from support.run import COREFILT, corefilt, environment
from support.samples import PAGE, sample_core
from support.terminal import told_on_a_terminal
from support.wrong_uses import USES

from corefilt.cli import main
from corefilt.cli.streams import folded

WIDTHS = (80, 120)
LONG = "/usr/lib/x86_64-linux-gnu/" + "a-directory-with-a-long-name/" * 5 + "libfoo.so.1.2.3"
# Commands, and a line that each screen has.
SCREENS = {
    "inspect core": r"^The largest 10 of \d+ mappings",
    "inspect core --all": r"private-anonymous",
    "inspect core --modules": r"build-id",
    "inspect core --group-by file": r"libfoo",
    "inspect core 0x10000": r"0x10000",
    "0x31 core -n": r"^  kind +kept +dropped",
    "0x31 core -o small -v": r"engine: ",
    "0x33 core --truncate 20K -o cut": r"cut at ",
    "0x33 cut-off -o small": r"missing: ",
    "all core --minimal -o small": r"full stacks for 0 of 1 thread",
    "batch 0x31 . --to small -v": r"^corefilt: \d+ found",
    "doctor": r".",
    "verify core core": r".",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a directory with a core of long names, one that is cut off, and a text."""
    monkeypatch.chdir(tmp_path)
    loads = [Load(0x10000 + 0x10000 * i, page(b"x", 3), flags="r-x" if i % 2 else "rw-") for i in range(16)]
    files = [(load.vaddr, load.vaddr + 3 * PAGE, 0, LONG) for load in loads[::4]]
    core = make_core(loads, kernel_notes(files))
    (tmp_path / "core").write_bytes(core)
    (tmp_path / "cut-off").write_bytes(core[: -5 * PAGE])
    (tmp_path / "text").write_text("no core")
    yield tmp_path


def shown(command: list[str], width: int) -> list[str]:
    """Return what a command shows on a terminal of that width, without colours and what rewrites lines."""
    variables = {name: value for name, value in environment({"TERM": "xterm"}).items() if name != "COLUMNS"}
    _, said = told_on_a_terminal(command, variables, width=width)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    return [part.rpartition("\r")[2] for part in text.replace("\r\n", "\n").rstrip("\n").split("\n")]


def screen(line: str, width: int) -> list[str]:
    """Return what a line of corefilt shows."""
    return shown([*COREFILT, *line.split()], width)


def assert_fits(lines: list[str], width: int) -> None:
    """No line is wider, but for a word that is."""
    for line in lines:
        words = line.split()
        assert len(line) <= width or len(words[-1]) > width - 30, f"{len(line)}: {line}"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("line", SCREENS)
def test_screens(line: str, width: int, folder: Path) -> None:
    lines = screen(line, width)
    assert any(re.search(SCREENS[line], text) for text in lines), "\n".join(lines)
    assert_fits(lines, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_errors(width: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each wrong use the same words as without a terminal; one process makes all of them, which takes a second."""
    uses = [line for line in USES if "--json" not in line]
    program = f"from corefilt.cli import main\nfor line in {uses!r}:\n print('=', flush=True)\n main(line.split())"
    screens = "\n".join(shown([sys.executable, "-c", program], width)).split("=\n")[1:]
    assert len(screens) == len(uses) > 40
    for line, text in zip(uses, screens, strict=True):
        main(line.split())
        assert text.split() == capsys.readouterr().err.split(), line
        assert_fits(text.split("\n"), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_hundred_mappings_are_a_screen(width: int, tmp_path: Path) -> None:
    """The list of inspect is as long as was asked for, and --all is one line for each mapping and a few more."""
    loads = [Load(0x10000 + 0x10000 * i, page(b"x"), flags="rw-" if i % 2 else "r--") for i in range(100)]
    path = tmp_path / "core"
    path.write_bytes(make_core(loads, kernel_notes([])))
    assert len(screen(f"inspect {path}", width)) < 40
    assert 100 < len(screen(f"inspect {path} --all", width)) < 130


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("short", 80, ["short"]),
        ("  kept    dropped", 10, ["  kept", "     dropped"]),
        ("a  b\nc d e f", 6, ["a  b", "c d e", "   f"]),
        (f"corefilt: {'x' * 50}: exists", 40, ["corefilt:", f"    {'x' * 50}:", "    exists"]),
    ],
)
def test_lines_are_folded_between_words(text: str, width: int, lines: list[str]) -> None:
    assert folded(text, width).split("\n") == lines


def test_what_is_no_terminal_gets_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    done = corefilt("0x33", path, "-n")
    assert any(len(line) > 120 for line in done.err)
