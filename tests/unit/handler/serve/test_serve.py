"""The server of coredump sockets without a crash: bytes, rules, the socket, and a kernel that a test plays."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from corefilt.errors import ConfigError, ProtocolError, ServeError
from corefilt.handler.crash_info import CrashInfo, parse_crash
from corefilt.handler.crashed_process import memory_size
from corefilt.handler.serve import server as serve
from corefilt.handler.serve.handlers import start_handler
from corefilt.handler.serve.listener import is_listened_at, listen, make
from corefilt.handler.serve.peer import Peer, core_limit, exit_code, read_peer
from corefilt.handler.serve.protocol import (
    COREDUMP_KERNEL,
    COREDUMP_REJECT,
    COREDUMP_USERSPACE,
    COREDUMP_WAIT,
    CoredumpRequest,
    check_mark,
    decode_request,
    encode_ack,
)
from corefilt.handler.serve.rules import FILTER, LEAVE, REJECT, WANTED, parse_serve_rules
from corefilt.handler.serve.server import Server
from corefilt.procfs.pidfd import Dumping, dumping, peer_pidfd

ALL = 0xF
KERNELS = struct.pack("=IIQ", 16, 16, ALL)
UNLIMITED = (1 << 64) - 1
KILLED = "process {pid} of user 1000: its handler was killed ({name}); its core is lost if it was not saved yet"


# --- bytes --------------------------------------------------------------------------------------------------------


def test_a_request_of_linux_6_17() -> None:
    assert decode_request(KERNELS) == CoredumpRequest(16, 16, ALL)
    assert decode_request(KERNELS).rest == 0


def test_a_longer_request_of_a_later_kernel() -> None:
    request = decode_request(struct.pack("=IIQ", 24, 32, 0x1F))
    assert (request.rest, request.mask) == (8, 0x1F)
    assert encode_ack(request, COREDUMP_KERNEL) == struct.pack("=IIQ", 16, 0, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        KERNELS[:15],
        struct.pack("=IIQ", 15, 16, ALL),
        struct.pack("=IIQ", 1 << 31, 16, ALL),
        struct.pack("=IIQ", 16, 8, ALL),
    ],
    ids=["empty", "short", "small", "huge", "no-room-for-an-answer"],
)
def test_what_is_no_request(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(raw)


@pytest.mark.parametrize("wanted", [COREDUMP_KERNEL | COREDUMP_WAIT, COREDUMP_USERSPACE, COREDUMP_REJECT])
def test_an_acknowledgement(wanted: int) -> None:
    assert encode_ack(CoredumpRequest(16, 16, ALL), wanted) == struct.pack("=IIQ", 16, 0, wanted)
    with pytest.raises(ProtocolError, match="does not know"):
        encode_ack(CoredumpRequest(16, 16, ALL & ~wanted), wanted)


@pytest.mark.parametrize(
    ("raw", "word"), [(b"", "ended"), (b"\0\0\0", "ended"), (b"\4\0\0\0", "contradicts"), (b"\x63\0\0\0", "99")]
)
def test_marks_that_are_no_consent(raw: bytes, word: str) -> None:
    if sys.byteorder == "big":
        raw = raw[::-1]
    with pytest.raises(ProtocolError, match=word):
        check_mark(raw)


def test_the_mark_that_is() -> None:
    check_mark(bytes(4))


# --- the peer -----------------------------------------------------------------------------------------------------


STAT = "{pid} ({comm}) R 1 1 1 0 -1 4194304 " + "0 " * 42 + "{code}\n"


@pytest.mark.parametrize("comm", ["sh", "a b", ") R 1", "((", "x) S 1 2 3 4 5 6 7 8 9 0 (y", "line\nbreak"])
def test_the_signal_that_stat_shows(comm: str) -> None:
    assert len(STAT.format(pid=1, comm="x", code=11).split()) == 52
    assert exit_code(STAT.format(pid=42, comm=comm, code=11).encode()) == 11
    assert exit_code(STAT.format(pid=42, comm=comm, code="").encode()) == 0


def test_limits_and_sizes() -> None:
    text = "Limit   Soft   Hard   Units\nMax core file size        {}     unlimited     bytes     \nMax x  9 9\n"
    assert core_limit(text.format("123456").encode()) == 123456
    assert core_limit(text.format("0").encode()) == 0
    assert core_limit(text.format("unlimited").encode()) == UNLIMITED
    assert core_limit(b"") == UNLIMITED
    assert memory_size(b"Name:\tVmRSS:\t9 kB\nVmRSS:\t    12 kB\nVmSwap:\t      30 kB\n") == 42 << 10
    assert memory_size(b"Name:\tkthread\n") == 0


def test_a_process_that_does_not_dump_core() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            pidfd = peer_pidfd(ours)
        except OSError as error:
            pytest.skip(f"this kernel tells no pidfd of a peer (Linux 6.5): {error}")
        try:
            assert not os.get_inheritable(pidfd)
            try:
                assert dumping(pidfd) is None
            except OSError as error:
                pytest.skip(f"this kernel tells nothing by a pidfd (Linux 6.13): {error}")
        finally:
            os.close(pidfd)


def test_a_process_of_our_own_is_read(tmp_path: Path) -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        peer = read_peer(Dumping(os.getpid(), 1, 7, 8, 2), pidfd, now=1700000000)
    finally:
        os.close(pidfd)
    assert (peer.crash.pid, peer.crash.uid, peer.crash.gid, peer.crash.dumpable) == (os.getpid(), 7, 8, 2)
    assert (peer.crash.time, peer.crash.signal, peer.crash.pidfd) == (1700000000, 0, pidfd)
    assert peer.executable == os.fsencode(os.readlink("/proc/self/exe"))
    assert peer.size > 1 << 20


def test_an_executable_that_was_replaced_is_known_by_its_name(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "1000"]) as child:
        program.unlink()
        pidfd = os.pidfd_open(child.pid)
        try:
            assert read_peer(Dumping(child.pid, 1, 0, 0, 1), pidfd).executable == os.fsencode(program)
        finally:
            os.close(pidfd)
            child.kill()


def test_a_process_that_is_gone_or_another() -> None:
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    child.wait()
    try:
        with pytest.raises(ProtocolError, match="No such"):
            read_peer(Dumping(child.pid, 1, 0, 0, 1), pidfd)
        # Its number is another's by now.
        with pytest.raises(ProtocolError, match="ended"):
            read_peer(Dumping(os.getpid(), 1, 0, 0, 1), pidfd)
    finally:
        os.close(pidfd)


# --- rules --------------------------------------------------------------------------------------------------------


def peer(uid: int = 1000, executable: bytes | None = b"/usr/bin/tool", size: int = 1 << 20) -> Peer:
    return Peer(CrashInfo(42, uid, uid, 11, 1700000000, UNLIMITED, 1, None), executable, size)


def test_without_a_word_everything_is_filtered() -> None:
    rules = parse_serve_rules({})
    assert (rules.at_once, rules.beyond, rules.patience, rules.decide(peer())) == (16, "queue", 10.0, FILTER)


@pytest.mark.parametrize(
    ("rule", "fits", "others"),
    [
        ({"uid": 1000}, [peer(1000)], [peer(0), peer(1001)]),
        ({"uid": [0, 1001]}, [peer(0), peer(1001)], [peer(1000)]),
        ({"executable": "/usr/bin/tool"}, [peer()], [peer(executable=b"/usr/bin/tools"), peer(executable=None)]),
        ({"executable": "/usr/*"}, [peer()], [peer(executable=b"/opt/usr/x"), peer(executable=b"/usr")]),
        ({"executable": "*/t??l"}, [peer(), peer(executable=b"/a\nb/tool")], [peer(executable=b"/usr/bin/tl")]),
        ({"executable": "/\u00fc*"}, [peer(executable="/\u00fcber".encode())], [peer()]),
        ({"larger-than": "1M"}, [peer(size=(1 << 20) + 1)], [peer()]),
        ({"smaller-than": 1 << 20}, [peer(size=0)], [peer()]),
        ({"smaller-than": "2M", "uid": 1000}, [peer()], [peer(1), peer(size=1 << 21)]),
        ({}, [peer(), peer(0, None, 0)], []),
    ],
)
def test_what_a_rule_fits(rule: dict[str, object], fits: list[Peer], others: list[Peer]) -> None:
    rules = parse_serve_rules({"rule": [{**rule, "action": "reject"}]})
    assert [rules.decide(one) for one in fits] == [REJECT] * len(fits)
    assert [rules.decide(one) for one in others] == [FILTER] * len(others)


def test_the_first_rule_that_fits_decides() -> None:
    rules = parse_serve_rules(
        {"otherwise": "reject", "rule": [{"uid": 1, "action": "leave"}, {"uid": [1, 2], "action": "filter"}]}
    )
    assert [rules.decide(peer(uid)) for uid in (1, 2, 3)] == [LEAVE, FILTER, REJECT]


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"at-once": 0}, "at-once"),
        ({"at-once": True}, "at-once"),
        ({"at-once": "many"}, "at-once"),
        ({"at-once": 1 << 20}, "at-once"),
        ({"beyond": "drop"}, "queue, reject"),
        ({"otherwise": "keep"}, "filter, reject, leave"),
        ({"patience": 0}, "patience"),
        ({"patience": "1"}, "patience"),
        ({"patience": float("nan")}, "patience"),
        ({"socket": "/run/x"}, "socket"),
        ({"rule": {}}, "serve.rule"),
        ({"rule": [1]}, "not a table"),
        ({"rule": [{}]}, "action: is missing"),
        ({"rule": [{"action": "x"}]}, "filter, reject, leave"),
        ({"rule": [{"action": "reject", "user": 0}]}, "user"),
        ({"rule": [{"action": "reject", "uid": "root"}]}, "uid"),
        ({"rule": [{"action": "reject", "uid": []}]}, "uid"),
        ({"rule": [{"action": "reject", "uid": [-1]}]}, "uid"),
        ({"rule": [{"action": "reject", "uid": 1 << 32}]}, "uid"),
        ({"rule": [{"action": "reject", "executable": "tool"}]}, "absolute"),
        ({"rule": [{"action": "reject", "executable": 1}]}, "absolute"),
        ({"rule": [{"action": "reject", "larger-than": "1X"}]}, "larger-than"),
        ({"rule": [{"action": "reject", "larger-than": -1}]}, "larger-than"),
        ({"rule": [{"action": "reject", "smaller-than": 1.5}]}, "smaller-than"),
    ],
)
def test_what_is_no_rule(table: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_serve_rules(table)
    assert word in f"{caught.value} {caught.value.hint}"


# --- the socket ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder() -> Path:
    """Make a folder that root alone can write to on the whole way."""
    if os.geteuid() != 0 or not os.access("/run", os.W_OK):
        pytest.skip("the socket's folder must be root's")
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="corefilt-test-", dir="/run"))
    folder.chmod(0o755)
    yield folder  # type: ignore[misc]
    shutil.rmtree(folder)


def test_a_socket_is_made_and_removed(run_folder: Path) -> None:
    path = run_folder / "socket"
    listening = make(str(path))
    assert path.stat().st_mode & 0o7777 == 0o600
    assert is_listened_at(str(path)) is True
    with pytest.raises(ServeError, match="already listens there"):
        make(str(path))
    listening.close()
    assert not path.exists()


def test_a_socket_that_nobody_listens_at_is_replaced(run_folder: Path) -> None:
    path = run_folder / "socket"
    make(str(path)).socket.close()
    assert path.exists()
    assert is_listened_at(str(path)) is False
    listening = make(str(path))
    listening.close()


def test_the_socket_of_another_server_is_not_removed(run_folder: Path) -> None:
    path = run_folder / "socket"
    first = make(str(path))
    path.rename(run_folder / "moved")
    second = make(str(path))
    first.close()
    assert path.exists()
    second.close()


def test_what_stands_in_the_way_stays(run_folder: Path) -> None:
    path = run_folder / "socket"
    path.write_text("precious")
    with pytest.raises(ServeError, match="not a socket"):
        make(str(path))
    assert path.read_text() == "precious"


def test_a_path_that_is_a_link_stays(run_folder: Path) -> None:
    (run_folder / "socket").symlink_to("elsewhere")
    with pytest.raises(ServeError):
        make(str(run_folder / "socket"))
    assert not (run_folder / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_may_write_to(run_folder: Path, mode: int) -> None:
    run_folder.chmod(mode)
    with pytest.raises(ServeError, match=f"{mode:04o}"):
        make(str(run_folder / "socket"))
    assert list(run_folder.iterdir()) == []


@pytest.mark.parametrize("path", ["socket", "/run/corefilt-no-such-folder/socket", "/run/" + "x" * 120])
def test_a_path_that_cannot_be(path: str) -> None:
    with pytest.raises(ServeError):
        make(path)


ACTIVATED = """\
import os, socket, sys
from corefilt.errors import CorefiltError
from corefilt.handler.serve.listener import listen
listener = {made}
os.dup2(listener.fileno(), 3)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str({pid}), "{count}"
try:
    it = listen({path!r}, os.environ)
