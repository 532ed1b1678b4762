"""Which cores go, in which order: decided over records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corefilt.store.retention import (
    KEEP_FREE,
    KEEP_PER_SIGNATURE,
    MAX_AGE,
    MAX_PER_EXECUTABLE,
    MAX_USE,
    KeptCore,
    Limits,
    decide,
    full_signatures,
    staying,
)

HERE = 1_000_000.0
A, B = "a" * 16, "b" * 16


def core(name: str, size: int = 10, *, uid: int = 1, exe: str = "/bin/x", at: float = 0, **more: object) -> KeptCore:
    return KeptCore(name, size, uid, exe, HERE + at, **more)  # type: ignore[arg-type]


def gone(cores: list[KeptCore], limits: Limits, *, free: int = 1 << 40, reserved: int = 0) -> list[tuple[str, str]]:
    verdict = decide(cores, limits, now=HERE, free=free, reserved=reserved)
    return [(removal.core.name, removal.rule) for removal in verdict.removals]


def names(cores: list[KeptCore], limits: Limits, **more: int) -> list[str]:
    return [name for name, _ in gone(cores, limits, **more)]


def test_nothing_goes_without_a_limit() -> None:
    assert gone([core(str(n), 1 << 50) for n in range(9)], Limits()) == []
    assert not Limits().any and Limits(max_use=0).any


def test_what_is_older_goes_and_what_is_as_old_stays() -> None:
    cores = [core("old", at=-101), core("as old", at=-100), core("new", at=0), core("future", at=9)]
    assert gone(cores, Limits(max_age=100)) == [("old", MAX_AGE)]


def test_of_a_crash_the_first_ones_stay_and_always_the_latest() -> None:
    cores = [core(str(n), at=n, signature=A) for n in range(6)]
    assert gone(cores, Limits(keep_per_signature=3)) == [(n, KEEP_PER_SIGNATURE) for n in "234"]
    assert names(cores, Limits(keep_per_signature=1)) == list("01234")
    assert names(cores, Limits(keep_per_signature=6)) == []


def test_what_is_protected_counts_too() -> None:
    cores = [core(str(n), at=n, signature=A, protected="is being saved" if n == 2 else "") for n in range(5)]
    assert names(cores, Limits(keep_per_signature=3)) == ["3", "1"]
    assert names(cores, Limits(keep_per_signature=2)) == ["1", "3", "0"]
    assert names(cores, Limits(keep_per_signature=1)) == ["0", "1", "3", "4"]


def test_what_has_no_certain_signature_is_no_repeat() -> None:
    assert gone([core(str(n), at=n) for n in range(6)], Limits(keep_per_signature=1)) == []


@pytest.mark.parametrize("other", [{"uid": 2}, {"owner": "1000"}, {"signature": B}, {"small": True}], ids=str)
def test_only_the_same_crash_of_the_same_user_counts(other: dict[str, object]) -> None:
    """Above all a copy of another's program: its owner is another one."""
    one = core("one", signature=A, owner="0")
    assert gone([one, replace(one, name="two", time=HERE + 1, **other)], Limits(keep_per_signature=1)) == []  # type: ignore[arg-type]
    assert names([one, replace(one, name="two", time=HERE + 1)], Limits(keep_per_signature=1)) == ["one"]


def test_of_an_executable_repeats_go_first_and_the_first_of_a_crash_last() -> None:
    cores = [
        core("first of a", at=1, signature=A), core("first of b", at=2, signature=B),
        core("a again", at=3, signature=A), core("not known", at=4), core("b again", at=5, signature=B),
        core("other", at=0, exe="/bin/y"),
        core("of another", at=0, uid=2),
    ]  # fmt: skip
    order = ["a again", "b again", "first of a", "first of b", "not known"]
    for most in range(1, 5):
        assert gone(cores, Limits(max_per_executable=most)) == [(n, MAX_PER_EXECUTABLE) for n in order[: 5 - most]]


def test_the_user_with_the_most_bytes_loses_first() -> None:
    """A flood of names of executables is one user's all the same."""
    flood = [core(f"flood {n}", 10, uid=1, exe=f"/tmp/{n}", at=n) for n in range(20)]
    others = [core("big", 60, uid=2, at=-9), core("small", 10, uid=2, at=-8)]
    assert gone([*flood, *others], Limits(max_use=250)) == [("flood 9", MAX_USE), ("flood 8", MAX_USE)]
    # What is left of the flood is less than the other has at the end.
    victims = names([*flood, *others], Limits(max_use=120))
    assert victims[:13] == [f"flood {n}" for n in (9, 8, 7, 6, 5, 4, 3, 2, 19, 18, 17, 16, 15)]
    assert "big" in victims and "small" not in victims


def test_in_a_user_the_largest_executable_loses_its_repeats_first() -> None:
    cores = [
        core("x", 50, exe="/x", at=0, signature=A), core("x again", 50, exe="/x", at=1, signature=A),
        core("y", 40, exe="/y", at=-5, signature=B), core("y again", 40, exe="/y", at=-4, signature=B),
        core("y third", 40, exe="/y", at=-3, signature=B),
    ]  # fmt: skip
    order = ["y again", "x again", "y third", "x"]
    for count in range(1, 5):
        total = sum(one.size for one in cores) - sum(one.size for one in cores if one.name in order[:count])
        assert names(cores, Limits(max_use=total)) == order[:count]


