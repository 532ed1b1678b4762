"""From Python: errors that travel between processes, places and limits that fail, and cores that nobody closed."""

from __future__ import annotations

import copy
import gc
import gzip
import importlib
import io
import os
import pickle
import pkgutil
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.samples import sample_core

import corefilt
from corefilt import verify
from corefilt.errors import CorefiltError, FitError, InputError, OutputError

CORE = sample_core()


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Return a core as a file."""
    path = tmp_path / "core"
    path.write_bytes(CORE)
    return path


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Return a compressed core as a file."""
    path = tmp_path / "core.gz"
    path.write_bytes(gzip.compress(CORE))
    return path


@contextmanager
def limit(what: int, value: int) -> Iterator[None]:
    """Have a limit of this process while it lasts."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def open_files() -> set[str]:
    """Return what the descriptors of this process refer to, each with its number."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            # The listing's own.
            continue
    return found


# --- errors ---------------------------------------------------------------------------------------------------


def every_error() -> list[type[CorefiltError]]:
    """Return all classes of errors, wherever they are defined."""
    for module in pkgutil.walk_packages(corefilt.__path__, "corefilt."):
        source = module.module_finder.find_spec(module.name)  # type: ignore[call-arg, union-attr]
        if source is not None and source.origin and source.origin.endswith(".py") and "__main__" not in module.name:
            text = Path(source.origin).read_text()
            if "Error(" in text and "\nclass " in text:
                importlib.import_module(module.name)
    found, waiting = [], [CorefiltError]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return [kind for kind in found if kind.__module__.startswith("corefilt.")]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_is_the_same_when_it_was_pickled_or_copied(
    kind: type[CorefiltError], again: Callable[[CorefiltError], CorefiltError]
) -> None:
    plain = FitError("one\nline", 4096) if kind is FitError else kind("one\nline")
    hinted = FitError("x", 1) if kind is FitError else kind("x", "try that")
    hinted.hint = "try that"
    for error in (plain, hinted):
        other = again(error)
        assert type(other) is kind
        assert (str(other), other.args, other.hint) == (str(error), error.args, error.hint)
        assert other.exit_code == error.exit_code
        assert other.__dict__ == error.__dict__


def test_every_error_was_found() -> None:
    assert {"FitError", "ClusterError", "ExistsError"} <= {kind.__name__ for kind in every_error()}


# --- batch ----------------------------------------------------------------------------------------------------


