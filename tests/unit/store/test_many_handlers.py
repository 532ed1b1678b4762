"""Many handlers at once, some of which are killed: what a directory shows at every instant, and what it is at the end.

Each is a process that does what the handler's parent does: it reserves, writes a file without a name, gives it its name
and removes what is too much. The child that reads a core is left out; its result is the file.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from corefilt.crash.recorded import ATTRIBUTE
from corefilt.errors import CorefiltError
from corefilt.handler import keeping as keepings
from corefilt.handler import reservation as reservations
from corefilt.handler.config import Config
from corefilt.handler.keeping import Keeping
from corefilt.handler.log import Messages
from corefilt.handler.reservation import Reservation
from corefilt.handler.store import Target
from corefilt.store.attributes import FACTS, OWNER
from corefilt.store.directory import kept_cores
from corefilt.store.ledger import CORES, NAME, Ledger

KEPT = 3
# What ends some of them ends a process at once, as SIGKILL does.
ENDED = signal.SIGALRM
USERS, CRASHES = 5, 4
# A core takes 4 to 32 KiB; half of what may stay of each crash has room, and all that are written at a time.
MOST_PAGES, MOST_AT_ONCE = 8, 32
MAX_USE = (USERS * CRASHES * KEPT // 2 + MOST_AT_ONCE) * (MOST_PAGES + 1) * 4096
NOTHING, LINKED, DONE = b"\0", b"\1", b"\2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # These cores have nothing beside their memory.
    monkeypatch.setattr(reservations, "BESIDE", 0)
    folder = tmp_path / "cores"
    folder.mkdir()
    try:
        os.setxattr(folder, OWNER, b"0")
    except OSError:
        pytest.skip("no attributes here")
    return folder


def settings(**more: Any) -> Config:
    config = Config()
    config.max_use, config.keep_per_signature = MAX_USE, KEPT
    for name, value in more.items():
        setattr(config, name, value)
    return config


class Silent(Messages):
    """Nothing is said."""

    def say(self, *about: object, **more: object) -> None:
        """Not this either."""


def handle(
    folder: Path, n: int, uid: int, crash: int, states: mmap.mmap | None = None, config: Config | None = None
) -> None:
    """Save one core, as the parent does."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    target = Target(fd, str(folder))
    size = random.Random(n).randint(1, MOST_PAGES) * 4096
    child: Any = SimpleNamespace(
        victim=SimpleNamespace(executable=b"/bin/x%d" % (crash % 2), comm=b"x", size=size), program=-1
    )
    about: Any = SimpleNamespace(uid=uid, time=1_700_000_000 + n)
    with Ledger(fd, str(folder)) as ledger:
        config = config or settings()
        reservation = Reservation(target, ledger, config, about, child.victim)
        keeping = Keeping(target, reservation, config, about, child)
        file = target.new_file()
        os.write(file, b"c" * size)
        allowance = keeping.allow(size)
        assert allowance.budget is None or allowance.budget >= size
        signature = f"{uid:08x}{crash:08x}"
        noted = {
            FACTS + "uid": str(uid), FACTS + "exe": f"/bin/x{crash % 2}", FACTS + "timestamp": str(about.time),
            OWNER: "-", ATTRIBUTE: f"1 unwound {signature} abort",
        }  # fmt: skip
        for name, value in noted.items():
            os.setxattr(file, name, value.encode())

        def give_name() -> str:
            if states is not None:
                states[n : n + 1] = LINKED
            return target.give_name(file, b"core.%d" % n, b"")

        def sweep(*arguments: Any, **more: Any) -> None:
            keepings_sweep(*arguments, **more)
            if states is not None:
                # What somebody else has left over has gone, too.
                states[:] = bytes(states).replace(LINKED, DONE)

        keepings_sweep, keepings.sweep = keepings.sweep, sweep
        try:
            keeping.commit(os.fstat(file).st_blocks * 512, signature, give_name, Silent(), small=False)
        finally:
            keepings.sweep = keepings_sweep
        os.close(file)
    os.close(fd)


def started(folder: Path, n: int, states: mmap.mmap, took: mmap.mmap) -> int:
    pid = os.fork()
    if not pid:
        _be_one(folder, n, states, took)
    return pid


def _be_one(folder: Path, n: int, states: mmap.mmap, took: mmap.mmap) -> NoReturn:
    """A quarter end themselves, by a timer of the kernel's, somewhere within what the last whole one has taken."""
    code, began = 1, time.monotonic()
    try:
        chance = random.Random(n)
        if chance.random() < 0.25:
            signal.signal(ENDED, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, max(chance.random() * struct.unpack("d", took[:])[0], 1e-6))
        handle(folder, n, 1000 + chance.randrange(USERS), chance.randrange(CRASHES), states)
        took[:] = struct.pack("d", time.monotonic() - began)
        code = 0
    finally:
        os._exit(code)


