"""The handler under attack, behind the real core_pattern: dumps that stand still, rights that a program had, crowds."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kernel.crashing import need_system
from kernel.dumps import CannotCompileError, Core, compile_c, sysctl
from kernel.fuse import served
from kernel.handling import Installed, Place, in_core_pattern
from kernel.waiting import CROWDS, Waiting, waiting
from support.builds import PATIENCE

from corefilt.handler import permissions
from corefilt.handler.records import BEGUN, STUCK, left_behind

USER = 1000
# Seconds behind the deadline within which a slot must be free.
FREE_WITHIN = 10.0


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a folder whose path is short enough for core_pattern."""
    need_system()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Place(Path(folder))


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """Compile the programs where any user can start them."""
    need_system()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            compile_c("fromserver.c", folder / "fromserver", "-O1")
            compile_c("privileged.c", folder / "privileged", "-O1", "-pthread")
        except CannotCompileError as error:
            pytest.skip(str(error))
        yield folder


# --- a dump that stands still -----------------------------------------------------------------------------


def all_of_it() -> None:
    """Have a core of everything, whatever its size."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path("/proc/self/coredump_filter").write_text("0x1ff\n")


@contextmanager
def mapping(program: Path, file: Path, how: str = "close") -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that has a page of a file mapped, and has not read it yet."""
    with subprocess.Popen(
        [program, file, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=all_of_it, cwd="/"
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def crash(process: "subprocess.Popen[bytes]") -> None:
    """Have it crash, and wait until it stands in its dump."""
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    until = time.monotonic() + PATIENCE
    while not dumps(process.pid):
        assert time.monotonic() < until, "it does not dump core"
        time.sleep(0.01)


def dumps(pid: int) -> bool:
    """Tell whether a process stands in its dump."""
    try:
        return "\nCoreDumping:\t1\n" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def until_free(processes: "list[subprocess.Popen[bytes]]", place: Place) -> float:
    """Wait until none stands in its dump any more; tell the seconds."""
    began = time.monotonic()
    while any(dumps(process.pid) for process in processes):
        assert time.monotonic() < began + PATIENCE, f"a slot stays taken; left: {left(place)}"
        time.sleep(0.05)
    return time.monotonic() - began


def left(place: Place) -> list[str]:
    """What handlers that are gone have recorded."""
    return [f"{lost}: {lost.state}" for lost in left_behind(str(place.records))]


def messages(handler: Installed, count: int, *pids: int) -> list[str]:
    """The next messages about these processes: others can crash here too."""
    found: list[str] = []
    while len(found) < count:
        text = handler.said()["MESSAGE"].decode()
        found += [text] if any(f"process {pid}" in text for pid in pids) else []
    return found


@pytest.mark.parametrize("how", ["close", "open"])
def test_a_stopped_server_keeps_no_slot(how: str, programs: Path, place: Place, small: Waiting) -> None:
    """As many crashes as slots wait for pages of a server that was stopped; within 10 s of the deadline others are
    saved, while it is stopped still. A process that has the file open waits in its end, but not in its dump."""
    place.write(deadline=1)
    program = programs / "fromserver"
    with ExitStack() as undo:
        server = undo.enter_context(served(place.root / "mount"))
        victims = [undo.enter_context(mapping(program, server.file, how)) for _ in range(2)]
        undo.callback(server.process.kill)
        handler = undo.enter_context(in_core_pattern(place, pipe_limit=2))
        server.stop()
        for process in victims:
            crash(process)
        assert until_free(victims, place) < 1 + FREE_WITHIN
        said = messages(handler, 4, *(process.pid for process in victims))
        assert sum("no core was saved: it took longer than 1 s (deadline)" in text for text in said) == 2
        assert sum("waited for a page of its memory, and was killed" in text for text in said) == 2
        if how == "close":
            assert [process.wait(PATIENCE) for process in victims] == [-signal.SIGKILL] * 2
        # Who can be read has the usual time, however busy the machine.
        place.write()
        pid = small.ready()
        assert os.WCOREDUMP(small.die())
        assert "dumped core" in messages(handler, 1, pid)[0]
    assert len(Core(place.core()).loads) > 4


def test_without_a_proven_pidfd_nobody_is_killed(programs: Path, place: Place) -> None:
    place.write(deadline=1)
    patch = "from corefilt.handler import crashed_process; crashed_process._why_unproven = lambda *args: 'a test'"
    with ExitStack() as undo:
        server = undo.enter_context(served(place.root / "mount"))
        victim = undo.enter_context(mapping(programs / "fromserver", server.file))
        undo.callback(server.process.kill)
        handler = undo.enter_context(in_core_pattern(place, patch, pipe_limit=2))
        server.stop()
        crash(victim)
        said = messages(handler, 2, victim.pid)
        assert "deadline" in said[0]
        assert "was not killed, as its pidfd is not proven: a test; it occupies a slot of core_pipe_limit" in said[1]
        assert dumps(victim.pid)
        (left,) = left_behind(str(place.records))
        assert (left.state, left.pid) == (STUCK, victim.pid)
        server.go_on()
        assert victim.wait(PATIENCE) == -signal.SIGSEGV


NO_FORK = """
def no_fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")
os.fork = no_fork
"""


def test_a_handler_that_cannot_fork_keeps_no_slot(programs: Path, place: Place) -> None:
    """The system has no number left for a process: who uses them up keeps no slot by that."""
    with ExitStack() as undo:
        server = undo.enter_context(served(place.root / "mount"))
        victim = undo.enter_context(mapping(programs / "fromserver", server.file))
        undo.callback(server.process.kill)
        handler = undo.enter_context(in_core_pattern(place, NO_FORK, pipe_limit=2))
        server.stop()
        crash(victim)
        assert until_free([victim], place) < FREE_WITHIN
        (said,) = messages(handler, 1, victim.pid)
        assert "no core was saved: no child can be started: Resource temporarily unavailable; it waited for a" in said
        assert victim.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("patch", ["", 'os.close(3); sys.argv[-1] = ""'])
def test_a_wait_that_nothing_ends_is_named(patch: str, programs: Path, place: Place) -> None:
    """A server has taken the request and does not answer: its client cannot be killed (request_wait_answer in
    fs/fuse/dev.c). With the kernel's pidfd, and with one that the handler opened and proved, as before Linux 6.16."""
    place.write(deadline=1)
    with ExitStack() as undo:
        server = undo.enter_context(served(place.root / "mount", silent=True))
        victim = undo.enter_context(mapping(programs / "fromserver", server.file))
        undo.callback(server.process.kill)
        handler = undo.enter_context(in_core_pattern(place, patch, pipe_limit=2))
        crash(victim)
        said = messages(handler, 2, victim.pid)
        assert "deadline" in said[0]
        assert f"process {victim.pid}: it waits for a page of its memory, cannot be killed" in said[1]
        (left,) = left_behind(str(place.records))
        assert (left.state, left.pid, left.comm) == (STUCK, victim.pid, b"fromserver")
        shown = status_of(place)
        assert any(f"process {victim.pid} (fromserver)" in line and "core_pipe_limit" in line for line in shown)
        server.process.kill()
        assert victim.wait(PATIENCE) == -signal.SIGKILL
    assert left_behind(str(place.records), clear=True) == []
    assert not any(place.records.iterdir())


def status_of(place: Place) -> list[str]:
    """The problems that status shows of a system that has these records."""
    from corefilt.handler.admin.status import Status

    root = place.root / "system"
    (root / "run").mkdir(parents=True)
    shutil.copytree(place.records, root / "run/corefilt")
    (root / "run/corefilt").chmod(0o700)
    return Status(str(root)).problems


# --- handlers that are killed -----------------------------------------------------------------------------

KILLED = """
from corefilt.handler import supervisor
supervisor.find_account = lambda user: os.kill(os.getpid(), 9)
"""


def test_the_next_start_tells_of_a_core_that_was_lost(small: Waiting, place: Place) -> None:
    pid = small.ready()
    with in_core_pattern(place, KILLED, pipe_limit=1) as handler:
        small.die()
        handler.wait()
    (left,) = left_behind(str(place.records))
    assert (left.state, left.pid, left.comm, left.signal) == (BEGUN, pid, b"program", signal.SIGILL)
    after = small.ready()
    with in_core_pattern(place, pipe_limit=1) as handler:
        assert os.WCOREDUMP(small.die())
        said = messages(handler, 2, pid, after)
    assert "dumped core" in said[0]
    assert f"process {pid} (program) of user 0, signal 4: no core was saved: its handler was killed" in said[1]
    assert not any(place.records.iterdir())


# --- rights that a program had ----------------------------------------------------------------------------


def as_user() -> None:
    """Be a user whose cores he may read."""
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


def user_of(core: Path) -> bool:
    """Tell whether the user may read it."""
    return permissions.ACL in os.listxattr(core)


# Each reads /etc/shadow, gives its rights up, and says that it may be dumped.
PROGRAMS = ["file capabilities", "set-user-ID", "set-group-ID", "root's", "a thread's capability"]


@pytest.mark.parametrize("how", ["none", *PROGRAMS])
def test_who_may_read_what_a_program_knew(how: str, programs: Path, place: Place) -> None:
    """Its user, if it never had more rights than he."""
    program = place.root / "program"
    shutil.copy(programs / "privileged", program)
    program.chmod({"set-user-ID": 0o4755, "set-group-ID": 0o2755}.get(how, 0o755))
    command = [str(program), *(["thread"] if how == "a thread's capability" else [])]
    if how == "a thread's capability":
        # Ambient, so that AT_SECURE is 0.
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed (Debian: util-linux)")
        ids = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
        command = ["setpriv", *ids, *(f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")), *command]
    if how == "file capabilities":
        if shutil.which("setcap") is None:
            pytest.skip("setcap is not installed (Debian: libcap2-bin)")
        subprocess.run(["setcap", "cap_dac_read_search=ep", program], check=True)
    with sysctl("fs/suid_dumpable", 0), in_core_pattern(place) as handler:
        done = subprocess.run(
            command,
            preexec_fn=all_of_it if how in ("root's", "a thread's capability") else as_user,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd="/",
        )
        said = handler.said()
    assert done.returncode == -signal.SIGSEGV, done.stderr
    assert ("read" in done.stdout) == (how not in ("none", "set-group-ID")), done.stdout
    assert said["COREDUMP_UID"] == b"%d" % USER
    assert b"no evidence" not in said["MESSAGE"]
    assert user_of(place.core()) == (how == "none")


# --- crowds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipe_limit", [0, 4])
@pytest.mark.parametrize("crowd", CROWDS)
def test_many_at_once(crowd: int, pipe_limit: int, waiting_program: Path, place: Place, tmp_path: Path) -> None:
    """Without a limit each is saved; with one, the kernel dumps those that find a slot, and each of these is saved."""
    place.write(name="%P")
    with ExitStack() as undo:
        all_of_them = [undo.enter_context(waiting(waiting_program, tmp_path / str(number))) for number in range(crowd)]
        pids = [process.ready() for process in all_of_them]
        handler = undo.enter_context(in_core_pattern(place, pipe_limit=pipe_limit))
        for process in all_of_them:
            process.release()
        statuses = [process.status() for process in all_of_them]
        handler.wait()
    dumped = {str(pid) for pid, status in zip(pids, statuses, strict=True) if os.WCOREDUMP(status)}
    assert {path.name for path in place.cores()} == dumped
    assert len(dumped) >= (pipe_limit or crowd)
    for core in place.cores():
        assert len(Core(core).loads) > 4
    assert not any(place.records.iterdir())
