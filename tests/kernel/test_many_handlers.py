"""Whole handlers, many at once, of which a quarter are killed: what their directory showed, and how it ends."""

import os
import shutil
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel.crowd import FIRST, Crowd, crowd, kept, opened, patch_of
from kernel.dumps import CannotCompileError, compile_c, may_change_system
from kernel.handling import Place, in_core_pattern, place_in
from support.frames import crash_core

from corefilt.handler.reservation import BESIDE
from corefilt.store.ledger import NAME

MIB = 1 << 20
USERS, CRASHES, KEPT = range(1000, 1005), range(4), 3
# In pages: 1 to 2 MiB.
SIZES = range(256, 512)
# As much as a process that has ended is taken for, then what its core takes, with headers, stack and text.
MOST_RESERVED = max(BESIDE, (SIZES[-1] + 16) * 4096)


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a folder for the cores of many handlers."""
    if not may_change_system():
        pytest.skip("starts handlers by the dozen: needs root and COREFILT_TEST_SYSTEM=1")
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        yield place_in(Path(folder))


def start_one(them: Crowd, number: int) -> None:
    """Start one of many; a quarter are killed."""
    chance = them.chance
    core = crash_core(chance.choice(CRASHES), heap=chance.choice(SIZES))
    them.start(number, core, chance.choice(USERS), killed=chance.random() < 0.25)


def seed() -> int:
    """Draw one that is another each time, and say it."""
    drawn = int(os.environ.get("COREFILT_TEST_SEED", time.time_ns()))
    print(f"COREFILT_TEST_SEED={drawn}")
    return drawn


def run(them: Crowd, numbers: range, at_once: int, start: Callable[[Crowd, int], None], *, watched: bool) -> None:
    """Start so many in their turn; where all are started here, it is known which of them are alive."""
    left, looked = deque(numbers), 0.0
    while left or them.count:
        while left and them.count < at_once:
            start(them, left.popleft())
        them.step()
        if watched and time.monotonic() > looked + 0.1:
            them.watch_reservations(MOST_RESERVED)
            looked = time.monotonic()
        time.sleep(0.01)


def check_the_end(them: Crowd, max_use: int) -> set[tuple[int, str | None]]:
    """Once one more was saved: no stray file, no reservation, no record, no more than is kept; the crashes alive."""
    place = them.place
    them.start(10**8, crash_core(0, heap=SIZES[0]), USERS[0], killed=False)
    them.wait()
    assert str(FIRST + 10**8) in os.listdir(place.out)
    cores = kept(place)
    with opened(place) as (_, ledger), ledger.held():
        assert ledger.reserved() == 0
    assert {core.name for core in cores} | {NAME} == set(os.listdir(place.out))
    assert os.listdir(place.records) == []
    assert sum(core.size for core in cores) <= max_use
    full = Counter((core.uid, core.signature) for core in cores if not core.small)
    assert max(full.values()) <= KEPT and None not in {core.signature for core in cores}
    return {(core.uid, core.signature) for core in cores}


def refused(them: Crowd) -> list[str]:
    return [line for line in them.history.lines if "no core was saved" in line and "its handler was killed" not in line]


@pytest.mark.parametrize("repeats", ["none", "minimal"])
def test_some_of_which_a_quarter_are_killed(repeats: str, place: Place) -> None:
    max_use = 24 * MIB
    place.write(name="%P", filter="all", max_use=max_use, keep_per_signature=KEPT, repeats=repeats)
    with crowd(place, seed()) as them:
        run(them, range(16), 6, start_one, watched=True)
        check_the_end(them, max_use)
    assert set(them.ends) <= {0, -signal.SIGKILL}, them.ends
    assert not refused(them)
    assert them.history.check(max_use, KEPT) > 0


@pytest.mark.slow
@pytest.mark.parametrize("repeats", ["none", "minimal"])
def test_two_thousand_of_which_a_quarter_are_killed(repeats: str, place: Place, reports: dict[str, str]) -> None:
    """Three hundred are of processes that the kernel dumps."""
    max_use = 200 * MIB
    place.write(name="%P", filter="all", max_use=max_use, keep_per_signature=KEPT, repeats=repeats)
    try:
        program = compile_c("looping.c", place.root / "looping", "-O1", "-static")
    except CannotCompileError as error:
        pytest.skip(str(error))

    def start_one_of_both(them: Crowd, number: int) -> None:
        if number % 4:
            chance = them.chance
            them.crash(program, chance.choice(CRASHES), chance.choice(USERS), killed=chance.random() < 0.25)
        else:
            start_one(them, number)

    drawn = seed()
    with crowd(place, drawn) as them:
        with in_core_pattern(place, patch_of(place)) as handler:
            run(them, range(400), 32, start_one_of_both, watched=False)
            handler.wait()
        run(them, range(400, 2000), 32, start_one, watched=True)
        alive = check_the_end(them, max_use)
    assert set(them.ends) <= {0, -signal.SIGKILL, -signal.SIGSEGV}, them.ends
    assert them.ends[-signal.SIGSEGV] == 300 and them.ends[-signal.SIGKILL] > 200
    assert not refused(them)
    largest = them.history.check(max_use, KEPT)
    # Every crash of which there ever was a core is alive.
    assert {(core.uid, core.signature) for core in them.history.cores.values()} == alive
    came = sum(came for came, _ in them.history.events)
    reports[f"2,000 handlers, repeats = {repeats}"] = (
        f"seed {drawn}: {len(them.history.killed)} killed, {came} cores, {len(them.history.events) - came} removed, "
        f"{len(alive)} crashes alive, at most {largest / max_use:.3f} of max-use"
    )


@pytest.mark.slow
def test_a_loop_of_a_thousand_beside_five_others(place: Place, reports: dict[str, str]) -> None:
    """One user's program crashes again and again; of each of five others one crash comes at some time, and stays."""
    max_use = 24 * MIB
    place.write(name="%P", filter="all", max_use=max_use)
    drawn = seed()
    with crowd(place, drawn) as them:
        others = dict(zip(them.chance.sample(range(1000), 5), range(2000, 2005), strict=True))

        def start_one_of_a_loop(them: Crowd, number: int) -> None:
            them.start(number, crash_core(heap=64), others.get(number, USERS[0]), killed=False)

        run(them, range(1000), 16, start_one_of_a_loop, watched=True)
        cores = kept(place)
    assert them.ends == {0: 1000} and not refused(them)
    assert {core.uid for core in cores} == {USERS[0], *others.values()}
    assert sum(core.size for core in cores) <= max_use
    largest = them.history.check(max_use, 1000)
    gone = sum(not came for came, _ in them.history.events)
    reports["a loop of 1,000 crashes"] = f"seed {drawn}: {gone} removed, at most {largest / max_use:.3f} of max-use"


