"""The table of options, and that everything that is made from it or repeats it says the same."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import corefilt
from corefilt.api import Core, Plan
from corefilt.cli.command_options import OPTIONS
from corefilt.cli.commands import COMMANDS
from corefilt.cli.generate.files import completion, manual_page
from corefilt.cli.options import FILTERING, OWN, given_options, taken_by
from corefilt.errors import UsageError
from corefilt.filtering import keywords
from corefilt.filtering import options as table
from corefilt.filtering.option import GROUPS
from corefilt.filtering.options import DEFAULTS, TABLE, Options
from corefilt.sizes import parse_size

FUNCTIONS: dict[str, tuple[Callable[..., Any], type]] = {
    "corefilt.filter()": (corefilt.filter, keywords.FilterOptions),
    "Core.plan()": (Core.plan, keywords.PlanOptions),
    "Plan.write()": (Plan.write, keywords.WriteOptions),
}
NAMES = vars(keywords) | {"Mapping": Mapping, "Sequence": Sequence, "Callable": Callable}
TYPES = {name: eval(text, NAMES) for name, text in Options.__annotations__.items() if name in TABLE}


def actions(command: str) -> dict[str, argparse.Action]:
    """Return the options of a command's parser by their destinations."""
    parser = import_module(f"corefilt.cli.{command}").parser()
    return {
        action.dest: action
        for action in parser._actions
        if action.option_strings and action.dest not in ("help", argparse.SUPPRESS)
    }


@cache
def generated() -> tuple[str, str]:
    """Return the manual page and one script of completion."""
    return manual_page("corefilt").replace("\\-", "-"), completion("bash")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_take_what_the_table_says(function: str) -> None:
    """Hold the signature's types against the records."""
    call, typed = FUNCTIONS[function]
    expected = {name: TYPES[name] for name, _ in table.taken_by(function)}
    assert get_type_hints(typed) == expected
    last = list(inspect.signature(call).parameters.values())[-1]
    assert (last.kind, last.annotation) == (inspect.Parameter.VAR_KEYWORD, f"Unpack[{typed.__name__}]")
    assert function.split(".")[1][:-2] in (call.__name__, "filter")


def test_a_batch_takes_what_its_command_takes() -> None:
    assert get_type_hints(keywords.BatchOptions) == {name: TYPES[name] for name, _ in table.taken_by("batch")}
    last = list(inspect.signature(corefilt.batch).parameters.values())[-1]
    assert last.annotation == "Unpack[BatchOptions]"
    own = {name for name, _ in taken_by("batch")} - set(get_type_hints(keywords.BatchOptions))
    takes = {name for name, record in inspect.signature(corefilt.batch).parameters.items() if record.kind == 3}
    only_here = {"filter", "progress", "cancel"}
    # What it tells, and the two that work on what is done, have functions of their own.
    only_there = {"to", "json", "html", "progress", "quiet", "verbose", "dask", "shared_once", "dedupe", "by_signature"}
    assert takes - only_here == own - only_there


def test_options_holds_the_whole_table() -> None:
    assert get_type_hints(keywords.AllOptions) == TYPES
    assert set(TYPES) == set(TABLE)
    made = Options()
    assert {name: getattr(made, name) for name in TABLE} == DEFAULTS


@pytest.mark.parametrize("name", TABLE)
def test_a_record_says_the_same_of_words_default_and_type(name: str) -> None:
    record, kind = TABLE[name], TYPES[name]
    words = tuple(word for part in (kind, *get_args(kind)) if get_origin(part) is keywords.Literal for word in
                  get_args(part))  # fmt: skip
    assert record.choices in (None, words)
    if words:
        assert record.default in words
        assert record.choices == words or record.metavar == "|".join(words)
    elif isinstance(record.default, bool):
        assert kind is bool and record.metavar is None
    elif isinstance(record.default, int):
        assert kind == int | str if record.read is parse_size else kind is int
    else:
        assert record.default == () or type(None) in get_args(kind)
    assert record.group in GROUPS and record.help[-1] != "."


@pytest.mark.parametrize("command", COMMANDS)
def test_a_parser_has_what_the_tables_say(command: str) -> None:
    """Hold argparse's options against the records, and the man page and completion against both."""
    records = dict(taken_by(command))
    assert len(records) == len(list(taken_by(command))), "an option is there twice"
    found = actions(command)
    assert set(found) == set(records)
    for name, record in records.items():
        assert tuple(found[name].option_strings) == record.flags
        assert found[name].choices == record.choices
        if record.environment == "":
            assert found[name].default == (list(record.default) if record.default == () else record.default)
    page, script = generated()
    for record in records.values():
        for flag in record.flags:
            assert f"\\fB{flag}\\fR" in page and flag in script


def test_every_taker_is_there() -> None:
    takers = {taker for record in (*TABLE.values(), *OWN, *OPTIONS) for taker in record.takers}
    assert takers <= {*COMMANDS, *FUNCTIONS}
    assert {taker for record in TABLE.values() for taker in record.takers} - set(FUNCTIONS) == set(FILTERING)


def test_a_batch_hands_on_what_differs_from_the_defaults() -> None:
    """What is given of the table, and no other argument, becomes a job's options."""
    parser = import_module("corefilt.cli.batch").parser()
    line = "0x33 src --fit 1M --no-sync --assume *=private-dax --writers 2 --unknown keep"
    given = given_options(parser.parse_args(line.split()), "batch")
    assert given == {"fit": "1M", "sync": False, "assume": ["*=private-dax"]}
    assert set(given) <= set(TABLE)
    assert given_options(parser.parse_args(["0x33", "src"]), "batch") == {}


@pytest.mark.parametrize("function", [corefilt.filter, Core.plan, Plan.write, Options])
def test_an_unknown_keyword(function: Callable[..., Any], tmp_path: Any) -> None:
    arguments: list[Any] = [] if function is Options else [tmp_path, 0x33]
    arguments = [tmp_path, tmp_path] if function is corefilt.filter else arguments
    named = {"filter": 0x33} if function is corefilt.filter else {}
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'colour'"):
        function(*arguments, **named, colour=1)
    with pytest.raises(UsageError, match="takes threads, not jobs"):
        function(*arguments, **named, jobs=2)
