"""The options of a Python function as a list in reStructuredText, for the Python reference."""

from __future__ import annotations

from corefilt.filtering.hints import as_keywords
from corefilt.filtering.options import taken_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.filtering.option import Option

# What the help of an option begins with that switches off what is the default.
NOT = "do not "


def keywords(function: str) -> str:
    """Return a list of the options that a Python function takes."""
    return "".join(_described(name, option) for name, option in taken_by(function))


def _described(name: str, option: Option) -> str:
    flag, words = option.flags[-1], option.help
    if option.default is True:
        # The flag has the opposite sense.
        flag, words = f"{flag}`` sets it to ``False", words.removeprefix(NOT)
    return f"``{name}`` (``{flag}``; default: ``{option.keyword_default!r}``)\n   {as_keywords(words)}.\n\n"
