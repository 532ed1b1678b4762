"""Reads a policy from TOML, strictly: what is not understood is refused, with file, rule and key."""

from __future__ import annotations

import tomllib

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
from corefilt.errors import InputError, PolicyError, UsageError
from corefilt.filterbits import parse_filter
from corefilt.kinds import NAMES as KINDS
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from corefilt.batching.policy.conditions import Condition
    from corefilt.filterbits import CoredumpFilter

    T = TypeVar("T")

# Rules that a person writes are some dozens of lines.
MOST_BYTES = 1 << 20
# _NSIG of MIPS, which has the most.
MOST_SIGNAL = 128
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
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
        raise PolicyError(f"{path}: more than {MOST_BYTES} bytes are no policy")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: byte {error.start} is no UTF-8") from None
    return parse_policy(text, path)


def parse_policy(text: str, name: str) -> Policy:
    """The policy in a text, which messages call ``name``. Raises PolicyError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: {error}", "each rule begins with a line [[rule]]") from None
    except RecursionError:
        raise PolicyError(f"{name}: is nested too deeply for a policy") from None
    _refuse_others(tables, ("rule",), name)
    entries = tables.get("rule")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise PolicyError(f"{name}: holds no rules", "each rule begins with a line [[rule]]")
    rules: list[PolicyRule] = []
    for count, entry in enumerate(entries, 1):
        title = entry.get("name")
        if not isinstance(title, str) or not title.strip() or not title.isprintable():
            raise PolicyError(f"{name}: rule {count}: name: a rule needs one, in words", 'write name = "old cores"')
        where = f"{name}: rule {title!r}"
        if title in [rule.name for rule in rules]:
            raise PolicyError(f"{where}: name: two rules have it", "reports go by the name")
        if rules and not rules[-1].when:
            raise PolicyError(f"{where}: is never reached: {rules[-1].name!r} before it has no conditions")
        rules.append(PolicyRule(title, tuple(_conditions(entry.get("when", {}), where)), _action(entry, where)))
        if rules[-1].action.name == DELETE and not rules[-1].when:
            raise PolicyError(f"{where}: when: deleting needs a condition", 'write when.older = "365d"')
    return Policy(tuple(rules))


def _refuse_others(table: dict[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise PolicyError(f"{where}: {key}: no such key", f"the keys are {', '.join(known)}")


def _action(entry: dict[str, object], where: str) -> Action:
    _refuse_others(entry, ("name", "when", "action", "filter", "size"), where)
    action = entry.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        said = "is missing" if action is None else f"{action!r} is none"
        raise PolicyError(f"{where}: action: {said}", f"it can be {', '.join(ACTIONS)}")
    for key in ("filter", "size"):
        if key in entry and key not in _PARAMETERS[action]:
            raise PolicyError(f"{where}: {key}: says nothing about the action {action}", "leave it out")
    if action == FIT and "size" not in entry:
        raise PolicyError(f"{where}: size: is missing", 'write size = "64M"')
    bits = _read(_filter, entry["filter"], f"{where}: filter") if "filter" in entry else None
    return Action(action, bits, _read(_size, entry["size"], f"{where}: size") if "size" in entry else None)


def _conditions(table: object, where: str) -> Iterator[Condition]:
    if not isinstance(table, dict):
        raise PolicyError(f"{where}: when: is no table", 'write when.older = "30d"')
    _refuse_others(table, tuple(_CONDITIONS), f"{where}: when")
    for key, value in table.items():
        yield from _read(_CONDITIONS[key], value, f"{where}: when.{key}")


def _read(read: Callable[[object], T], value: object, where: str) -> T:
    """What ``read`` makes of a value; what it finds wrong is told with the place."""
    try:
        return read(value)
    except ValueError as error:
        raise PolicyError(f"{where}: {error}") from None
    except UsageError as error:
        raise PolicyError(f"{where}: {error}", error.hint) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text in quotes")
    return value


def _filter(value: object) -> CoredumpFilter:
    return parse_filter(_text(value))[0]


def _size(value: object) -> int:
    return parse_size(_text(value))


def _age(value: object) -> int:
    """Seconds from ``90m``, ``12h``, ``30d`` or ``8w``."""
    text = _text(value)
    digits, unit = text[:-1], text[-1:]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 9 or unit not in _UNITS:
        raise UsageError(f"age {text!r} cannot be read", "write it like 90m, 12h, 30d or 8w")
    return int(digits) * _UNITS[unit]


def _several(value: object) -> list[object]:
    """One value, or each of a list."""
    if value == []:
        raise ValueError("the list is empty")
    return value if isinstance(value, list) else [value]


def _signal(value: object) -> str | int:
    if value in SIGNALS:
        return str(value)
    if type(value) is int and 0 < value <= MOST_SIGNAL:
        return value
    raise UsageError(f"{value!r} is no signal", f"write a number, or {', '.join(SIGNALS)}")


def _uid(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise UsageError(f"{value!r} is no user's number", "archives do not know this machine's names")
    return value


def _signature(value: object) -> str:
    text = _text(value)
    if len(text) != 16 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"signature {text!r} cannot be read", "corefilt inspect CORE shows it: 16 hex digits")
    return text


def _repeat(value: object) -> int:
    """The number of ``>3``."""
    text = _text(value)
    digits = text.removeprefix(">").strip()
    if not text.startswith(">") or not (digits.isascii() and digits.isdigit()) or not 0 < int(digits[:10]) < 1 << 31:
        raise UsageError(f"repeat {text!r} cannot be read", "write it like >3: the three oldest stay")
    return int(digits)


def _share(value: object) -> ShareCondition:
    """``KIND>50%`` or ``KIND<50%``."""
    text = _text(value)
    operator = ">" if ">" in text else "<"
    kind, found, limit = text.partition(operator)
    percent = limit.removesuffix("%")
    if not found or percent == limit or not (percent.isascii() and percent.isdigit()) or int(percent[:4]) > 100:
        raise UsageError(f"share {text!r} cannot be read", "write it like shared-anonymous>50%")
    if kind not in KINDS:
        raise UsageError(f"share {text!r}: no kind {kind!r}", f"the kinds are {', '.join(KINDS)}")
    return ShareCondition(kind, operator == ">", int(percent) / 100)


_CONDITIONS: dict[str, Callable[[object], tuple[Condition, ...]]] = {
    "older": lambda value: (Bound("age", True, _age(value)),),
    "younger": lambda value: (Bound("age", False, _age(value)),),
    "larger": lambda value: (Bound("size", True, _size(value)),),
    "smaller": lambda value: (Bound("size", False, _size(value)),),
    "executable": lambda value: (Executable(tuple(map(_text, _several(value)))),),
    "signal": lambda value: (SignalCondition(tuple(map(_signal, _several(value)))),),
    "uid": lambda value: (Uid(tuple(map(_uid, _several(value)))),),
    "command": lambda value: (CommandCondition(tuple(map(_text, _several(value)))),),
    "module": lambda value: (ModuleCondition(tuple(map(_text, _several(value)))),),
    "signature": lambda value: (SignatureCondition(tuple(map(_signature, _several(value)))),),
    "repeat": lambda value: (RepeatCondition(_repeat(value)),),
    "share": lambda value: tuple(map(_share, _several(value))),
}
