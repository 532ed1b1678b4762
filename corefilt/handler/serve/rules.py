"""The table ``[serve]`` of the settings: how many cores at once, and which process's core is taken, refused or left."""

from __future__ import annotations

import fnmatch
import os
import re

from corefilt.documents.fields import a_number, a_size, one_of, one_or_more, read_fields, seconds
from corefilt.errors import ConfigError
from corefilt.handler.serve.protocol import COREDUMP_KERNEL, COREDUMP_REJECT, COREDUMP_USERSPACE, COREDUMP_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.documents.fields import Reader
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
        self.uids: tuple[int, ...] | None = None
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
    for key, value in read_fields(table, _KEYS, "serve", ConfigError).items():
        setattr(made, _ATTRIBUTES.get(key, key), value)
    return made


def _parse_rule(value: object) -> ServeRule:
    rule = ServeRule()
    for key, found in read_fields(value, _RULE_KEYS, "rule", ConfigError, needed=("action",)).items():
        setattr(rule, _ATTRIBUTES.get(key, key), found)
    return rule


def _rules(value: object) -> list[ServeRule]:
    if not isinstance(value, list):
        raise ConfigError(f"{value!r} is no list of tables", "write each under [[serve.rule]]")
    return [_parse_rule(entry) for entry in value]


def _executable(value: object) -> re.Pattern[bytes]:
    if not isinstance(value, str) or not value.startswith(("/", "*")):
        raise ConfigError(f"{value!r} is no absolute path", "* and ? stand for what is not named")
    return re.compile(os.fsencode(fnmatch.translate(value)))


_ACTION = one_of(FILTER, REJECT, LEAVE)
_KEYS: dict[str, Reader[object]] = {
    "at-once": a_number(1, MOST_AT_ONCE),
    "beyond": one_of(QUEUE, REJECT),
    "otherwise": _ACTION,
    "patience": seconds(3600),
    "rule": _rules,
}
_RULE_KEYS: dict[str, Reader[object]] = {
    "action": _ACTION,
    "executable": _executable,
    "larger-than": a_size,
    "smaller-than": a_size,
    "uid": one_or_more(a_number(0, _MOST_UID)),
}
# Where they are not the key's own name.
_ATTRIBUTES = {
    "at-once": "at_once", "larger-than": "larger_than", "rule": "rules", "smaller-than": "smaller_than", "uid": "uids",
}  # fmt: skip
