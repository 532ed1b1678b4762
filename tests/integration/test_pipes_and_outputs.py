"""Where the core comes from and where it goes: files, pipes, odd outputs, full disks, signals."""

from __future__ import annotations

import contextlib
import gzip
import os
import pty
import select
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core, page, parse_core
from support.builds import PATIENCE
from support.run import (
    COREFILT,
    MIB,
    Done,
    asleep,
    assert_error,
    assert_promises,
    assert_usage,
    corefilt,
    environment,
    finish,
    listing,
    start,
    without_privileges,
)
from support.samples import ANON, SHARED, noise, sample_core

import corefilt as api
from corefilt.errors import UnstreamableError

FLT = "0x31"


@pytest.fixture
def expected(core: Path) -> bytes:
    """Filter the sample from file to file: what every other way has to give, too."""
    out = core.parent / "expected"
    done = corefilt(FLT, core, "-o", out)
    assert done.code == 0, done.err
    data = out.read_bytes()
    out.unlink()
    assert_promises(core.read_bytes(), data)
    assert len(data) < core.stat().st_size
    return data


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Ways in and out.


@pytest.mark.parametrize("way_in", ["path", "-", "absent", "pipe", "fifo"])
@pytest.mark.parametrize("way_out", ["-o", "-o -", "pipe", "redirection"])
def test_every_way_gives_the_same(way_in: str, way_out: str, core: Path, expected: bytes) -> None:
    """Only a pipe into a pipe may keep more: there nothing that arrives later can be known."""
    out = core.parent / "out"
    args: list[str | Path] = [FLT]
    with contextlib.ExitStack() as stack:
        options: dict[str, object] = {}
        if way_in == "path":
            args.append(core)
        elif way_in in ("-", "absent"):
            args += ["-"] * (way_in == "-")
            options["stdin"] = stack.enter_context(core.open("rb"))
        elif way_in == "pipe":
            options["source"] = core
        else:
            fifo = core.parent / "fifo"
            os.mkfifo(fifo)
            writer = stack.enter_context(subprocess.Popen(["cp", core, fifo]))
            stack.callback(writer.terminate)
            args.append(fifo)
        if way_out == "-o":
            args += ["-o", out]
        elif way_out == "-o -":
            args += ["-o", "-"]
        elif way_out == "redirection":
            options["stdout"] = stack.enter_context(out.open("wb"))
        done = corefilt(*args, **options)
    assert done.code == 0, done.err
    written = out.read_bytes() if out.exists() else done.out
    assert_promises(core.read_bytes(), written)
    if way_in in ("pipe", "fifo") and out.exists() is False:
        assert len(written) >= len(expected)
    else:
        assert written == expected


@pytest.mark.parametrize("way", ["file", "pipe to file", "pipe to pipe"])
def test_all_is_a_copy(way: str, core: Path) -> None:
    data, out = core.read_bytes(), core.parent / "out"
    if way == "file":
        done = corefilt("all", core, "-o", out)
    elif way == "pipe to file":
        done = corefilt("all", "-o", out, pipe=data)
    else:
        done = corefilt("all", pipe=data)
    assert done.code == 0, done.err
    assert (done.out or out.read_bytes()) == data


@pytest.mark.parametrize("prefix", [1, 1000, 4096, 100_000])
def test_standard_input_that_does_not_start_at_zero(prefix: int, core: Path, expected: bytes) -> None:
    """A core inside a larger file, read from where the offset stands."""
    container, out = core.parent / "container", core.parent / "out"
    container.write_bytes(b"\x7fELF".ljust(prefix, b"x")[:prefix] + core.read_bytes())
    with container.open("rb") as stream:
        os.lseek(stream.fileno(), prefix, os.SEEK_SET)
        done = corefilt(FLT, "-o", out, stdin=stream)
    assert done.code == 0, done.err
    assert out.read_bytes() == expected


