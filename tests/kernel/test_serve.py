"""The server of coredump sockets on the real kernel: crashes by the dozen, forged clients, and ends in the middle."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from kernel.crashing import NOBODY, compile_crasher, limits, need_system
from kernel.dumps import CannotCompileError, Core, sysctl
from kernel.serving import Serving, need_sockets, serving, wait_for
from kernel.trusted import CHILD, Installation, installation
from kernel.waiting import CROWDS, Waiting, full_of, masked, waiting
from support.builds import INTERPRETER, PATIENCE

from corefilt.handler.admin.sysctl import DROP_IN

DEFAULT = 0x33
CORE_BIT = 0x80


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    need_system()
    need_sockets()
    with installation() as it:
        yield it


@pytest.fixture(scope="module")
def crasher(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return compile_crasher(installed.folder)
    except CannotCompileError as error:
        pytest.skip(str(error))


def run_crasher(crasher: Path, who: str = "main", **how: int) -> "subprocess.CompletedProcess[bytes]":
    """Crash, and give the pid among what was said."""
    return subprocess.run(
        [crasher, "-", who], capture_output=True, cwd="/", timeout=PATIENCE, check=False, preexec_fn=limits(**how)
    )


@contextmanager
def started(process: "subprocess.Popen[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """End what a test that failed left of a process: in its dump it can wait for ever."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def start_crasher(crasher: Path, **how: int) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """Let one crash, and do not wait for it."""
    return started(subprocess.Popen([crasher, "-", "main"], stdout=subprocess.PIPE, cwd="/", preexec_fn=limits(**how)))


def big() -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """Let a process of 200 MiB crash, which takes a handler a while."""
    code = "import os, signal; x = os.urandom(1 << 20) * 200; os.kill(os.getpid(), signal.SIGSEGV)"
    return started(subprocess.Popen([INTERPRETER, "-c", code], preexec_fn=limits()))


def in_flight(server: Serving) -> int:
    """Wait until a handler runs; give its pid."""
    return wait_for(server.handlers, 1, server.lines)[0]


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


# --- cores --------------------------------------------------------------------------------------------------------


def test_a_core_is_what_the_kernel_would_have_written(
    installed: Installation, small: Waiting, small_full: Core
) -> None:
    twin = small.dump("socket-twin", DEFAULT)
    assert twin is not None
    with serving(installed) as server:
        pid = small.ready()
        status = small.die()
        core = installed.cores_of(1)[pid]
        assert masked(core.read_bytes(), small_full) == masked(twin.read_bytes(), small_full)
        assert core.stat().st_mode & 0o777 == 0o600
        assert status & CORE_BIT
        (line,) = server.said("dumped core")
        assert f"process {pid} (program) of user 0, signal {status & 0x7F}" in line
        assert "no evidence" not in line
        assert server.stop() == 0
    assert not server.path.exists()


@pytest.mark.parametrize("crowd", CROWDS)
def test_many_at_once(crowd: int, installed: Installation, waiting_program: Path, tmp_path: Path) -> None:
    with ExitStack() as undo:
        processes = [undo.enter_context(waiting(waiting_program, tmp_path / f"{i}")) for i in range(crowd)]
        fulls = [full_of(process) for process in processes]
        twins = [process.dump("twin", DEFAULT) for process in processes]
        with serving(installed, "at-once = 3\n") as server:
            pids = [process.ready() for process in processes]
            for process in processes:
                process.release()
            running = []
            statuses = []
            for process in processes:
                running.append(len(server.handlers()))
                statuses.append(process.status())
            cores = installed.cores_of(crowd)
            assert server.stop() == 0
    assert all(status & CORE_BIT for status in statuses)
    assert max(running) <= 3
    for pid, full, twin in zip(pids, fulls, twins, strict=True):
        assert twin is not None
        assert masked(cores[pid].read_bytes(), full) == masked(twin.read_bytes(), full)
    assert sum("at-once: " in line for line in server.lines()) >= 1


def test_what_the_handler_is_told(installed: Installation, crasher: Path) -> None:
    with serving(installed) as server:
        installed.configure(name="%u.%g.%s.%d.%c.%e.%P")
        done = run_crasher(crasher, uid=NOBODY, core=123456)
        pid = int(done.stdout.split()[0])
        server.said("dumped core")
        (core,) = installed.cores.iterdir()
        assert core.name == f"{NOBODY}.{NOBODY}.11.1.123456.crasher.{pid}"
        assert server.stop() == 0


def test_a_core_of_a_set_uid_program_is_roots(installed: Installation, crasher: Path) -> None:
    program = installed.folder / "set-uid"
    shutil.copy(crasher, program)
    program.chmod(0o4755)
    with serving(installed) as server, sysctl("fs/suid_dumpable", 2):
        installed.configure(name="%u.%d.%P")
        done = run_crasher(program, uid=NOBODY)
        server.said("dumped core")
        (core,) = installed.cores.iterdir()
        assert core.name == f"{NOBODY}.2.{int(done.stdout.split()[0])}"
        assert "system.posix_acl_access" not in os.listxattr(core)
        assert server.stop() == 0


def test_a_process_whose_first_thread_has_ended(installed: Installation, crasher: Path) -> None:
    rules = 'otherwise = "reject"\n[[serve.rule]]\nexecutable = "*/crasher"\nlarger-than = 4096\naction = "filter"\n'
    with serving(installed, rules) as server:
        done = run_crasher(crasher, who="orphan")
        assert set(installed.cores_of(1)) == {int(done.stdout.split()[0])}
        assert server.stop() == 0


def test_the_reader_of_a_core_has_no_rights_and_ends_with_it(installed: Installation) -> None:
    with serving(installed) as server, big() as process:
        handler = in_flight(server)
        # The last right that it gives up; before that it is still on its way.
        reader = wait_for(lambda: [pid for pid in children_of(handler) if "\nNoNewPrivs:\t1\n" in status_of(pid)], 1)[0]
        os.kill(reader, signal.SIGSTOP)
        lines = status_of(reader).splitlines()
        os.kill(reader, signal.SIGCONT)
        assert f"Uid:\t{CHILD}\t{CHILD}\t{CHILD}\t{CHILD}" in lines
        assert f"Gid:\t{CHILD}\t{CHILD}\t{CHILD}\t{CHILD}" in lines
        assert {f"Cap{name}:\t{0:016x}" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} <= set(lines)
        assert [line.split() for line in lines if line.startswith("Groups:")] == [["Groups:"]]
        process.wait()
        installed.cores_of(1)
        wait_for(lambda: [1] * (not server.handlers()), 1)
        assert status_of(reader) == ""
        assert server.stop() == 0


def test_a_ready_handler_has_nothing_of_another_crash(installed: Installation, crasher: Path) -> None:
    program = installed.folder / f"crasher-{os.urandom(8).hex()}"
    shutil.copy(crasher, program)
    with serving(installed, "ready = 2\n") as server:
        before = wait_for(server.ready, 2, server.lines)
        assert len({stack_of(pid) for pid in before}) == 2
        run_crasher(program)
        installed.cores_of(1)
        ready = wait_for(lambda: [pid for pid in server.ready() if pid not in before], 1, server.lines)
        ready += [pid for pid in before if pid in server.ready()]
        assert len(ready) == 2
        for pid in ready:
            assert program.name.encode() not in memory_of(pid)
            assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in ready)


def stack_of(pid: int) -> str:
    (line,) = (line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith("[stack]"))
    return line.partition("-")[0]


def memory_of(pid: int) -> bytes:
    """All that a process can write to; at least the name of this interpreter is in there."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, perms = line.split()[:2]
            start, end = (int(word, 16) for word in area.split("-"))
            if perms.startswith("rw"):
                memory.seek(start)
                found += memory.read(end - start)
    assert b"corefilt.handler" in found
    return found


