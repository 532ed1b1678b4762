"""The findings of all mappings of a core, one object for all of which the same is known."""

from __future__ import annotations

from array import array

from corefilt import _fast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from corefilt.kinds import Classification


class Classes:
    """Which mappings the rules see the same of.

    ``numbers`` has the class of each mapping, ``first`` the first mapping of each class, and ``alone`` a byte for each:
    whether it was made for one mapping that something else than its shape tells from the others.
    """

    __slots__ = ("alone", "first", "numbers")

    def __init__(self, numbers: array[int], first: list[int], alone: bytearray) -> None:
        """Hold the columns."""
        self.numbers, self.first, self.alone = numbers, first, alone


class Findings:
    """A sequence of Classification, one a mapping; ``of_class`` are those that ``numbers`` point at."""

    __slots__ = ("numbers", "of_class")

    def __init__(self, numbers: array[int], of_class: list[Classification]) -> None:
        """Hold the columns."""
        self.numbers, self.of_class = numbers, of_class

    @classmethod
    def each(cls, findings: Iterable[Classification]) -> Self:
        """Take the findings one by one."""
        known: dict[Classification, int] = {}
        numbers = array("I", (known.setdefault(finding, len(known)) for finding in findings))
        return cls(numbers, list(known))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, m: int) -> Classification:
        return self.of_class[self.numbers[m]]

    def __iter__(self) -> Iterator[Classification]:
        return map(self.of_class.__getitem__, self.numbers)

    def sums(self, values: array[int], rows: array[int] | None = None) -> list[int]:
        """Add up the values of each class's mappings; ``rows`` says where in ``values`` each mapping has its own."""
        halves = array("Q", bytes(16 * len(self.of_class)))
        _fast.totals(self.numbers, values, array("I") if rows is None else rows, halves)
        lows, highs = halves[::2], halves[1::2]
        if not any(highs):
            return lows.tolist()
        return [low + (high << 64) for low, high in zip(lows, highs, strict=True)]

    def count(self) -> list[int]:
        """How many mappings each class has."""
        return self.sums(array("Q", (1,)), array("I", bytes(4 * len(self))))
