"""Reads the arguments that a command is given, by the same table as its parser, where nothing is wrong with them.

Loading argparse and making the parser takes a third of a run on a small core (bench/filter.py, start-up). So the parser
is made only for what is left: help, the version, flags in one word, and whatever is to be refused.
"""

from __future__ import annotations

import os

from corefilt.cli.options import Arguments, default_of, taken_by
from corefilt.errors import CorefiltError, UsageError
from corefilt.filterbits import parse_filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def need_local(*places: str) -> None:
    """Raise UsageError for a URL where only files and directories of this machine are read."""
    from corefilt.io.remote.url import is_url

    for place in places:
        if is_url(place):
            raise UsageError(f"{place}: this command reads no URLs", "corefilt all URL -o FILE copies a core")


def refuse_exchanged(
    word: str,
    core: str,
    right: Callable[[str, str], str],
    *,
    default: str | None = None,
    what: str = "a filter",
    read: Callable[[str], object] = parse_filter,
) -> None:
    """Raise UsageError for a file in the place of ``what``, which ``read`` reads.

    ``core`` is what was given for the core. Where that is not ``what``, or is a file, ``default`` takes its place, and
    without one nothing is raised. ``right`` makes the hint of the two in their order: ``what``, the core.
    """
    if _can_be(word, read) or not os.path.exists(word):
        return
    meant = core if _can_be(core, read) and not os.path.exists(core) else default
    if meant is not None:
        kind = "directory" if os.path.isdir(word) else "file"
        raise UsageError(f"{word!r} is a {kind}, not {what}", right(meant, word))


def _can_be(word: str, read: Callable[[str], object]) -> bool:
    try:
        read(word)
    except UsageError:
        return False
    return True


def need_named(command: str, *places: str) -> None:
    """Raise UsageError for ``-`` where a command reads no standard input."""
    if "-" in places:
        raise UsageError(f"{command} cannot read standard input", "name the core as a file")


def read(command: str, argv: list[str]) -> tuple[Arguments, list[str]] | None:
    """The options of a command, and its operands; None where its parser is to be asked."""
    options: dict[str, tuple[str, Any]] = {}
    found: dict[str, Any] = {}
    for name, record in taken_by(command):
        found[name] = default_of(record)
        options.update((flag, (name, record)) for flag in record.flags)
    operands: list[str] = []
    words = iter(argv)
    for word in words:
        if word[:1] != "-" or word == "-":
            operands.append(word)
            continue
        flag, inside, value = word.partition("=")
        if flag not in options:
            return None
        name, record = options[flag]
        if isinstance(record.default, bool):
            if inside:
                return None
            found[name] = not record.default
            continue
        if inside:
            if flag[:2] != "--":
                return None
        else:
            behind = next(words, None)
            if behind is None or (behind[:1] == "-" and behind != "-"):
                return None
            value = behind
        try:
            read = record.read(value) if record.read is not None else value
        except (CorefiltError, ValueError):
            return None
        if record.choices and read not in record.choices:
            return None
        found[name] = [*found[name], read] if record.default == () else read
    return Arguments(**found), operands
