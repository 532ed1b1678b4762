"""Every mover gives the same bytes, holes come about as asked, and a pipe into a file equals a file into a file."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builder import AT_SYSINFO_EHDR, PT_LOAD, Load, kernel_notes, library, make_core, page, parse_core
from support.opening import in_memory, in_pipe
from support.run import assert_promises
from support.run import corefilt as corefilt_run
from support.samples import LIBRARY, PAGE, noise, sample_core, tagged, vvar_core
from support.strategies import FILTERS, cores

import corefilt
from corefilt import _fast
from corefilt.cli import main
from corefilt.errors import EngineError, OutputError, UsageError
from corefilt.filtering.report import Report
from corefilt.io import movers
from corefilt.io.opening import open_sink
from corefilt.io.sinks import Sink

CORE = sample_core()
A, B, C = 0x10000000, 0x20000000, 0x30000000
WAYS = [f"{source}-{sink}" for source, sink in product(("file", "pipe"), repeat=2)]
MOVERS = ["readwrite", "copy_file_range", "sendfile", "splice", "reflink"]
CAN = {("file-file", "copy_file_range"), *product(WAYS, ["readwrite", "auto"])}
CAN |= {(way, "sendfile") for way in WAYS if way.startswith("file")}
CAN |= {(way, "splice") for way in WAYS if "pipe" in way}
# Whether extents can be shared depends on the file system: tests/integration/test_file_systems.py.
PERHAPS = {("file-file", "reflink")}


@dataclass(frozen=True)
class Outcome:
    """What a run left: the core, its report, and the ranges of the file that are no holes."""

    core: bytes
    report: Report
    data: list[tuple[int, int]]


def data_ranges(fd: int) -> list[tuple[int, int]]:
    """List what is no hole, as the file system tells it."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return ranges
        end = os.lseek(fd, at, os.SEEK_HOLE)
        ranges.append((at, end))
        at = end


def run(core: bytes | Path, way: str = "file-file", wanted: int | str = 0x33, **options: object) -> Outcome:
    """Filter a core, which is bytes or the path of a file, in this process."""
    source, _, sink = way.partition("-")
    if isinstance(core, Path):
        out = core.with_name("out")
        if sink == "file":
            report = corefilt.filter(core, out, filter=wanted, force=True, **options)  # type: ignore[arg-type]
            with open(out, "rb") as file:
                return Outcome(file.read(), report, data_ranges(file.fileno()))
        with open(core, "rb") as file:
            return _run(file.fileno(), sink, wanted, options)
    with (in_pipe if source == "pipe" else in_memory)(core) as fd:
        return _run(fd, sink, wanted, options)


def _run(source: int, sink: str, wanted: int | str, options: dict[str, object]) -> Outcome:
    if sink == "file":
        with in_memory() as out:
            report = corefilt.filter(source, out, filter=wanted, sync=False, **options)  # type: ignore[arg-type]
            return Outcome(os.pread(out, os.fstat(out).st_size, 0), report, data_ranges(out))
    reader, writer = os.pipe()
    with open(reader, "rb") as pipe:
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
            report = corefilt.filter(source, writer, filter=wanted, **options)  # type: ignore[arg-type]
        finally:
            os.close(writer)
        return Outcome(pipe.read(), report, [])


# --- every mover, every way --------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0x0, 0x31, 0x33, 0x1FF])
@pytest.mark.parametrize(("way", "engine"), sorted(CAN))
def test_every_engine_gives_the_same(way: str, engine: str, wanted: int) -> None:
    outcome = run(CORE, way, wanted, engine=engine)
    assert_promises(CORE, outcome.core)
    assert outcome.core == run(CORE, "file-file", wanted, engine="readwrite").core
    if engine != "auto":
        assert outcome.report.engine == engine


