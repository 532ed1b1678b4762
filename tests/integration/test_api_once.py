"""From Python, what passes only once: one writer has it, and whatever ends it early is told where it is read."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.opening import in_memory, in_pipe
from support.samples import sample_core

import corefilt
from corefilt.errors import CancelledError, CorefiltError, InputError, UnstreamableError

CORE = sample_core()
PACKED = gzip.compress(CORE, 1)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as it:
        yield it


def opened(form: str, stack: ExitStack) -> corefilt.Core:
    place: Any
    if form == "pipe":
        place = stack.enter_context(in_pipe(CORE))
    elif form == "gzip":
        place = stack.enter_context(in_memory(PACKED))
    else:
        place = stack.enter_context(gzip.GzipFile(fileobj=io.BytesIO(PACKED)))
    return stack.enter_context(corefilt.open(place))


class Ends(io.RawIOBase):
    """A file of Python's own that gives so much of what it holds, and then raises."""

    def __init__(self, content: bytes, wrong: BaseException) -> None:
        self._content, self._wrong = io.BytesIO(content), wrong

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        piece = self._content.read(min(len(room), 5000))
        if not piece:
            raise self._wrong
        room[: len(piece)] = piece
        return len(piece)


# --- one writer -------------------------------------------------------------------------------------------


@pytest.fixture
def often() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("output", ["file", "object"])
@pytest.mark.parametrize("form", ["pipe", "gzip", "GzipFile"])
def test_of_several_threads_one_writes(form: str, output: str, tmp_path: Path) -> None:
    """The others are refused before anything of the core is consumed, and leave nothing."""
    right = io.BytesIO()
    with in_memory(CORE) as fd:
        corefilt.filter(fd, right, filter=0x31)
    for turn in range(8):
        with ExitStack() as stack:
            plan = opened(form, stack).plan(0x31)
            outputs: list[Any] = [tmp_path / f"{turn}-{i}" if output == "file" else io.BytesIO() for i in range(4)]
            told: list[object] = [None] * len(outputs)
            together = threading.Barrier(len(outputs))

            def write(i: int) -> None:
                together.wait()  # noqa: B023
                try:
                    told[i] = plan.write(outputs[i])  # noqa: B023
                except BaseException as error:
                    told[i] = error  # noqa: B023

            threads = [threading.Thread(target=write, args=(i,)) for i in range(len(outputs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wrote = [i for i, result in enumerate(told) if isinstance(result, corefilt.Report)]
        refused = [result for result in told if isinstance(result, UnstreamableError)]
        assert (len(wrote), len(refused)) == (1, len(outputs) - 1), told
        assert all("already, and a" in str(error) for error in refused)
        for i, out in enumerate(outputs):
            if output == "object":
                assert out.getvalue() == (right.getvalue() if i in wrote else b"")
            else:
                assert out.exists() == (i in wrote)
                assert i not in wrote or out.read_bytes() == right.getvalue()


@pytest.mark.parametrize("form", ["pipe", "gzip", "GzipFile"])
def test_a_write_within_a_write_is_refused(form: str, stack: ExitStack, tmp_path: Path) -> None:
    plan = opened(form, stack).plan(0x31)
    told: list[str] = []

    def again(done: int, total: int | None) -> None:
        with pytest.raises(UnstreamableError, match="cannot be read twice") as caught:
            plan.write(io.BytesIO())
        told.append(str(caught.value))

    assert not plan.write(tmp_path / "out", progress=again).damaged
    assert told


@pytest.mark.parametrize("form", ["pipe", "gzip", "GzipFile"])
def test_a_write_that_consumed_nothing_can_be_tried_again(form: str, stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"mine")
    plan = opened(form, stack).plan(0x31)
    for out, options in (
        (tmp_path / "there", {}),
        (tmp_path / "no" / "folder", {}),
        (tmp_path / "out", {"truncate": "x"}),
        (tmp_path / "out", {"compress": "nope"}),
        (tmp_path / "out", {"engine": "reflink"}),
    ):
        with pytest.raises(CorefiltError) as caught:
            plan.write(out, **options)
        assert not isinstance(caught.value, UnstreamableError)
    assert not plan.write(tmp_path / "out").damaged
    with pytest.raises(UnstreamableError, match="was read already"):
        plan.write(tmp_path / "again")


@pytest.mark.parametrize("form", ["pipe", "gzip", "GzipFile"])
def test_what_a_cancelled_write_consumed_is_not_called_written(form: str, stack: ExitStack, tmp_path: Path) -> None:
    plan = opened(form, stack).plan(0x31)
    stop = threading.Event()
    with pytest.raises(CancelledError):
        plan.write(tmp_path / "out", cancel=stop, progress=lambda done, total: stop.set())
    with pytest.raises(UnstreamableError, match=r"was read already, and a .* cannot be read twice"):
        plan.write(tmp_path / "again")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["gzip", "zip", "own"])
def test_an_object_is_not_called_a_pipe(form: str, stack: ExitStack, tmp_path: Path) -> None:
    place: Any
    if form == "gzip":
        place = gzip.GzipFile(fileobj=io.BytesIO(PACKED))
    elif form == "zip":
        with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
            archive.writestr("core", CORE)
        place = stack.enter_context(zipfile.ZipFile(tmp_path / "zip")).open("core")
    else:
        place = Ends(CORE, EOFError("the end"))
    stack.enter_context(place)
    with pytest.raises(UnstreamableError, match="a core that is read in order cannot be read twice"):
        corefilt.filter(place, io.BytesIO(), filter=0x31, minimal=True)


# --- what ends it early -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.7, 1.0])
@pytest.mark.parametrize("wrong", [BrokenPipeError(errno.EPIPE, "Broken pipe"), ConnectionResetError(104, "reset")])
def test_a_connection_that_broke_is_no_end(
    wrong: OSError, share: float, compressed: bool, spool: bool, tmp_path: Path
) -> None:
    """Whatever the error's class is used for elsewhere."""
    content = PACKED if compressed else CORE
    with pytest.raises(InputError, match=f"cannot be read: {wrong.strerror}"):
        corefilt.filter(Ends(content[: int(len(content) * share)], wrong), tmp_path / "out", filter=0x31, spool=spool)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.7])
