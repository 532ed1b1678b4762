"""A large copy leaves the page cache as it found it, as mincore tells before and after."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, parse_core
from support.run import MIB
from support.samples import PAGE, noise

import corefilt
from corefilt import _fast
from corefilt.errors import UsageError
from corefilt.io.engine import Engine
from corefilt.io.page_cache import AHEAD, Cache, dontcache, tells

A, B = 0x10000000, 0x20000000
SIZE = 64 * MIB
EDGE = 2 * MIB
"""What a folio that reaches over an edge may leave or take."""
RAM = (0x01021994, 0x858458F6)
"""tmpfs and ramfs, whose files are nothing but page cache."""


@pytest.fixture(scope="module")
def cold_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a core that is clean on a disk, so that its pages can go."""
    path = tmp_path_factory.mktemp("cache") / "core"
    some = noise(MIB // PAGE)
    path.write_bytes(make_core([Load(A, some * (SIZE // MIB))], kernel_notes()))
    with open(path, "rb") as file:
        if _fast.file_system(file.fileno()) in RAM:
            pytest.skip("the temporary folder is in memory, and all of a file there is page cache")
        os.fsync(file.fileno())
    cool(path)
    if held(path, 0, SIZE) > EDGE:
        pytest.skip("this file system does not let go of clean pages")
    return path


@pytest.fixture
def any_size_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_large", lambda engine: 1)


@pytest.fixture(params=["flags", "no flags"])
def flags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have RWF_DONTCACHE where the kernel has it, and a kernel that has it not."""
    if request.param == "no flags":
        monkeypatch.setattr("corefilt.io.page_cache.dontcache", lambda fd: 0)
    yield request.param


def cool(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(path: Path, start: int, end: int) -> None:
    """Read a range and nothing around it."""
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        file.seek(start)
        file.read(end - start)


def held(path: Path, start: int, end: int) -> int:
    """Count the bytes of a range that are in the page cache."""
    with open(path, "rb") as file:
        end = min(end, os.fstat(file.fileno()).st_size)
        gone = _fast.absent(file.fileno(), start, end - start)
    return end - start - sum(min(stop, end) - at for at, stop in gone)


def one_of_three(run: Callable[[], None]) -> None:
    """Ask that one of three runs goes well: a machine short of memory takes pages back on its own, or keeps them."""
    for left in (2, 1, 0):
        try:
            run()
        except AssertionError:
            if not left:
                raise
        else:
            return


@pytest.mark.parametrize(
    ("engine", "jobs", "sync"),
    [
        ("auto", 1, True),
        ("auto", 1, False),
        ("readwrite", 2, True),
        pytest.param("readwrite", 2, False, marks=pytest.mark.slow),
        *(
            pytest.param(*each, sync, marks=pytest.mark.slow)
            for each in (("readwrite", 1), ("readwrite", 5), ("copy_file_range", 1), ("sendfile", 1))
            for sync in (True, False)
        ),
    ],
)
@pytest.mark.usefixtures("any_size_is_large")
def test_what_was_there_stays_and_the_rest_goes(
    engine: str, jobs: int, sync: bool, flags: str, cold_core: Path, tmp_path: Path
) -> None:
    middle = SIZE // 2, SIZE // 2 + 8 * MIB
    out = tmp_path / "out"

    def run() -> None:
        cool(cold_core)
        warm(cold_core, *middle)
        before = held(cold_core, 0, SIZE + PAGE)
        assert 8 * MIB <= before <= 8 * MIB + EDGE
        corefilt.filter(cold_core, out, filter="all", engine=engine, threads=jobs, sync=sync, force=True)
        assert held(cold_core, *middle) >= 8 * MIB - EDGE
        assert held(cold_core, 0, SIZE + PAGE) <= before + EDGE
        if sync:
            assert held(out, 0, SIZE) <= EDGE

    one_of_three(run)
    assert out.read_bytes() == cold_core.read_bytes()


def kept_in_the_cache(core: Path, out: Path, *, cache: str) -> None:
    cool(core)
    corefilt.filter(core, out, filter="all", cache=cache, engine="readwrite", force=True)
    assert held(core, 0, SIZE) >= SIZE - EDGE
    assert held(out, 0, SIZE) >= SIZE - EDGE


@pytest.mark.usefixtures("any_size_is_large")
def test_who_wants_the_copy_kept_has_it(cold_core: Path, tmp_path: Path) -> None:
    one_of_three(lambda: kept_in_the_cache(cold_core, tmp_path / "out", cache="keep"))


def test_a_core_that_is_not_large_stays(cold_core: Path, tmp_path: Path) -> None:
    """64 MiB are less than an eighth of this machine's memory."""
    if os.sysconf("SC_PHYS_PAGES") * PAGE // 8 <= SIZE:
        pytest.skip("this machine has less than 512 MiB of memory")
    one_of_three(lambda: kept_in_the_cache(cold_core, tmp_path / "out", cache="auto"))


def test_holes_do_not_make_a_core_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A core of 1 MiB of data behind 64 MiB of holes, where 32 MiB are large."""
    monkeypatch.setattr(Engine, "_large", lambda engine: 32 * MIB)
    monkeypatch.setattr("corefilt.io.page_cache.Cache", None)
    core = tmp_path / "core"
    content = make_core([Load(A, bytes(SIZE)), Load(B, noise(MIB // PAGE))], kernel_notes())
    _, (_, first, _) = parse_core(content)
    with open(core, "wb") as file:
        file.write(content[: first.p_offset])
        file.seek(first.p_offset + SIZE)
        file.write(content[first.p_offset + SIZE :])
    if core.stat().st_blocks * 512 > 2 * MIB:
        pytest.skip("this file system keeps no holes")
    corefilt.filter(core, tmp_path / "out", filter="all")
    assert (tmp_path / "out").read_bytes() == content


def through_pipe(path: Path) -> tuple[int, threading.Thread]:
    reader, writer = os.pipe()

    def feed() -> None:
        with open(path, "rb") as source, open(writer, "wb") as sink:
            sink.write(source.read())

    thread = threading.Thread(target=feed)
    thread.start()
    return reader, thread


@pytest.mark.usefixtures("any_size_is_large")
def test_what_a_pipe_brings_goes(flags: str, cold_core: Path, tmp_path: Path) -> None:
    def run() -> None:
        reader, thread = through_pipe(cold_core)
        corefilt.filter(reader, tmp_path / "out", filter="all", force=True)
        thread.join()
        os.close(reader)
        assert held(tmp_path / "out", 0, SIZE) <= EDGE

    one_of_three(run)
    assert (tmp_path / "out").read_bytes() == cold_core.read_bytes()


def sent_down_a_pipe(core: Path, engine: str) -> bytearray:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, MIB)
    got = bytearray()

    def drain() -> None:
        with open(reader, "rb") as pipe:
            got.extend(pipe.read())

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        corefilt.filter(core, writer, filter="all", engine=engine)
    finally:
        os.close(writer)
        thread.join()
    return got


@pytest.mark.parametrize(
    ("engine", "flags"),
    [
        ("splice", "flags"),
        ("sendfile", "no flags"),
        ("readwrite", "flags"),
        ("readwrite", "no flags"),
        pytest.param("splice", "no flags", marks=pytest.mark.slow),
        pytest.param("sendfile", "flags", marks=pytest.mark.slow),
    ],
    indirect=["flags"],
)
@pytest.mark.usefixtures("any_size_is_large")
def test_what_goes_down_a_pipe_goes(engine: str, flags: str, cold_core: Path) -> None:
    def run() -> None:
        cool(cold_core)
        got = sent_down_a_pipe(cold_core, engine)
        # What was still in the pipe when the end came could not be dropped.
        assert held(cold_core, 0, SIZE) <= EDGE + MIB
        assert got == cold_core.read_bytes()

    one_of_three(run)


@pytest.mark.parametrize("answer", ["nothing", "an error"])
@pytest.mark.usefixtures("any_size_is_large")
def test_where_the_cache_cannot_be_asked_nothing_is_dropped(
    answer: str, cold_core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a file of somebody else's, which is told to be all there."""

    def ask(*args: object) -> list[tuple[int, int]]:
        if answer == "nothing":
            return []
        raise OSError(1, "not permitted")

    def run() -> None:
        warm(cold_core, 0, SIZE)
        with monkeypatch.context() as patch:
            patch.setattr("corefilt.io.page_cache.dontcache", lambda fd: 0)
            patch.setattr(_fast, "absent", ask)
            corefilt.filter(cold_core, tmp_path / "out", filter="all", engine="copy_file_range", force=True)
        assert held(cold_core, 0, SIZE) >= SIZE - EDGE

    one_of_three(run)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.usefixtures("any_size_is_large")
def test_where_the_cache_does_not_tell_the_kernel_drops_what_it_can(
    jobs: int, cold_core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input is another user's, whom mincore tells nothing."""
    with cold_core.open("rb") as file:
        if not dontcache(file.fileno()):
            pytest.skip("neither this kernel nor this file system knows RWF_DONTCACHE")

    def run() -> None:
        cool(cold_core)
        with monkeypatch.context() as patch:
            patch.setattr("corefilt.io.page_cache.tells", lambda fd: False)
            patch.setattr(_fast, "absent", lambda fd, start, length: [])
            corefilt.filter(cold_core, tmp_path / "out", filter="all", engine="readwrite", threads=jobs, force=True)
        assert held(cold_core, 0, SIZE) < SIZE // 2

    one_of_three(run)
    assert (tmp_path / "out").read_bytes() == cold_core.read_bytes()


def test_who_is_told_what_the_cache_holds(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"x")
    with open(tmp_path / "mine", "rb") as mine, open("/proc/self/stat", "rb") as own:
        assert tells(mine.fileno())
        assert tells(own.fileno())
    if os.geteuid() != 0:
        with open("/etc/passwd", "rb") as theirs:
            assert not tells(theirs.fileno())


@pytest.mark.usefixtures("any_size_is_large")
def test_the_cache_is_asked_before_the_kernel_reads_ahead(
    cold_core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = reached = 0
    real = _fast.move

    def before(cache: Cache, at: int, length: int, *, flagged: bool) -> None:
        nonlocal asked
        ask(cache, at, length, flagged=flagged)
        asked = cache._known

    def move(*args: object, **options: object) -> tuple[int, int]:
        nonlocal reached
        reached = int(str(args[2])) + int(str(args[5]))
        assert asked >= reached + AHEAD // 2 or reached < PAGE
        return real(*args, **options)  # type: ignore[arg-type]

    ask = Cache.before
    monkeypatch.setattr(Cache, "before", before)
    monkeypatch.setattr(_fast, "move", move)
    corefilt.filter(cold_core, tmp_path / "out", filter="all", engine="copy_file_range", sync=False)
    assert reached == parse_core(cold_core.read_bytes())[1][1].p_offset + SIZE


@pytest.mark.parametrize("make", [lambda path: path, str])
def test_a_wish_that_does_not_exist(make: Callable[[Path], Path | str], cold_core: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache is 'toss'"):
        corefilt.filter(make(cold_core), tmp_path / "out", filter="all", cache="toss")