def watch(folder: Path, ledger: Ledger, states: mmap.mmap) -> None:
    """What holds whenever nobody holds the lock: only who was killed between name and removal has left too much."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with ledger.held(CORES):
            used = sum(core.size for core in kept_cores(fd))
            assert used <= MAX_USE or LINKED in bytes(states), f"{used} of {MAX_USE} bytes"
    finally:
        os.close(fd)


def run_many(folder: Path, count: int, at_once: int) -> Counter[int]:
    """Start ``count`` of them, ``at_once`` at a time, of which a quarter end at some instant; how they ended."""
    ends = Counter[int]()
    states, took = mmap.mmap(-1, count), mmap.mmap(-1, 8)
    took[:] = struct.pack("d", 0.01)
    running: set[int] = set()
    fd = os.open(folder, os.O_RDONLY)
    number = 0
    with Ledger(fd, str(folder)) as ledger:
        while number < count or running:
            while number < count and len(running) < at_once:
                running.add(started(folder, number, states, took))
                number += 1
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended in running:
                running.remove(ended)
                ends[os.waitstatus_to_exitcode(status)] += 1
            elif not ended:
                watch(folder, ledger, states)
    os.close(fd)
    return ends


def check_the_end(folder: Path) -> None:
    """No stray file, no reservation, no signature that is lost, and no more of each than is kept."""
    handle(folder, 10_000_000, 1000, 0)
    fd = os.open(folder, os.O_RDONLY)
    cores = kept_cores(fd)
    with Ledger(fd, str(folder)) as ledger, ledger.held():
        assert ledger.reserved() == 0
    os.close(fd)
    assert {core.name for core in cores} | {NAME} == set(os.listdir(folder))
    assert sum(core.size for core in cores) <= MAX_USE
    assert max(Counter((core.uid, core.signature) for core in cores).values()) <= KEPT


def signatures(folder: Path) -> set[tuple[int, str | None]]:
    fd = os.open(folder, os.O_RDONLY)
    try:
        return {(core.uid, core.signature) for core in kept_cores(fd)}
    finally:
        os.close(fd)


def test_forty_of_which_some_are_killed(folder: Path) -> None:
    ends = run_many(folder, 40, 8)
    assert set(ends) <= {0, -ENDED}, ends
    check_the_end(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_of_which_a_quarter_are_killed(folder: Path) -> None:
    for uid in range(USERS):
        for crash in range(CRASHES):
            handle(folder, 20_000_000 + CRASHES * uid + crash, 1000 + uid, crash)
    before = signatures(folder)
    ends = run_many(folder, 2000, MOST_AT_ONCE)
    assert set(ends) <= {0, -ENDED}, ends
    assert ends[-ENDED] > 200, ends
    check_the_end(folder)
    # Every signature that there was is alive.
    assert before <= signatures(folder)


def loop(folder: Path, count: int) -> None:
    """A user's program crashes again and again, beside one crash of each of five others."""
    config = settings(max_use=12 * (MOST_PAGES + 1) * 4096, keep_per_signature=None)
    others = {n * count // 5: 2000 + n for n in range(5)}
    for n in range(count):
        if n in others:
            handle(folder, 1_000_000 + n, others[n], 0, config=config)
        handle(folder, n, 1000, n % CRASHES, config=config)
    assert {uid for uid, _ in signatures(folder)} == {1000, *others.values()}


def test_a_loop_removes_nobodys_only_core(folder: Path) -> None:
    loop(folder, 40)


@pytest.mark.slow
def test_a_loop_of_a_thousand(folder: Path) -> None:
    loop(folder, 1000)


def test_what_a_kill_left_goes_with_the_next(folder: Path) -> None:
    for n in range(20):
        handle(folder, n, 1000 + n % 2, n % 2)
    # As if handlers had been killed between the name and the removal.
    for n in range(20):
        handle(
            folder, 100 + n, 1000 + n % 2, n % 2, config=settings(max_use=None, keep_per_signature=None, max_age=10**9)
        )
    check_the_end(folder)


def test_nothing_of_a_full_directory_of_others_is_taken(folder: Path) -> None:
    handle(folder, 1, 1000, 0)
    (name,) = [name for name in os.listdir(folder) if name != NAME]
    with pytest.raises(CorefiltError, match="only core"):
        handle(folder, 2, 1001, 0, config=settings(max_use=4096))
    assert name in os.listdir(folder)


def test_a_process_does_not_wait_for_a_thousand_cores(folder: Path) -> None:
    """What it waits for is the rate and a reservation: less than 5 ms of CPU time however many cores there are."""
    for n in range(1000):
        path = folder / f"core.{n}"
        path.touch()
        os.setxattr(path, OWNER, b"0")
        os.setxattr(path, FACTS + "uid", b"%d" % (n % 7))
    config = settings(limit_interval=600.0, limit_burst=1 << 20, max_age=10**9, repeats="minimal")
    child: Any = SimpleNamespace(victim=SimpleNamespace(executable=b"/bin/x", comm=b"x", size=1 << 20), program=-1)
    about: Any = SimpleNamespace(uid=1000, time=1_700_000_000)
    fd = os.open(folder, os.O_RDONLY)
    took = []
    for _ in range(5):
        with Ledger(fd, str(folder)) as ledger:
            began = time.process_time()
            Reservation(Target(fd, str(folder)), ledger, config, about, child.victim)
            took.append(time.process_time() - began)
    os.close(fd)
    assert sorted(took)[2] < 0.005
