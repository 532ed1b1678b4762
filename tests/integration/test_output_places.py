"""Where outputs go while others can change the names: links, planted FIFOs, and names that are swapped meanwhile."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.builds import PATIENCE
from support.run import COREFILT, assert_error, corefilt, environment

from corefilt.errors import OutputError
from corefilt.io.opening import open_sink

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
# Ids without entries; one attacks, the other is whom a core is sent to.
MALLORY, VICTIM = 54321, 54322
FLT = "0x31"
TRIES = 1000


@pytest.fixture
def open_place(tmp_path: Path) -> Path:
    """Make a directory that every user can come to."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    place = tmp_path / "place"
    place.mkdir()
    return place


def owned(path: Path, uid: int) -> Path:
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


@contextmanager
def as_user(uid: int, work: Callable[[], None]) -> Iterator[None]:
    """Do something as somebody else while the body runs, in a child: he may not be able to start our interpreter."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            work()
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended early"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def read_away(fifo: Path) -> Iterator[list[bytes]]:
    """Read a FIFO in a thread while the body runs; gives what came."""
    came: list[bytes] = []
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.01):
            try:
                while piece := os.read(fd, 1 << 16):
                    came.append(piece)
            except BlockingIOError:
                continue

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield came
    finally:
        stop.set()
        thread.join()
        os.close(fd)


def swap(place: Path, victim: Path) -> None:
    """Have a FIFO and a link to somebody's file take turns under one name, after every look."""
    os.chdir(place)
    os.mkfifo("fifo")
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    while True:
        os.link("fifo", "a")
        os.rename("a", "out")
        os.symlink(victim, "b")
        os.rename("b", "out")
        try:
            while os.read(reader, 1 << 16):
                pass
        except BlockingIOError:
            pass


@needs_root
@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_changes_under_root(force: bool, open_place: Path, tmp_path: Path) -> None:
    """A FIFO and a link to a file of root's take turns under one name, in a directory of the attacker's."""
    owned(open_place, MALLORY)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    opened = refused = 0
    with as_user(MALLORY, partial(swap, open_place, victim)):
        until = time.monotonic() + PATIENCE
        while not os.path.lexists(open_place / "out"):
            assert time.monotonic() < until
        while opened + refused < TRIES or not (opened and refused):
            # Where the machine is busy, the other one's turn may come late.
            assert time.monotonic() < until, "the name never changed"
            try:
                sink = open_sink(str(open_place / "out"), force=force, source=None)
            except OutputError:
                refused += 1
                continue
            try:
                assert stat.S_ISFIFO(os.fstat(sink.fd).st_mode), "what was opened is not what was looked at"
                opened += 1
            finally:
                sink.abort()
    assert victim.read_bytes() == b"precious"
    assert victim.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
@pytest.mark.parametrize("force", [(), ("-f",)])
def test_a_link_of_another_user_is_not_followed(
    force: tuple[str, ...], mode: int, open_place: Path, core: Path
) -> None:
    owned(open_place, MALLORY).chmod(mode)
    victim = core.parent / "victim"
    victim.write_bytes(b"precious")
    link = open_place / "out"
    link.symlink_to(victim)
    owned(link, MALLORY)
    assert_error(corefilt(FLT, core, "-o", link, *force), f"symbolic link of user {MALLORY}")
    assert victim.read_bytes() == b"precious"
    assert link.is_symlink()


@needs_root
def test_a_link_to_a_link_of_another_user_is_not_followed(open_place: Path, core: Path) -> None:
    owned(open_place, MALLORY)
    (open_place / "second").symlink_to(core.parent / "new")
    owned(open_place / "second", MALLORY)
    (core.parent / "first").symlink_to(open_place / "second")
    assert_error(corefilt(FLT, core, "-o", core.parent / "first", "-f"), f"symbolic link of user {MALLORY}")
    assert not (core.parent / "new").exists()


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_an_own_link_is_followed(mode: int, open_place: Path, core: Path) -> None:
    open_place.chmod(mode)
    (open_place / "out").symlink_to("target")
    assert corefilt(FLT, core, "-o", open_place / "out", "-f").code == 0
    assert (open_place / "out").is_symlink()
    assert (open_place / "target").stat().st_size > 0


