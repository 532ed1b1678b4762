"""What is shown on a terminal or goes down a pipe: lines, cut to the width of a terminal, whole elsewhere."""

from __future__ import annotations

import os
import sys

from corefilt.cli.streams import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from rich.console import Console

    # A text, or a text and the style that rich draws it in.
    Span: TypeAlias = str | tuple[str, str]

# Lines that are written at once.
LINES_AT_ONCE = 1000
# Narrower than this nothing is readable.
NARROWEST = 40
ELLIPSIS = "\u2026"


class Page:
    """Standard output as lines. ``width`` is that of the terminal in columns, None where there is none.

    rich draws what has colours; rows of mappings, of which there can be a million, are plain text.
    """

    def __init__(self, *, whole: bool = False) -> None:
        """Look at standard output; ``whole`` cuts nothing on a terminal either."""
        self.terminal = sys.stdout is not None and sys.stdout.isatty()
        self.width = _width() if self.terminal and not whole else None
        self.draws = self.terminal and _holds(ELLIPSIS + "\u2588\u2591")
        self._console: Console | None = None

    def line(self, *spans: Span) -> None:
        """Write one line, cut where the terminal ends."""
        if not self.terminal:
            tell("".join(span if isinstance(span, str) else span[0] for span in spans).rstrip() + "\n")
            return
        from io import StringIO

        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            self._console = Console(file=StringIO(), force_terminal=True, highlight=False, width=self.width or 1 << 16)
        text = Text.assemble(*spans, no_wrap=True, overflow="ignore")
        text.rstrip()
        if self.width is not None:
            text.truncate(self.width, overflow="ellipsis" if self.draws else "crop")
        self._console.print(text, soft_wrap=True)
        file = self._console.file
        tell(file.getvalue())  # type: ignore[attr-defined]
        file.seek(0)
        file.truncate()

    def text(self, text: str, *, indent: int = 0) -> None:
        """Write a text, wrapped where the terminal ends; further lines begin with so many blanks."""
        if self.width is None:
            self.line(text)
            return
        from textwrap import wrap

        for line in wrap(text, self.width, subsequent_indent=" " * indent, break_on_hyphens=False):
            self.line(line)

    def lines(self, lines: Iterable[str]) -> None:
        """Write many lines as they are."""
        held: list[str] = []
        for line in lines:
            held.append(line)
            if len(held) == LINES_AT_ONCE:
                tell("\n".join(held) + "\n")
                held.clear()
        if held:
            tell("\n".join(held) + "\n")

    def blocks(self, blocks: Iterable[str]) -> None:
        """Write many lines as they are, some at once."""
        for block in blocks:
            tell(block + "\n")


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    try:
        width = int(columns) if columns.isdigit() else os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        width = 0
    # A terminal that does not tell says 0.
    return max(width or 80, NARROWEST)


def _holds(text: str) -> bool:
    """Whether standard output's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def shorten(name: str, width: int, mark: str = ELLIPSIS) -> str:
    """A file's name in at most so many columns: its middle is cut out, the end of the path stays longest."""
    if name.isascii():
        if len(name) <= width:
            return name
    else:
        from rich.cells import cell_len

        if cell_len(name) <= width:
            return name
        # One character a column: what takes two, or none, becomes a question mark.
        name = "".join(c if cell_len(c) == 1 else "?" for c in name)
        if len(name) <= width:
            return name
    base = len(name) - name.rfind("/")
    tail = base if base + len(mark) + 1 <= width else (width - len(mark)) * 2 // 3
    tail = max(tail, (width - len(mark)) * 2 // 3)
    head = max(width - len(mark) - tail, 0)
    return name[:head] + mark + name[len(name) - tail :]