def test_the_only_core_of_a_user_goes_for_nothing_but_its_age() -> None:
    cores = [core("only", 1000, uid=7), core("a", 10, uid=1, at=1), core("b", 10, uid=1, at=2)]
    verdict = decide(cores, Limits(max_use=500), now=HERE, free=0)
    assert [removal.core.name for removal in verdict.removals] == ["a"] and verdict.short == 510
    assert names([core("only", 1000, uid=7, at=-9)], Limits(max_age=5)) == ["only"]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_age=1), Limits(max_use=0), Limits(keep_free=1 << 50), Limits(max_per_executable=1),
        Limits(keep_per_signature=1),
    ],
)  # fmt: skip
def test_what_is_protected_stays(limits: Limits) -> None:
    cores = [core(str(n), at=-100 - n, signature=A, protected="is marked") for n in range(4)]
    assert gone(cores, limits) == []


def test_room_is_made_by_what_goes_for_other_reasons_too() -> None:
    cores = [core("old", 30, at=-100), core("a", 30, at=-3), core("b", 30, at=-2)]
    assert gone(cores, Limits(max_age=50, keep_free=100), free=70) == [("old", MAX_AGE)]
    assert gone(cores, Limits(max_age=50, keep_free=100), free=60) == [("old", MAX_AGE), ("a", KEEP_FREE)]
    assert gone(cores, Limits(max_use=60, keep_free=100), free=70) == [("old", MAX_USE)]
    assert gone(cores, Limits(keep_free=100), free=100) == []


def test_what_is_being_written_counts() -> None:
    cores = [core("a", 30, at=-3), core("b", 30, at=-2)]
    assert gone(cores, Limits(max_use=60), reserved=0) == []
    assert gone(cores, Limits(max_use=60), reserved=1) == [("a", MAX_USE)]
    assert gone(cores, Limits(keep_free=50), free=60, reserved=11) == [("a", KEEP_FREE)]


def test_signatures_of_which_there_are_enough() -> None:
    cores = [core(str(n), signature=A, owner="0") for n in range(3)]
    assert full_signatures(cores, 1, "0", 3) == {A}
    for uid, owner, most in ((2, "0", 3), (1, "1", 3), (1, "0", 4)):
        assert full_signatures(cores, uid, owner, most) == frozenset()
    assert full_signatures([replace(one, small=True) for one in cores], 1, "0", 1) == frozenset()


def test_what_stays_whatever_comes() -> None:
    cores = [
        core("a", 1, uid=1), core("b", 2, uid=1), core("c", 4, uid=2), core("d", 8, uid=2),
        core("e", 16, uid=3, protected="is marked"), core("f", 32, uid=3),
    ]  # fmt: skip
    assert staying(cores, 9) == 2 + 8 + 16
    assert staying(cores, 1) == 8 + 16 and staying(cores, 2) == 2 + 16 and staying([], 1) == 0


CORES = st.lists(
    st.builds(
        KeptCore,
        name=st.uuids().map(str),
        size=st.integers(0, 100),
        uid=st.integers(0, 3),
        executable=st.sampled_from(["/a", "/b", "/c"]),
        time=st.integers(0, 50).map(float),
        owner=st.sampled_from(["0", "1"]),
        signature=st.sampled_from([None, A, B]),
        small=st.booleans(),
        protected=st.sampled_from(["", "", "", "is marked"]),
    ),
    max_size=30,
    unique_by=lambda one: one.name,
)
MAYBE = st.none() | st.integers(0, 400)


# Twice the examples where others are looked for.
MORE = 2 if settings.get_current_profile_name() == "explore" else 1


@settings(max_examples=100 * MORE, deadline=None)
@given(CORES, MAYBE, MAYBE, MAYBE, st.none() | st.integers(1, 3), st.none() | st.integers(1, 3))
def test_what_holds_of_every_decision(
    cores: list[KeptCore], max_use: int | None, keep_free: int | None, max_age: int | None, per_exe: int | None,
    per_signature: int | None,
) -> None:  # fmt: skip
    limits = Limits(max_use, keep_free, max_age, per_exe, per_signature)
    verdict = decide(cores, limits, now=60.0, free=200)
    removed = [removal.core for removal in verdict.removals]
    left = [one for one in cores if one not in removed]
    assert len(set(map(id, removed))) == len(removed) and not any(one.protected for one in removed)
    used = sum(one.size for one in left)
    if max_use is not None:
        assert used <= max_use + verdict.short
    if keep_free is not None:
        assert 200 + sum(one.size for one in removed) >= keep_free - verdict.short
    if verdict.short:
        # Nobody has more than one core that may go.
        for uid in {one.uid for one in left}:
            of_user = [one for one in left if one.uid == uid]
            assert len(of_user) == 1 or all(one.protected for one in of_user)
    # For want of room nobody loses the last.
    by_room = {removal.core.uid for removal in verdict.removals if removal.rule in (MAX_USE, KEEP_FREE)}
    assert by_room <= {one.uid for one in left}
    # Once more changes nothing.
    again = decide(left, limits, now=60.0, free=200 + sum(one.size for one in removed))
    assert again.removals == () and again.short == verdict.short