except CorefiltError as error:
    print("refused:", error)
else:
    print("taken:", it.path, it.socket.fileno(), os.get_inheritable(3), "LISTEN_FDS" in os.environ)
    it.close()
"""
BOUND = "socket.socket(socket.AF_UNIX); listener.bind({path!r}); os.chmod({path!r}, {mode:#o}); listener.listen()"


def activated(run_folder: Path, made: str = BOUND, path: str | None = None, mode: int = 0o600, **what: object) -> str:
    """Run what takes its socket from systemd."""
    where = str(run_folder / "socket")
    values = {"pid": "os.getpid()", "count": 1, "made": made.format(path=where, mode=mode), "path": path, **what}
    done = subprocess.run(
        [sys.executable, "-c", ACTIVATED.format(**values)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_socket_of_systemd(run_folder: Path) -> None:
    path = str(run_folder / "socket")
    assert activated(run_folder) == f"taken: {path} 3 False False"
    assert (run_folder / "socket").exists()
    (run_folder / "socket").unlink()
    assert activated(run_folder, path=path) == f"taken: {path} 3 False False"


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ({"mode": 0o666}, "0666"),
        ({"mode": 0o660}, "0660"),
        ({"count": 2}, "2 sockets"),
        ({"path": "/run/other.sock"}, "other.sock"),
        ({"pid": "1"}, "no path was given"),
        ({"count": 0}, "no path was given"),
        ({"made": "open('/dev/null')"}, "descriptor 3"),
        ({"made": "socket.socket(socket.AF_UNIX)"}, "not a listening"),
        ({"made": "socket.socket(socket.AF_INET); listener.listen()"}, "not a listening"),
        ({"made": "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)"}, "not a listening"),
    ],
)
def test_what_systemd_should_not_give(run_folder: Path, what: dict[str, object], word: str) -> None:
    said = activated(run_folder, **what)  # type: ignore[arg-type]
    assert said.startswith("refused:")
    assert word in said


def test_no_socket_at_all() -> None:
    with pytest.raises(ServeError, match="no path"):
        listen(None, {})


# --- a kernel that a test plays -----------------------------------------------------------------------------------


class Played:
    """A server whose peers are tests: they dump core because it is told that they do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **rules: object) -> None:
        self.path, self.cores, self.said = folder / "socket", folder / "cores", []
        self.cores.mkdir()
        self.who: Dumping | None = Dumping(os.getpid(), 1, 1000, 1000, 1)
        self.rules = parse_serve_rules(rules)
        self.most = 100
        self.started: list[subprocess.Popen[bytes]] = []
        self.filled = 0
        self.program = ["tee", "{path}"]
        monkeypatch.setattr(serve, "dumping", lambda pidfd: self.who)
        monkeypatch.setattr(serve, "peer_pidfd", lambda connection: os.pidfd_open(os.getpid()))

    def say(self, text: str, priority: int) -> None:
        self.said.append(text)

    @property
    def complaints(self) -> list[str]:
        return [text for text in self.said if not text.startswith("stops")]

    def fill(self) -> None:
        self.filled += 1

    def start(self, crash: CrashInfo, connection: socket.socket) -> subprocess.Popen[bytes]:
        path = self.cores / str(len(self.started))
        command = [word.format(path=path) for word in self.program]
        self.started.append(subprocess.Popen(command, stdin=connection.fileno(), stdout=subprocess.DEVNULL))
        return self.started[-1]

    def run(self, body: Callable[[], Awaitable[None]], stop: Callable[[], None] | None = None) -> None:
        """Run a server, the body beside it, and then stop it as the system does."""

        async def both() -> None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(self.path))
                listener.listen()
                server = Server(listener, self.rules, self, self, self.most)  # type: ignore[arg-type]
                running = asyncio.create_task(server.run())
                try:
                    async with asyncio.timeout(60):
                        await body()
                        os.kill(os.getpid(), signal.SIGTERM)
                        await running
                finally:
                    for number in (signal.SIGTERM, signal.SIGINT):
                        asyncio.get_running_loop().remove_signal_handler(number)

        asyncio.run(both())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.path))


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    if not hasattr(os, "pidfd_open"):
        pytest.skip("os.pidfd_open is missing")
    return Played(tmp_path, monkeypatch)


