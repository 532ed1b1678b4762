"""Sizes as people write and read them; K, M, G and T are powers of 1024."""

from __future__ import annotations

from corefilt.errors import UsageError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def parse_size(text: str) -> int:
    """Bytes from ``65536``, ``64K``, ``500M`` or ``2G``. Raises UsageError."""
    digits, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20 or unit not in _UNITS:
        raise UsageError(f"size {text!r} cannot be read", "write it like 65536, 64K, 500M or 2G")
    return int(digits) * _UNITS[unit]


def show_size(count: int) -> str:
    """Bytes in three figures: ``0``, ``512``, ``1.50 MiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1023.5 or unit == "PiB":
            figures = (
                f"{value:.0f}" if unit == "B" or value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
            )
            return f"{figures} {unit}"
        value /= 1024
    raise AssertionError("the loop ends by returning")
