"""The table ``[serve]`` of the settings: how many cores at once, and which process's core is taken, refused or left."""

from __future__ import annotations

from corefilt.documents.fields import a_number, one_of, read_fields, seconds
from corefilt.errors import ConfigError
from corefilt.handler.program_match import MATCH_KEYS, ProgramMatch, attribute
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
# Each takes 10 MiB (RssAnon).
READY, MOST_READY = 2, 64


class ServeRule(ProgramMatch):
    """An ``action`` for the processes that fit all that it names."""

    __slots__ = ("action",)

    def __init__(self) -> None:
        super().__init__()
        self.action = FILTER

    def fits(self, peer: Peer) -> bool:
        """Whether it speaks of this process."""
        return self.means(peer.executable, peer.crash.uid, peer.size)


class ServeRules:
    """``at_once`` cores are filtered at a time; what comes ``beyond`` them waits or is refused.

    ``ready`` handlers wait for a core with all modules loaded. ``patience`` is how many seconds a peer has for each of
    its words; the first of ``rules`` that fits decides, and ``otherwise`` where none does.
    """

    __slots__ = ("at_once", "beyond", "otherwise", "patience", "ready", "rules")

    def __init__(self) -> None:
        self.at_once = 16
        self.beyond = QUEUE
        self.patience = 10.0
        self.ready = READY
        self.otherwise = FILTER
        self.rules: list[ServeRule] = []

    def decide(self, peer: Peer) -> str:
        """FILTER, REJECT or LEAVE."""
        return next((rule.action for rule in self.rules if rule.fits(peer)), self.otherwise)


def parse_serve_rules(table: dict[str, object]) -> ServeRules:
    """The rules of a table. Raises ConfigError for a key that is unknown or misused."""
    made = ServeRules()
    for key, value in read_fields(table, _KEYS, "serve", ConfigError).items():
        setattr(made, "rules" if key == "rule" else key.replace("-", "_"), value)
    return made


def _parse_rule(value: object) -> ServeRule:
    rule = ServeRule()
    for key, found in read_fields(value, _RULE_KEYS, "rule", ConfigError, needed=("action",)).items():
        setattr(rule, attribute(key), found)
    return rule


def _rules(value: object) -> list[ServeRule]:
    if not isinstance(value, list):
        raise ConfigError(f"{value!r} is not a list of tables", "write each under [[serve.rule]]")
    return [_parse_rule(entry) for entry in value]


_ACTION = one_of(FILTER, REJECT, LEAVE)
_KEYS: dict[str, Reader[object]] = {
    "at-once": a_number(1, MOST_AT_ONCE),
    "beyond": one_of(QUEUE, REJECT),
    "otherwise": _ACTION,
    "patience": seconds(3600),
    "ready": a_number(0, MOST_READY),
    "rule": _rules,
}
_RULE_KEYS: dict[str, Reader[object]] = {**MATCH_KEYS, "action": _ACTION}
