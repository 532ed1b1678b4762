"""The record of one option, of which the tables of options are made."""

from __future__ import annotations

from corefilt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The groups of --help, in its order.
GROUPS = SHOW, KEEP, EVIDENCE, SECRETS, SIZE, OUTPUT, PERFORMANCE, REPORT = (
    "what to show", "what to keep", "evidence", "secrets", "size limits", "output", "performance", "report",
)  # fmt: skip


class Option:
    """One option: how the command line spells it, and the Python keyword that means the same.

    ``takers`` are commands (``filter``) and Python functions (``Core.plan()``). A ``default`` of True or False makes
    a flag without a value, which turns it round; a tuple makes an option that can be repeated. ``read`` makes the
    keyword's value from the text of the command line and raises UsageError.
    """

    __slots__ = (
        "choices", "default", "environment", "flags", "group", "help", "keyword_default", "metavar", "name", "read",
        "takers",
    )  # fmt: skip

    def __init__(
        self,
        flags: str,
        help: str,
        *,
        group: str,
        takers: str,
        metavar: str | None = None,
        choices: tuple[str, ...] | None = None,
        default: object = None,
        read: Callable[[str], object] | None = None,
        name: str = "",
        environment: str = "",
        keyword_default: object = (),
    ) -> None:
        """Hold a record; ``flags`` and ``takers`` are separated by spaces; ``name`` is the long flag's if left out.

        ``environment`` names a variable that gives the default; ``keyword_default`` is the keyword's where the option
        can be repeated.
        """
        self.flags, self.help, self.group, self.takers = tuple(flags.split()), help, group, tuple(takers.split())
        self.environment = environment
        self.metavar, self.choices, self.default, self.read = metavar, choices, default, read
        self.keyword_default = keyword_default if default == () else default
        self.name = name or self.flags[-1].removeprefix("--").replace("-", "_")


def whole_number(name: str, most: int) -> Callable[[object], int]:
    """Return a reader of a number from 1 to ``most``, from the command line or Python; it raises UsageError."""

    def read(value: object) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= most):
            raise UsageError(f"{name} is {value!r}", f"it can be 1 to {most}")
        return int(text)

    return read
