"""What a rule of a policy asks of a core: each condition says yes, no, or that it hangs on what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from corefilt.corefile.signals import number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from corefilt.batching.policy.facts import Facts

    Condition: TypeAlias = (
        "Bound | Executable | SignalCondition | Uid | ShareCondition | CommandCondition | "
        "ModuleCondition | SignatureCondition | RepeatCondition"
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """``fact``, which is ``age`` (in seconds) or ``size`` (in bytes), lies ``above`` the limit, or below."""

    fact: str
    above: bool
    limit: int

    def fits(self, facts: Facts) -> bool | None:
        """Whether it does; None where the fact is not known."""
        value: float | None = getattr(facts, self.fact)
        if value is None:
            return None
        return value > self.limit if self.above else value < self.limit


@dataclass(frozen=True, slots=True)
class Executable:
    """The path of the executable fits one of these globs, in which ``*`` also stands for slashes."""

    globs: tuple[str, ...]
    fact = "executable"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it does; None where the core does not name one."""
        path = facts.executable
        return None if path is None else any(fnmatchcase(path, glob) for glob in self.globs)


@dataclass(frozen=True, slots=True)
class SignalCondition:
    """One of these killed it: names of signals.NAMES, or the machine's numbers."""

    wanted: tuple[str | int, ...]
    fact = "signal"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it did; None where the core does not tell the signal."""
        if facts.signal is None:
            return None
        return facts.signal in {number_of(s, facts.machine) if isinstance(s, str) else s for s in self.wanted}


@dataclass(frozen=True, slots=True)
class Uid:
    """It ran as one of these users."""

    wanted: tuple[int, ...]
    fact = "uid"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it did; None where the core does not tell the user."""
        return None if facts.uid is None else facts.uid in self.wanted


@dataclass(frozen=True, slots=True)
class CommandCondition:
    """The whole command line, with blanks between the arguments, fits one of these globs."""

    globs: tuple[str, ...]
    fact = "command"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it does; None where the core does not hold all of it."""
        line = facts.command
        return None if line is None else any(fnmatchcase(line, glob) for glob in self.globs)


@dataclass(frozen=True, slots=True)
class ModuleCondition:
    """An ELF file that was loaded has a path that fits one of these globs, or a build-id that does."""

    globs: tuple[str, ...]
    fact = "modules"

    def fits(self, facts: Facts) -> bool | None:
        """Whether one does; None where the core does not tell its modules."""
        found = facts.modules
        return None if found is None else any(fnmatchcase(name, glob) for name in found for glob in self.globs)


@dataclass(frozen=True, slots=True)
class SignatureCondition:
    """The crash has one of these signatures."""

    wanted: tuple[str, ...]
    fact = "signature"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it has; None where the backtrace is not certain."""
        return None if facts.signature is None else facts.signature in self.wanted


@dataclass(frozen=True, slots=True)
class RepeatCondition:
    """The job has more than ``limit`` cores of the same crash that are as old, this one included."""

    limit: int
    fact = "repeat"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it has; None where it is not certain which crash it is."""
        return None if facts.repeat is None else facts.repeat > self.limit


@dataclass(frozen=True, slots=True)
class ShareCondition:
    """A kind's share of the payload, from 0 to 1, lies ``above`` the limit, or below."""

    kind: str
    above: bool
    limit: float

    @property
    def fact(self) -> str:
        """What it asks for."""
        return f"share of {self.kind}"

    def fits(self, facts: Facts) -> bool | None:
        """Whether it does; None where that hangs on what some mapping is."""
        if facts.shares is None:
            return None
        answers = {self._holds(share) for share in facts.shares.get(self.kind, (0.0, 0.0))}
        return answers.pop() if len(answers) == 1 else None

    def _holds(self, share: float) -> bool:
        return share > self.limit if self.above else share < self.limit
