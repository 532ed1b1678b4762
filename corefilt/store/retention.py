"""Which cores of a directory go, in which order, and why: decided over records, with nothing opened or removed here.

A user's cores never count against another user's: limits for an executable or a crash are counted within a user, and
the last core of a user goes for nothing but its age. Where space is short, the user with the most bytes loses one
first, whatever the executables are called.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_AGE, MAX_PER_EXECUTABLE, KEEP_PER_SIGNATURE, MAX_USE, KEEP_FREE = RULES = (
    "max-age", "max-per-executable", "keep-per-signature", "max-use", "keep-free",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptCore:
    """A core that a directory keeps: ``size`` is its disk use in bytes, ``time`` seconds since the epoch.

    ``uid`` is the user whose process it was, ``owner`` who owns the executable, as a text, ``signature`` that of its
    crash where it is certain, else None: then it is no repeat. ``small`` tells that it was made minimal as a repeat.
    ``protected`` says why it must not go; empty: it may.
    """

    name: str
    size: int
    uid: int
    executable: str
    time: float
    owner: str = "-"
    signature: str | None = None
    small: bool = False
    protected: str = ""

    @property
    def crash(self) -> tuple[str, str] | None:
        """What it has in common with a repeat of the same user."""
        return (self.owner, self.signature) if self.signature is not None else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a directory may keep; None does not limit it. Sizes are in bytes, the age is in seconds."""

    max_use: int | None = None
    keep_free: int | None = None
    max_age: float | None = None
    max_per_executable: int | None = None
    keep_per_signature: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return any(getattr(self, name) is not None for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class Removal:
    """A core that goes, and the rule by which, one of RULES."""

    core: KeptCore
    rule: str


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """``removals`` in the order in which they are carried out; ``short`` bytes are still too many after all of them."""

    removals: tuple[Removal, ...]
    short: int = 0


def decide(cores: Iterable[KeptCore], limits: Limits, *, now: float, free: int, reserved: int = 0) -> RetentionPlan:
    """Decide which cores go, at a time in seconds since the epoch.

    ``free`` are the bytes that are free on the file system, ``reserved`` those of cores that are being written.
    """
    left = sorted(cores, key=lambda core: (core.time, core.name))
    removals: list[Removal] = []

    def remove(rule: str, gone: Iterable[KeptCore]) -> None:
        for core in gone:
            removals.append(Removal(core, rule))
            left.remove(core)

    if limits.max_age is not None:
        oldest = now - limits.max_age
        remove(MAX_AGE, [core for core in left if core.time < oldest and not core.protected])
    if limits.keep_per_signature is not None:
        remove(KEEP_PER_SIGNATURE, list(_over_signature(left, limits.keep_per_signature)))
    if limits.max_per_executable is not None:
        remove(MAX_PER_EXECUTABLE, list(_over_executable(left, limits.max_per_executable)))
    short = 0
    gained = sum(removal.core.size for removal in removals)
    for rule, over in (
        (MAX_USE, _over_use(left, limits.max_use, reserved)),
        (KEEP_FREE, (limits.keep_free or 0) + reserved - free - gained if limits.keep_free is not None else 0),
    ):
        over -= sum(removal.core.size for removal in removals if removal.rule == MAX_USE and rule == KEEP_FREE)
        for victim in victims(left):
            if over <= 0:
                break
            remove(rule, [victim])
            over -= victim.size
        short = max(short, over)
    return RetentionPlan(tuple(removals), max(short, 0))


def _over_use(left: list[KeptCore], limit: int | None, reserved: int) -> int:
    """The bytes by which the cores exceed a limit."""
    return sum(core.size for core in left) + reserved - limit if limit is not None else 0


def _over_signature(left: list[KeptCore], most: int) -> Iterator[KeptCore]:
    """Full cores of one crash beyond ``most``: the first ones stay, and always the latest."""
    groups: dict[object, list[KeptCore]] = defaultdict(list)
    for core in left:
        if core.crash is not None and not core.small:
            groups[core.uid, core.crash].append(core)
    for group in groups.values():
        # Where one of those between is protected, as the new one is after a jump of the clock, another goes for it.
        order = [*group[most - 1 : -1], *reversed(group[: most - 1]), group[-1]]
        yield from [core for core in order if not core.protected][: max(len(group) - most, 0)]


def _over_executable(left: list[KeptCore], most: int) -> Iterator[KeptCore]:
    """Cores of one executable of one user beyond ``most``: repeats go first, the oldest before all."""
    groups: dict[object, list[KeptCore]] = defaultdict(list)
    for core in left:
        groups[core.uid, core.executable].append(core)
    for group in groups.values():
        order = _in_order(group, group)
        yield from order[: max(len(group) - most, 0)]


def _repeats(cores: list[KeptCore]) -> set[str]:
    """The names of those cores of one user, the oldest first, that are not the first of their crash."""
    seen: set[tuple[str, str]] = set()
    found = set()
    for core in cores:
        if core.crash is not None:
            if core.crash in seen:
                found.add(core.name)
            seen.add(core.crash)
    return found


def _in_order(group: list[KeptCore], of_user: list[KeptCore]) -> list[KeptCore]:
    """Those of a group that may go: repeats first, the oldest before all."""
    repeats = _repeats(of_user)
    free = [core for core in group if not core.protected]
    return sorted(free, key=lambda core: (core.name not in repeats, core.time, core.name))


def victims(left: list[KeptCore]) -> Iterator[KeptCore]:
    """What goes where space is short, one after the other; ``left``, oldest first, may lose them meanwhile."""
    while True:
        users: dict[int, list[KeptCore]] = defaultdict(list)
        for core in left:
            users[core.uid].append(core)
        chosen = None
        for cores in sorted(users.values(), key=lambda cores: (-sum(core.size for core in cores), cores[0].uid)):
            # The only core of a user is nobody's to take.
            chosen = _victim_of(cores) if len(cores) > 1 else None
            if chosen is not None:
                break
        if chosen is None:
            return
        yield chosen


def _victim_of(cores: list[KeptCore]) -> KeptCore | None:
    """Of one user the oldest repeat of the executable with the most bytes; where none is left, the oldest core."""
    repeats = _repeats(cores)
    free = [core for core in cores if not core.protected]
    candidates = [core for core in free if core.name in repeats] or free
    if not candidates:
        return None
    sizes: dict[str, int] = defaultdict(int)
    for core in cores:
        sizes[core.executable] += core.size
    largest = max({core.executable for core in candidates}, key=lambda name: (sizes[name], name))
    return next(core for core in candidates if core.executable == largest)


def staying(cores: Iterable[KeptCore], uid: int) -> int:
    """The bytes that stay when all goes that may go for a new core of a user: protected ones, and one of each other."""
    stays: dict[int, int] = defaultdict(int)
    largest: dict[int, int] = defaultdict(int)
    for core in cores:
        if core.protected:
            stays[core.uid] += core.size
        elif core.uid != uid:
            largest[core.uid] = max(largest[core.uid], core.size)
    # A user whose core is protected has that one.
    return sum(stays.values()) + sum(size for user, size in largest.items() if user not in stays)


def full_signatures(cores: Iterable[KeptCore], uid: int, owner: str, most: int) -> frozenset[str]:
    """The signatures of which a user has at least ``most`` full cores of executables of this owner."""
    counts: dict[str, int] = defaultdict(int)
    for core in cores:
        if core.uid == uid and core.owner == owner and core.signature is not None and not core.small:
            counts[core.signature] += 1
    return frozenset(signature for signature, count in counts.items() if count >= most)
