"""Checks the values of keywords by their annotations in ``options.py``."""

from __future__ import annotations

import os

from corefilt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corefilt.filtering.option import Option

_EXAMPLES = {
    "bool": "True or False",
    "int": "a number",
    "str": "a text",
    "Sequence[str]": "a list of texts",
    "Mapping[str, str]": "a dictionary like {'h': 'web1'}",
    "tuple[int, int]": "a pair of numbers",
    "None": "None",
}
_MOST = 1 << 64


def checked(name: str, record: Option, annotation: str, value: object) -> object:
    """Return the value of a keyword as its annotation has it. Raises UsageError.

    Of what is a number, the text is read as on the command line, and one text is a list of one.
    """
    words = record.choices or (tuple(record.metavar.split("|")) if record.metavar and "|" in record.metavar else ())
    if words:
        if value not in words:
            raise UsageError(f"{name} is {value!r}", f"it can be {', '.join(words)}")
        return value
    kinds = annotation.split(" | ")
    if isinstance(value, bytes | os.PathLike):
        value = os.fsdecode(value)
    for kind in kinds:
        if _FITS[kind](value):
            break
    else:
        if not (isinstance(value, str) and record.read is not None):
            raise UsageError(f"{name} is {value!r}", f"it can be {' or '.join(_EXAMPLES[kind] for kind in kinds)}")
        kind = "str"
    if kind == "Sequence[str]":
        texts: Iterable[object] = value  # type: ignore[assignment]
        return list(texts)
    if record.default == () and isinstance(value, str):
        return [value]
    if record.read is None or value is None or kind not in ("str", "int"):
        return value
    read = record.read(str(value))
    return value if "str" in kinds else read


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST < value <= _MOST


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(text, str) for text in value)


def _is_dictionary(value: object) -> bool:
    return hasattr(value, "items") and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


_FITS: dict[str, Callable[[object], bool]] = {
    "bool": lambda value: isinstance(value, int) and value in (0, 1),
    "int": _is_number,
    "str": lambda value: isinstance(value, str),
    "Sequence[str]": _is_list,
    "Mapping[str, str]": _is_dictionary,
    "tuple[int, int]": _is_pair,
    "None": lambda value: value is None,
}
