"""In which order the child gives its rights up, what a kernel may refuse, and that any right that is left ends it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corefilt.errors import CorefiltError
from corefilt.handler import sandbox
from corefilt.handler.account import Account

ACCOUNT = Account(4321, 8765)
GONE = """\
Name:\tpython3
Uid:\t4321\t4321\t4321\t4321
Gid:\t8765\t8765\t8765\t8765
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapAmb:\t0000000000000000
NoNewPrivs:\t1
"""


class Calls:
    """Stands in for the C library and for what changes this process; ``refused`` are answered with EPERM."""

    def __init__(self) -> None:
        self.made: list[tuple[str, *tuple[Any, ...]]] = []
        self.refused: tuple[tuple[Any, ...], ...] = ()

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.made.append((name, *arguments))
            if (name,) in self.refused or (name, *arguments) in self.refused:
                sandbox.ctypes.set_errno(errno.EPERM)
                return -1
            return 0

        return call

    def place(self, name: str, *arguments: Any) -> int:
        """Tell which call this was, counted from the first."""
        return self.made.index((name, *arguments))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Calls]:
    """Have every call written down, none made; the process's status says that nothing is left."""
    made = Calls()
    status, score = tmp_path / "status", tmp_path / "score"
    status.write_text(GONE)
    real_open = os.open
    monkeypatch.setattr(sandbox, "_LIBC", made)
    for name in ("nice", "umask", "setgroups", "setresgid", "setresuid", "chdir", "chroot"):
        monkeypatch.setattr(os, name, getattr(made, name))
    monkeypatch.setattr(os, "getgroups", list)
    monkeypatch.setattr(resource, "setrlimit", made.setrlimit)
    monkeypatch.setattr(
        os, "open", lambda path, flags: real_open(status if path == "/proc/self/status" else path, flags)
    )
    opened = lambda path, mode, **o: open(score if "oom" in path else path, mode, **o)  # noqa: E731, SIM115
    monkeypatch.setattr(sandbox, "open", opened, raising=False)
    yield made
    monkeypatch.undo()
    assert not score.exists() or score.read_bytes() == b"500"


@pytest.fixture
def report() -> Iterator[int]:
    """Give the writing end of a pipe whose reader is there."""
    reader, writer = os.pipe()
    yield writer
    os.close(reader)
    os.close(writer)


def test_rights_go_before_the_user_does_and_the_signal_comes_behind_it(calls: Calls, report: int) -> None:
    assert sandbox.confine(ACCOUNT, report) == {}
    groups, gid = calls.place("setgroups", []), calls.place("setresgid", 8765, 8765, 8765)
    uid = calls.place("setresuid", 4321, 4321, 4321)
    root = calls.place("chroot", "/proc")
    bounding = calls.place("prctl", 24, 63, 0, 0, 0)
    assert max(root, bounding) < groups < gid < uid
    # A change of user takes these two back.
    assert uid < calls.place("prctl", 1, 9, 0, 0, 0)
    assert uid < calls.place("prctl", 4, 0, 0, 0, 0)
    assert uid < calls.place("prctl", 38, 1, 0, 0, 0)
    assert ("setrlimit", resource.RLIMIT_CORE, (0, 0)) in calls.made
    assert calls.made[calls.place("chroot", "/proc") + 1] == ("chdir", "/")


def test_the_namespaces_are_left_one_by_one(calls: Calls, report: int) -> None:
    sandbox.confine(ACCOUNT, report)
    assert [call[1] for call in calls.made if call[0] == "unshare"] == [0x40000000, 0x08000000, 0x20000]


@pytest.mark.parametrize(
    ("refused", "missing"),
    [
        (("unshare", 0x40000000), {"network"}),
        (("unshare", 0x08000000), {"ipc"}),
        (("unshare", 0x20000), {"mounts", "root"}),
        (("mount",), {"root"}),
        (("syscall",), {"priority"}),
    ],
)
def test_what_the_kernel_refuses_is_told(
    calls: Calls, report: int, refused: tuple[Any, ...], missing: set[str]
) -> None:
    calls.refused = (refused,)
    found = sandbox.confine(ACCOUNT, report)
    assert set(found) == missing <= {*sandbox.LAYERS}
    assert set(found.values()) <= {os.strerror(errno.EPERM), "it needs mounts of its own"}
    if "mounts" in missing:
        assert not any(call[0] in ("mount", "chroot") for call in calls.made)


