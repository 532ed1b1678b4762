"""What the parsers of the command line know, as values: one source for --help, manual pages and completion."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module

from corefilt.cli.commands import COMMANDS
from corefilt.cli.examples import EXAMPLES
from corefilt.filterbits import ALIASES, NAMES

FILTERS = (*NAMES, *ALIASES)
# What a value is, by the name that help gives it; everything else is a word that nothing completes.
KINDS = {
    "FILTER": "filter",
    "CORE": "file", "OUT": "file", "FILE": "file", "[=FILE]": "file", "FULL": "file", "FILTERED": "file",
    "SOURCE": "file", "POLICY": "file",
    "DIR": "directory",
    "PID": "pid",
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """What stands behind an option, or alone: its name in help, its kind, and the words that it can be."""

    name: str
    kind: str
    words: tuple[str, ...] = ()
    repeats: bool = False


@dataclass(frozen=True)
class ParsedOption:
    """An option: how it is spelled, what it is for, and its value, if it has one."""

    flags: tuple[str, ...]
    help: str
    value: Value | None

    @property
    def joined(self) -> bool:
        """Whether the value must be joined by ``=``, or left out."""
        return self.value is not None and self.value.name.startswith("[")


@dataclass(frozen=True)
class Command:
    """A command: what stands behind its name, what it is for, and its parser's own words."""

    name: str
    operands: str
    purpose: str
    description: str
    epilog: str
    options: tuple[ParsedOption, ...]
    values: tuple[Value, ...]
    examples: tuple[tuple[str, str], ...] = ()


def commands() -> list[Command]:
    """Every command, in the order in which --help names them."""
    return [_command(name, *about) for name, about in COMMANDS.items()]


def _command(name: str, operands: str, purpose: str) -> Command:
    parser: argparse.ArgumentParser = import_module(f"corefilt.cli.{name}").parser()
    formatter = parser._get_formatter()
    options, values = [], []
    for action in parser._actions:
        value = _value(action)
        if action.option_strings:
            said = formatter._expand_help(action) if action.help else ""
            options.append(ParsedOption(tuple(action.option_strings), said, value))
        elif value is not None:
            values.append(value)
    return Command(
        name, operands, purpose, parser.description or "", parser.epilog or "", tuple(options), tuple(values),
        EXAMPLES.get(name, ()),
    )  # fmt: skip


def _value(action: argparse.Action) -> Value | None:
    if action.nargs == 0:
        return None
    name = action.metavar if isinstance(action.metavar, str) else action.dest
    repeats = action.nargs in ("*", "+", argparse.REMAINDER)
    if action.choices:
        words = tuple(map(str, action.choices))
        return Value(name if action.metavar else "|".join(words), "words", words, repeats)
    return Value(name, KINDS.get(name, "word"), (), repeats)
