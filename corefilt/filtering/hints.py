"""Messages that name options as the command line spells them, for callers from Python."""

from __future__ import annotations

import re

from corefilt.errors import CorefiltError
from corefilt.filtering.options import TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# A flag, and the word behind it, which may be its value.
_FLAG = re.compile(r"(?<![\w-])(-[a-zA-Z]|--[a-z]+(?:-[a-z]+)*)(?: ([\w-]+(?:=\w+)?))?(?![\w-])")
_OWN = {flag: (name, record) for name, record in TABLE.items() for flag in record.flags}


def as_keywords(text: str) -> str:
    """A message with the keywords of the Python functions in the place of flags."""
    return _FLAG.sub(_keyword, text)


def _keyword(match: re.Match[str]) -> str:
    flag, word = match[1], match[2] or ""
    behind = f" {word}" if word else ""
    if flag in ("-o", "--output"):
        return f"output={word}" if word.isupper() else f"output{behind}"
    if flag not in _OWN:
        return match[0]
    name, record = _OWN[flag]
    if isinstance(record.default, bool):
        return f"{name}={not record.default}{behind}"
    if word in (record.choices or ()):
        return f"{name}={word!r}"
    if name == "values" and "=" in word:
        letter, _, value = word.partition("=")
        return f"{name}={{{letter!r}: {value!r}}}"
    if not word.isupper():
        return f"{name}{behind}"
    return f"{name}=[{word!r}]" if record.default == () else f"{name}={word}"


class in_python:
    """Has what is raised inside speak of keywords instead of flags."""

    def __init__(self, *more: str) -> None:
        """Take flags that the table does not have, and whose names are the keywords."""
        self._more = more

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, CorefiltError):
            error.args, error.hint = (self._reworded(str(error)),), self._reworded(error.hint)

    def _reworded(self, text: str) -> str:
        for flag in self._more:
            text = text.replace(f"{flag} DIR", f"{flag[2:]}=DIR").replace(flag, flag[2:].replace("-", "_"))
        return as_keywords(text)