def test_capabilities_end_where_the_kernel_knows_no_more(calls: Calls, report: int) -> None:
    calls.refused = (("prctl", 24, 41, 0, 0, 0),)
    sandbox.confine(ACCOUNT, report)
    assert [call[2] for call in calls.made if call[:2] == ("prctl", 24)] == list(range(42))


@pytest.mark.parametrize("refused", [("capset",), ("prctl", 38, 1, 0, 0, 0), ("prctl", 1, 9, 0, 0, 0)])
def test_what_has_to_go_and_does_not_is_an_error(calls: Calls, report: int, refused: tuple[Any, ...]) -> None:
    calls.refused = (refused,)
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        sandbox.confine(ACCOUNT, report)


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("Uid:\t4321\t4321\t4321\t4321", "Uid:\t4321\t0\t4321\t4321"),
        ("Gid:\t8765\t8765\t8765\t8765", "Gid:\t8765\t8765\t0\t8765"),
        ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"),
        ("CapAmb:\t0000000000000000", "CapAmb:\t8000000000000000"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
    ],
)
def test_a_right_that_is_left(calls: Calls, report: int, tmp_path: Path, line: str, left: str) -> None:
    (tmp_path / "status").write_text(GONE.replace(line, left))
    with pytest.raises(CorefiltError, match="privileges are left: no '" + line.split("\t")[0]):
        sandbox.confine(ACCOUNT, report)


def test_a_group_that_is_left(calls: Calls, report: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgroups", lambda: [0])
    with pytest.raises(CorefiltError, match="groups are left"):
        sandbox.confine(ACCOUNT, report)


def test_a_parent_that_has_ended(calls: Calls) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(CorefiltError, match="the parent has ended"):
        sandbox.confine(ACCOUNT, writer)
    os.close(writer)


@pytest.mark.parametrize("hard", [resource.RLIM_INFINITY, 1 << 30])
def test_the_memory_has_a_limit_that_is_not_above_the_hard_one(
    calls: Calls, report: int, monkeypatch: pytest.MonkeyPatch, hard: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (hard, hard))
    sandbox.confine(ACCOUNT, report)
    (limits,) = [call[2] for call in calls.made if call[:2] == ("setrlimit", resource.RLIMIT_AS)]
    assert limits[0] == limits[1]
    if hard == resource.RLIM_INFINITY:
        assert limits[0] > sandbox.ADDRESS_SPACE
    else:
        assert limits[0] == hard


def test_only_what_is_named_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "closerange", lambda low, high: closed.append((low, high)))
    sandbox.close_others([5, 0, 1, 7, 1])
    assert closed == [(2, 5), (6, 7), (8, (1 << 31) - 1)]


def test_pids_of_its_own(calls: Calls) -> None:
    ours, why_not = sandbox.own_pids()
    assert ours >= 0
    assert why_not == ""
    sandbox.back(ours)
    assert calls.made == [("unshare", 0x20000000), ("setns", ours, 0x20000000)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ours)


def test_no_pids_of_its_own(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.refused = (("unshare",),)
    assert sandbox.own_pids() == (-1, os.strerror(errno.EPERM))

    def none(path: str, flags: int) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "open", none)
    assert sandbox.own_pids() == (-1, os.strerror(errno.ENOENT))


@pytest.mark.parametrize(("hard", "kept"), [(resource.RLIM_INFINITY, 4096), (100_000, 4096), (3918, 3918)])
def test_no_limit_is_raised_that_the_kernel_or_root_has_set_lower(
    hard: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of a gigabyte has 3,918 processes at most, where the child asks for 4,096."""
    monkeypatch.setattr(resource, "getrlimit", lambda limit: {resource.RLIMIT_NPROC: (hard, hard)}[limit])
    assert sandbox.within_hard_limit(resource.RLIMIT_NPROC, 4096) == kept