async def ask(played: Played, request: bytes = KERNELS) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask as the kernel does; give what is wanted."""
    reader, writer = await played.connect()
    writer.write(request)
    size, spare, wanted = struct.unpack("=IIQ", await reader.readexactly(16))
    assert (size, spare) == (16, 0)
    return wanted, reader, writer


@pytest.mark.parametrize("more", [0, 8, 4080])
def test_a_core_goes_to_a_process_of_its_own(played: Played, more: int) -> None:
    core = os.urandom(3 << 20)

    async def body() -> None:
        request = struct.pack("=IIQ", 16 + more, 16 + more, ALL) + b"x" * more
        wanted, reader, writer = await ask(played, request)
        assert wanted == WANTED[FILTER] == COREDUMP_KERNEL | COREDUMP_WAIT
        writer.write(bytes(4) + core)
        writer.write_eof()
        # The crash waits for the end of the handler.
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    assert (played.cores / "0").read_bytes() == core
    assert played.started[0].returncode == 0
    assert played.complaints == []


def test_a_core_is_taken_where_no_handler_can_wait_for_the_next(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill() -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(played, "fill", fill)

    async def body() -> None:
        for _ in range(2):
            _, reader, writer = await ask(played)
            writer.write(bytes(4) + b"core")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    played.run(body)
    assert [path.read_bytes() for path in played.cores.iterdir()] == [b"core"] * 2
    assert "no handler waits for the next core: Resource temporarily unavailable" in played.complaints


@pytest.mark.parametrize(("action", "wanted"), [("reject", COREDUMP_REJECT), ("leave", COREDUMP_USERSPACE)])
def test_a_core_that_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, wanted: int) -> None:
    played = Played(tmp_path, monkeypatch, otherwise=action)

    async def body() -> None:
        answer, reader, writer = await ask(played)
        assert answer == wanted
        writer.write(bytes(4))
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    assert played.started == []
    assert f"by rule ({action})" in played.said[0]


def test_the_bound_holds_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, monkeypatch, **{"at-once": 2})

    async def body() -> None:
        first = [await ask(played) for _ in range(2)]
        waiting = [asyncio.create_task(ask(played)) for _ in range(3)]
        while not played.said:
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        for _, reader, writer in first:
            writer.write(bytes(4) + b"core")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        for task in asyncio.as_completed(waiting):
            _, reader, writer = await task
            writer.write(bytes(4) + b"core")
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()

    played.run(body)
    assert len(played.started) == 5
    assert played.complaints == ["at-once: 2 cores being filtered, the next ones wait"]


def test_beyond_the_bound_cores_are_refused_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(tmp_path, monkeypatch, **{"at-once": 1, "beyond": "reject"})

    async def body() -> None:
        _, _, first = await ask(played)
        wanted, reader, writer = await ask(played)
        assert wanted == COREDUMP_REJECT
        writer.write(bytes(4))
        assert await reader.read() == b""
        first.write(bytes(4))
        for one in (writer, first):
            one.close()

    played.run(body)
    assert len(played.started) == 1
    assert "at-once: " in played.said[0]


def test_more_connections_than_descriptors_are_refused(played: Played) -> None:
    played.most = 1

    async def body() -> None:
        _, _, first = await ask(played)
        wanted, _, second = await ask(played)
        assert wanted == COREDUMP_REJECT
        second.write(bytes(4))
        first.write(bytes(4))
        for writer in (first, second):
            writer.close()

    played.run(body)
    assert "descriptors" in played.said[0]


def test_a_handler_that_crashes_is_not_handled(played: Played) -> None:
    played.who = Dumping(4711, os.getpid(), 0, 0, 1)

    async def body() -> None:
        wanted, reader, writer = await ask(played)
        assert wanted == COREDUMP_REJECT
        writer.write(bytes(4))
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    assert "a handler itself crashed" in played.said[0]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (b"junk that is long enough", "the request says"),
        (struct.pack("=IIQ", 16, 16, COREDUMP_KERNEL), "does not know"),
        (KERNELS + struct.pack("=I", 2), "answered 2"),
        (b"short", "5 bytes"),
        (KERNELS, "ended before it answered"),
    ],
)
def test_peers_that_do_not_speak_as_the_kernel_does(played: Played, words: bytes, complaint: str) -> None:
    async def body() -> None:
        reader, writer = await played.connect()
        writer.write(words)
        writer.write_eof()
        try:
            await reader.read()
        except ConnectionResetError:
            pass
        writer.close()

    played.run(body)
    assert played.started == []
    assert complaint in played.said[0]


@pytest.mark.parametrize("words", [b"", b"half", KERNELS])
def test_a_silent_peer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    played = Played(tmp_path, monkeypatch, patience=0.05)

    async def body() -> None:
        reader, writer = await played.connect()
        writer.write(words)
        assert len(await reader.read()) == (16 if words == KERNELS else 0)
        writer.close()

    played.run(body)
    assert "was silent for 0.05 s" in played.said[0]


def test_a_peer_that_does_not_dump_core(played: Played) -> None:
    played.who = None

    async def body() -> None:
        reader, writer = await played.connect()
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    assert "does not dump core" in played.said[0]
    assert f"process {os.getpid()} of user {os.getuid()}" in played.said[0]


def test_no_process_can_be_started(played: Played) -> None:
    played.program = ["/nonexistent/program"]

    async def body() -> None:
        _, reader, writer = await ask(played)
        writer.write(bytes(4))
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    assert "no core is taken: No such file" in played.said[0]


def test_the_second_signal_ends_handlers(played: Played) -> None:
    played.program = ["sleep", "1000"]

    async def body() -> None:
        _, _, writer = await ask(played)
        writer.write(bytes(4))
        while not played.started:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        while not played.said:
            await asyncio.sleep(0)
        writer.close()

    played.run(body)
    assert played.started[0].returncode == -signal.SIGTERM
    assert played.said[0] == "stops when the cores that it began are saved (1)"
    assert played.said[1:] == [KILLED.format(pid=os.getpid(), name="SIGTERM")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 3], ids=["SIGKILL", "real-time"])
def test_a_handler_that_is_killed_is_told_of(played: Played, number: int) -> None:
    """It may die before it has written a record, and cannot say anything itself."""
    played.program = ["sleep", "1000"]

    async def body() -> None:
        _, reader, writer = await ask(played)
        writer.write(bytes(4))
        while not played.started:
            await asyncio.sleep(0)
        played.started[0].send_signal(number)
        assert await reader.read() == b""
        writer.close()

    played.run(body)
    name = "SIGKILL" if number == signal.SIGKILL else f"signal {number}"
    assert KILLED.format(pid=os.getpid(), name=name) in played.said


def test_the_handler_is_told_what_core_pattern_would_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: seen.update(command=command, **how))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        start_handler(CrashInfo(42, 1000, 1001, 6, 1700000000, UNLIMITED, 2, 9), ours, "/etc/other.conf")
        command = seen["command"]
        assert isinstance(command, list)
        assert command[:4] == [sys.executable, "-I", "-m", "corefilt.handler"]
        assert command[4:6] == ["--config", "/etc/other.conf"]
        crash = parse_crash(command[6:])
        assert (crash.pid, crash.uid, crash.gid, crash.signal) == (42, 1000, 1001, 6)
        assert (crash.time, crash.limit, crash.dumpable, crash.pidfd) == (1700000000, UNLIMITED, 2, 9)
        assert (seen["stdin"], seen["env"], seen["pass_fds"]) == (ours.fileno(), {}, [9])