# --- rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "cores", "core_bit"),
    [
        ('otherwise = "reject"\n', 0, False),
        ('otherwise = "leave"\n', 0, True),
        (f'[[serve.rule]]\nuid = {NOBODY}\naction = "reject"\n', 0, False),
        (f'[[serve.rule]]\nuid = [1, {NOBODY + 1}]\naction = "reject"\n', 1, True),
        ('[[serve.rule]]\nexecutable = "*/crasher"\naction = "leave"\n', 0, True),
        ('[[serve.rule]]\nexecutable = "*/crasher"\nlarger-than = "1G"\naction = "reject"\n', 1, True),
        ('[[serve.rule]]\nsmaller-than = "1G"\naction = "reject"\n', 0, False),
        (
            '[[serve.rule]]\nexecutable = "/bin/*"\naction = "reject"\n[[serve.rule]]\nuid = 0\naction = "leave"\n',
            1,
            True,
        ),
    ],
)
def test_rules_of_user_executable_and_size(
    installed: Installation, crasher: Path, rules: str, cores: int, core_bit: bool
) -> None:
    with serving(installed, rules) as server, start_crasher(crasher, uid=NOBODY) as process:
        _, status = os.waitpid(process.pid, 0)
        process.returncode = status
        assert os.WTERMSIG(status) == signal.SIGSEGV
        assert os.WCOREDUMP(status) is core_bit
        if cores:
            installed.cores_of(cores)
        else:
            server.said("by rule")
        assert server.stop() == 0
    assert len(list(installed.cores.iterdir())) == cores