@needs_root
@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775, 0o757, 0o1755])
def test_a_planted_fifo_is_not_written(mode: int, open_place: Path, core: Path) -> None:
    open_place.chmod(mode)
    fifo = open_place / "out"
    os.mkfifo(fifo)
    owned(fifo, MALLORY)
    with read_away(fifo) as came:
        assert_error(corefilt(FLT, core, "-o", fifo), f"FIFO of user {MALLORY}", "-f")
        assert came == []
        assert corefilt(FLT, core, "-o", fifo, "-f").code == 0
        wait_for(came)


@needs_root
@pytest.mark.parametrize(
    ("mode", "directory", "fifo"),
    [(0o755, MALLORY, MALLORY), (0o755, 0, MALLORY), (0o1777, 0, 0), (0o1777, MALLORY, MALLORY), (0o777, MALLORY, 0)],
)
def test_other_fifos_are_written(mode: int, directory: int, fifo: int, open_place: Path, core: Path) -> None:
    os.mkfifo(open_place / "out")
    owned(open_place / "out", fifo)
    owned(open_place, directory).chmod(mode)
    with read_away(open_place / "out") as came:
        done = corefilt(FLT, core, "-o", open_place / "out")
        assert done.code == 0, done.err
        wait_for(came)


def wait_for(came: list[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while not came and time.monotonic() < until:
        time.sleep(0.01)
    assert b"".join(came)[:4] == b"\x7fELF"


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}", "link"])
@pytest.mark.parametrize("owner", [None, MALLORY])
def test_a_pipe_that_was_handed_over_is_written(owner: int | None, name: str, core: Path) -> None:
    """As a shell does for `-o >(zstd)`; with sudo, the pipe belongs to another user than who writes."""
    if owner is not None and os.geteuid() != 0:
        pytest.skip("needs root, to be two users")
    reader, writer = os.pipe()
    try:
        if owner is not None:
            os.fchown(writer, owner, owner)
        out = name.format(writer)
        if name == "link":
            out = str(core.parent / "link")
            Path(out).symlink_to(f"/dev/fd/{writer}")
        process = subprocess.Popen(
            [*COREFILT, FLT, str(core), "-o", out], pass_fds=(writer,), env=environment(), stderr=subprocess.PIPE
        )
        os.close(writer)
        writer = -1
        with open(reader, "rb", closefd=False) as stream:
            data = stream.read()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    finally:
        for fd in (reader, writer):
            if fd >= 0:
                os.close(fd)
    expected = core.parent / "expected"
    assert corefilt(FLT, core, "-o", expected).code == 0
    assert data[:4] == b"\x7fELF"
    assert len(data) >= expected.stat().st_size


def test_a_shell_gives_its_pipes(core: Path) -> None:
    got = core.parent / "got"
    script = f'exec "$@" -o >(cat > {got}.part; mv {got}.part {got})'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *COREFILT, FLT, core],
        env=environment(), capture_output=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    until = time.monotonic() + PATIENCE
    while not got.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert got.read_bytes()[:4] == b"\x7fELF"


def test_a_fifo_waits_for_its_reader(core: Path) -> None:
    fifo = core.parent / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen([*COREFILT, FLT, str(core), "-o", str(fifo)], env=environment(), stderr=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        data = fifo.read_bytes()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert data[:4] == b"\x7fELF"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_a_file_that_the_shell_opened_by_name(core: Path) -> None:
    """Write to what a redirection opened, as standard output is written, whatever it is called."""
    out = core.parent / "out"
    script = f'exec "$@" -o /dev/fd/7 7> {out}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *COREFILT, FLT, core], env=environment(), capture_output=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = core.parent / "expected"
    assert corefilt(FLT, core, "-o", expected).code == 0
    assert out.read_bytes() == expected.read_bytes()