def test_a_compressed_core_that_passes_only_once_is_called_that(tmp_path: Path) -> None:
    """To name it as a file, as a pipe's hint says, would change nothing."""
    loads = [Load(0x10000, page(b"a"))]
    packed = tmp_path / "core.gz"
    packed.write_bytes(gzip.compress(make_core(loads, kernel_notes([]), layout="gcore")))
    refused = corefilt("all", packed, "-o", tmp_path / "out")
    words = "a compressed core cannot be read twice", "add --spool to keep a temporary copy, or decompress it"
    assert_error(refused, *words)
    assert_error(corefilt("all", packed, "-o", tmp_path / "out", "--minimal"), *words)
    with pytest.raises(UnstreamableError) as caught:
        api.filter(packed, tmp_path / "out", filter="all")
    assert caught.value.hint == "add spool=True to keep a temporary copy, or decompress it"
    assert corefilt("all", packed, "-o", tmp_path / "out", "--spool").code == 0


@pytest.mark.parametrize("layout", ["gcore", "gcore-notes-first"])
def test_gcore_layout(layout: str, tmp_path: Path) -> None:
    """From a file it is filtered; down a pipe the notes come too late, so it is spooled or refused."""
    data = sample_core(layout=layout)
    source, out, spooled = tmp_path / "core", tmp_path / "out", tmp_path / "spooled"
    source.write_bytes(data)
    assert corefilt(FLT, source, "-o", out).code == 0
    assert_promises(data, out.read_bytes())
    with source.open("rb") as stream:
        assert corefilt(FLT, stdin=stream).out == out.read_bytes()
    before = listing(tmp_path)
    for args in ((FLT,), ("all",), (FLT, "-o", spooled)):
        done = corefilt(*args, pipe=data)
        if layout == "gcore" or done.code:
            assert_error(done, "--spool")
            assert listing(tmp_path) == before
    done = corefilt(FLT, "--spool", "-o", spooled, pipe=data)
    assert done.code == 0, done.err
    assert spooled.read_bytes() == out.read_bytes()
    assert corefilt(FLT, "--spool", pipe=data).out == out.read_bytes()
    assert listing(tmp_path).keys() == {"core", "out", "spooled"}


def test_spool_leaves_nothing(core: Path, expected: bytes, tmp_path: Path) -> None:
    """The copy that --spool makes goes to TMPDIR and is gone afterwards, also after an error."""
    spool = tmp_path / "spool"
    spool.mkdir()
    done = corefilt(FLT, "--spool", source=core, env={"TMPDIR": str(spool)})
    assert done.out == expected
    data = core.read_bytes()
    assert_error(corefilt(FLT, "--spool", pipe=data[:200], env={"TMPDIR": str(spool)}))
    assert not list(spool.iterdir())


