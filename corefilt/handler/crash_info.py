"""What the kernel says of a crash: the numbers that core_pattern carries."""

from __future__ import annotations

from corefilt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What core_pattern carries, in this order: numbers only, which no process can choose the spelling of.
PATTERN = "%P %u %g %s %t %c %d %F"

_MOST = {
    "%P": (1 << 31) - 1,
    "%u": (1 << 32) - 1,
    "%g": (1 << 32) - 1,
    "%s": 64,
    "%t": (1 << 63) - 1,
    "%c": (1 << 64) - 1,
    "%d": 2,
    "%F": (1 << 31) - 1,
}


class CrashInfo:
    """A crash by its numbers, in the first pid and user namespaces.

    ``time`` is in seconds since 1970, ``limit`` the soft RLIMIT_CORE in bytes, ``dumpable`` the dump mode, ``pidfd`` a
    descriptor of the process, or None.
    """

    __slots__ = ("dumpable", "gid", "limit", "pid", "pidfd", "signal", "time", "uid")

    def __init__(
        self, pid: int, uid: int, gid: int, signal: int, time: int, limit: int, dumpable: int, pidfd: int | None = None
    ) -> None:
        self.pid, self.uid, self.gid, self.signal, self.time = pid, uid, gid, signal, time
        self.limit, self.dumpable, self.pidfd = limit, dumpable, pidfd


def parse_crash(words: Sequence[str]) -> CrashInfo:
    """The crash that the arguments tell; ``%F`` may be missing, and is empty before Linux 6.16. Raises UsageError."""
    names = PATTERN.split()
    if len(words) not in (len(names) - 1, len(names)):
        from corefilt.text import counted

        got = counted(len(words), "argument")
        raise UsageError(f"got {got}; expected the numbers {PATTERN}", "corefilt install sets the pattern")
    pidfd = words[len(names) - 1 :] or [""]
    numbers = [_number(name, word) for name, word in zip(names[:-1], words, strict=False)]
    if not numbers[0]:
        raise UsageError("%P is 0, which is not a process ID")
    pid, uid, gid, signal, time, limit, dumpable = numbers
    return CrashInfo(pid, uid, gid, signal, time, limit, dumpable, _number("%F", pidfd[0]) if pidfd[0] else None)


def _number(name: str, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) <= 20) or int(word) > _MOST[name]:
        raise UsageError(f"{name} is {word!r}, not a number up to {_MOST[name]}")
    return int(word)