@pytest.mark.parametrize("wrong", [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()])
def test_what_is_no_exception_is_raised_in_the_thread_that_asked(
    wrong: BaseException, share: float, compressed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = PACKED if compressed else CORE
    threads = threading.active_count()
    with pytest.raises(type(wrong)) as caught:
        corefilt.filter(Ends(content[: int(len(content) * share)], wrong), tmp_path / "out", filter=0x31)
    assert caught.value is wrong
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")
    assert threading.active_count() == threads


@pytest.mark.parametrize("output", ["file", "object", "compressed"])
@pytest.mark.parametrize("form", ["file", "pipe", "gzip"])
def test_a_descriptor_that_was_closed_meanwhile(form: str, output: str, tmp_path: Path) -> None:
    with (in_pipe if form == "pipe" else in_memory)(PACKED if form == "gzip" else CORE) as given:
        fd = os.dup(given)
        with corefilt.open(fd) as core:
            plan = core.plan(0x31)
            os.close(fd)
            out: Any = (
                io.BytesIO() if output == "object" else tmp_path / ("out.gz" if output == "compressed" else "out")
            )
            with pytest.raises(InputError, match=f"descriptor {fd}: {os.strerror(errno.EBADF)}"):
                plan.write(out)
    assert not list(tmp_path.iterdir())


# From Python 3.12 on, a fork beside other threads gives this warning.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_object_after_a_fork(stack: ExitStack, tmp_path: Path) -> None:
    """The thread that reads it is not there in the child, which is told so; its own process writes it all the same."""
    core = opened("GzipFile", stack)
    pid = os.fork()
    if not pid:
        # It is not to wait for ever.
        signal.alarm(60)
        try:
            core.plan(0x31).write(tmp_path / "child")
        except InputError as error:
            os._exit(0 if "was opened by process" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not core.plan(0x31).write(tmp_path / "parent").damaged
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]
