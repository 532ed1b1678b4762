"""Sums as a picture: SVG with one bar for each name, what is left of it over what there was."""

from __future__ import annotations

from html import escape

from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corefilt.batching.report.totals import Sum

# In the units of the picture, which are pixels where it has its width.
WIDTH = 560
_ROW, _BAR, _TEXT = 44, 12, 15
# Characters of 13 px that have room beside the figures.
_LONGEST_NAME = 44


def bars(rows: Sequence[tuple[str, Sum]], title: str) -> str:
    """The picture; bars are as long as their bytes are of the largest. Names are escaped, and cut in the middle."""
    height = max(1, len(rows)) * _ROW
    largest = max((part.before for _, part in rows), default=0)
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [f'<svg {box} role="img" aria-label="{escape(title)}">']
    if not rows:
        parts.append(f'<text class="figure" x="0" y="{_TEXT}">nothing</text>')
    for i, (name, part) in enumerate(rows):
        y = i * _ROW
        bar_y = y + _TEXT + 7
        name = printable(name)
        figures = f"{show_size(part.after)} of {show_size(part.before)}"
        parts.append(
            f"<g><title>{escape(name)}: {figures}, {part.shown_change}</title>"
            f'<text class="name" x="0" y="{y + _TEXT}">{escape(shortened(name, _LONGEST_NAME))}</text>'
            f'<text class="figure" x="{WIDTH}" y="{y + _TEXT}" text-anchor="end">{figures}</text>'
            f'<rect class="track" x="0" y="{bar_y}" width="{WIDTH}" height="{_BAR}" rx="3"/>'
            f"{_bar('before', part.before, largest, bar_y)}{_bar('after', part.after, largest, bar_y)}</g>"
        )
    return "".join([*parts, "</svg>"])


def _bar(which: str, size: int, largest: int, y: int) -> str:
    if not size:
        return ""
    # What is there can be seen, however little it is of the largest.
    width = max(WIDTH * size / largest, 2)
    return f'<rect class="{which}" x="0" y="{y}" width="{width:.1f}" height="{_BAR}" rx="{min(3, width / 2):.1f}"/>'


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and end, the longer one, with dots between them."""
    if len(text) <= most:
        return text
    front = most // 3
    return f"{text[:front]}\u2026{text[front + 1 - most :]}"
