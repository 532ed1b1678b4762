"""Has the first rule of the settings that speaks of a crash change them for its core."""

from __future__ import annotations

from corefilt.errors import NoCoreError
from corefilt.filterbits import Bit
from corefilt.handler.program_rules import FIT, KEEP, MINIMAL, REJECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim
    from corefilt.handler.program_rules import ProgramRule


def apply_rules(config: Config, crash: CrashInfo, victim: Victim) -> None:
    """Change the settings for one crash. Raises NoCoreError where there is to be no core."""
    # That it was replaced since, by an update say, makes it no other program.
    executable = victim.executable.removesuffix(b" (deleted)") if victim.executable is not None else None
    for rule in config.rules:
        if rule.means(executable, crash.uid, victim.size):
            _apply(rule, config)
            return


def _apply(rule: ProgramRule, config: Config) -> None:
    if rule.action == REJECT:
        raise NoCoreError("a rule rejects it", "[[rule]] in the settings")
    if rule.action == KEEP:
        config.filter, config.most, config.rlimit = Bit.ALL, None, "ignore"
    elif rule.filter is not None:
        config.filter = rule.filter
    config.minimal = rule.action == MINIMAL
    if rule.action == FIT and rule.size is not None:
        config.most = rule.size if config.most is None else min(config.most, rule.size)
