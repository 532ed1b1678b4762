"""The second pass: every value that is known, in all forms in which it can stand."""

from __future__ import annotations

from corefilt.scrub.forms import forms, limbs
from corefilt.scrub.found import BYTES, TEXT, Match, Matches, Ranges
from corefilt.scrub.regions import MemoryRun, RunReader
from corefilt.scrub.tables import LEAST_LITERAL, Literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corefilt.scrub.search import Captured

# A copy of what an option brought.
BY_OPTION = -1


class Known:
    """One value: the rule that found it, the address where it did, and what comes to stand in its copies."""

    __slots__ = ("copy_of", "fill", "rule")

    def __init__(self, rule: str, copy_of: int | None, fill: str) -> None:
        """Hold them; ``copy_of`` is None where the notes had it, or nothing of the core."""
        self.rule, self.copy_of, self.fill = rule, BY_OPTION if copy_of is None else copy_of, fill


class SecondPass:
    """Looks through runs for values."""

    def __init__(self, found: Matches) -> None:
        self._found = found
        self._known: list[Known] = []
        self._words: dict[bytes, int] = {}

    def add_values(self, captured: Captured) -> None:
        """Take all values that the first pass captured."""
        for value, (rule, address, fill) in captured.values.items():
            self.add(value, Known(rule, address, fill))

    def add(self, value: bytes, known: Known) -> None:
        """Take a value in every form that is long enough."""
        self._take(forms(value), known)

    def add_number(self, value: int, known: Known, *, big: bool) -> None:
        """Take a number as limbs, DER and int[]."""
        self._take(limbs(value, big=big), known)

    def _take(self, words: Iterator[bytes], known: Known) -> None:
        self._known.append(known)
        for word in words:
            if len(word) >= LEAST_LITERAL:
                self._words.setdefault(word, len(self._known) - 1)

    def run(
        self, reader: RunReader, runs: Iterable[MemoryRun], on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Look through all runs; what is overwritten already is not told again. Raises InputError and ScrubError."""
        if not self._words:
            return
        words = list(self._words)
        literals = Literals(enumerate(words))
        if literals.left_out:
            self._found.notices.append(
                f"{literals.left_out} forms of values were not searched for again: too many begin alike or are long"
            )
        text, all_bytes = Ranges(self._found.ranges()), Ranges(self._found.ranges(BYTES))
        for run in runs:
            for start, stop, limit, shift in reader.chunks(run):
                for at, number in literals.find(reader.buffer, start, stop):
                    word = words[number]
                    known = self._known[self._words[word]]
                    if at + len(word) > limit:
                        continue
                    known_already = all_bytes if known.fill == BYTES else text
                    for offset, address, length in run.parts(at + shift, at + shift + len(word)):
                        if not known_already.hold(offset, offset + length):
                            self._found.add(Match(offset, address, length, known.rule, known.fill, known.copy_of))
                if on_progress is not None:
                    on_progress(stop - start)


__all__ = ["BY_OPTION", "TEXT", "Known", "SecondPass"]
