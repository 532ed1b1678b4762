"""All rules by name, and what files bring: patterns, values that are secret."""

from __future__ import annotations

import re

from corefilt.documents.fields import a_number, a_text, decode_toml, list_of_tables, read_fields
from corefilt.errors import InputError, UsageError
from corefilt.scrub.keys import KEYS
from corefilt.scrub.keywords import KEYWORDS
from corefilt.scrub.rule import LEAST_ANCHOR, MOST_BEHIND, MOST_VALUE, RULES_VERSION, ScrubRule
from corefilt.scrub.tables import LEAST_LITERAL
from corefilt.scrub.tokens import TOKENS
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from corefilt.documents.fields import Reader

RULES: tuple[ScrubRule, ...] = (*KEYS, *TOKENS, *KEYWORDS)
# What is found by other means than a pattern, for --list-rules.
OTHERS = (
    ("private-key-rsa", "p, q, d, dp, dq and qinv of a modulus in a certificate, as limbs, DER and int[]"),
    ("secret-file", "a line of --secret-file, in all its forms"),
    ("environment-block", "--level env: the values of the environment that the process was started with"),
    ("arguments", "--level env: its arguments, also pr_psargs of NT_PRPSINFO"),
    ("stack-words", "--level stacks: words of stacks that are neither small nor addresses"),
    ("vector-registers", "--level stacks: floating point and vector registers in the notes"),
)
MOST_OF_A_FILE = 1 << 20
_KEYS: dict[str, Reader[Any]] = {
    "name": a_text, "anchor": a_text, "pattern": a_text, "reach": a_number(1, MOST_BEHIND), "example": a_text,
}  # fmt: skip


def list_rules() -> Iterator[str]:
    """The rules as lines for a person."""
    yield f"rules of version {RULES_VERSION}"
    rows = [(rule.name, rule.example) for rule in RULES] + list(OTHERS)
    width = max(len(name) for name, _ in rows)
    yield from (f"  {name:{width}}  {example}" for name, example in rows)


def read_small(path: str) -> bytes:
    """A file that an option names. Raises InputError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_OF_A_FILE + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MOST_OF_A_FILE:
        raise InputError(f"{path}: is larger than {MOST_OF_A_FILE} bytes")
    return raw


def read_secrets(path: str) -> list[bytes]:
    """The values of a file, one a line. Raises InputError for it, UsageError for a line that is too short or long."""
    values = [line.rstrip(b"\r") for line in read_small(path).split(b"\n")]
    for number, value in enumerate(values, 1):
        if value and not LEAST_LITERAL <= len(value) <= MOST_VALUE:
            raise UsageError(
                f"{path}: line {number} has {counted(len(value), 'byte')}",
                f"a value has {LEAST_LITERAL} to {MOST_VALUE} bytes: shorter ones occur everywhere by chance",
            )
    return [value for value in dict.fromkeys(values) if value]


def read_rules(path: str) -> list[ScrubRule]:
    """The rules of a TOML file: ``[[rule]]``, ``name``, ``anchor``, ``pattern``. Raises InputError or UsageError."""
    table = decode_toml(read_small(path), path, UsageError, "docs/scrub.md shows a rule")
    entries = read_fields(table, {"rule": list_of_tables}, path, UsageError).get("rule")
    if not entries:
        raise UsageError(f"{path}: has no [[rule]]", "docs/scrub.md shows one")
    return [_rule(path, number, entry) for number, entry in enumerate(entries, 1)]


def _rule(path: str, number: int, entry: dict[str, object]) -> ScrubRule:
    where = f"{path}: rule {number}"
    fields = read_fields(entry, _KEYS, where, UsageError, needed=("name", "anchor", "pattern"))
    name, anchor, pattern, reach = fields["name"], fields["anchor"], fields["pattern"], fields.get("reach", 1024)
    if re.fullmatch(r"[a-z][a-z0-9-]{0,40}", name) is None or name in _NAMES:
        raise UsageError(
            f"{where}: name is {name!r}", "lowercase letters, digits and dashes, and no name in --list-rules"
        )
    if reach < len(anchor):
        raise UsageError(f"{where}: reach is {reach!r}", f"it can be from the length of the anchor to {MOST_BEHIND}")
    word = anchor.encode()
    if len(word) < LEAST_ANCHOR or b"\0" in word:
        raise UsageError(f"{where}: anchor is {anchor!r}", f"{LEAST_ANCHOR} bytes or more, without NUL")
    try:
        compiled = re.compile(pattern.encode())
    except re.error as error:
        raise UsageError(f"{where}: pattern: {error}") from None
    return ScrubRule(name, fields.get("example", pattern), (word,), compiled, reach=reach)


_NAMES = {rule.name for rule in RULES} | {name for name, _ in OTHERS}
