"""How many cores stay: what is asked before a core is read, and what is done once it is whole.

Under locks of the directory's ledger, each for milliseconds: before the core is read, the rate and a reservation of as
much as the process has; once it is read, how much it may take; when it is whole, it gets its name, and what is too much
by then goes, so that the limit is exceeded only between the two. What a handler that was killed there left over goes
with the next core.
"""

from __future__ import annotations

import os
import time
from functools import partial

from corefilt.errors import NoCoreError
from corefilt.handler.log import NOTICE, WARNING
from corefilt.handler.request import Allowance
from corefilt.handler.reservation import executable_of
from corefilt.handler.store import program_owner
from corefilt.sizes import show_size
from corefilt.store.directory import Directory, remove
from corefilt.store.ledger import CORES
from corefilt.store.retention import KeptCore, Limits, decide, full_signatures, staying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corefilt.handler.config import Config
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.log import Messages
    from corefilt.handler.reservation import Reservation
    from corefilt.handler.store import Target
    from corefilt.handler.worker_process import Forked
    from corefilt.store.retention import Removal, RetentionPlan

# Signatures that the child is told of (PIPE_BUF); more crashes than that in turn are no loop.
MOST_FULL = 100
# The new core, which has no name yet.
_NEW = ""


class Keeping:
    """The limits of one directory, for the core of one crash of which the rest is reserved."""

    def __init__(
        self, target: Target, reservation: Reservation, config: Config, crash: CrashInfo, child: Forked
    ) -> None:
        self._target, self._ledger, self._config = target, reservation.ledger, config
        self._wanted, self._free = reservation.wanted, reservation.free
        self._uid, self._executable, self._time = crash.uid, executable_of(child.victim), float(crash.time)
        self._limits = limits_of(config, target.fd)
        self._directory = Directory(target.fd)
        # Asked when nobody waits for the answer any more.
        self.owner = program_owner(child.program)

    def allow(self, written: int) -> Allowance:
        """How much the core may take once all that may go is gone, and of which crashes there are enough full cores.

        ``written`` is the disk use of what was saved of it so far, in bytes: more than the process had where it had
        ended, or had mapped what is not its own. Raises NoCoreError where there is no room at all, OutputError.
        """
        config = self._config
        # What was looked at before the lock is not looked at again below it.
        self._directory.cores()
        with self._ledger.held(CORES):
            cores = self._directory.cores()
            with self._ledger.held():
                budget = self._budget(cores, self._ledger.reserved())
                if budget is not None and budget <= 0:
                    raise NoCoreError(
                        "there is no space, and what is kept is protected or another user's only core",
                        "corefilt vacuum -n shows what may go",
                    )
                if budget is not None:
                    self._ledger.reserve(min(max(self._wanted, written), budget))
        full: frozenset[str] = frozenset()
        if config.repeats == "minimal" and config.keep_per_signature is not None:
            full = full_signatures(cores, self._uid, self.owner, config.keep_per_signature)
        return Allowance(budget, tuple(sorted(full))[:MOST_FULL])

    def _budget(self, cores: list[KeptCore], others: int) -> int | None:
        """How much the core may take once all that may go is gone, in bytes; None: as much as it wants."""
        limits = self._limits
        if limits.max_use is None and limits.keep_free is None:
            return None
        stays = staying(cores, self._uid)
        room = [limits.max_use - stays] if limits.max_use is not None else []
        if limits.keep_free is not None:
            room.append(self._free + sum(core.size for core in cores) - stays - limits.keep_free)
        return min(room) - others

    def _new(self, size: int, signature: str | None = None, *, small: bool = False) -> KeptCore:
        about = (_NEW, size, self._uid, self._executable, self._time, self.owner, signature, small)
        return KeptCore(*about, protected="is being saved")

    def _decide(self, cores: Iterable[KeptCore], *, free: int, reserved: int) -> RetentionPlan:
        return decide(cores, self._limits, now=time.time(), free=free, reserved=reserved)

    def commit(
        self, size: int, signature: str | None, give_name: Callable[[], str], messages: Messages, *, small: bool
    ) -> str:
        """Give a whole core its name, and remove what is too much with it; returns its path.

        ``size`` is its disk use in bytes, ``signature`` that of its crash where it is certain, ``small`` tells that it
        is a repeat that was made minimal.

        Raises NoCoreError where it does not fit although all that may go would go, OutputError.
        """
        with self._ledger.held(CORES):
            # What others are writing has taken its room already; what goes for them, they see to themselves.
            cores = [*self._directory.cores(), self._new(size, signature, small=small)]
            plan = self._decide(cores, free=self._target.free, reserved=0)
            if plan.short:
                raise NoCoreError(
                    f"{show_size(plan.short)} too many: what is kept is protected or another user's only core",
                    "corefilt vacuum -n shows what may go",
                )
            path = give_name()
            sweep(self._target.fd, self._target.path, cores, self._limits, messages)
            return path


def limits_of(config: Config, folder: int) -> Limits:
    """The limits of the settings, for the file system of an open directory."""
    keep_free = None
    if config.keep_free is not None:
        status = os.fstatvfs(folder)
        size, percent = config.keep_free
        keep_free = size + status.f_blocks * status.f_frsize // 100 * percent
    return Limits(config.max_use, keep_free, config.max_age, config.max_per_executable, config.keep_per_signature)


def sweep(folder: int, path: str, cores: list[KeptCore], limits: Limits, messages: Messages) -> None:
    """Remove what is too much, one after the other, and say so; what cannot be removed is taken for protected."""
    left = list(cores)
    while True:
        status = os.fstatvfs(folder)
        free = status.f_bavail * status.f_frsize
        plan = decide(left, limits, now=time.time(), free=free)
        for removal in plan.removals:
            left.remove(removal.core)
            words = words_of(removal, path)
            if remove(folder, removal.core, partial(messages.say, words, NOTICE)):
                continue
            # Somebody works on it, or it is gone: decide once more.
            messages.say(f"{os.path.join(path, removal.core.name)}: is locked or gone, and stays", WARNING)
            left.append(protected(removal.core))
            break
        else:
            return


def protected(core: KeptCore) -> KeptCore:
    """The same core, which must not go."""
    return KeptCore(
        core.name, core.size, core.uid, core.executable, core.time, core.owner, core.signature, core.small, "is locked"
    )


def words_of(removal: Removal, path: str, verb: str = "removed") -> str:
    """What is said of a core that goes."""
    core = removal.core
    signature = f", signature {core.signature}" if core.signature is not None else ""
    return (
        f"{verb} {os.path.join(path, core.name)}: {show_size(core.size)} of user {core.uid}{signature}, by "
        f"{removal.rule}"
    )