def test_slow_pipes(core: Path) -> None:
    """One byte at a time in, a few bytes at a time out: short reads and writes are no errors."""
    data = sample_core(1, 1)
    process = start("all", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin = process.stdin

    def feed() -> None:
        for at in range(300):
            stdin.write(data[at : at + 1])
            stdin.flush()
        stdin.write(data[300:])
        stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    taken = b""
    while piece := os.read(process.stdout.fileno(), 777):
        taken += piece
    feeder.join()
    process.stdin = None
    assert finish(process).code == 0
    assert taken == data


# The output: its mode, its name, and what stood there.


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
@pytest.mark.parametrize("way", ["new", "replaced", "from a pipe"])
def test_output_is_private(way: str, umask: int, core: Path) -> None:
    out = core.parent / "out"
    if way == "replaced":
        out.write_bytes(b"old")
        out.chmod(0o666)
    options = {"source": core} if way == "from a pipe" else {}
    done = corefilt(FLT, *([] if options else [core]), "-o", out, "-f", umask=umask, **options)
    assert done.code == 0, done.err
    assert mode(out) == 0o600
    assert listing(core.parent).keys() == {"core", "out"}


@pytest.mark.parametrize("piped", [False, True])
def test_existing_output_needs_force(piped: bool, core: Path, expected: bytes) -> None:
    out = core.parent / "out"
    out.write_bytes(b"precious")
    before = listing(core.parent)
    options = {"source": core} if piped else {}
    args = [FLT, *([] if piped else [core]), "-o", out]
    assert_error(corefilt(*args, **options), str(out), "exists")
    assert listing(core.parent) == before
    assert corefilt(*args, "-f", **options).code == 0
    assert out.read_bytes() == expected
    assert listing(core.parent).keys() == {"core", "out"}


def test_a_failed_run_keeps_what_was_there(core: Path) -> None:
    out = core.parent / "out"
    out.write_bytes(b"precious")
    data = core.read_bytes()
    core.write_bytes(data[:100])
    assert_error(corefilt(FLT, core, "-o", out, "-f"))
    assert_error(corefilt(FLT, "-o", out, "-f", pipe=data[:100]))
    assert listing(core.parent) == {"core": data[:100], "out": b"precious"}


@pytest.mark.parametrize("force", [(), ("-f",)])
def test_devices_are_written_not_replaced(force: tuple[str, ...], core: Path) -> None:
    before = os.stat(os.devnull)
    done = corefilt(FLT, core, "-o", os.devnull, *force)
    assert done.code == 0, done.err
    after = os.stat(os.devnull)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    link = core.parent / "link"
    link.symlink_to(os.devnull)
    assert corefilt(FLT, core, "-o", link, *force).code == 0
    assert os.readlink(link) == os.devnull


@pytest.mark.parametrize("force", [(), ("-f",)])
def test_fifo_is_a_stream(force: tuple[str, ...], core: Path, expected: bytes) -> None:
    fifo = core.parent / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        try:
            done = corefilt(FLT, core, "-o", fifo, *force)
            assert done.code == 0, done.err
            assert reader.communicate(timeout=30)[0] == expected
        finally:
            reader.terminate()
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_symlink_keeps_pointing(core: Path, expected: bytes) -> None:
    """The file that the link leads to is replaced, in its own folder; the link stays a link."""
    folder = core.parent / "elsewhere"
    folder.mkdir()
    target, link = folder / "target", core.parent / "link"
    target.write_bytes(b"old")
    link.symlink_to("elsewhere/target")
    assert_error(corefilt(FLT, core, "-o", link), "exists")
    assert target.read_bytes() == b"old"
    done = corefilt(FLT, core, "-o", link, "-f")
    assert done.code == 0, done.err
    assert os.readlink(link) == "elsewhere/target"
    assert target.read_bytes() == expected
    assert mode(target) == 0o600
    assert listing(core.parent).keys() == {"core", "elsewhere", "elsewhere/target", "link"}


def test_hard_link_is_let_go(core: Path, expected: bytes) -> None:
    out, other = core.parent / "out", core.parent / "other"
    out.write_bytes(b"shared by two names")
    os.link(out, other)
    done = corefilt(FLT, core, "-o", out, "-f")
    assert done.code == 0, done.err
    assert out.read_bytes() == expected
    assert other.read_bytes() == b"shared by two names"


@pytest.mark.parametrize("force", [(), ("-f",)])
@pytest.mark.parametrize("kind", ["folder", "no folder", "link to folder", "file as folder", "loop", "long"])
def test_impossible_outputs(kind: str, force: tuple[str, ...], core: Path) -> None:
    out = core.parent / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "link to folder":
        (core.parent / "real").mkdir()
        out.symlink_to("real")
    elif kind == "no folder":
        out = out / "deeper"
    elif kind == "file as folder":
        out = core / "out"
    elif kind == "loop":
        out.symlink_to("out")
    else:
        out = core.parent / ("x" * 300)
    before = listing(core.parent)
    assert_error(corefilt(FLT, core, "-o", out, *force))
    assert_error(corefilt(FLT, "-o", out, *force, source=core))
    assert listing(core.parent) == before


def test_output_folder_without_permission(core: Path) -> None:
    folder = core.parent / "closed"
    folder.mkdir(mode=0o555)
    assert_error(corefilt(FLT, core, "-o", folder / "out", prefix=without_privileges()), "Permission denied")


@pytest.mark.parametrize("name", [b"with space", b"new\nline", b"quote'\"", b"\xc3\xbc", b"\xff\xfe", b"%s{}"])
def test_names_are_only_names(name: bytes, core: Path, expected: bytes) -> None:
    source = core.parent / os.fsdecode(name)
    out = core.parent / os.fsdecode(name + b".out")
    core.rename(source)
    done = corefilt(FLT, source, "-o", out)
    assert done.code == 0, done.err
    assert out.read_bytes() == expected
    assert_error(corefilt(FLT, source, "-o", out), "exists")


# One file on both sides.


def same_path(core: Path) -> Done:
    return corefilt(FLT, core, "-o", core, "-f")


def other_spelling(core: Path) -> Done:
    return corefilt(FLT, core, "-o", core.parent / "." / ".." / core.parent.name / "core", "-f")


def hard_link(core: Path) -> Done:
    os.link(core, core.parent / "name2")
    return corefilt(FLT, core, "-o", core.parent / "name2", "-f")


def symbolic_link(core: Path) -> Done:
    (core.parent / "name2").symlink_to("core")
    return corefilt(FLT, core, "-o", core.parent / "name2", "-f")


def link_as_input(core: Path) -> Done:
    (core.parent / "name2").symlink_to("core")
    return corefilt(FLT, core.parent / "name2", "-o", core, "-f")


def standard_input(core: Path) -> Done:
    with core.open("rb") as stream:
        return corefilt(FLT, "-o", core, "-f", stdin=stream)


def standard_output(core: Path) -> Done:
    with core.open("r+b") as stream:
        return corefilt(FLT, core, stdout=stream)


def appended(core: Path) -> Done:
    with core.open("rb") as source, core.open("ab") as stream:
        return corefilt(FLT, stdin=source, stdout=stream)


def one_descriptor(core: Path) -> Done:
    with core.open("r+b") as stream:
        return corefilt(FLT, stdin=stream, stdout=stream)


@pytest.mark.parametrize("run", [
    same_path, other_spelling, hard_link, symbolic_link, link_as_input,
    standard_input, standard_output, appended, one_descriptor,
])  # fmt: skip
def test_one_file_on_both_sides(run: Callable[[Path], Done], core: Path) -> None:
    data, inode = core.read_bytes(), core.stat().st_ino
    assert_error(run(core), "input itself")
    assert core.read_bytes() == data
    assert core.stat().st_ino == inode
    assert listing(core.parent).keys() <= {"core", "name2"}


# Standard output as a file.


def test_standard_output_in_append_mode(core: Path, expected: bytes) -> None:
    """O_APPEND moves every write to the end, so nothing can be corrected: a stream."""
    out = core.parent / "out"
    out.write_bytes(b"before")
    for source in (None, core):
        with out.open("ab") as stream:
            args = [FLT] if source else [FLT, core]
            done = corefilt(*args, source=source, stdout=stream)
        assert done.code == 0, done.err
    written = out.read_bytes()
    assert written.startswith(b"before" + expected)
    assert_promises(core.read_bytes(), written[6 + len(expected) :])


@pytest.mark.parametrize("piped", [False, True])
def test_standard_output_in_the_middle(piped: bool, core: Path, expected: bytes) -> None:
    """What stands behind stays: the file is not cut, and only the core's own bytes are overwritten."""
    out = core.parent / "out"
    behind = noise(64, 9)
    out.write_bytes(behind)
    with out.open("r+b") as stream:
        os.lseek(stream.fileno(), 1001, os.SEEK_SET)
        done = corefilt(FLT, *([] if piped else [core]), source=core if piped else None, stdout=stream)
        assert done.code == 0, done.err
        end = os.lseek(stream.fileno(), 0, os.SEEK_CUR)
    written = out.read_bytes()
    assert written[:1001] == behind[:1001]
    assert written[end:] == behind[end:]
    assert len(written) == len(behind)
    assert_promises(core.read_bytes(), written[1001:end])
    assert piped or written[1001:end] == expected


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 1000, 4096])
def test_standard_output_at_the_end_of_a_file(prefix: int, piped: bool, core: Path, expected: bytes) -> None:
    """A file that can be sought, so the header is settled there too; what stood before stays."""
    out = core.parent / "out"
    out.write_bytes(b"p" * prefix)
    with out.open("r+b") as stream:
        os.lseek(stream.fileno(), 0, os.SEEK_END)
        done = corefilt(FLT, *([] if piped else [core]), source=core if piped else None, stdout=stream)
        assert done.code == 0, done.err
        assert os.lseek(stream.fileno(), 0, os.SEEK_CUR) == prefix + len(expected)
    assert out.read_bytes() == b"p" * prefix + expected


