"""Options of filter that only the command line has, and the parsers that are made from all tables of options."""

from __future__ import annotations

import os

from corefilt import __version__
from corefilt.cli.commands import before_and_after_options
from corefilt.errors import UsageError
from corefilt.filtering.option import (
    GROUPS,
    OUTPUT,
    REPORT,
    Option,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from corefilt.cli.parser import Parser

# Commands with options of filtering/, whose table the others do not load.
FILTERING = ("filter", "batch", "bundle", "inspect", "list", "scrub", "verify")
# From so many options on, --help puts them in groups.
MANY = 12
# What an option was called before one word meant one thing, by command.
RENAMED = {
    "filter": {"--jobs": "--threads N: threads that copy within one core"},
    "batch": {"--maps": "--evidence auto or --evidence none"},
}

ON_TERMINALS = ("auto", "always", "never")
# What filter takes and no Python function has; most other commands take some of it too.
OWN = (
    Option("-o --output", "a file, or - for standard output (default)", metavar="OUT", group=OUTPUT, takers="filter"),
    Option("--json", "the report as one JSON object, on standard output or in FILE", metavar="[=FILE]", group=REPORT,
           takers="filter inspect verify digest doctor restore show status bundle"),
    Option("--progress", "a progress bar on a terminal, after one second", choices=ON_TERMINALS, default="auto",
           group=REPORT, takers="filter batch inspect verify digest"),
    Option("-q --quiet", "print only warnings and errors", default=False, group=REPORT,
           takers="filter batch restore scrub set bundle"),
    Option("-v --verbose", "print more details", default=False, group=REPORT, takers="filter"),
)  # fmt: skip


class Arguments:
    """What was given, or is the default, by the options' names."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: object) -> None: ...


def taken_by(command: str) -> Iterator[tuple[str, Option]]:
    """Yield every option of a command, by the name that its value has among the arguments."""
    if command != "filter":
        from corefilt.cli.command_options import OPTIONS

        yield from ((record.name, record) for record in OPTIONS if command in record.takers)
    yield from ((record.name, record) for record in OWN if command in record.takers)
    if command in FILTERING:
        from corefilt.filtering.options import taken_by as keywords_of

        yield from keywords_of(command)


def make_parser(command: str, description: str, epilog: str | None = None) -> Parser:
    """Return the parser of a command with all its options; the command adds its operands."""
    from corefilt.cli.examples import EXAMPLES
    from corefilt.cli.parser import Parser

    parser = Parser("corefilt" if command == "filter" else f"corefilt {command}", description, epilog)
    parser.renamed, parser.examples = RENAMED.get(command, {}), EXAMPLES.get(command, ())
    before, after = before_and_after_options(command)
    parser.usage = f"{parser.prog} {before.removesuffix(' [-o OUT]')} [options]{after}".replace("  ", " ")
    found = list(taken_by(command))
    for title in GROUPS:
        records = [(name, record) for name, record in found if record.group == title]
        if records:
            group = parser.add_argument_group(title) if len(found) > MANY else parser
            for name, record in records:
                group.add_argument(*record.flags, dest=name, help=record.help.replace("%", "%%"), **_manner(record))
    parser.add_argument("-V", "--version", action="version", version=f"corefilt {__version__}")
    return parser


def _manner(record: Option) -> dict[str, Any]:
    """How argparse reads an option."""
    if isinstance(record.default, bool):
        return {"action": "store_false" if record.default else "store_true"}
    value = {"metavar": record.metavar, "choices": record.choices, "type": record.read, "default": default_of(record)}
    return {**value, "action": "append"} if record.default == () else value


def default_of(record: Option) -> Any:
    """What an option is where it is not given; the environment can say it."""
    if record.default == ():
        return []
    return os.environ.get(record.environment) or record.default


def check_environment(arguments: Arguments | argparse.Namespace, command: str) -> None:
    """Raise UsageError where the environment gives an option a value that it cannot have."""
    for name, record in taken_by(command):
        value = getattr(arguments, name)
        if record.environment and record.choices and value not in record.choices:
            raise UsageError(f"{record.environment} is {value!r}", f"it can be {', '.join(record.choices)}")
    if arguments.sparse == "always" and arguments.engine not in ("auto", "probe", "readwrite"):
        raise UsageError(
            f"--sparse always looks for zeros, which --engine {arguments.engine} does not see",
            "use --engine readwrite",
        )


def given_options(arguments: Arguments | argparse.Namespace, command: str) -> dict[str, Any]:
    """Return the options of filtering/ that a command was given and that differ from their defaults."""
    from corefilt.filtering.options import TABLE, taken_by

    found = {name: getattr(arguments, name) for name, _ in taken_by(command)}
    return {name: value for name, value in found.items() if value != TABLE[name].default and value != []}


def given_limits(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the limits of a directory that ``corefilt vacuum`` was given, by their names among the settings."""
    names = ("max_use", "keep_free", "max_age", "max_per_executable", "keep_per_signature")
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
