"""Checks the arguments of ``corefilt.batch`` that are no options of one core, before the job begins."""

from __future__ import annotations

import os

from corefilt.errors import UsageError
from corefilt.io.compression import parse_compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def one_of(name: str, value: object, words: Sequence[str]) -> str:
    """Return a value that is one of some words. Raises UsageError."""
    if value not in words:
        raise UsageError(f"{name} is {value!r}", f"it can be {', '.join(words)}")
    return str(value)


def truth(name: str, value: object) -> bool:
    """Return True or False. Raises UsageError, also for a text such as ``"no"``, which Python takes for true."""
    if not isinstance(value, int) or value not in (0, 1):
        raise UsageError(f"{name} is {value!r}", "it can be True or False")
    return bool(value)


def path(name: str, value: object) -> str:
    """Return the path that a text, bytes or an os.PathLike is. Raises UsageError."""
    if not isinstance(value, str | bytes | os.PathLike):
        raise UsageError(f"{name} is {value!r}", "it can be a path")
    text = os.fsdecode(value)
    if "\0" in text:
        raise UsageError(f"{name} has a NUL in it", "a path has none; write what is in memory to a file first")
    return text


def paths(name: str, value: object) -> list[str]:
    """Return the paths of one or of several. Raises UsageError."""
    if isinstance(value, str | bytes | os.PathLike):
        return [path(name, value)]
    if not hasattr(value, "__iter__"):
        raise UsageError(f"{name} is {value!r}", "it can be a path, or a list of paths")
    return [path(name, one) for one in value]


def compression(value: object) -> str:
    """Return what ``compress`` is, as a text. Raises UsageError."""
    text = str(value)
    parse_compress(text)
    return text


def scrub_level(value: object) -> str | None:
    """Return the level at which secrets are overwritten, or None. Raises UsageError."""
    if value is None:
        return None
    from corefilt.scrub.request import LEVELS

    return one_of("scrub", value, LEVELS)
