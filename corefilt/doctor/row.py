"""One condition, whether it is met, why, and what could be done about it."""

from __future__ import annotations

# The answers; what cannot be told from here neither stands in the way nor is promised.
OK, NO, UNKNOWN = "ok", "no", "cannot tell"


class Row:
    """A condition of core(5): ``name``, one of the answers, ``reason`` and ``remedy`` (empty: none) in words."""

    __slots__ = ("answer", "name", "reason", "remedy")

    def __init__(self, name: str, answer: str, reason: str, remedy: str = "") -> None:
        self.name, self.answer, self.reason, self.remedy = name, answer, reason, remedy

    def as_dict(self) -> dict[str, str]:
        """The row with the keys that it has in JSON."""
        return {"condition": self.name, "answer": self.answer, "reason": self.reason, "remedy": self.remedy}
