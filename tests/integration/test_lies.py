"""A child that a core has taken over, and the pipes by which it asks what a core may take and says which crash it is.

Whatever it says, the parent counts a core by its file, its user and the owner of its program, none of which the child
names, and ends the child at its deadline.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kernel.handling import Handled, Place, handle, need_root, numbers, place_in
from support.frames import crash_core

from corefilt.crash.recorded import ATTRIBUTE
from corefilt.handler import request
from corefilt.handler.keeping import MOST_FULL
from corefilt.handler.request import Allowance
from corefilt.store.attributes import SMALL
from corefilt.store.ledger import NAME, Ledger

# Code that takes the place of the child's own.
IN_THE_CHILD = """
import os
from corefilt.handler import result, worker
from corefilt.handler.request import Allowance
true = worker.Work._allowance
{}
"""
ALLOWANCE = IN_THE_CHILD.format(
    "def lie(self):\n    allowed, asks = self.awaited\n    {}\nworker.Work._allowance = lie"
)
SIGN = IN_THE_CHILD.format("def lie(self, result, allowance):\n    {}\nworker.Work._sign = lie")
PACK = IN_THE_CHILD.format("result.Result.pack = lambda self: {}")
MINE = b"1 unwound 00000000000000aa abort"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    need_root()
    place = place_in(tmp_path)
    place.write(filter="all", keep_per_signature=1, repeats="minimal", max_use="64M", name="%t", deadline=60)
    return place


def saved_by(place: Place, patch: str = "", *, uid: int = 1000, at: int = 1) -> Handled:
    return handle(place, crash_core(), *numbers(uid=uid, time=at), patch=patch)


def cores(place: Place) -> list[str]:
    return sorted(path.name for path in place.out.iterdir() if path.name != NAME)


def nothing_is_left(place: Place) -> bool:
    """Neither a core nor a reservation."""
    fd = os.open(place.out, os.O_RDONLY)
    try:
        with Ledger(fd, str(place.out)) as ledger, ledger.held():
            return cores(place) == [] and not ledger.reserved()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "lie",
    [
        # Garbage in the pipe that is only to be closed, and a signal that nobody waits for.
        'os.write(asks, b"x" * 4096); return true(self)',
        # It goes on without having asked.
        "return Allowance()",
        # It takes what it was not given.
        'true(self); return Allowance(1 << 60, ("f" * 16,))',
    ],
    ids=["garbage", "unasked", "more than it may"],
)
def test_what_a_child_asks_changes_nothing(lie: str, place: Place) -> None:
    done = saved_by(place, ALLOWANCE.format(lie))
    assert done.code == 0, done.said
    assert cores(place) == ["1"] and os.getxattr(place.out / "1", "user.coredump.uid") == b"1000"


@pytest.mark.parametrize(
    "lie",
    ["os.write(asks, bytes(1 << 20))", "os.read(allowed, 1)"],
    ids=["more than the pipe holds", "never"],
)
def test_a_child_that_never_asks_ends_at_the_deadline(lie: str, place: Place) -> None:
    place.write(filter="all", keep_per_signature=1, max_use="64M", deadline=1.5)
    done = saved_by(place, ALLOWANCE.format(lie))
    assert done.code == 1 and "it took longer than 1.5 s (deadline)" in done.said
    assert nothing_is_left(place)


def test_a_child_that_takes_more_than_it_may_has_its_core_refused(place: Place) -> None:
    """What counts is what the file takes when the child has ended."""
    assert saved_by(place, uid=1001).code == 0
    place.write(filter="all", max_use=(place.out / "1").stat().st_blocks * 512 + 4096, name="%t")
    done = saved_by(place, ALLOWANCE.format("true(self); return Allowance()"), at=2)
    assert done.code == 1 and "another user's only core" in done.said and cores(place) == ["1"]


def test_the_answer_fits_into_the_smallest_pipe() -> None:
    """The child can make a pipe as small as a page (F_SETPIPE_SZ), not smaller."""
    signatures = tuple(f"{n:016x}" for n in range(MOST_FULL))
    for budget in (None, 1 << 62):
        raw = Allowance(budget, signatures).pack()
        assert len(raw) <= request.MOST <= os.sysconf("SC_PAGE_SIZE")
        back = Allowance.unpack(raw)
        assert (back.budget, back.full) == (budget, signatures)


@pytest.mark.parametrize("said", ['b"x" * 5000', 'b""'], ids=["more than is read", "nothing"])
def test_a_report_that_is_none_saves_nothing(said: str, place: Place) -> None:
    done = saved_by(place, PACK.format(said))
    assert done.code == 1 and "child" in done.said, done.said
    assert nothing_is_left(place)


@pytest.mark.parametrize(
    "signature",
    ['b"x" * 3000', 'b"1 unwound ../../../../x abort"'],
    ids=["long", "a path"],
)
def test_a_signature_that_is_none_is_not_noted(signature: str, place: Place) -> None:
    done = saved_by(place, SIGN.format(f"result.signature = {signature}"))
    assert done.code == 0, done.said
    assert ATTRIBUTE not in os.listxattr(place.out / "1")


def test_anothers_signature_counts_only_for_ones_own(place: Place) -> None:
    """A child says of each of its cores that it is the crash of another user's daemon, and that it is a full one."""
    theirs = [saved_by(place, uid=1001, at=1)]
    signature = os.getxattr(place.out / "1", ATTRIBUTE)
    theirs += [saved_by(place, SIGN.format(f"result.signature = {signature!r}"), at=at) for at in range(2, 5)]
    assert [done.code for done in theirs] == [0] * 4
    assert cores(place) == ["1", "4"], "of its own only the latest is left"
    # And the daemon's crash is no repeat.
    os.unlink(place.out / "1")
    assert "repeat" not in saved_by(place, uid=1001, at=5).said
    assert SMALL not in os.listxattr(place.out / "5") and cores(place) == ["4", "5"]


def test_a_child_that_says_that_all_are_repeats_is_bounded_by_the_rest(place: Place) -> None:
    """They do not count as full cores, but max-use and the others' cores are as ever."""
    assert saved_by(place, uid=1001, at=1).code == 0
    size = (place.out / "1").stat().st_blocks * 512
    place.write(filter="all", keep_per_signature=1, max_use=3 * size, name="%t")
    for at in range(2, 5):
        assert saved_by(place, SIGN.format(f"result.signature, result.small = {MINE!r}, True"), at=at).code == 0
    # The first of a crash goes last.
    assert cores(place) == ["1", "2", "4"]
