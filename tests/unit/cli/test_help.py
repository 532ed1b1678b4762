"""What --help prints fits the terminal."""

from __future__ import annotations

from importlib import import_module

import pytest

from corefilt.cli.commands import COMMANDS


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_help_is_wider_than_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for name in COMMANDS:
        text = import_module(f"corefilt.cli.{name}").parser().format_help()
        assert max(map(len, text.splitlines())) <= width, name


def test_a_wrapped_line_goes_on_and_a_list_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = import_module("corefilt.cli.scrub").parser().format_help()
    assert "\n  secrets   what the rules find (default)\n  env  " in text
    assert "\n\nWrites a copy of a core in which secrets are overwritten: private keys," in text


def test_a_second_column_goes_on_below_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = import_module("corefilt.cli.filter").parser().format_help()
    column = " " * 37
    purpose = f"shows whose core it is, its mappings, and\n{column}what a filter keeps"
    assert f"\n  inspect [CORE [ADDRESS...]]{' ' * 8}{purpose}\n" in text
    assert "\n  --json[=FILE]  " in text
    assert f"\n  open (BUNDLE | CORE) [-- ARGUMENT...]\n{column}opens a bundle or a core in gdb or lldb," in text


def test_options_stand_before_what_is_another_programs() -> None:
    usages = {name: import_module(f"corefilt.cli.{name}").parser().format_usage() for name in ("open", "set", "filter")}
    assert {name: text.split(maxsplit=2)[2] for name, text in usages.items()} == {
        "open": "open (BUNDLE | CORE) [options] [-- ARGUMENT...]\n",
        "set": "set FILTER [options] (PID... | -- COMMAND...)\n",
        "filter": "FILTER [CORE] [options]\n",
    }
