"""One thing that is known of this machine, and what it means here."""

from __future__ import annotations


class Fact:
    """A fact: its ``group``, ``name``, ``value`` and ``meaning`` (empty: none) in words."""

    __slots__ = ("group", "meaning", "name", "value")

    def __init__(self, group: str, name: str, value: str, meaning: str = "") -> None:
        self.group, self.name, self.value, self.meaning = group, name, value, meaning

    def as_dict(self) -> dict[str, str]:
        """The fact with the keys that it has in JSON."""
        return {"group": self.group, "name": self.name, "value": self.value, "meaning": self.meaning}
