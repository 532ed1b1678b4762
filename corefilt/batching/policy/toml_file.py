"""Reads a policy from TOML, strictly: what is not understood is refused, with file, rule and key."""

from __future__ import annotations

from itertools import chain

from corefilt.batching.policy.conditions import (
    Bound,
    CommandCondition,
    Executable,
    ModuleCondition,
    RepeatCondition,
    ShareCondition,
    SignalCondition,
    SignatureCondition,
    Uid,
)
from corefilt.batching.policy.policy import ACTIONS, DELETE, FILTER, FIT, KEEP, MINIMAL, Action, Policy, PolicyRule
from corefilt.corefile.signals import NAMES as SIGNALS
from corefilt.documents.fields import (
    a_filter,
    a_size,
    a_table,
    a_text,
    an_age,
    decode_toml,
    list_of_tables,
    one_of,
    one_or_more,
    read_fields,
)
from corefilt.errors import InputError, PolicyError, UsageError
from corefilt.kinds import NAMES as KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corefilt.batching.policy.conditions import Condition
    from corefilt.documents.fields import Reader

# Rules that a person writes are some dozens of lines.
MOST_BYTES = 1 << 20
# _NSIG of MIPS, which has the most.
MOST_SIGNAL = 128
# Which keys say more about an action.
_PARAMETERS = {KEEP: (), FILTER: ("filter",), FIT: ("size", "filter"), MINIMAL: ("filter",), DELETE: ()}


def load_policy(path: str) -> Policy:
    """The policy in a file. Raises InputError where it cannot be read, PolicyError where it cannot be understood."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MOST_BYTES:
        raise PolicyError(f"{path}: has more than {MOST_BYTES} bytes, the limit for a policy file")
    return parse_policy(raw, path)


def parse_policy(raw: bytes, name: str) -> Policy:
    """The policy in a text, which messages call ``name``. Raises PolicyError."""
    tables = decode_toml(raw, name, PolicyError, "each rule begins with a line [[rule]]")
    entries = read_fields(tables, {"rule": list_of_tables}, name, PolicyError).get("rule")
    if not entries:
        raise PolicyError(f"{name}: holds no rules", "each rule begins with a line [[rule]]")
    rules: list[PolicyRule] = []
    for count, entry in enumerate(entries, 1):
        title = entry.get("name")
        if not isinstance(title, str) or not title.strip() or not title.isprintable():
            raise PolicyError(f"{name}: rule {count}: name: every rule needs a name", 'write name = "old cores"')
        where = f"{name}: rule {title!r}"
        if title in [rule.name for rule in rules]:
            raise PolicyError(f"{where}: name: two rules have it", "reports use the name")
        if rules and not rules[-1].when:
            raise PolicyError(f"{where}: is never reached: {rules[-1].name!r} before it has no conditions")
        fields = read_fields(entry, _RULE, where, PolicyError, needed=("action",))
        when = read_fields(fields.get("when", {}), _CONDITIONS, where, PolicyError, prefix="when.")
        rules.append(PolicyRule(title, tuple(chain.from_iterable(when.values())), _action(fields, where)))
        if rules[-1].action.name == DELETE and not rules[-1].when:
            raise PolicyError(f"{where}: when: deleting needs a condition", 'write when.older = "365d"')
    return Policy(tuple(rules))


def _action(fields: dict[str, Any], where: str) -> Action:
    action = fields["action"]
    for key in ("filter", "size"):
        if key in fields and key not in _PARAMETERS[action]:
            raise PolicyError(f"{where}: {key}: not used by the action {action}", "leave it out")
    if action == FIT and "size" not in fields:
        raise PolicyError(f"{where}: size: is missing", 'write size = "64M"')
    return Action(action, fields.get("filter"), fields.get("size"))


def _signal(value: object) -> str | int:
    if value in SIGNALS:
        return str(value)
    if type(value) is int and 0 < value <= MOST_SIGNAL:
        return value
    raise UsageError(f"{value!r} is not a signal", f"write a number, or {', '.join(SIGNALS)}")


def _uid(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise UsageError(f"{value!r} is not a user ID", "archives do not know this machine's names")
    return value


def _signature(value: object) -> str:
    text = a_text(value)
    if len(text) != 16 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"signature {text!r} cannot be read", "corefilt inspect CORE shows it: 16 hex digits")
    return text


def _repeat(value: object) -> int:
    """The number of ``>3``."""
    text = a_text(value)
    digits = text.removeprefix(">").strip()
    if not text.startswith(">") or not (digits.isascii() and digits.isdigit()) or not 0 < int(digits[:10]) < 1 << 31:
        raise UsageError(f"repeat {text!r} cannot be read", "write it like >3, which keeps the three oldest")
    return int(digits)


def _share(value: object) -> ShareCondition:
    """``KIND>50%`` or ``KIND<50%``."""
    text = a_text(value)
    operator = ">" if ">" in text else "<"
    kind, found, limit = text.partition(operator)
    percent = limit.removesuffix("%")
    if not found or percent == limit or not (percent.isascii() and percent.isdigit()) or int(percent[:4]) > 100:
        raise UsageError(f"share {text!r} cannot be read", "write it like shared-anonymous>50%")
    if kind not in KINDS:
        raise UsageError(f"share {text!r}: no kind {kind!r}", f"the kinds are {', '.join(KINDS)}")
    return ShareCondition(kind, operator == ">", int(percent) / 100)


def _bound(fact: str, above: bool, read: Reader[int]) -> Reader[tuple[Condition, ...]]:
    return lambda value: (Bound(fact, above, read(value)),)


def _one(condition: Callable[[Any], Condition], read: Reader[object]) -> Reader[tuple[Condition, ...]]:
    """Reader of a condition that one value of some fits."""
    read_each = one_or_more(read)
    return lambda value: (condition(read_each(value)),)


_RULE: dict[str, Reader[Any]] = {
    "name": a_text, "when": a_table, "action": one_of(*ACTIONS), "filter": a_filter, "size": a_size,
}  # fmt: skip
_CONDITIONS: dict[str, Reader[tuple[Condition, ...]]] = {
    "older": _bound("age", True, an_age),
    "younger": _bound("age", False, an_age),
    "larger": _bound("size", True, a_size),
    "smaller": _bound("size", False, a_size),
    "executable": _one(Executable, a_text),
    "signal": _one(SignalCondition, _signal),
    "uid": _one(Uid, _uid),
    "command": _one(CommandCondition, a_text),
    "module": _one(ModuleCondition, a_text),
    "signature": _one(SignatureCondition, _signature),
    "repeat": lambda value: (RepeatCondition(_repeat(value)),),
    "share": one_or_more(_share),
}
