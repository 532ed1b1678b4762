"""Which core of an archive is filtered how, kept or deleted: ordered rules over what is known of it.

The first rule that fits decides. A rule that asks for something which is not known of a core neither fits nor does
not; then the mildest of what could be meant is done, so that nothing is lost because something is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from corefilt.batching.policy.conditions import ShareCondition
from corefilt.batching.policy.facts import OF_MEMORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.batching.policy.conditions import Condition
    from corefilt.batching.policy.facts import Facts

KEEP, FILTER, FIT, MINIMAL, DELETE = ACTIONS = ("keep", "filter", "fit", "minimal", "delete")
# What leaves less is not taken for what leaves more; the middle ones all leave a core to debug.
_HARSHNESS = {KEEP: 0, FILTER: 1, FIT: 1, MINIMAL: 1, DELETE: 2}


@dataclass(frozen=True, slots=True)
class Action:
    """What to do with a core: ``name`` is one of ACTIONS.

    ``filter`` stands in for the FILTER of the command line, None leaves that; ``size`` is the most bytes that ``fit``
    leaves.
    """

    name: str
    filter: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A name for people, the conditions that must all fit, and what is done then."""

    name: str
    when: tuple[Condition, ...]
    action: Action

    def fits(self, facts: Facts) -> bool | None:
        """Whether a core is meant; None where that hangs on what is not known of it."""
        answers = {condition.fits(facts) for condition in self.when}
        return False if False in answers else None if None in answers else True

    def unknown(self, facts: Facts) -> str:
        """The facts that are asked for and not known."""
        return ", ".join(dict.fromkeys(condition.fact for condition in self.when if condition.fits(facts) is None))


class Decision(NamedTuple):
    """The name of the rule that decided, or None where none did, its action, and what was not known.

    ``doubt`` says why the action is not a harsher one, and which rules were skipped.
    """

    rule: str | None
    action: Action
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in their order."""

    rules: tuple[PolicyRule, ...]

    @property
    def asks_for_shares(self) -> bool:
        """Whether any rule does: finding them out takes a look at every mapping."""
        return any(isinstance(condition, ShareCondition) for rule in self.rules for condition in rule.when)

    @property
    def asks_for_repeats(self) -> bool:
        """Whether any rule does: then all cores are looked at before the first is filtered."""
        return "repeat" in self.asked

    @property
    def asks_for_memory(self) -> bool:
        """Whether any rule does: then the core has to be one that can be sought."""
        return not self.asked.isdisjoint(OF_MEMORY)

    @property
    def asked(self) -> frozenset[str]:
        """The facts that some rule asks for."""
        return frozenset(condition.fact for rule in self.rules for condition in rule.when)

    def decide(self, facts: Facts) -> Decision:
        """What becomes of a core; one that no rule means is filtered as the command line says."""
        doubtful: list[PolicyRule] = []
        certain = Decision(None, Action(FILTER))
        for rule in self.rules:
            fits = rule.fits(facts)
            if fits:
                certain = Decision(rule.name, rule.action)
                break
            if fits is None:
                doubtful.append(rule)
        mildest = min(doubtful, key=lambda rule: _HARSHNESS[rule.action.name], default=None)
        if mildest is None or _HARSHNESS[mildest.action.name] >= _HARSHNESS[certain.action.name]:
            return certain._replace(doubt="; ".join(_skipped(rule, facts) for rule in doubtful))
        doubtful.remove(mildest)
        doubt = f"not {certain.action.name}, as the {mildest.unknown(facts)} is not known"
        doubts = [doubt, *(_skipped(rule, facts) for rule in doubtful)]
        return Decision(mildest.name, mildest.action, "; ".join(doubts))


def _skipped(rule: PolicyRule, facts: Facts) -> str:
    return f"rule {rule.name!r} was skipped: {rule.unknown(facts)} not known"
