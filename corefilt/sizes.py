"""Sizes as people write and read them: K and KiB are powers of 1024, KB of 1000, as GNU tools have it."""

from __future__ import annotations

from corefilt.errors import UsageError

_UNITS = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTP", 1):
    _UNITS |= {_letter: 1024**_power, f"{_letter}IB": 1024**_power, f"{_letter}B": 1000**_power}


RLIM_INFINITY = (1 << 64) - 1


def parse_size(text: str) -> int:
    """Return the bytes of ``65536``, ``64K``, ``16MiB``, ``0.5G`` or ``16MB``, rounded down. Raises UsageError."""
    number = text.rstrip("BIKMGTPbikmgtp")
    whole, dot, fraction = number.rstrip(" ").partition(".")
    factor = _UNITS.get(text[len(number) :].upper())
    digits = whole + fraction
    read = digits.isascii() and digits.isdigit() and whole and len(digits) <= 20 and factor is not None
    if not read or factor is None or (dot and (not fraction or factor == 1)):
        raise UsageError(f"size {text!r} cannot be read", "write it like 65536, 64K, 500M, 0.5G, 16MiB or 16MB")
    scale: int = 10 ** len(fraction)
    return int(digits) * factor // scale


def show_size(count: int) -> str:
    """Bytes in three figures: ``0``, ``512``, ``1.50 MiB``; a difference can be less than 0: ``-12.0 KiB``."""
    sign, value = "-" if count < 0 else "", float(abs(count))
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1023.5 or unit == "PiB":
            figures = (
                f"{value:.0f}" if unit == "B" or value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
            )
            return f"{sign}{figures} {unit}"
        value /= 1024
    raise AssertionError("the loop ends by returning")


class Limit:
    """A soft limit of RLIMIT_CORE: ``size`` in bytes, and where it comes from, in words."""

    __slots__ = ("size", "source")

    def __init__(self, size: int, source: str) -> None:
        self.size, self.source = size, source

    def __str__(self) -> str:
        return f"RLIMIT_CORE = {self.size} ({self.source})"

    @property
    def cuts(self) -> bool:
        """Whether there is a core that it could cut: no file is longer than 2^63 - 1 bytes."""
        return self.size < 1 << 63


def parse_limit(value: int | str, option: str = "--truncate") -> Limit:
    """A limit from a number of bytes, a size like ``64K``, ``unlimited``, or ``rlimit``. Raises UsageError.

    ``rlimit`` is the soft limit of this process. The kernel compares unsigned numbers of 64 bits, and the largest
    of them is RLIM_INFINITY, so there is no limit of 2^64 and more.
    """
    source = f"{option} {value}"
    if value == "unlimited":
        size = RLIM_INFINITY
    elif value == "rlimit":
        import resource

        size = resource.getrlimit(resource.RLIMIT_CORE)[0] & RLIM_INFINITY
        source += ", this process's soft limit"
    else:
        if not isinstance(value, int | str):
            raise UsageError(f"limit {value!r} is neither a number nor a text", "write it like 65536 or 64K")
        size = parse_size(value) if isinstance(value, str) else value
    if not 0 <= size <= RLIM_INFINITY:
        raise UsageError(f"limit {value!r} is not between 0 and 2^64 - 1 bytes", "write unlimited for no limit")
    return Limit(size, source)
