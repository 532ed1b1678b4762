"""``[[rule]]`` of the settings: what is done with the core of which program; the first rule that fits decides."""

from __future__ import annotations

from corefilt.documents.fields import a_filter, a_size, one_of, read_fields
from corefilt.errors import ConfigError
from corefilt.handler.program_match import MATCH_KEYS, ProgramMatch, attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.documents.fields import Reader

FILTER, MINIMAL, FIT, KEEP, REJECT = ACTIONS = ("filter", "minimal", "fit", "keep", "reject")
# Which keys say more about an action.
_PARAMETERS = {FILTER: ("filter",), MINIMAL: ("filter",), FIT: ("size", "filter"), KEEP: (), REJECT: ()}


class ProgramRule(ProgramMatch):
    """An ``action`` for the processes that fit; ``filter`` stands for the settings' own, ``size`` is in bytes."""

    __slots__ = ("action", "filter", "size")

    def __init__(self) -> None:
        super().__init__()
        self.action = FILTER
        self.filter: int | None = None
        self.size: int | None = None


def parse_rules(value: object) -> list[ProgramRule]:
    """The rules of a list of tables. Raises ConfigError."""
    if not isinstance(value, list):
        raise ConfigError(f"{value!r} is not a list of tables", "write each under [[rule]]")
    return [_parse(entry) for entry in value]


def _parse(value: object) -> ProgramRule:
    rule = ProgramRule()
    fields = read_fields(value, _KEYS, "rule", ConfigError, needed=("action",))
    for key, found in fields.items():
        setattr(rule, attribute(key), found)
    unused = [key for key in ("filter", "size") if key in fields and key not in _PARAMETERS[rule.action]]
    if unused:
        raise ConfigError(f"rule: {unused[0]}: not used by the action {rule.action}", "leave it out")
    if rule.action == FIT and rule.size is None:
        raise ConfigError("rule: size: is missing", 'write size = "64M"')
    return rule


_KEYS: dict[str, Reader[object]] = {**MATCH_KEYS, "action": one_of(*ACTIONS), "filter": a_filter, "size": a_size}