@pytest.mark.parametrize(("way", "engine"), sorted({*product(WAYS, MOVERS)} - CAN - PERHAPS))
def test_what_is_demanded_and_cannot_be_is_an_error(way: str, engine: str) -> None:
    with pytest.raises(EngineError, match=f"engine='{engine}' needs"):
        run(CORE, way, engine=engine)


LAYOUTS = {
    "sample": CORE,
    "xnum": sample_core(xnum=True),
    "gcore": sample_core(layout="gcore"),
    "gcore, notes first": sample_core(layout="gcore-notes-first"),
    "cut short": CORE[: -2 * PAGE - 77],
    "memory tags": tagged(interleaved=True),
    "big-endian": make_core([Load(A, noise(3)), Load(B, noise(2, 1))], machine=20, bits=32, little_endian=False),
    "odd sizes": make_core([Load(A, noise(2)[:100]), Load(B, noise(3)[:-9]), Load(C, noise(2))], layout="gcore"),
}


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("engine", ["auto", "readwrite", "copy_file_range", "sendfile"])
def test_every_layout_by_every_engine(
    engine: str, layout: str, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by several threads, whose pieces are made small here."""
    monkeypatch.setattr("corefilt.io.engine.SHARE", PAGE)
    monkeypatch.setattr("corefilt.io.engine.WORTH_A_PIECE", PAGE)
    path = tmp_path / "core"
    path.write_bytes(LAYOUTS[layout])
    for wanted in (0x0, 0x31, 0x1FF):
        expected = run(LAYOUTS[layout], "file-file", wanted, engine="readwrite", threads=1).core
        assert run(path, "file-file", wanted, engine=engine, threads=jobs).core == expected


@pytest.mark.parametrize("engine", [name for name in MOVERS if name != "reflink"])
def test_a_demand_never_falls_back(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mover that turns out to be impossible while it works is an error, and no other is tried."""
    tried: list[int] = []
    real = _fast.move

    def refuse(mover: int, *args: object, **options: object) -> tuple[int, int]:
        if args[2] == null:
            return real(mover, *args, **options)  # type: ignore[arg-type]
        tried.append(mover)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    null = -1
    monkeypatch.setattr(_fast, "move", refuse)
    way = "file-pipe" if engine == "splice" else "file-file"
    with pytest.raises(EngineError, match=f"engine='{engine}' cannot move"):
        run(CORE, way, engine=engine)
    assert tried == [getattr(_fast, engine.upper())]


LADDERS = {
    "file-file": ["reflink", "copy_file_range", "sendfile", "readwrite"],
    "file-pipe": ["splice", "sendfile", "readwrite"],
    "pipe-pipe": ["splice", "readwrite"],
}


@pytest.mark.parametrize(("way", "rungs"), [(way, n) for way, names in LADDERS.items() for n in range(1, len(names))])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM])
def test_what_is_chosen_falls_back(way: str, rungs: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rung that breaks leads to the next one, and none is tried again."""
    real, broken = _fast.move, [getattr(_fast, name.upper()) for name in LADDERS[way][:rungs]]
    tried: list[int] = []

    def refuse(mover: int, *args: object, **options: object) -> tuple[int, int]:
        tried.append(mover)
        # Dropped bytes of a pipe go to /dev/null, which no ladder is for.
        if mover in broken and not (way.startswith("pipe") and args[2] != writer_of[0]):
            raise OSError(code, os.strerror(code))
        return real(mover, *args, **options)  # type: ignore[arg-type]

    writer_of: list[int] = []
    expected = run(CORE, way).core
    monkeypatch.setattr(_fast, "move", refuse)
    monkeypatch.setattr(
        "corefilt.filtering.write.open_sink", lambda place, **options: _noted(writer_of, place, **options)
    )
    outcome = run(CORE, way)
    assert (outcome.core, outcome.report.engine) == (expected, LADDERS[way][rungs])
    if way.startswith("file"):
        assert [tried.count(mover) for mover in broken] == [1] * rungs


def _noted(descriptors: list[int], place: Any, **options: Any) -> Sink:
    sink = open_sink(place, **options)
    descriptors.append(sink.fd)
    return sink


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_what_is_no_question_of_the_mover_is_an_error(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fail(mover: int, *args: object, **options: object) -> tuple[int, int]:
        tried.append(mover)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_fast, "move", fail)
    with pytest.raises(OutputError, match=re.escape(os.strerror(code))):
        run(CORE)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("refused", "used"),
    [
        ("", "copy_file_range"),
        ("copy_file_range:error=EXDEV", "sendfile"),
        ("copy_file_range:error=ENOSYS,sendfile:error=EINVAL", "readwrite"),
        ("copy_file_range:retval=0", "sendfile"),
    ],
)
def test_the_kernel_refuses(refused: str, used: str, core: Path) -> None:
    """The same with system calls that fail by strace's hand."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed, which makes system calls fail")
    out, expected = core.with_name("out"), run(CORE, "file-file", engine="readwrite").core
    calls = ["-e", "inject=ioctl:error=EOPNOTSUPP"]
    for rule in filter(None, refused.split(",")):
        calls += ["-e", f"inject={rule}"]
    traced = "trace=ioctl,copy_file_range,sendfile"
    prefix = ("strace", "-f", "-o", os.devnull, "-e", traced, *calls)
    # Between some file systems auto reads and writes at once.
    done = corefilt_run("0x33", core, "-o", out, "-v", "--engine", "probe", prefix=prefix)
    if any("ptrace" in line for line in done.err):
        pytest.skip(f"strace may not trace here: {done.err}")
    assert done.code == 0, done.err
    assert f"  engine: {used};" in "\n".join(done.err)
    assert out.read_bytes() == expected


def test_sharing_is_demanded_where_it_cannot_be() -> None:
    """Memory shares no extents, and nothing else is tried; the edges of less than a block would be copied."""
    big = make_core([Load(A, noise(64))], kernel_notes())
    with pytest.raises(EngineError, match="engine='reflink' cannot move"):
        run(big, engine="reflink")


def test_bytes_that_are_no_whole_blocks_away_cannot_be_shared() -> None:
    core = make_core(
        [Load(A, noise(1)[:100], memsz=PAGE), Load(B, noise(3))],
        kernel_notes([(A, A + PAGE, 0, "/dev/zero (deleted)")]),
        layout="gcore",
    )
    with pytest.raises(EngineError, match=r"not a multiple of the block size \(4096 bytes"):
        run(core, wanted=0x31, engine="reflink")
    assert run(core, wanted=0x31).core == run(core, wanted=0x31, engine="readwrite").core


def test_sharing_shares_holes() -> None:
    with pytest.raises(EngineError, match="sparse='never' writes out holes"):
        run(CORE, engine="reflink", sparse="never")


def test_a_file_that_cannot_be_copied_by_the_kernel_is_read() -> None:
    """Files of /proc and the like answer copy_file_range with nothing at all."""
    outcome = run(CORE)
    real = _fast.move
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _fast,
            "move",
            lambda mover, *args, **options: (0, 0) if mover == _fast.COPY_FILE_RANGE else real(mover, *args, **options),
        )
        assert run(CORE).core == outcome.core


