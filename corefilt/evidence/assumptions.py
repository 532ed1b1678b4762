"""``--assume SELECTOR=KIND``: what the user says about a mapping."""

from __future__ import annotations

from corefilt.errors import UsageError
from corefilt.kinds import NAMES
from corefilt.sizes import parse_size


class Assumption:
    """One ``SELECTOR=KIND``; ``used`` tells whether it fitted any mapping that it was asked about."""

    def __init__(self, text: str) -> None:
        """Read it; SELECTOR is an address, ``size>64G`` (or ``<``, ``>=``, ``<=``) or a path glob."""
        selector, equals, self.kind = text.rpartition("=")
        if not equals or not selector:
            raise UsageError(f"--assume {text!r} is not a SELECTOR=KIND", "for example '/dev/shm/*=shared-file-backed'")
        if self.kind not in NAMES:
            raise UsageError(f"--assume {text!r}: no kind {self.kind!r}", f"the kinds are {', '.join(NAMES)}")
        self.text, self.used = text, False
        self._address: int | None = None
        self._size: tuple[str, int] | None = None
        self._glob = b""
        if selector.startswith("size") and selector[4:5] in ("<", ">"):
            operator = selector[4:6] if selector[5:6] == "=" else selector[4]
            self._size = operator, parse_size(selector[4 + len(operator) :])
        elif selector[:2].lower() == "0x":
            try:
                self._address = int(selector, 16)
            except ValueError:
                raise UsageError(f"--assume {text!r}: {selector!r} is not an address") from None
        else:
            self._glob = selector.encode("utf-8", "surrogateescape")

    def fits(self, start: int, end: int, path: bytes | None) -> bool:
        """Whether it speaks of the mapping ``[start, end)`` of that file."""
        if self._address is not None:
            fits = start <= self._address < end
        elif self._size is not None:
            operator, size = self._size
            length = end - start
            fits = (
                length == size
                if "=" in operator and length == size
                else (length > size if operator[0] == ">" else length < size)
            )
        else:
            from fnmatch import fnmatchcase

            fits = path is not None and fnmatchcase(path.decode("latin-1"), self._glob.decode("latin-1"))
        self.used = self.used or fits
        return fits
