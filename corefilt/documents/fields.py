"""Reads the fields of TOML and JSON: what is wrong is told with its place, its value, and the nearest known key."""

from __future__ import annotations

from corefilt.errors import CorefiltError, UsageError, did_you_mean
from corefilt.filterbits import parse_filter
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    # Makes what is wanted of a value. Raises CorefiltError's children with what is wrong about it.
    Reader: TypeAlias = Callable[[object], T]

# Offsets and sizes of files are of 63 bits (off_t).
MOST_SIZE = (1 << 63) - 1
_AGES = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def decode_toml(raw: bytes, place: str, raising: type[CorefiltError], hint: str | None = None) -> dict[str, Any]:
    """The table that TOML is. Raises ``raising``, which names ``place``."""
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise raising(f"{place}: not TOML: byte {error.start} is not UTF-8", hint) from None
    except tomllib.TOMLDecodeError as error:
        raise raising(f"{place}: not TOML: {error}", hint) from None
    except RecursionError:
        raise raising(f"{place}: is nested too deeply", hint) from None


def decode_json(raw: bytes, place: str, raising: type[CorefiltError], hint: str | None = None) -> object:
    """The value that JSON is. Raises ``raising``, which names ``place``."""
    import json

    try:
        found: object = json.loads(raw)
    except ValueError as error:
        raise raising(f"{place}: not JSON: {error}", hint) from None
    except RecursionError:
        raise raising(f"{place}: is nested too deeply", hint) from None
    return found


def read_field(read: Reader[T], value: object, place: str, raising: type[CorefiltError]) -> T:
    """What a reader makes of a value. Raises ``raising``, which names ``place``, for what the reader objects to."""
    try:
        return read(value)
    except CorefiltError as error:
        raise raising(f"{place}: {error}", error.hint or None) from None


def read_fields(
    values: object,
    readers: Mapping[str, Reader[Any]],
    place: str,
    raising: type[CorefiltError],
    *,
    needed: Collection[str] = (),
    prefix: str = "",
) -> dict[str, Any]:
    """What the readers make of a table's values, by key; only the keys that are there.

    Messages have ``prefix`` before a key. Raises ``raising``, which names ``place``, for what is not a table, for a key
    that is unknown, or needed and missing, and for a value that its reader objects to.
    """
    table = read_field(a_table, values, place, raising)
    for key in table:
        if key not in readers:
            hint = did_you_mean(key, readers) or f"the keys are {', '.join(readers)}"
            shown = key if key.isprintable() else ascii(key)
            raise raising(f"{place}: {prefix}{shown}: no such key", hint)
    for key in needed:
        if key not in table:
            raise raising(f"{place}: {prefix}{key}: is missing", f"it needs {', '.join(needed)}")
    return {key: read_field(readers[key], value, f"{place}: {prefix}{key}", raising) for key, value in table.items()}


def a_table(value: object) -> dict[str, Any]:
    """A table of TOML, or an object of JSON. Raises UsageError."""
    if not isinstance(value, dict):
        raise UsageError(f"{value!r} is not a table")
    return value


def a_list(value: object) -> list[Any]:
    """A list of anything. Raises UsageError."""
    if not isinstance(value, list):
        raise UsageError(f"{value!r} is not a list")
    return value


def list_of_tables(value: object) -> list[dict[str, Any]]:
    """A list with nothing but tables. Raises UsageError."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UsageError(f"{value!r} is not a list of tables")
    return value


def a_text(value: object) -> str:
    """A text, which may be empty. Raises UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is not a quoted string")
    return value


def a_name(value: object) -> str:
    """A text with something in it, and no NUL. Raises UsageError."""
    text = a_text(value)
    if not text or "\0" in text:
        raise UsageError(f"{value!r} cannot be used as a name")
    return text


def a_truth(value: object) -> bool:
    """``true`` or ``false``. Raises UsageError."""
    if not isinstance(value, bool):
        raise UsageError(f"{value!r} is neither true nor false")
    return value


def a_size(value: object) -> int:
    """Bytes, as a number or a size with a unit. Raises UsageError."""
    if isinstance(value, str):
        return parse_size(value)
    if type(value) is not int or not 0 <= value <= MOST_SIZE:
        raise UsageError(f"{value!r} is not a size", 'write it like 1073741824 or "1G"')
    return value


def a_filter(value: object) -> int:
    """The bits of a filter, as a number or as the command line takes it. Raises UsageError."""
    if not isinstance(value, str) and (type(value) is not int or value < 0):
        raise UsageError(f"{value!r} is not a filter", 'write it like 0x33 or "default,-shared-anonymous"')
    return parse_filter(value if isinstance(value, str) else f"{value:#x}")[0]


def a_number(least: int, most: int) -> Reader[int]:
    """Reader of a whole number of that range."""

    def read(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{value!r} is not a number from {least} to {most}")
        return value

    return read


def seconds(most: int) -> Reader[float]:
    """Reader of a time in seconds, more than none and at most so many."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise UsageError(f"{value!r} is not a number of seconds from 0 to {most}")
        return float(value)

    return read


def an_age(value: object) -> int:
    """Seconds from ``90m``, ``12h``, ``30d`` or ``8w``. Raises UsageError."""
    if type(value) is int:
        raise UsageError(f"age {value} has no unit", f'write it like {value}d, in a file like "{value}d"')
    text = a_text(value)
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 9 or unit not in _AGES:
        raise UsageError(f"age {text!r} cannot be read", "write it like 90m, 12h, 30d or 8w")
    return int(digits) * _AGES[unit]


def one_of(*words: str) -> Reader[str]:
    """Reader of one of some words."""

    def read(value: object) -> str:
        if value not in words:
            near = did_you_mean(value, words) if isinstance(value, str) else ""
            raise UsageError(f"{value!r} is not one of {', '.join(words)}", near or None)
        return str(value)

    return read


def one_or_more(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """Reader of one value, or of a list of some."""

    def read_each(value: object) -> tuple[T, ...]:
        if value == []:
            raise UsageError("the list is empty")
        return tuple(map(read, value if isinstance(value, list) else [value]))

    return read_each