def test_copies_of_a_daemon_make_no_repeat_of_its_crash(place: Place) -> None:
    """A user crashes copies of another's daemon, and the daemon's own program, in the daemon's way."""
    try:
        daemon = compile_c("looping.c", place.root / "daemon", "-O1", "-static")
    except CannotCompileError as error:
        pytest.skip(str(error))
    copied = place.root / "copied"
    shutil.copy(daemon, copied)
    os.chown(copied, 1002, 1002)
    place.write(name="%P", filter="all", keep_per_signature=1, repeats="minimal")
    cores = []
    with crowd(place, 0) as them, in_core_pattern(place, patch_of(place)) as handler:
        for program, uid in ((copied, 1002), (daemon, 1002), (copied, 1002), (daemon, 1001), (copied, 1002)):
            them.crash(program, 1, uid, killed=False)
            them.wait()
            handler.wait()
            cores.append({core.uid: core for core in kept(place) if not core.small})
    assert {core.signature for core in kept(place)} == {cores[-1][1001].signature} != {None}
    assert cores[3][1001] == cores[-1][1001], "the daemon's is whole, and stays"
    assert Counter((core.uid, core.owner, core.small) for core in kept(place)) == {
        (1002, "1002", False): 1, (1002, "1002", True): 2, (1002, "0", False): 1, (1001, "0", False): 1,
    }  # fmt: skip