def test_an_executable_counts_only_by_a_name_of_our_own(installed: Installation, crasher: Path) -> None:
    """A user can mount what he likes over /usr in a namespace of his own."""
    rules = 'otherwise = "reject"\n[[serve.rule]]\nexecutable = "*/crasher"\naction = "filter"\n'
    with serving(installed, rules) as server:
        subprocess.run(
            ["unshare", "-m", crasher, "-", "main"], stdout=subprocess.DEVNULL, check=False, preexec_fn=limits()
        )
        server.said("by rule")
        assert list(installed.cores.iterdir()) == []
        run_crasher(crasher)
        installed.cores_of(1)
        assert server.stop() == 0


def test_what_comes_beyond_the_bound_is_refused_where_that_is_asked_for(installed: Installation, crasher: Path) -> None:
    with serving(installed, 'at-once = 1\nbeyond = "reject"\n') as server, ExitStack() as undo:
        os.kill(server.process.pid, signal.SIGSTOP)
        processes = [undo.enter_context(start_crasher(crasher)) for _ in range(8)]
        os.kill(server.process.pid, signal.SIGCONT)
        statuses = [os.waitpid(process.pid, 0)[1] for process in processes]
        for process, status in zip(processes, statuses, strict=True):
            process.returncode = status
        taken = sum(map(os.WCOREDUMP, statuses))
        assert 1 <= taken < 8
        installed.cores_of(taken)
        assert len(server.said("being filtered", 8 - taken)) == 8 - taken
        assert server.stop() == 0


def test_who_dies_in_the_queue_frees_his_place(installed: Installation, crasher: Path) -> None:
    with serving(installed, "at-once = 1\n") as server, big() as first:
        handler = in_flight(server)
        os.kill(handler, signal.SIGSTOP)
        with start_crasher(crasher) as second:
            server.said("the next ones wait")
            second.kill()
            assert second.wait() in (-signal.SIGKILL, -signal.SIGSEGV)
        os.kill(handler, signal.SIGCONT)
        first.wait()
        server.said(f"process {second.pid}.* no core is taken")
        done = run_crasher(crasher)
        assert set(installed.cores_of(2)) == {first.pid, int(done.stdout.split()[0])}
        assert server.stop() == 0


# --- peers that are not the kernel --------------------------------------------------------------------------------


REQUEST = struct.pack("=IIQ", 16, 16, 15)


@pytest.mark.parametrize(
    "words", [b"", REQUEST, b"\xff" * 4096, REQUEST + b"\x7fELF" * 1000], ids=["silent", "forged", "junk", "core"]
)
def test_a_client_that_does_not_dump_core_is_dropped(installed: Installation, crasher: Path, words: bytes) -> None:
    with serving(installed) as server:
        with server.connect() as client:
            try:
                client.sendall(words)
                assert client.recv(16) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass
        (line,) = server.said("does not dump core")
        assert f"process {os.getpid()} of user 0" in line
        assert list(installed.cores.iterdir()) == []
        run_crasher(crasher)
        installed.cores_of(1)
        assert server.stop() == 0


def test_clients_that_hang_take_no_slot(installed: Installation, crasher: Path) -> None:
    with serving(installed, "at-once = 1\n") as server, ExitStack() as undo:
        for _ in range(40):
            undo.enter_context(server.connect())
        run_crasher(crasher)
        installed.cores_of(1)
        assert server.stop() == 0


FORGER = """\
import os, signal, socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(sys.argv[1])
client.sendall(bytes.fromhex(sys.argv[2]))
os.kill(os.getpid(), signal.SIGSEGV)
"""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(b"", "silent"), (b"\xff" * 64, "request says"), (REQUEST, "silent"), (REQUEST + b"\1\0\0\0", "answered 1")],
    ids=["silent", "junk", "half", "wrong-mark"],
)
def test_a_second_connection_of_one_that_does_dump_core(installed: Installation, words: bytes, complaint: str) -> None:
    """Its own crash is served, and what it connected itself gets nothing."""
    with serving(installed, "at-once = 1\npatience = 0.5\n") as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        command = [sys.executable, "-c", FORGER, str(server.path), words.hex()]
        with subprocess.Popen(command, preexec_fn=limits()) as process:
            wait_for(lambda: [1] * ("CoreDumping:\t1" in Path(f"/proc/{process.pid}/status").read_text()), 1)
            os.kill(server.process.pid, signal.SIGCONT)
            process.wait()
        assert set(installed.cores_of(1)) == {process.pid}
        server.said(complaint)
        assert server.stop() == 0
    assert len(list(installed.cores.iterdir())) == 1


