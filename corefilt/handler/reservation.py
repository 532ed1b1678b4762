"""What is settled before a core is read: the rate, and room for it. The process that crashed waits for this."""

from __future__ import annotations

import os

from corefilt.errors import NoCoreError
from corefilt.store.attributes import UNKNOWN
from corefilt.store.ledger import Ledger
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim
    from corefilt.handler.store import Target

# What a core has beside its memory: headers, notes (2.7 KiB a thread), the ELF headers of its files.
BESIDE = 1 << 20


class Reservation:
    """Room for the core of one crash, until ``ledger`` is closed.

    ``wanted`` are its bytes, ``free`` those that were free before any of them was written.
    """

    __slots__ = ("free", "ledger", "wanted")

    def __init__(self, target: Target, ledger: Ledger, config: Config, crash: CrashInfo, victim: Victim) -> None:
        """Make it. Raises NoCoreError where the rate is exceeded, OutputError."""
        size = victim.size + BESIDE
        self.ledger, self.wanted = ledger, size if config.most is None else min(size, config.most)
        name = executable_of(victim)
        with ledger.held():
            interval, burst = config.limit_interval or 0.0, config.limit_burst or 0
            if burst and not ledger.admit(crash.uid, name, interval=interval, burst=burst):
                raise NoCoreError(
                    f"limit-burst: {counted(burst, 'core')} of {name} of user {crash.uid} saved within {interval:g} s"
                )
            ledger.reserve(self.wanted)
            self.free = target.free
        config.signs, config.awaits = config.keep_per_signature is not None, config.limits_directory


def executable_of(victim: Victim) -> str:
    """What limits for an executable count by: its path, else the name of the process."""
    return os.fsdecode(victim.executable or victim.comm or os.fsencode(UNKNOWN))
