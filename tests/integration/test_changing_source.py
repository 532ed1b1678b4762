"""A core that somebody writes to while it is read: the run says so, and its exit code does."""

from __future__ import annotations

import gzip
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.builds import PATIENCE
from support.run import asleep, corefilt, finish, start

from corefilt.io.opening import open_source


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(5000))


def touch(path: Path) -> None:
    """Write one byte as it is; the size stays, and so does mtime, which a writer may set back."""
    status = path.stat()
    with path.open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(byte)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = {"grew by 4.88 KiB": grow, "changed while it was read": touch}


def told_of(core: Path, words: str, *more: str) -> dict[str, Any]:
    """Change a core between when it is opened and when the output, a FIFO, gets its reader."""
    fifo, report = core.parent / "fifo", core.parent / "report"
    os.mkfifo(fifo)
    process = start("0x1ff", core, "-o", fifo, f"--json={report}", *more)
    until = time.monotonic() + PATIENCE
    # It has the core open, and waits for the reader.
    while str(core) not in open_files(process.pid) or not asleep(process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)
    CHANGES[words](core)
    fifo.read_bytes()
    done = finish(process)
    assert done.code == 3, done.err
    assert any(words in line for line in done.err)
    told: dict[str, Any] = json.loads(report.read_text())
    return told


def open_files(pid: int) -> list[str]:
    found = []
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_is_said(words: str, core: Path) -> None:
    assert any(words in warning for warning in told_of(core, words)["warnings"])


@pytest.mark.parametrize("words", ["grew by 4.88 KiB", "changed while it was read"])
def test_a_change_of_a_compressed_core_is_said(words: str, core: Path) -> None:
    # Decoders see the end of their stream and pass over what is not theirs.
    core.write_bytes(gzip.compress(core.read_bytes()))
    assert any(words in warning for warning in told_of(core, words)["warnings"])


def test_being_read_is_no_change(core: Path) -> None:
    source = open_source(core, max_headers=1 << 20)
    assert len(core.read_bytes()) > 0
    assert source.check() is None
    source.close()


def test_a_pipe_is_not_asked(core: Path) -> None:
    assert corefilt("0x1ff", "-", "-o", core.parent / "out", pipe=core.read_bytes()).code == 0
