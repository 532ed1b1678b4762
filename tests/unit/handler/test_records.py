"""Records of cores that are being saved: who finds which, and what a planted one can do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kernel.handling import need_root
from support.builds import PATIENCE

from corefilt.errors import ConfigError
from corefilt.handler.admin.status import Status
from corefilt.handler.crash_info import CrashInfo
from corefilt.handler.crashed_process import Victim
from corefilt.handler.records import BEGUN, StoreRecord, left_behind

CRASH = CrashInfo(2147483647, 1000, 1000, 11, 1_700_000_000, 0, 1)
# Another process: a lock is nobody's own twice.
LOOK = """
import sys
from corefilt.handler.records import left_behind
for lost in left_behind(sys.argv[1], clear=True):
    print(repr(str(lost)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    need_root()
    return tmp_path / "run"


def victim(comm: bytes = b"some\nname") -> Victim:
    made = Victim()
    made.comm, made.started = comm, 5
    return made


def seen(folder: Path) -> list[str]:
    """What another handler finds."""
    command = [sys.executable, "-I", "-c", LOOK, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.splitlines()


def killed(folder: Path) -> None:
    """Have a process write a record, and be killed."""
    pid = os.fork()
    if not pid:
        StoreRecord(CRASH, victim(), str(folder))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_record_of_a_handler_that_lives_is_left_alone(folder: Path) -> None:
    record = StoreRecord(CRASH, victim(), str(folder))
    assert record.why_not == ""
    assert (folder.stat().st_mode & 0o777, len(list(folder.iterdir()))) == (0o700, 1)
    assert seen(folder) == []
    assert len(list(folder.iterdir())) == 1
    record.remove()
    assert list(folder.iterdir()) == []


def test_a_record_of_a_handler_that_was_killed_is_told_once(folder: Path) -> None:
    killed(folder)
    (left,) = left_behind(str(folder))
    assert (left.state, left.pid, left.uid, left.comm) == (BEGUN, CRASH.pid, 1000, b"some\nname")
    assert seen(folder) == [repr(str(left))]
    assert seen(folder) == []


def test_no_folder_is_no_record(folder: Path) -> None:
    assert left_behind(str(folder)) == []


@pytest.mark.parametrize("how", ["link", "another's", "open to others", "file"])
def test_a_planted_records_folder_is_not_used(how: str, folder: Path, tmp_path: Path) -> None:
    """Nothing is written, removed or believed there."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    (elsewhere / "1.1.1").write_text("corefilt-1 begun 7 5 1000 11 5 -\n")
    if how == "link":
        folder.symlink_to(elsewhere)
    elif how == "file":
        folder.write_text("mine")
    else:
        elsewhere.rename(folder)
        if how == "another's":
            os.chown(folder, 1000, 1000)
        else:
            folder.chmod(0o770)
        elsewhere = folder
    assert StoreRecord(CRASH, victim(), str(folder)).why_not
    with pytest.raises((ConfigError, OSError)):
        left_behind(str(folder), clear=True)
    assert [path.name for path in elsewhere.iterdir()] == ["1.1.1"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 600,
        b"corefilt-1 begun x 5 1 1 1 -\n",
        b"corefilt-1 begun 7 5 1 1 1 zz\n",
        b"corefilt-2 begun 7 5 1 1 1 -",
    ],
)
def test_what_is_no_record_is_cleared_and_told_by_nobody(text: bytes, folder: Path) -> None:
    folder.mkdir(0o700)
    (folder / "1.1.1").write_bytes(text)
    assert seen(folder) == []
    assert list(folder.iterdir()) == []


def test_a_record_that_is_no_file_is_not_opened(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(0o700)
    (tmp_path / "target").write_text("corefilt-1 begun 7 5 1000 11 5 -\n")
    (folder / "1.1.1").symlink_to(tmp_path / "target")
    os.mkfifo(folder / "1.1.2")
    assert seen(folder) == []
    assert (tmp_path / "target").exists()


def test_status_tells_of_lost_cores(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(0o755)
    killed(tmp_path / "run/corefilt")
    status = Status(str(tmp_path))
    words = f"process {CRASH.pid} (some\nname) of user 1000, signal 11: no core was saved: its handler was killed"
    assert words in status.messages
    # It is the next handler that clears it.
    assert len(list((tmp_path / "run/corefilt").iterdir())) == 1
