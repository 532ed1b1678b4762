"""What --fit, --minimal and their kin ask for, as values."""

from __future__ import annotations

from corefilt import sizes as limits
from corefilt.errors import UsageError
from corefilt.filterbits import parse_filter
from corefilt.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# What --follow adds at most where it says nothing else.
FOLLOWED = 16 << 20
# The filter of --ladder that stands for what --minimal keeps.
MINIMAL = "minimal"
# What --runtime names; auto stands for those that are recognised.
RUNTIMES = ("java", "python", "go")
AUTO, NONE = "auto", "none"


class FitRequest:
    """What was asked for: ``limit`` in bytes (None: none), counted as ``allocated`` disk use or as file length.

    ``minimal`` keeps only what a backtrace needs, ``levels`` and ``budget`` (bytes) are those of --follow, ``ladder``
    the filters to try whole, as texts, ``runtimes`` those of which the stacks are kept, or AUTO alone. What is dropped
    is ``unreadable`` where no program header is to claim it.
    """

    __slots__ = ("allocated", "budget", "ladder", "levels", "limit", "minimal", "runtimes", "unreadable")

    def __init__(
        self,
        *,
        fit: int | str | None = None,
        allocated: bool = False,
        minimal: bool = False,
        follow: int | str | None = None,
        ladder: str | Sequence[str] | None = None,
        runtime: str | Sequence[str] | None = None,
        unreadable: bool = False,
    ) -> None:
        """Read the options of ``corefilt filter``. Raises UsageError for what cannot be meant."""
        if fit is None and allocated:
            raise UsageError("--fit-allocated needs --fit: it says how sizes are counted")
        if fit is None and ladder is not None:
            raise UsageError("--ladder needs --fit, which gives the size")
        if follow is not None and fit is None and not minimal:
            raise UsageError("--follow needs --minimal or --fit")
        if ladder is not None and minimal:
            raise UsageError("--ladder and --minimal cannot be combined", f"name {MINIMAL} in the ladder")
        if runtime is not None and fit is None and not minimal:
            raise UsageError("--runtime needs --minimal or --fit")
        if unreadable and fit is None and not minimal:
            raise UsageError("--unreadable needs --minimal or --fit")
        self.limit = parse_limit(fit) if fit is not None else None
        self.allocated, self.minimal, self.unreadable = allocated, minimal, unreadable
        self.levels, self.budget = parse_follow(follow) if follow is not None else (0, 0)
        self.ladder = parse_ladder(ladder) if ladder is not None else []
        self.runtimes = parse_runtimes(runtime) if runtime is not None else (AUTO,)


def parse_limit(value: int | str) -> int | None:
    """Bytes of a SIZE or of ``rlimit``, this process's soft RLIMIT_CORE; None is ``unlimited``. Raises UsageError."""
    size = limits.parse_limit(value, "--fit").size
    return None if size == limits.RLIM_INFINITY else size


def parse_follow(value: int | str) -> tuple[int, int]:
    """Levels and bytes of ``N`` or ``N:SIZE``. Raises UsageError."""
    levels, colon, size = str(value).partition(":")
    if not (levels.isascii() and levels.isdigit()) or not 0 < int(levels[:4]) <= 100 or len(levels) > 3:
        raise UsageError(f"--follow {value!r} is not a number of levels from 1 to 100", "for example 2, or 2:64M")
    return int(levels), parse_size(size) if colon else FOLLOWED


def parse_ladder(value: str | Sequence[str]) -> list[str]:
    """The filters of a ladder; a term with a sign belongs to the filter before it. Raises UsageError or FilterError."""
    rungs: list[str] = []
    for term in value.split(",") if isinstance(value, str) else value:
        if isinstance(value, str) and term[:1] in ("+", "-") and rungs:
            rungs[-1] += "," + term
        else:
            rungs.append(term)
    for rung in rungs:
        if rung != MINIMAL:
            parse_filter(rung)
    return rungs


def parse_runtimes(value: str | Sequence[str]) -> tuple[str, ...]:
    """The runtimes of ``auto``, ``none`` or a list such as ``java,go``. Raises UsageError."""
    names = tuple(dict.fromkeys(value.split(",") if isinstance(value, str) else value))
    if names == (NONE,):
        return ()
    for name in names:
        if name not in RUNTIMES and names != (AUTO,):
            raise UsageError(
                f"--runtime {name!r} is not a known runtime", f"it can be {AUTO}, {NONE}, or {', '.join(RUNTIMES)}"
            )
    return names
