"""What is decided while a copy runs: which mover is first, and whether a second thread is worth it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.run import MIB, corefilt
from support.samples import PAGE, noise

import corefilt as api
from corefilt.io import pace, probe
from corefilt.io.copy_threads import Crew
from corefilt.io.pace import BUSY, KEPT, MEASURED, WORTH_A_TRIAL, Pace
from corefilt.io.probe import PIECE, ROUNDS, Probe

STEP = 4 << 20


def turns(
    rates: dict[bool, float], count: int, *, expected: int = 8 << 30, busy: float = 1.0
) -> list[tuple[bool, int]]:
    """Copy ``count`` turns at so many bytes a second by one thread and by two; who copied how much in each.

    A thread has a CPU for the part ``busy`` of its time. Between making the pace and copying an hour passes.
    """
    now, found = 0.0, []
    it = Pace(expected, lambda: now, lambda: now * busy)
    now += 3600.0
    for _ in range(count):
        together, copied = it.together, 0
        while True:
            it.begin()
            now += STEP / rates[together]
            copied += STEP
            if it.passed(STEP):
                break
        found.append((together, copied))
        it.turn()
    return found


ALONE = [(False, MEASURED), (False, KEPT), (False, MEASURED), (False, KEPT)]


def test_two_threads_stay_where_they_are_faster() -> None:
    found = turns({False: 1e9, True: 1.5e9}, 5)
    assert found == [(False, MEASURED), (True, MEASURED), (True, KEPT), (False, MEASURED), (True, MEASURED)]


@pytest.mark.parametrize("together", [0.25e9, 1e9, 1.1e9])
def test_one_thread_goes_on_where_two_are_no_faster(together: float) -> None:
    found = turns({False: 1e9, True: together}, 4)
    assert found == [(False, MEASURED), (True, MEASURED), (False, KEPT), (False, MEASURED)]


def test_two_threads_are_tried_where_enough_is_left_to_save() -> None:
    """A second trial comes where that is left still."""
    rates = {False: 4e9, True: 8e9}
    enough = MEASURED + int(WORTH_A_TRIAL * 4e9)
    assert turns(rates, 4, expected=enough - STEP) == ALONE
    assert turns(rates, 2, expected=enough + STEP) == [(False, MEASURED), (True, MEASURED)]
    left = 2 * MEASURED + KEPT + enough
    again = [(False, MEASURED), (True, MEASURED), (True, KEPT), (False, MEASURED)]
    assert turns(rates, 5, expected=left - STEP) == [*again, (False, KEPT)]
    assert turns(rates, 5, expected=left + STEP) == [*again, (True, MEASURED)]


def test_two_threads_are_not_tried_where_one_waits_for_a_processor() -> None:
    rates = {False: 1e9, True: 2e9}
    assert turns(rates, 4, busy=BUSY - 0.01) == ALONE
    assert turns(rates, 2, busy=BUSY + 0.01) == [(False, MEASURED), (True, MEASURED)]


@pytest.fixture(scope="module")
def data() -> bytes:
    return make_core([Load(0x10000000, noise(MIB // PAGE) * 12), Load(0x40000000, noise(50, 1))], kernel_notes())


@pytest.fixture
def small_turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("corefilt.io.engine.SHARE", 16 * PAGE)
    monkeypatch.setattr("corefilt.io.movers.WORTH_A_CREW", 1)
    monkeypatch.setattr("corefilt.io.movers._BY_HAND", ())
    monkeypatch.setattr(pace, "MEASURED", 40 * PAGE)
    monkeypatch.setattr(pace, "KEPT", 100 * PAGE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    yield


@pytest.mark.parametrize(("trial", "worth"), [(1e9, 0.0), (0.0, 0.0), (0.0, 1e9)])
@pytest.mark.usefixtures("small_turns")
def test_the_bytes_are_the_same_whoever_copies(
    trial: float, worth: float, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "WORTH_A_TRIAL", trial)
    monkeypatch.setattr(pace, "BUSY", 0.0)
    monkeypatch.setattr(pace, "WORTH", worth)
    handed: list[int] = []
    add = Crew.add
    monkeypatch.setattr(Crew, "add", lambda crew, piece: handed.append(piece[2]) or add(crew, piece))
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(data)
    report = api.filter(core, out, filter="all")
    assert out.read_bytes() == data
    assert report.engine == "readwrite"
    assert bool(handed) == (trial == 0.0)


def test_movers_take_turns_and_the_best_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(probe.time, "thread_time", lambda: now)
    it = Probe(["copy_file_range", "sendfile", "readwrite"])
    assert "too few bytes" in it.told
    order = []
    while it.best is None:
        order.append(it.mover)
        it.begin()
        now += {"copy_file_range": 2.0, "sendfile": 3.0, "readwrite": 1.0}[it.mover]
        it.took(PIECE)
    assert order == ["copy_file_range", "sendfile", "readwrite"] * ROUNDS
    assert it.best == "readwrite"
    assert it.told.startswith("--engine probe: readwrite, by GB")


def test_a_turn_may_come_in_pieces_and_who_cannot_is_out() -> None:
    it = Probe(["copy_file_range", "readwrite"])
    for _ in range(3):
        it.begin()
        it.took(PIECE // 4)
    assert it.mover == "copy_file_range"
    it.begin()
    it.took(PIECE // 4)
    assert it.mover == "readwrite"
    it.begin()
    it.took(PIECE)
    it.drop()
    assert (it.mover, it.best) == ("readwrite", "readwrite")
    assert "only readwrite" in it.told


def test_a_probe_says_what_it_found(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a file, down a pipe, and where there is nothing to choose."""
    monkeypatch.setattr(probe, "PIECE", 64 * PAGE)
    monkeypatch.setattr("corefilt.io.engine.PROBED", 64 * PAGE)
    core, out = tmp_path / "core", tmp_path / "out"
    core.write_bytes(data)
    report = api.filter(core, out, filter="all", engine="probe")
    assert out.read_bytes() == data
    (told,) = [notice for notice in report.notices if "probe" in notice]
    assert "GB moved" in told and "readwrite" in told
    assert report.engine in told
    assert api.filter(core, out, filter="none", engine="probe", force=True).engine
    done = corefilt("all", core, "--engine", "probe")
    assert (done.code, done.out) == (0, data)
    assert any("--engine probe: too few bytes" in line for line in done.err)
    done = corefilt("all", "-o", out, "-f", "--engine", "probe", pipe=data)
    assert any("only readwrite can" in line for line in done.err)
    assert out.read_bytes() == data