def test_standard_output_file_of_a_failed_run(core: Path) -> None:
    """Half a core behind a redirection would look like a whole one."""
    out = core.parent / "out"
    core.write_bytes(core.read_bytes()[:200])
    for source in (None, core):
        with out.open("wb") as stream:
            stream.write(b"before")
            stream.flush()
            assert_error(corefilt(*([FLT] if source else [FLT, core]), source=source, stdout=stream))
        assert out.read_bytes() == b"before"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(closed: str, core: Path, expected: bytes) -> None:
    """The kernel starts a core_pattern program like this: a file opened then must not become descriptor 1."""
    out = core.parent / "out"
    script = f'exec "$@" {closed}'
    process = subprocess.run(
        ["sh", "-c", script, "sh", *COREFILT, FLT, core, "-o", out],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert process.returncode == 0, process.stderr
    assert b"Traceback" not in process.stderr
    assert process.stdout == b""
    assert out.read_bytes() == expected


@pytest.mark.parametrize("closed", ["0<&-", "1>&-"])
def test_streams_that_are_needed_but_closed(closed: str, core: Path) -> None:
    args = [FLT] if closed == "0<&-" else [FLT, str(core)]
    process = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *COREFILT, *args],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    lines = tuple(process.stderr.decode().splitlines())
    assert_error(Done(process.returncode, process.stdout, lines), code=(1, 2))