@pytest.fixture
def signals() -> Iterator[None]:
    """Give back the signal handlers that the command line sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("engine", ["readwrite", "copy_file_range", "sendfile"])
@pytest.mark.usefixtures("signals")
def test_the_environment_demands_an_engine(
    engine: str, core: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COREFILT_ENGINE", engine)
    assert main(["0x33", str(core), "-o", str(core.with_name("out")), "-v"]) == 0
    assert f"engine: {engine};" in capsys.readouterr().err


@pytest.mark.usefixtures("signals")
def test_an_option_outweighs_the_environment(
    core: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COREFILT_ENGINE", "splice")
    assert main(["0x33", str(core), "-o", str(core.with_name("out")), "-v", "--engine", "readwrite"]) == 0
    assert "engine: readwrite;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        ("teleport", 2, "COREFILT_ENGINE is 'teleport'"),
        ("splice", 1, "--engine splice needs a pipe"),
        ("reflink", 1, "--engine reflink cannot move"),
    ],
)
@pytest.mark.usefixtures("signals")
def test_a_bad_environment_is_no_silent_choice(
    value: str, code: int, words: str, core: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COREFILT_ENGINE", value)
    assert main(["0x33", str(core), "-o", str(core.with_name("out"))]) == code
    assert words in capsys.readouterr().err
    assert os.listdir(core.parent) == [core.name]


@pytest.mark.usefixtures("signals")
def test_an_impossible_demand_writes_nothing(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0x33", str(core), "-o", str(core.with_name("out")), "--engine", "splice"]) == 1
    assert "--engine splice needs a pipe on one side" in capsys.readouterr().err
    assert os.listdir(core.parent) == [core.name]


@pytest.mark.parametrize("engine", ["reflink", "copy_file_range", "sendfile", "splice"])
@pytest.mark.usefixtures("signals")
def test_looking_for_zeros_needs_an_engine_that_sees_them(
    engine: str, core: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["0x33", str(core), "-o", str(core.with_name("out")), "--sparse", "always", "--engine", engine]
    assert main(arguments) == 2
    assert "--sparse always looks for zeros" in capsys.readouterr().err
    assert os.listdir(core.parent) == [core.name]


@pytest.mark.parametrize("engine", ["auto", "probe", "readwrite"])
@pytest.mark.usefixtures("signals")
def test_an_engine_that_may_see_zeros_looks_for_them(engine: str, core: Path) -> None:
    out = core.with_name("out")
    assert main(["all", str(core), "-o", str(out), "-q", "--sparse", "always", "--engine", engine]) == 0
    assert out.read_bytes() == core.read_bytes()


@pytest.mark.parametrize(
    "option",
    [
        {"engine": "teleport"},
        {"sparse": "sometimes"},
        {"unknown": "toss"},
        {"cache": "toss"},
        {"threads": 9},
        {"threads": 0},
    ],
)
def test_an_option_that_does_not_exist_is_a_usage_error(option: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run(CORE, **option)  # type: ignore[arg-type]


# --- holes -------------------------------------------------------------------------------------------------


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Write a core of two mappings with holes, and with zeros that are none."""
    pieces = [noise(2, 1), bytes(4 * PAGE), noise(1, 2), bytes(PAGE), bytes(4 * PAGE), noise(1, 3), bytes(3 * PAGE)]
    holes = [False, True, False, False, True, False, True]
    data = b"".join(pieces)
    notes = kernel_notes([(A, A + 3 * PAGE, 0, "/dev/zero (deleted)")])
    core = make_core([Load(A, noise(3, 4)), Load(B, data), Load(C, noise(1, 5))], notes)
    path = tmp_path / "sparse"
    path.write_bytes(core)
    at = parse_core(core)[1][2].p_offset
    with open(path, "r+b") as file:
        for piece, hole in zip(pieces, holes, strict=True):
            if hole:
                _fast.punch(file.fileno(), at, len(piece))
            at += len(piece)
        if data_ranges(file.fileno()) == [(0, len(core))]:
            pytest.skip("this file system keeps no map of holes")
    return path