# --- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_once_what_it_began_is_done(installed: Installation, crasher: Path, number: int) -> None:
    with serving(installed) as server, big() as process:
        in_flight(server)
        assert server.stop(number) == 0
        assert not server.path.exists()
        process.wait()
        assert set(installed.cores_of(1)) == {process.pid}
        assert server.said("stops when")


def test_a_second_signal_leaves_nothing_half_done(installed: Installation, crasher: Path) -> None:
    with serving(installed) as server, big() as process:
        handler = in_flight(server)
        os.kill(handler, signal.SIGSTOP)
        os.kill(server.process.pid, signal.SIGTERM)
        server.said("stops when")
        os.kill(handler, signal.SIGCONT)
        assert server.stop() == 0
        assert not server.path.exists()
        process.wait()
        assert not Path(f"/proc/{handler}").exists()
    assert_whole(installed, process.pid)


def test_a_handler_outlives_a_server_that_is_killed(installed: Installation, crasher: Path) -> None:
    with serving(installed) as server, big() as process:
        in_flight(server)
        server.process.kill()
        server.process.wait()
        process.wait()
        assert set(installed.cores_of(1)) == {process.pid}
        assert_whole(installed, process.pid)
        assert server.path.exists()
    with serving(installed) as server:
        # What was left of the socket is no hindrance.
        run_crasher(crasher)
        installed.cores_of(1)
        assert server.stop() == 0


def test_a_handler_that_is_killed_leaves_nothing_and_frees_its_slot(installed: Installation, crasher: Path) -> None:
    with serving(installed, "at-once = 1\n") as server:
        with big() as process:
            os.kill(in_flight(server), signal.SIGKILL)
            process.wait()
        wait_for(lambda: [1] * (not server.handlers()), 1)
        left = list(installed.cores.iterdir())
        assert left == [] or assert_whole(installed, process.pid) is None
        done = run_crasher(crasher)
        assert int(done.stdout.split()[0]) in installed.cores_of(len(left) + 1)
        assert server.stop() == 0


def assert_whole(installed: Installation, pid: int) -> None:
    """Under its name a core is whole, or it is not there."""
    path = installed.cores / f"core.{pid}"
    if path.exists():
        core = Core(path)
        assert len(core.data) >= max(phdr.p_offset + phdr.p_filesz for phdr in core.phdrs)


# --- the socket ---------------------------------------------------------------------------------------------------


def test_the_socket_is_roots_alone(installed: Installation) -> None:
    with serving(installed, pattern=False) as server:
        status = server.path.stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o600, 0)
        assert connects_as(NOBODY, server.path) == "PermissionError"
        assert connects_as(0, server.path) == ""
        other = installed.run("serve", server.path)
        assert other.returncode == 1
        assert "another process already listens" in other.stderr
        assert server.stop() == 0


def test_status_tells_whether_the_server_is_there(installed: Installation, crasher: Path) -> None:
    if Path(DROP_IN).exists():
        pytest.skip(f"{DROP_IN} is there: corefilt is in use on this machine")
    with serving(installed, pattern=False) as server, sysctl("kernel/core_pattern", b"core"):
        try:
            assert installed.run("install", "--socket", server.path).returncode == 0
            done = installed.run("status", "--json")
            assert (done.returncode, json.loads(done.stdout)["problems"]) == (0, [])
            run_crasher(crasher)
            installed.cores_of(1)
            assert server.stop() == 0
            done = installed.run("status")
            assert (done.returncode, "no process listens" in done.stderr) == (4, True)
        finally:
            assert installed.run("uninstall").returncode == 0
    assert not Path(DROP_IN).exists()


def connects_as(uid: int, path: Path) -> str:
    """Connect as another user, and give the name of the error."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        error = ""
        try:
            os.setgroups([])
            os.setuid(uid)
            socket.socket(socket.AF_UNIX).connect(str(path))
        except BaseException as caught:
            error = type(caught).__name__
        os.write(writer, error.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as file:
        return file.read().decode()


def test_systemd_gives_the_socket(installed: Installation, crasher: Path) -> None:
    path = Path(f"/run/corefilt-test-{os.getpid()}.sock")
    activate = ("/usr/bin/systemd-socket-activate", "-l", str(path))
    if not Path(activate[0]).exists():
        pytest.skip("systemd-socket-activate is not installed")
    with serving(installed, prefix=activate) as server:
        wait_for(lambda: [1] * path.exists(), 1)
        # What SocketMode= does in a unit; this program knows no option for it.
        path.chmod(0o600)
        run_crasher(crasher)
        installed.cores_of(1)
        assert server.stop() == 0
        assert path.exists()