# Terminals.


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Give a pseudo terminal: the side of the person, the side of the program."""
    person, program = pty.openpty()
    yield person, program
    os.close(person)
    os.close(program)


@pytest.mark.parametrize("args", [(), ("-",)])
def test_terminal_as_input(args: tuple[str, ...], terminal: tuple[int, int], tmp_path: Path) -> None:
    done = corefilt(FLT, *args, "-o", tmp_path / "out", stdin=terminal[1], timeout=20)
    assert_usage(done, "terminal")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args", [(), ("-o", "-")])
def test_terminal_as_output(args: tuple[str, ...], terminal: tuple[int, int], core: Path) -> None:
    """A core on a screen helps nobody, and its escape sequences are the crashed program's."""
    done = corefilt(FLT, core, *args, stdout=terminal[1], timeout=20)
    assert_usage(done, "terminal")
    assert not select.select([terminal[0]], [], [], 0)[0]


def test_terminal_by_name(terminal: tuple[int, int], core: Path) -> None:
    done = corefilt(FLT, core, "-o", os.ttyname(terminal[1]), "-f", timeout=20)
    assert_usage(done, "terminal")


def test_words_on_a_terminal(terminal: tuple[int, int], core: Path, expected: bytes) -> None:
    """Only the words go there; with the progress bar always on, the core is the same."""
    out = core.parent / "out"
    done = corefilt(FLT, core, "-o", out, "--progress", "always", stderr=terminal[1], timeout=PATIENCE)
    assert done.code == 0
    assert out.read_bytes() == expected
    assert b"Traceback" not in os.read(terminal[0], 1 << 16)


# A disk that is full.


def test_full_device(core: Path) -> None:
    for source in (None, core):
        args = [FLT] if source else [FLT, core]
        with open("/dev/full", "wb") as full:
            assert_error(corefilt(*args, source=source, stdout=full), "No space left")
        assert_error(corefilt(*args, "-o", "/dev/full", source=source), "No space left")


@pytest.mark.parametrize("engine", ["auto", "copy_file_range", "readwrite"])
@pytest.mark.parametrize("limit", [100, 1000, 50_000])
def test_file_size_limit(limit: int, engine: str, core: Path) -> None:
    """RLIMIT_FSIZE is the full disk that needs no root: it can strike in the table or in a payload."""
    args = ("-o", core.parent / "out", "--engine", engine)
    assert_error(corefilt(FLT, core, *args, file_size=limit), "File too large")
    assert listing(core.parent).keys() == {"core"}
    if engine != "copy_file_range":
        assert_error(corefilt(FLT, *args, source=core, file_size=limit), "File too large")
        assert listing(core.parent).keys() == {"core"}