def pages_with_data(core: bytes, ranges: list[tuple[int, int]]) -> dict[int, set[int]]:
    """List for every PT_LOAD which of its pages are no holes."""
    return {
        phdr.p_vaddr: {
            number
            for number in range(phdr.p_filesz // PAGE)
            if any(
                start < phdr.p_offset + (number + 1) * PAGE and phdr.p_offset + number * PAGE < end
                for start, end in ranges
            )
        }
        for phdr in parse_core(core)[1]
        if phdr.p_type == PT_LOAD
    }


@pytest.mark.parametrize("engine", ["auto", "readwrite", "copy_file_range", "sendfile"])
@pytest.mark.parametrize(("wanted", "dropped"), [("all", None), (0x31, A)])
def test_holes_of_a_file_are_kept_exactly(sparse: Path, wanted: int | str, dropped: int | None, engine: str) -> None:
    core = sparse.read_bytes()
    outcome = run(sparse, "file-file", wanted, engine=engine)
    with open(sparse, "rb") as file:
        before = pages_with_data(core, data_ranges(file.fileno()))
    assert before[B] == {0, 1, 6, 7, 12}
    assert_promises(core, outcome.core)
    expected = {address: set() if address == dropped else pages for address, pages in before.items()}
    assert pages_with_data(outcome.core, outcome.data) == expected
    assert outcome.report.holes == "kept"


def test_a_hole_down_a_pipe_is_zeros(sparse: Path) -> None:
    outcome = run(sparse, "file-pipe", "all")
    assert (outcome.core, outcome.report.holes) == (sparse.read_bytes(), "none")


def test_looking_for_zeros_makes_more_holes(sparse: Path) -> None:
    core = sparse.read_bytes()
    outcome = run(sparse, "file-file", "all", sparse="always")
    assert outcome.core == core
    assert pages_with_data(core, outcome.data)[B] == {0, 1, 6, 12}
    assert outcome.report.holes == "guessed"


@pytest.mark.parametrize("engine", ["auto", "readwrite"])
@pytest.mark.parametrize("way", ["file-file", "pipe-file"])
def test_no_holes_are_made_where_none_are_wanted(sparse: Path, way: str, engine: str) -> None:
    core = sparse.read_bytes()
    outcome = run(core if way == "pipe-file" else sparse, way, "all", sparse="never", engine=engine)
    assert outcome.core == core
    assert outcome.data == [(0, len(core))]
    assert outcome.report.holes == "none"


@pytest.mark.parametrize("option", ["auto", "always"])
def test_zeros_from_a_pipe_become_holes(sparse: Path, option: str) -> None:
    core = sparse.read_bytes()
    outcome = run(core, "pipe-file", "all", sparse=option)
    assert outcome.core == core
    assert pages_with_data(core, outcome.data)[B] == {0, 1, 6, 12}
    assert outcome.report.holes == "guessed"
    assert outcome.report.as_dict()["holes"] == "guessed"
    assert "holes: guessed" in outcome.report.summary()


def test_a_pipe_moved_by_splice_gets_no_holes(sparse: Path) -> None:
    """Nobody has seen the bytes."""
    core = sparse.read_bytes()
    outcome = run(core, "pipe-file", "all", engine="splice")
    assert (outcome.core, outcome.report.holes) == (core, "none")
    assert pages_with_data(core, outcome.data)[B] == set(range(16))


@pytest.mark.parametrize("option", ["auto", "always", "never"])
@pytest.mark.parametrize("way", WAYS)
def test_holes_change_no_byte(sparse: Path, way: str, option: str) -> None:
    core = sparse.read_bytes()
    for wanted in (0x31, 0x2):
        assert run(core, way, wanted, sparse=option).core == run(core, "file-file", wanted, engine="readwrite").core


# --- a pipe into a file: the end decides -------------------------------------------------------------------


def late_header() -> bytes:
    """Make a core in which only the payload tells that a file has no header page, with data and holes behind."""
    files = [(A, A + 3 * PAGE, 0, "/data/run"), (B, B + 4 * PAGE, 0, "/data/other")]
    return make_core(
        [
            Load(A, noise(3, 1), flags="r--"),
            Load(B, page(b"\x7fELF", 4), flags="r--"),
            Load(C, noise(2, 2) + bytes(5 * PAGE) + noise(2, 3)),
        ],
        kernel_notes(files, {AT_SYSINFO_EHDR: 1}),
    )


@pytest.mark.parametrize("option", ["auto", "never"])
@pytest.mark.parametrize(
    "core",
    [
        pytest.param(late_header(), id="header page"),
        pytest.param(vvar_core(noise(1)), id="vvar is not zero"),
        pytest.param(vvar_core(b""), id="vvar"),
        pytest.param(sample_core(), id="sample"),
        pytest.param(sample_core(xnum=True), id="xnum"),
    ],
)
@pytest.mark.parametrize("wanted", [0x0, 0x10, 0x11, 0x14, 0x33])
@pytest.mark.parametrize("unknown", ["keep", "guess", "drop"])
def test_what_was_written_too_much_is_taken_out_again(core: bytes, wanted: int, unknown: str, option: str) -> None:
    expected = run(core, "file-file", wanted, unknown=unknown)
    outcome = run(core, "pipe-file", wanted, unknown=unknown, sparse=option)
    assert outcome.core == expected.core
    assert_promises(core, outcome.core)
    same = ("kept_bytes", "dropped_bytes", "assumed_bytes", "output_bytes", "input_bytes", "kinds")
    assert {name: getattr(outcome.report, name) for name in same} == {
        name: getattr(expected.report, name) for name in same
    }


def test_pages_that_moved_keep_their_holes() -> None:
    core = late_header()
    outcome = run(core, "pipe-file", 0x11, unknown="guess")
    first = parse_core(outcome.core)[1][3]
    assert first.p_offset < parse_core(core)[1][3].p_offset
    assert pages_with_data(outcome.core, outcome.data)[C] == {0, 1, 7, 8}


def test_a_file_system_that_cannot_punch_gets_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(late_header(), "file-file", 0x11, unknown="guess").core

    def refuse(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(_fast, "punch", refuse)
    assert run(late_header(), "pipe-file", 0x11, unknown="guess").core == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "offset"),
    [
        pytest.param("/anon_hugepage (deleted)", 0, id="half a huge page"),
        pytest.param("/anon_hugepage (deleted)", PAGE, id="the middle of a huge page"),
    ],
)
def test_a_contradiction_that_comes_early_is_kept_in_every_way(path: str, offset: int, way: str) -> None:
    """One page of two says header page, the name says otherwise; another mapping of the file has yet to come."""
    core = make_core(
        [Load(A, noise(1, 1), memsz=2 * PAGE), Load(B, noise(1, 2), flags="r--")],
        kernel_notes([(A, A + 2 * PAGE, offset, path), (B, B + PAGE, 0, path)]),
    )
    outcome = run(core, way, "none")
    assert_promises(core, outcome.core)
    assert parse_core(outcome.core)[1][1].p_filesz == PAGE