def test_batch_says_why_its_directory_cannot_be_made(core: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for to in ("/proc/x", str(tmp_path / ("x" * 300)), str(file), str(file / "sub")):
        with pytest.raises(OutputError, match=to):
            corefilt.batch([core], to, filter=1)


def test_a_dry_run_of_batch_refuses_a_file_as_its_directory_and_makes_none(core: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for to in (file, file / "sub"):
        with pytest.raises(OutputError, match="is not a directory"):
            corefilt.batch([core], to, filter=1, dry_run=True)
    corefilt.batch([core], tmp_path / "new" / "sub", filter=1, dry_run=True)
    assert not (tmp_path / "new").exists()


def test_batch_makes_nothing_for_a_source_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for source in (".", "nothing", tmp_path / "nothing"):
        with pytest.raises(InputError):
            corefilt.batch([source], tmp_path / "out", filter=1)
    assert not (tmp_path / "out").exists()


# --- files and descriptors ------------------------------------------------------------------------------------


def test_an_output_file_whose_buffer_cannot_be_written_is_an_output_error(core: Path) -> None:
    with open("/dev/null", "wb") as null, open("/dev/full", "wb") as full:
        full.write(b"x")
        try:
            with pytest.raises(OutputError, match="No space left"):
                corefilt.filter(core, full, filter=1)
        finally:
            # What is in the buffer goes elsewhere.
            os.dup2(null.fileno(), full.fileno())


def test_a_source_file_whose_descriptor_was_closed_is_an_input_error(core: Path) -> None:
    with core.open("r+b") as file, core.open("rb") as other:
        os.close(file.fileno())
        try:
            with pytest.raises(InputError, match="Bad file descriptor"):
                corefilt.open(file)
            with pytest.raises(OutputError, match="it is closed"):
                corefilt.filter(core, file, filter=1)
        finally:
            os.dup2(other.fileno(), file.fileno())


def test_a_descriptor_of_a_path_alone_is_an_input_error(core: Path) -> None:
    fd = os.open(core, os.O_PATH)
    try:
        with pytest.raises(InputError, match="Bad file descriptor"):
            corefilt.open(fd)
    finally:
        os.close(fd)


def test_a_file_in_memory_that_a_limit_forbids_is_an_input_error() -> None:
    before = open_files()
    with limit(resource.RLIMIT_FSIZE, 2000), pytest.raises(InputError, match="File too large"):
        corefilt.open(io.BytesIO(CORE))
    assert open_files() == before


def test_verify_and_digest_say_that_there_is_no_place_for_a_copy(
    core: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    for call in (lambda: verify.digest(packed), lambda: verify.verify(packed, core)):
        with pytest.raises(InputError, match=r"cannot be copied to /nonexistent: No such file") as raised:
            call()
        assert "TMPDIR" in raised.value.hint


@pytest.mark.parametrize("spare", range(6))
def test_too_few_descriptors_raise_an_error_of_corefilt(spare: int, core: Path, packed: Path) -> None:
    data = packed.read_bytes()
    calls: list[Callable[[], object]] = [
        lambda: verify.digest(core),
        lambda: verify.digest(packed),
        lambda: verify.verify(packed, core),
        lambda: corefilt.filter(io.BytesIO(CORE), io.BytesIO(), filter=1),
        lambda: corefilt.filter(gzip.GzipFile(fileobj=io.BytesIO(data)), io.BytesIO(), filter=1),
    ]
    for call in calls:
        # What is imported late is there.
        call()
        top = os.open("/dev/null", os.O_RDONLY)
        os.close(top)
        before = open_files()
        with limit(resource.RLIMIT_NOFILE, top + spare):
            try:
                call()
            except CorefiltError as error:
                assert "Too many open files" in str(error), error
        assert open_files() == before


# --- cores that nobody closed ----------------------------------------------------------------------------------


def waited_for(what: Callable[[], bool]) -> bool:
    """Tell whether something becomes true within ten seconds."""
    until = time.monotonic() + 10
    while not what() and time.monotonic() < until:
        time.sleep(0.01)
    return what()


def test_a_core_that_nobody_closed_gives_its_descriptors_back(core: Path, packed: Path) -> None:
    for place, spool in ((core, False), (packed, False), (packed, True), (io.BytesIO(CORE), False)):
        before = open_files()
        with pytest.warns(ResourceWarning, match="unclosed core"):
            corefilt.open(place, spool=spool)
        assert open_files() == before
        with pytest.warns(ResourceWarning):
            found = corefilt.open(place, spool=spool).mappings
        # What was decided is of use without the file.
        assert [dict(mapping) for mapping in found]
        assert open_files() == before


def test_a_core_of_a_file_object_that_nobody_closed_ends_its_thread() -> None:
    large = CORE + bytes(8 << 20)
    before, threads = open_files(), threading.active_count()
    with pytest.warns(ResourceWarning):
        corefilt.open(gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(large, 1))))
    assert waited_for(lambda: threading.active_count() == threads and open_files() == before)


def test_a_core_that_was_closed_or_does_not_own_its_descriptor_goes_silently(core: Path) -> None:
    with corefilt.open(core):
        pass
    with core.open("rb") as file:
        corefilt.open(file)
        gc.collect()
        assert os.fstat(file.fileno()).st_size == len(CORE)


def test_a_plan_keeps_its_core_open(core: Path) -> None:
    plan = corefilt.open(core).plan(1)
    gc.collect()
    written = io.BytesIO()
    plan.write(written)
    assert written.getvalue()
    plan.core.close()


@pytest.mark.parametrize("opened", ["corefilt.open(path)", "corefilt.open(gzip.open(path + '.gz'))"])
def test_the_end_of_the_interpreter_says_nothing_of_open_cores(opened: str, core: Path, packed: Path) -> None:
    packed.write_bytes(gzip.compress(CORE + bytes(8 << 20), 1))
    script = f"import corefilt, gzip, sys\npath = sys.argv[1]\ncore = {opened}\ncycle = [core]\ncycle.append(cycle)\n"
    done = subprocess.run([sys.executable, "-c", script, core], capture_output=True, timeout=60, check=True)
    assert done.stdout + done.stderr == b""


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_has_an_open_file_is_neither_copied_nor_pickled(again: Callable[[object], object], core: Path) -> None:
    with corefilt.open(core) as opened:
        plan = opened.plan(1)
        report = plan.write(io.BytesIO())
        for value, why in ((opened, "open file"), (plan, "open file"), (report, r"report\.as_dict\(\) can be")):
            with pytest.raises(TypeError, match=f"a {type(value).__name__} cannot be copied or pickled: .*{why}"):
                again(value)
        assert opened.read(opened.mappings[0].start, 1) is not None
    assert pickle.loads(pickle.dumps(report.as_dict())) == report.as_dict()