def test_file_size_limit_on_standard_output(core: Path) -> None:
    out = core.parent / "out"
    with out.open("wb") as stream:
        assert_error(corefilt(FLT, core, stdout=stream, file_size=20_000), "File too large")
    assert out.read_bytes() == b""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB; only where the caller allows changes to the system."""
    if os.environ.get("COREFILT_TEST_SYSTEM") != "1" or os.geteuid() != 0:
        pytest.skip("needs root and COREFILT_TEST_SYSTEM=1, because it mounts a small tmpfs")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("piped", [False, True])
def test_full_disk(piped: bool, small_disk: Path, tmp_path: Path) -> None:
    core = tmp_path / "core"
    core.write_bytes(sample_core(anon_pages=1000))
    for force, before in ((), {}), (("-f",), {"out": b"old"}):
        for name, content in before.items():
            (small_disk / name).write_bytes(content)
        args = [FLT, *([] if piped else [core]), "-o", small_disk / "out", *force]
        assert_error(corefilt(*args, source=core if piped else None), "No space left")
        assert listing(small_disk) == before
    (small_disk / "out").unlink()
    spool = {"TMPDIR": str(small_disk)}
    assert_error(corefilt(FLT, "--spool", source=core, env=spool), "No space left")
    assert listing(small_disk) == {}


# Nobody listens any more.


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 5000])
def test_closed_pipe_is_silent(taken: int, piped: bool, tmp_path: Path) -> None:
    """As with every filter in a shell, `corefilt ... | head -c N` ends by SIGPIPE, without a word."""
    core = tmp_path / "core"
    core.write_bytes(sample_core(anon_pages=1000))
    with contextlib.ExitStack() as stack:
        options: dict[str, object] = {}
        if piped:
            cat = stack.enter_context(
                subprocess.Popen(["cat", core], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            )
            assert cat.stdout is not None
            options["stdin"] = cat.stdout
        process = start(FLT, *([] if piped else [core]), **options)
        assert process.stdout is not None
        left = taken
        while left:
            left -= len(os.read(process.stdout.fileno(), left))
        process.stdout.close()
        if piped:
            assert cat.stdout is not None
            cat.stdout.close()
        process.stdout = None
        done = finish(process)
    assert done.code == -signal.SIGPIPE
    assert done.err == ()
    assert listing(tmp_path).keys() == {"core"}


# Signals.


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until something is true of a run that must not end before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("where", ["before a byte", "in the table", "in what stays", "in what goes"])
@pytest.mark.parametrize("out", ["file", "replaced file", "stream"])
@pytest.mark.parametrize("number", [SIGNALS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SIGNALS[1:])])
def test_signal_while_a_pipe_is_silent(number: int, out: str, where: str, tmp_path: Path) -> None:
    """The writer upstream hangs, and somebody presses Ctrl-C."""
    data = sample_core(anon_pages=1024, shared_pages=1024)
    phdrs = parse_core(data)[1]
    start_of = {phdr.p_vaddr: phdr.p_offset for phdr in phdrs}
    cut = {
        "before a byte": 0,
        "in the table": 200,
        "in what stays": start_of[ANON] + 3 * MIB + 77,
        "in what goes": start_of[SHARED] + 3 * MIB + 77,
    }[where]
    args: list[str | Path] = [FLT]
    if out != "stream":
        args += ["-o", tmp_path / "old", "-f"]
    if out == "replaced file":
        (tmp_path / "old").write_bytes(b"old")
    sink = subprocess.DEVNULL if out == "stream" else subprocess.PIPE
    process = start(*args, stdin=subprocess.PIPE, stdout=sink)
    assert process.stdin is not None
    process.stdin.write(data[:cut])
    process.stdin.flush()
    if cut < MIB:  # the pipe takes these at once: wait until the program is there to be interrupted
        wait_for(lambda: asleep(process.pid), process)
    assert_interrupted(process, number)
    expected = {"old": b"old"} if out == "replaced file" else {}
    assert listing(tmp_path) == expected


def assert_interrupted(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal a run, whose standard input stays open, and see it end by that very signal within seconds."""
    process.send_signal(number)
    try:
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert code == -number
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
    _, err = process.communicate(timeout=10)
    assert b"Traceback" not in err
    assert len(err.splitlines()) <= 1, err


def written_by(pid: int) -> int:
    """Count what a process has written so far, however it writes; a sparse target shows it by its blocks."""
    most = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            status = link.stat()
            if stat.S_ISREG(status.st_mode) and "/core" not in os.readlink(link):
                most = max(most, status.st_blocks * 512)
    return most


