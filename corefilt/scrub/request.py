"""What is asked of a scrubbing: the level, and what options add to the rules."""

from __future__ import annotations

from dataclasses import dataclass

from corefilt.errors import UsageError
from corefilt.scrub.rule import ScrubRule
from corefilt.scrub.rules import read_rules, read_secrets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SECRETS, ENV, STACKS = LEVELS = ("secrets", "env", "stacks")


@dataclass(frozen=True, slots=True)
class ScrubRequest:
    """``level`` says how much, ``secrets`` are values and ``rules`` patterns besides, ``certificates`` paths.

    ``files`` has mappings of files looked through that cannot be written to.
    """

    level: str = SECRETS
    secrets: tuple[bytes, ...] = ()
    rules: tuple[ScrubRule, ...] = ()
    certificates: tuple[str, ...] = ()
    files: bool = False

    def reaches(self, level: str) -> bool:
        """Whether the level is this one, or goes further."""
        return LEVELS.index(self.level) >= LEVELS.index(level)


def make_request(
    level: str = SECRETS,
    *,
    secret_files: Sequence[str] = (),
    rule_files: Sequence[str] = (),
    certificates: Sequence[str] = (),
    files: bool = False,
) -> ScrubRequest:
    """What options ask for. Raises UsageError, and InputError for files that they name."""
    if level not in LEVELS:
        raise UsageError(f"the level is {level!r}", f"it can be {', '.join(LEVELS)}")
    secrets = tuple(dict.fromkeys(value for path in secret_files for value in read_secrets(path)))
    rules = tuple(rule for path in rule_files for rule in read_rules(path))
    return ScrubRequest(level, secrets, rules, tuple(certificates), files)
