"""Several threads copy one payload: the same bytes and counts, and however it ends, no thread is left."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.builds import UNTRACED
from support.run import MIB, assert_promises, environment, listing
from support.samples import PAGE, noise

import corefilt
from corefilt import _fast
from corefilt.errors import InputError, OutputError
from corefilt.io.copy_threads import Crew
from corefilt.io.movers import SHARE

A = 0x10000000


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def data() -> bytes:
    """Make a core large enough for a dozen pieces."""
    return make_core([Load(A, noise(MIB // PAGE) * 48), Load(4 * A, bytes(2 * MIB) + noise(100))], kernel_notes())


@pytest.fixture
def core(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "core"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("jobs", "sparse"),
    [
        (2, "auto"), (3, "never"), (8, "always"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((2, "always"), (2, "never"), (3, "auto"), (3, "always"), (8, "auto"), (8, "never"))
        ),
    ],
)  # fmt: skip
def test_the_same_bytes_whoever_copies_them(jobs: int, sparse: str, core: Path, data: bytes) -> None:
    out = core.with_name("out")
    report = corefilt.filter(core, out, filter="all", threads=jobs, sparse=sparse, engine="readwrite", sync=False)
    assert out.read_bytes() == data
    assert report.engine == "readwrite"
    assert_promises(data, out.read_bytes())
    assert (report.allocated_bytes or 0) < len(data) - MIB if sparse == "always" else True


def test_several_threads_take_part(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    real = _fast.move

    def noted(*args: object, **options: object) -> tuple[int, int]:
        seen.add(threading.current_thread().name)
        time.sleep(0.002)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_fast, "move", noted)
    corefilt.filter(core, core.with_name("out"), filter="all", threads=2, engine="readwrite", sync=False)
    assert seen == {"MainThread", "corefilt"}


def test_one_job_is_no_other_thread(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("a thread was started"))
    corefilt.filter(core, core.with_name("out"), filter="all", threads=1, engine="readwrite", sync=False)


def test_without_a_thread_to_be_had_the_caller_does_it_all(
    core: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    corefilt.filter(core, core.with_name("out"), filter="all", threads=4, engine="readwrite", sync=False)
    assert core.with_name("out").read_bytes() == data


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_in_a_thread_is_the_runs(code: int, core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _fast.move

    def fail(*args: object, **options: object) -> tuple[int, int]:
        if threading.current_thread().name == "corefilt":
            raise OSError(code, os.strerror(code))
        time.sleep(0.01)
        return real(*args, **options)  # type: ignore[arg-type]

    before = listing(core.parent)
    monkeypatch.setattr(_fast, "move", fail)
    with pytest.raises(OutputError, match=os.strerror(code)):
        corefilt.filter(core, core.with_name("out"), filter="all", threads=3, engine="readwrite", sync=False)
    assert listing(core.parent) == before


def test_an_input_that_becomes_shorter(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _fast.move

    def cut(*args: object, **options: object) -> tuple[int, int]:
        if threading.current_thread().name == "corefilt":
            os.truncate(core, 5 * MIB)
        time.sleep(0.01)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(_fast, "move", cut)
    with pytest.raises(InputError, match="became shorter"):
        corefilt.filter(core, core.with_name("out"), filter="all", threads=2, engine="readwrite", sync=False)
    assert not core.with_name("out").exists()


def test_what_was_added_comes_back(tmp_path: Path) -> None:
    content = noise(3 * SHARE // PAGE)
    (tmp_path / "in").write_bytes(content)
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "w+b") as sink:
        pieces = [(at, at + 7, min(SHARE, len(content) - at)) for at in range(0, len(content), SHARE)]
        with Crew(source.fileno(), sink.fileno(), 2, granule=0, flags=(0, 0), writeback=True) as crew:
            found = []
            for piece in pieces:
                crew.add(piece)
                found += crew.results()
            found += crew.results(wait=True)
            assert crew.results(wait=True) == []
    assert sorted(found) == [(piece, piece[2], 0) for piece in pieces]
    assert (tmp_path / "out").read_bytes() == bytes(7) + content


SLOW = """
import threading, time
from corefilt import _fast
real = _fast.move
def slow(*args, **options):
    if threading.current_thread().name == "corefilt":
        print("copying", flush=True)
    time.sleep(0.5)
    return real(*args, **options)
_fast.move = slow
from corefilt.cli import entry
entry()
"""


@pytest.mark.parametrize(
    ("number", "times"),
    [
        (signal.SIGINT, 2), (signal.SIGTERM, 1), (signal.SIGHUP, 1),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in ((signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGHUP, 2))
        ),
    ],
)  # fmt: skip
def test_a_signal_ends_all_threads(number: int, times: int, core: Path) -> None:
    """It dies of the signal at once, leaves nothing behind, and says nothing; a second one changes nothing."""
    before = listing(core.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, "all", core, "-o", core.with_name("out"), "--threads=2", "--engine=readwrite"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(UNTRACED),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2, "the copy takes longer than that"
    assert (process.returncode, err) == (-number, b"")
    assert listing(core.parent) == before
