"""The table ``[serve]`` of the settings: how many cores at once, and which process's core is taken, refused or left."""

from __future__ import annotations

import fnmatch
import os
import re

from corefilt.errors import ConfigError, CorefiltError
from corefilt.handler.serve.protocol import COREDUMP_KERNEL, COREDUMP_REJECT, COREDUMP_USERSPACE, COREDUMP_WAIT
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.handler.serve.peer import Peer

# What the kernel is asked for: a core that is filtered on the way, none and no core bit in the exit status, or none
# with it. The crash waits while a core is filtered, so that its /proc stays.
FILTER, REJECT, LEAVE = "filter", "reject", "leave"
WANTED = {FILTER: COREDUMP_KERNEL | COREDUMP_WAIT, REJECT: COREDUMP_REJECT, LEAVE: COREDUMP_USERSPACE}
QUEUE = "queue"
MOST_AT_ONCE = 4096
_MOST_UID = (1 << 32) - 2


class ServeRule:
    """An ``action`` for the processes that fit all that it names; what is None fits every one."""

    __slots__ = ("action", "executable", "larger_than", "smaller_than", "uids")

    def __init__(self) -> None:
        self.action = FILTER
        self.uids: frozenset[int] | None = None
        self.executable: re.Pattern[bytes] | None = None
        self.larger_than: int | None = None
        self.smaller_than: int | None = None

    def fits(self, peer: Peer) -> bool:
        """Whether it speaks of this process."""
        return (
            (self.uids is None or peer.crash.uid in self.uids)
            and (
                self.executable is None
                or (peer.executable is not None and bool(self.executable.match(peer.executable)))
            )
            and (self.larger_than is None or peer.size > self.larger_than)
            and (self.smaller_than is None or peer.size < self.smaller_than)
        )


class ServeRules:
    """``at_once`` cores are filtered at a time; what comes ``beyond`` them waits or is refused.

    ``patience`` is how many seconds a peer has for each of its words; the first of ``rules`` that fits decides, and
    ``otherwise`` where none does.
    """

    __slots__ = ("at_once", "beyond", "otherwise", "patience", "rules")

    def __init__(self) -> None:
        self.at_once = 16
        self.beyond = QUEUE
        self.patience = 10.0
        self.otherwise = FILTER
        self.rules: list[ServeRule] = []

    def decide(self, peer: Peer) -> str:
        """FILTER, REJECT or LEAVE."""
        return next((rule.action for rule in self.rules if rule.fits(peer)), self.otherwise)


def parse_serve_rules(table: dict[str, object]) -> ServeRules:
    """The rules of a table. Raises ConfigError for a key that is unknown or misused."""
    made = ServeRules()
    _fill(made, table, _KEYS, "serve")
    return made


def _parse_rule(value: object) -> ServeRule:
    if not isinstance(value, dict):
        raise ConfigError(f"{value!r} is no table")
    if "action" not in value:
        raise ConfigError("a rule without an action", f"action can be {FILTER}, {REJECT} or {LEAVE}")
    rule = ServeRule()
    _fill(rule, value, _RULE_KEYS, "rule")
    return rule


def _fill(
    made: object, table: dict[str, object], keys: dict[str, tuple[str, Callable[[object], object]]], where: str
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{where}: there is no key {key!r}", f"there are {', '.join(sorted(keys))}")
        attribute, read = keys[key]
        try:
            setattr(made, attribute, read(value))
        except CorefiltError as error:
            raise ConfigError(f"{where}: {key}: {error}", error.hint) from None


def _is_number(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _at_once(value: object) -> object:
    if not _is_number(value, 1, MOST_AT_ONCE):
        raise ConfigError(f"{value!r} is no number from 1 to {MOST_AT_ONCE}")
    return value


def _patience(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        raise ConfigError(f"{value!r} is no number of seconds from 0 to an hour")
    return float(value)


def _one_of(*words: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        if value not in words:
            raise ConfigError(f"{value!r} is none of {', '.join(words)}")
        return value

    return read


def _rules(value: object) -> object:
    if not isinstance(value, list):
        raise ConfigError(f"{value!r} is no list of tables", "write each under [[serve.rule]]")
    return [_parse_rule(entry) for entry in value]


def _uids(value: object) -> object:
    numbers = value if isinstance(value, list) else [value]
    if not numbers or not all(_is_number(number, 0, _MOST_UID) for number in numbers):
        raise ConfigError(f"{value!r} is neither the number of a user nor a list of such")
    return frozenset(numbers)


def _executable(value: object) -> object:
    if not isinstance(value, str) or not value.startswith(("/", "*")):
        raise ConfigError(f"{value!r} is no absolute path", "* and ? stand for what is not named")
    return re.compile(os.fsencode(fnmatch.translate(value)))


def _size(value: object) -> object:
    if isinstance(value, str):
        return parse_size(value)
    if not _is_number(value, 0, (1 << 64) - 1):
        raise ConfigError(f"{value!r} is no size", 'write it like 1073741824 or "1G"')
    return value


_ACTION = _one_of(FILTER, REJECT, LEAVE)
_KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "at-once": ("at_once", _at_once),
    "beyond": ("beyond", _one_of(QUEUE, REJECT)),
    "otherwise": ("otherwise", _ACTION),
    "patience": ("patience", _patience),
    "rule": ("rules", _rules),
}
_RULE_KEYS: dict[str, tuple[str, Callable[[object], object]]] = {
    "action": ("action", _ACTION),
    "executable": ("executable", _executable),
    "larger-than": ("larger_than", _size),
    "smaller-than": ("smaller_than", _size),
    "uid": ("uids", _uids),
}
