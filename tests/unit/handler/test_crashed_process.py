"""What is opened of a process that crashed: from folders made as those in /proc, and from processes that live."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.ready import descriptors

from corefilt.handler import crashed_process
from corefilt.handler.auxiliary import AT_EGID, AT_EUID, AT_GID, AT_SECURE, AT_UID
from corefilt.handler.crash_info import CrashInfo
from corefilt.handler.crashed_process import Victim, is_dumping, open_victim, still_dumps
from corefilt.procfs.pidfd import Dumping, start_time

USER, GROUP = 1234, 5678
STATUS = """\
Name:\tapp
Uid:\t1234\t1234\t1234\t1234
Gid:\t5678\t5678\t5678\t5678
NSpid:\t77\t7
CapPrm:\t0000000000000000
CoreDumping:\t1
"""
NOT_PLAIN = [
    STATUS.replace("1234\t1234\n", "1234\t0\n"),
    STATUS.replace("Gid:\t5678", "Gid:\t0"),
    STATUS.replace("CapPrm:\t0000000000000000", "CapPrm:\t0000000000200000"),
    STATUS.replace("CapPrm", "CapPrmx"),
    "",
]


def crash_of(pid: int = 77, *, dumpable: int = 1, pidfd: int | None = None, at: int = 1 << 40) -> CrashInfo:
    return CrashInfo(pid, USER, GROUP, 11, at, 0, dumpable, pidfd)


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make what /proc/77 holds of a process with three threads, of which all have memory."""
    for place in (tmp_path, *(tmp_path / f"task/{thread}" for thread in (77, 78, 79))):
        place.mkdir(parents=True, exist_ok=True)
        (place / "exe").symlink_to("/usr/bin/app")
        (place / "status").write_text(STATUS)
        (place / "comm").write_text("app\n")
        rights = ((AT_UID, USER), (AT_EUID, USER), (AT_GID, GROUP), (AT_EGID, GROUP), (AT_SECURE, 0), (0, 0))
        (place / "auxv").write_bytes(b"".join(struct.pack("=QQ", *pair) for pair in rights))
        # The twenty-second field is the start.
        (place / "stat").write_text("77 (app) t " + " ".join("0" for _ in range(18)) + " 4242 0\n")
        for name in ("smaps", "maps", "cmdline", "cgroup"):
            (place / name).write_text(name)
    (tmp_path / "map_files").mkdir()
    for name in ("1000-2000", "3000-4000"):
        (tmp_path / "map_files" / name).write_text("")
    return tmp_path


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def looked_at(folder: Path, crash: CrashInfo) -> Victim:
    victim = Victim()
    with opened(folder) as fd:
        crashed_process._look(victim, fd, crash)
    return victim


def test_all_that_is_there_is_opened(folder: Path) -> None:
    victim = looked_at(folder, crash_of())
    assert (victim.comm, victim.executable, victim.inside, victim.started) == (b"app", b"/usr/bin/app", 7, 4242)
    assert victim.plain
    assert victim.notices == []
    assert sorted(victim.files) == ["1000-2000", "3000-4000"]
    assert os.read(victim.smaps, 99) == b"smaps"
    assert len(victim.descriptors) == 6
    victim.close()
    assert victim.descriptors == []


def test_what_is_missing_is_noticed(folder: Path) -> None:
    (folder / "smaps").unlink()
    (folder / "map_files/1000-2000").unlink()
    (folder / "map_files/3000-4000").unlink()
    (folder / "map_files").rmdir()
    victim = looked_at(folder, crash_of())
    victim.close()
    assert victim.notices == [
        "its smaps cannot be opened: No such file or directory",
        "its files cannot be examined: No such file or directory",
    ]


def test_a_process_whose_first_thread_has_ended(folder: Path) -> None:
    for place in (folder, folder / "task/77"):
        (place / "exe").unlink()
        (place / "comm").write_text("gone\n")
    (folder / "task/78/comm").write_text("second\n")
    (folder / "task/79/comm").write_text("second\n")
    victim = looked_at(folder, crash_of())
    victim.close()
    assert victim.comm == b"second"
    with opened(folder) as fd:
        assert is_dumping(fd)


def test_a_process_without_memory(folder: Path) -> None:
    for place in (folder, *(folder / "task").iterdir()):
        (place / "exe").unlink()
    victim = looked_at(folder, crash_of())
    victim.close()
    assert victim.executable is None
    assert victim.comm == b"app"


@pytest.mark.parametrize("status", NOT_PLAIN)
def test_a_thread_with_other_rights(folder: Path, status: str) -> None:
    (folder / "task/79/status").write_text(status)
    victim = looked_at(folder, crash_of())
    assert not victim.plain
    victim.ask_its_threads(crash_of())
    assert not victim.plain
    victim.close()


@pytest.mark.parametrize("dumpable", [0, 2])
def test_a_core_that_is_not_the_users(folder: Path, dumpable: int) -> None:
    victim = looked_at(folder, crash_of(dumpable=dumpable))
    victim.close()
    assert not victim.plain


def test_a_program_that_was_given_rights(folder: Path) -> None:
    (folder / "auxv").write_bytes((folder / "auxv").read_bytes().replace(struct.pack("=QQ", AT_SECURE, 0), b""))
    victim = looked_at(folder, crash_of())
    victim.close()
    assert not victim.plain