@pytest.mark.parametrize("engine", ["auto", "readwrite"])
@pytest.mark.parametrize("number", SIGNALS)
def test_signal_in_a_large_copy(number: int, engine: str, tmp_path: Path) -> None:
    """Sixteen GiB of zeros that are to be written out: stopped after the first few MiB."""
    core, size = tmp_path / "core", 16 << 30
    head = make_core([Load(0x10000000, filesz=size, memsz=size)], kernel_notes())
    with core.open("wb") as stream:
        stream.write(head)
        try:
            stream.truncate(len(head) + size)
        except OSError as error:
            pytest.skip(f"no sparse file of 16 GiB here: {error}")
    process = start("all", core, "-o", tmp_path / "out", "--sparse", "never", "--engine", engine)
    wait_for(lambda: written_by(process.pid) > 16 * MIB, process)
    assert_interrupted(process, number)
    assert listing(tmp_path).keys() == {"core"}


def test_kill_leaves_no_half_core(tmp_path: Path) -> None:
    """SIGKILL cannot be caught: the name must not have been there before the core was whole."""
    process = start(FLT, "-o", tmp_path / "out", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(sample_core(anon_pages=1024)[: 3 * MIB])
    process.stdin.flush()
    process.kill()
    process.communicate()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ignored_signals_stay_ignored(number: int, tmp_path: Path) -> None:
    """Under nohup, or in the background of a script, the run goes on."""
    data = sample_core(anon_pages=1024)

    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    out = tmp_path / "out"
    process = start("all", "-o", out, stdin=subprocess.PIPE, preexec_fn=ignore)
    assert process.stdin is not None
    process.stdin.write(data[: 3 * MIB])
    process.stdin.flush()
    process.send_signal(number)
    assert finish(process, data[3 * MIB :]).code == 0
    assert out.read_bytes() == data


# The report.


@pytest.mark.parametrize("args", [("-q",), ()])
def test_words_go_to_standard_error(args: tuple[str, ...], core: Path, expected: bytes) -> None:
    done = corefilt(FLT, core, *args)
    assert done.code == 0
    assert done.out == expected
    assert bool(done.err) == ("-q" not in args)


def test_dry_run_writes_nothing(core: Path) -> None:
    out = core.parent / "out"
    before = listing(core.parent)
    assert corefilt(FLT, core, "-o", out, "-n").code == 0
    done = corefilt(FLT, core, "-n")
    assert (done.code, done.out) == (0, b"")
    assert listing(core.parent) == before


def test_help_needs_no_core() -> None:
    done = corefilt("--help")
    assert done.code == 0
    assert b"FILTER" in done.out


@pytest.mark.parametrize("options", [{"stdout": "/dev/full"}, {"stderr": "/dev/full"}])
def test_words_that_cannot_be_said(options: dict[str, str], core: Path, expected: bytes) -> None:
    """A log that is full: the core is written all the same, and nobody sees a traceback."""
    out = core.parent / "out"
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(open(path, "wb")) for name, path in options.items()}
        done = corefilt(FLT, core, "-o", out, **opened)
    assert done.code == 0
    assert out.read_bytes() == expected


def test_holes_are_kept(tmp_path: Path) -> None:
    """A core is mostly holes; its copy must not fill the disk, from a file or from a pipe."""
    size = 256 * MIB
    core = tmp_path / "core"
    head = make_core([Load(0x10000000, filesz=size, memsz=size)], kernel_notes())
    with core.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + size)
        stream.seek(len(head) + 128 * MIB)
        stream.write(noise(4))
    if core.stat().st_blocks * 512 > 16 * MIB:
        pytest.skip("no sparse files here")
    for way in ("file", "pipe"):
        out = tmp_path / way
        done = corefilt("all", *([core] if way == "file" else []), "-o", out,
                        source=None if way == "file" else core)  # fmt: skip
        assert done.code == 0, done.err
        assert out.stat().st_size == core.stat().st_size
        assert out.stat().st_blocks * 512 < 16 * MIB
        with out.open("rb") as new, core.open("rb") as old:
            while piece := new.read(16 * MIB):
                assert piece == old.read(16 * MIB)


def test_plain_ascii_environment(core: Path, expected: bytes) -> None:
    """Cron and containers have no UTF-8: the words must fit, and the core is bytes anyway."""
    done = subprocess.run(
        [*COREFILT, FLT, core],
        env=environment({"PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected
    assert done.stderr.isascii()