@pytest.mark.parametrize("way", ["pipe-file", "pipe-pipe"])
def test_what_is_dropped_before_a_look_is_not_held(way: str) -> None:
    """A shared mapping that the filter drops, larger than what a pipe may have read ahead; an ELF file follows."""
    loads, files = library(LIBRARY, "/opt/lib.so")
    core = make_core([Load(A, noise(16)), *loads], kernel_notes([(A, A + 16 * PAGE, 0, "/dev/zero (deleted)"), *files]))
    with in_pipe(core) as fd, in_memory() as out, corefilt.open(fd, max_headers=8 * PAGE) as it:
        if way == "pipe-pipe":
            os.lseek(out, 1, os.SEEK_SET)
        report = it.plan(0x31).write(out)
        assert report.dropped_bytes >= 16 * PAGE
        assert_promises(core, os.pread(out, len(core), way == "pipe-pipe"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wanted", [0x0, 0x1, 0x3])
def test_memory_tags_between_the_segments(wanted: int, way: str) -> None:
    """The kernel writes them behind all memory; another program may not."""
    core = tagged(interleaved=True)
    outcome = run(core, way, wanted)
    assert_promises(core, outcome.core)
    assert outcome.core == run(core, "file-file", wanted).core


@pytest.mark.parametrize("way", WAYS)
def test_pn_xnum_without_a_section_header(way: str) -> None:
    """The count follows from the kernel's layout; no section header stands over the ELF header."""
    core = make_core([Load(A, noise(2)), Load(B, noise(1, 1))], kernel_notes(), xnum=True, patch={"e_shoff": 0})
    outcome = run(core, way, "all")
    assert outcome.core[:16] == core[:16]
    assert outcome.core[64 : 4 * PAGE] == core[64 : 4 * PAGE]
    assert len(parse_core(outcome.core)[1]) == 3


UNKNOWN = st.sampled_from(["keep", "guess", "drop"])
SPARSE = st.sampled_from(["auto", "never", "always"])


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS, unknown=UNKNOWN, sparse=SPARSE)
def test_a_pipe_into_a_file_is_a_file_into_a_file(core: bytes, wanted: int, unknown: str, sparse: str) -> None:
    outcome = run(core, "pipe-file", wanted, unknown=unknown, sparse=sparse)
    assert outcome.core == run(core, "file-file", wanted, unknown=unknown).core


@settings(max_examples=60)
@given(core=cores(), wanted=FILTERS, unknown=UNKNOWN)
def test_a_file_into_a_pipe_is_a_file_into_a_file(core: bytes, wanted: int, unknown: str) -> None:
    outcome = run(core, "file-pipe", wanted, unknown=unknown)
    assert outcome.core == run(core, "file-file", wanted, unknown=unknown).core


@settings(max_examples=100)
@given(core=cores(), wanted=FILTERS, unknown=UNKNOWN, way=st.sampled_from(WAYS))
def test_any_output_is_a_part_of_its_input(core: bytes, wanted: int, unknown: str, way: str) -> None:
    outcome = run(core, way, wanted, unknown=unknown)
    assert_promises(core, outcome.core)
    assert outcome.report.output_bytes == len(outcome.core)


@settings(max_examples=60)
@given(core=cores(), wanted=FILTERS, data=st.data())
def test_a_core_cut_short_is_the_same_in_every_way_into_a_file(core: bytes, wanted: int, data: st.DataObject) -> None:
    start = next(phdr.p_offset for phdr in parse_core(core)[1] if phdr.p_type == PT_LOAD)
    cut = core[: data.draw(st.integers(min(start, len(core)), len(core)))]
    outcome = run(cut, "pipe-file", wanted)
    expected = run(cut, "file-file", wanted)
    assert_promises(cut, outcome.core)
    assert outcome.core == expected.core
    assert (outcome.report.damaged, outcome.report.warnings) == (expected.report.damaged, expected.report.warnings)


# --- the engine by itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_progress_adds_up(way: str) -> None:
    from corefilt.corefile.corefile import open_core
    from corefilt.filterbits import Bit
    from corefilt.filtering.options import Options
    from corefilt.filtering.write import write_filtered

    seen: list[int] = []
    options = Options(on_progress=seen.append, sync=False)
    reader, writer = os.pipe()
    with (in_pipe if way.startswith("pipe") else in_memory)(CORE) as fd, in_memory() as out, open(reader, "rb"):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
        try:
            with open_core(fd) as it:
                write_filtered(it, Bit.NONE, out if way.endswith("file") else writer, options)
        finally:
            os.close(writer)
    assert all(count >= 0 for count in seen)
    assert sum(seen) <= len(CORE)
    if way.startswith("pipe"):
        assert sum(seen) >= len(CORE) - 2 * (1 << 16) - 3 * PAGE


@pytest.mark.parametrize(
    ("processors", "size", "threads"), [(2, 512 << 20, 2), (2, 511 << 20, 1), (1, 1 << 40, 1), (8, 1 << 40, 2)]
)
def test_two_threads_may_copy_a_large_core(
    processors: int, size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    assert movers.helpful_jobs(size) == threads