def test_many_threads_are_asked_once_the_child_is_at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashed_process, "FEW_THREADS", 2)
    victim = looked_at(folder, crash_of())
    assert not victim.plain
    victim.ask_its_threads(crash_of())
    assert victim.plain
    monkeypatch.setattr(crashed_process, "MOST_PLAIN_THREADS", 2)
    with opened(folder) as fd:
        assert not crashed_process._are_plain(fd, crash_of(), 2)
    victim.close()


def test_no_more_files_than_there_are_descriptors_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashed_process, "MOST_FILES", 1)
    victim = looked_at(folder, crash_of())
    assert len(victim.files) == 1
    victim.close()
    assert victim.notices == ["only 1 of its 2 mapped files are examined"]


@pytest.mark.parametrize("allowed", [True, False])
def test_the_limit_of_descriptors_is_raised_where_it_may(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    set_to: list[tuple[int, int]] = []

    def set_limit(which: int, limits: tuple[int, int]) -> None:
        if not allowed:
            raise ValueError("not allowed to raise maximum limit")
        set_to.append(limits)

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert crashed_process._room(30) == 30
    assert crashed_process._room(1000) == (1000 if allowed else 36)
    assert set_to == ([(1064, 1064)] if allowed else [])
    assert crashed_process._room(1 << 40) == (crashed_process.MOST_FILES if allowed else 36)


def test_a_name_with_newlines_writes_no_line_of_its_own() -> None:
    lines = crashed_process._lines_of(b"Name:\ta\\nUid:\t0\t0\t0\t0\nUid:\t1\t1\t1\t1\n")
    assert lines == {b"Name": b"a\\nUid:\t0\t0\t0\t0", b"Uid": b"1\t1\t1\t1"}


# --- processes that live ------------------------------------------------------------------------------------


@pytest.fixture
def living() -> Iterator[int]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b".")
        child.stdout.read(1)
        yield child.pid
        child.stdin.close()


def test_a_process_that_does_not_dump(living: int) -> None:
    victim = open_victim(crash_of(living))
    assert victim.why_not == f"process {living} is not the one that crashed: it does not dump core"
    assert victim.descriptors == []
    assert victim.pidfd == -1


def test_a_pidfd_of_the_process(living: int) -> None:
    """It is certain who the process is; but it is not proven that it dumps, so it may not be killed."""
    pidfd = os.pidfd_open(living)
    victim = open_victim(crash_of(living, pidfd=pidfd))
    assert victim.why_not == ""
    assert victim.comm == b"cat"
    assert victim.pidfd == -1
    victim.close()
    os.close(pidfd)


def test_a_pidfd_of_another_process(living: int) -> None:
    pidfd = os.pidfd_open(os.getpid())
    victim = open_victim(crash_of(living, pidfd=pidfd))
    assert victim.why_not == f"process {living} is not the one that crashed: its pidfd is of another one"
    os.close(pidfd)


def test_no_such_process() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        gone = child.pid
    victim = open_victim(crash_of(gone))
    assert victim.why_not == f"process {gone}: No such file or directory"


def test_who_dumps_is_known_by_its_start(living: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without %F: the folder's process dumps, is the pidfd's, and started before the crash."""
    pidfd = os.pidfd_open(living)
    now = int(time.time())
    why = crashed_process._why_unproven
    with opened(Path(f"/proc/{living}")) as folder:
        assert "does not dump core" in why(pidfd, folder, crash_of(living, at=now))
        monkeypatch.setattr(crashed_process, "is_dumping", lambda folder: True)
        assert why(pidfd, folder, crash_of(living, at=now)) == ""
        assert "started after the crash" in why(pidfd, folder, crash_of(living, at=now - 3600))
        assert "does not dump core" in why(pidfd, folder, crash_of(os.getpid(), at=now))
        assert "cannot be opened" in why(-1, folder, crash_of(living, at=now))
        victim = Victim()
        victim.pidfd = pidfd
        assert still_dumps(victim, living)
        # Without a pidfd, by its start.
        victim.pidfd, victim.started = -1, start_time(folder)
        assert still_dumps(victim, living)
        victim.started = (victim.started or 0) + 1
        assert not still_dumps(victim, living)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (lambda fd: None, "the kernel does not say that it dumps core"),
        (lambda fd: Dumping(7, 1, 0, 0, 1), "the kernel says that it is of process 7"),
        (lambda fd: os.close(-1), "the kernel says nothing of it: Bad file descriptor"),
    ],
    ids=["no dump", "another", "nothing"],
)
def test_the_kernels_pidfd_is_not_proven(
    told: Callable[[int], object], words: str, living: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pidfd = os.pidfd_open(living)
    monkeypatch.setattr(crashed_process, "dumping", told)
    victim = open_victim(crash_of(living, pidfd=pidfd))
    assert (victim.pidfd, victim.unproven) == (-1, words)
    victim.close()
    monkeypatch.setattr(crashed_process, "dumping", lambda fd: Dumping(living, 1, 0, 0, 1))
    victim = open_victim(crash_of(living, pidfd=pidfd))
    assert (victim.pidfd, victim.unproven) == (pidfd, "")
    victim.close()
    os.close(pidfd)


def test_nobody_still_dumps(living: int) -> None:
    victim = Victim()
    victim.pidfd = os.pidfd_open(living)
    assert not still_dumps(victim, living)
    assert not still_dumps(victim, (1 << 22) + 1)
    os.close(victim.pidfd)
