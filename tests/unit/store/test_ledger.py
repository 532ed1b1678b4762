"""The ledger of a directory: a lock, reservations that end with their process, and a rate by a clock nobody sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corefilt.errors import OutputError
from corefilt.store import ledger as ledgers
from corefilt.store.ledger import CORES, MOST_OF_A_USER, MOST_SLOTS, NAME, Ledger

# Another process with a reservation, which waits to be killed.
OTHER = """
import os, sys
from corefilt.store.ledger import Ledger
ledger = Ledger(os.open(sys.argv[1], os.O_RDONLY), sys.argv[1])
with ledger.held():
    ledger.reserve(int(sys.argv[2]))
    if sys.argv[3] == "holding":
        print("ready", flush=True)
        sys.stdin.read()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    fd = os.open(folder, os.O_RDONLY)
    try:
        with Ledger(fd, str(folder)) as ledger:
            yield ledger
    finally:
        os.close(fd)


@contextmanager
def other(folder: Path, size: int, how: str = "waiting") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", OTHER, folder, str(size), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_a_reservation_ends_with_its_process(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with other(tmp_path, 1000) as one, other(tmp_path, 234):
            with ledger.held():
                assert ledger.reserved() == 1234
                ledger.reserve(5000)
                assert ledger.reserved() == 1234, "its own is none of others"
            one.send_signal(signal.SIGKILL)
            one.wait()
            with ledger.held():
                assert ledger.reserved() == 234
        with ledger.held():
            assert ledger.reserved() == 0
            ledger.reserve(1)


def test_whoever_lists_the_directory_keeps_its_locks(tmp_path: Path) -> None:
    """Locks of a process would be lost where it closes another descriptor of the file."""
    with opened(tmp_path) as ledger, ledger.held():
        ledger.reserve(1000)
        (tmp_path / NAME).read_bytes()
        with opened(tmp_path) as second:
            assert second.reserved() == 1000
            with pytest.raises(OutputError, match="has been locked"), second.held(patience=0.01):
                raise AssertionError("it was lost")


def test_a_slot_is_used_again(tmp_path: Path) -> None:
    for _ in range(3):
        with opened(tmp_path) as ledger, ledger.held():
            ledger.reserve(7)
    assert (tmp_path / NAME).stat().st_size < 200


def test_no_more_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_RECENT", 64 + 32)
    # The other process has the first, and here there is room for one.
    full = pytest.raises(OutputError, match=f"{MOST_SLOTS} cores")
    with other(tmp_path, 1), opened(tmp_path) as ledger, ledger.held(), full:
        ledger.reserve(1)


def test_the_lock_is_waited_for_only_so_long(tmp_path: Path) -> None:
    late = pytest.raises(OutputError, match="has been locked")
    with other(tmp_path, 1, "holding"), opened(tmp_path) as ledger, late, ledger.held(patience=0.01):
        raise AssertionError("it is held elsewhere")
    with opened(tmp_path) as ledger, ledger.held(patience=0.01):
        pass


def test_a_crash_does_not_wait_for_those_who_look_at_cores(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other, one.held(CORES):
        with other.held(patience=0.0):
            pass
        with pytest.raises(OutputError, match="has been locked"), other.held(CORES, patience=0.01):
            raise AssertionError("it is held elsewhere")


def test_a_file_of_another_is_not_used(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to("elsewhere")
    with pytest.raises(OutputError), opened(tmp_path):
        raise AssertionError("a link was followed")
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(OutputError, match="only this user"), opened(tmp_path):
        raise AssertionError("a FIFO was opened")
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).write_bytes(b"")
    (tmp_path / NAME).chmod(0o666)
    with pytest.raises(OutputError, match="only this user"), opened(tmp_path):
        raise AssertionError("others can write to it")
    assert not (tmp_path / "elsewhere").exists()


class Clock:
    """The time since boot, and one that people set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(ledgers.time, "clock_gettime", lambda which: self.now)
        monkeypatch.setattr(ledgers, "_boot_id", lambda: self.boot)
        self.boot = "one"


def admitted(folder: Path, uid: int = 1, executable: str = "/bin/x", burst: int = 2) -> bool:
    with opened(folder) as ledger, ledger.held():
        return ledger.admit(uid, executable, interval=10, burst=burst)


def test_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert [admitted(tmp_path) for _ in range(3)] == [True, True, False]
    assert admitted(tmp_path, uid=2) and admitted(tmp_path, executable="/bin/y")
    clock.now += 9.999
    assert not admitted(tmp_path)
    clock.now += 0.001
    assert [admitted(tmp_path) for _ in range(3)] == [True, True, False]


def test_what_was_refused_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for _ in range(50):
        admitted(tmp_path)
        clock.now += 1
    assert sum(admitted(tmp_path) for _ in range(5)) <= 2


def test_jumps_of_the_clock_that_people_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert [admitted(tmp_path) for _ in range(3)] == [True, True, False]
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert not admitted(tmp_path)


def test_after_a_boot_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert [admitted(tmp_path) for _ in range(3)] == [True, True, False]
    clock.boot, clock.now = "two", 5.0
    assert admitted(tmp_path)


@pytest.mark.parametrize(
    "raw",
    [b"", b"one", b"two\n1 x 99.0 99.0", b"one\n1", b"one\n\xff\xff x y", b"one\n1 x soon", b"\0" * 9999],
)
def test_a_memory_that_is_none(raw: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    assert admitted(tmp_path)
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(ledgers._RECENT)
        file.truncate()
        file.write(raw)
    assert [admitted(tmp_path) for _ in range(3)] == [True, True, False]


def test_a_flood_of_one_user_is_forgotten_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    assert [admitted(tmp_path, uid=2) for _ in range(3)] == [True, True, False]
    with opened(tmp_path) as ledger, ledger.held():
        for n in range(0, MOST_OF_A_USER + 200, 100):
            recent = ledger._recent("one")
            recent |= {f"1 {n + k}": [100.0] for k in range(100)}
            ledger._remember("one", recent, 0.0)
        told = ledger._recent("one")
    assert sum(1 for who in told if who.startswith("1 ")) == MOST_OF_A_USER
    assert not admitted(tmp_path, uid=2)
    assert (tmp_path / NAME).stat().st_size < 1 << 20
