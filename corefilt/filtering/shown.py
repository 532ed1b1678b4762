"""What a core, a plan or a report shows of itself to whoever looks at it from Python."""

from __future__ import annotations

from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_HEAD = "<tr><th>kind</th><th>kept</th><th>dropped</th><th>ambiguous</th></tr>"


class Shown:
    """Has dir() list public names alone."""

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]


def kinds_table(title: str, kinds: Iterable[tuple[str, int, int, int]]) -> str:
    """Return HTML with a row for each kind: its name, and bytes kept, dropped and decided by an assumption."""
    from html import escape

    rows = (
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{show_size(size)}</td>' for size in sizes)}</tr>"
        for name, *sizes in kinds
    )
    return f"<table><caption>{escape(printable(title))}</caption>{_HEAD}{''.join(rows)}</table>"
