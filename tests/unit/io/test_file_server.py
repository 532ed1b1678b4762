"""The opener of files that a core names: as the core's owner, within a deadline, and nothing but regular files."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from kernel.dumps import may_change_system
from support.builds import PATIENCE
from support.ready import descriptors

from corefilt.errors import EvidenceError
from corefilt.evidence.sysroot import Sysroot, owner_of, sysroot_for
from corefilt.io import file_server, named_files
from corefilt.io.file_server import FileServer, ServedFile
from corefilt.io.named_files import NotUsable, Root

USER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before
    wait_for_children()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "usr").mkdir(parents=True)
    (folder / "usr/file").write_bytes(bytes(range(256)) * 10)
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[FileServer]:
    with closing(Root(root)) as opened, closing(FileServer(opened)) as server:
        yield server


@pytest.fixture(params=["by a child", "here"])
def opener(request: pytest.FixtureRequest, root: Path) -> Iterator[FileServer | Root]:
    """Give what finds files, and the same without a process of its own."""
    with closing(Root(root)) as opened, closing(FileServer(opened)) as server:
        yield server if request.param == "by a child" else opened


def child_of(server: FileServer) -> int:
    assert server._child is not None
    return server._child._pid


def why_not(server: FileServer | Root, path: bytes) -> str:
    with pytest.raises(NotUsable) as caught:
        server.find(path)
    return str(caught.value)


# --- what is found and read -------------------------------------------------------------------------------------


def test_a_file_is_read(server: FileServer, root: Path) -> None:
    status = (root / "usr/file").stat()
    with closing(server.find(b"/usr/file")) as file:
        assert (file.size, file.inode, file.mode) == (2560, status.st_ino, status.st_mode & 0o7777)
        assert file.device == (os.major(status.st_dev), os.minor(status.st_dev))
        assert (file.mtime_ns, file.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
        assert file.read(0, 1 << 30) == bytes(range(256)) * 10
        assert file.read(255, 3) == b"\xff\x00\x01"
        assert file.read(2559, 100) == b"\xff"
        assert file.read(2560, 1) == file.read(1 << 62, 1) == file.read(0, 0) == b""
    with pytest.raises(NotUsable, match="closed"):
        file.read(0, 1)
    file.close()


def test_more_than_a_window(opener: FileServer | Root, root: Path) -> None:
    data = os.urandom(2 * named_files.WINDOW + 12345)
    (root / "large").write_bytes(data)
    with closing(opener.find(b"/large")) as file:
        assert file.read(0, len(data)) == data
        assert file.read(7, named_files.WINDOW + 1) == data[7 : named_files.WINDOW + 8]


def test_what_the_child_answers(root: Path) -> None:
    """The child's own loop, in a thread: what it finds, reads, refuses and closes, until nobody asks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    window = mmap.mmap(-1, named_files.WINDOW)
    ask, find, read, close = file_server._QUESTION.pack, file_server._FIND, file_server._READ, file_server._CLOSE
    with closing(Root(root)) as opened, ours, theirs:
        child = threading.Thread(target=file_server._answer, args=(theirs, opened, window))
        child.start()
        answers = []
        for question in (
            ask(find, 0, 1 << 20, 0) + b"/usr/file",
            ask(read, 1, 255, 3),
            ask(find, 0, 100, 0) + b"/usr/file",
            ask(find, 0, 1 << 20, 0) + b"/usr/none\xff",
            ask(close, 1, 0, 0),
        ):
            ours.send(question)
            answers.append(ours.recv(1 << 12))
        ours.shutdown(socket.SHUT_WR)
        child.join(PATIENCE)
    found, *others = answers
    mode, uid, size, *_ = file_server._FILE.unpack(found[5:])
    status = (root / "usr/file").stat()
    assert (found[:5], mode, uid, size) == (b"+\x01\0\0\0", status.st_mode & 0o7777, status.st_uid, 2560)
    assert others == [b"+\x03\0\0\0", b"-has 2560 bytes, more than 100", b"-does not exist", b"+"]
    assert window[:3] == b"\xff\x00\x01"
    assert not child.is_alive()


def test_many_files_at_once_and_one_child(server: FileServer, root: Path) -> None:
    for i in range(50):
        (root / str(i)).write_bytes(b"%d" % i)
    files = [server.find(b"/%d" % i) for i in range(50)]
    child = child_of(server)

    def open_files() -> int:
        links = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
        return sum(link.startswith(f"{root}/") for link in links)

    assert [file.read(0, 9) for file in files] == [b"%d" % i for i in range(50)]
    assert open_files() == 50
    assert os.stat(f"/proc/{child}").st_uid == os.geteuid()
    for file in files:
        file.close()
    assert open_files() == 0


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it, suppress(OSError):
        folder = os.open(path.parent, os.O_PATH)
        it.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def make_device(path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root, to make a device")
    os.mknod(path, 0o20666, os.makedev(1, 5))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is a FIFO"),
        (os.mkdir, "is a directory"),
        (make_socket, "is a socket"),
        (make_device, "is a device"),
        (lambda path: path.symlink_to("/usr"), "is a directory"),
        (lambda path: path.symlink_to("/nowhere"), "does not exist"),
        (lambda path: path.symlink_to(path.name), "leads through more than 40 links"),
    ],
)
def test_only_regular_files_are_opened(
    make: Callable[[Path], None], why: str, opener: FileServer | Root, root: Path
) -> None:
    make(root / "it")
    assert why_not(opener, b"/it") == why


@pytest.mark.parametrize("target", ["/secret", "../secret", "../../../../secret", "/../secret"])
def test_links_out_lead_nowhere(target: str, opener: FileServer | Root, root: Path) -> None:
    (root.parent / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(target)
    (root / "usr/link").symlink_to("../../..")
    assert why_not(opener, b"/link") == "does not exist"
    assert why_not(opener, b"/usr/link/secret") == "does not exist"
    assert why_not(opener, b"/../secret") == "does not exist"


def test_magic_links_are_not_followed(root: Path) -> None:
    with closing(Root("/")) as opened, closing(FileServer(opened)) as server:
        for path in (b"/proc/self/root/etc/passwd", b"/proc/self/exe", b"/proc/self/cwd/pyproject.toml"):
            assert "without blocks" in why_not(server, path)
        assert "without blocks" in why_not(server, b"/proc/version")


@pytest.mark.parametrize("way", ["grows", "shrinks", "is replaced"])
def test_a_file_that_changes(way: str, server: FileServer, root: Path) -> None:
    path = root / "usr/file"
    with closing(server.find(b"/usr/file")) as file:
        if way == "grows":
            with path.open("ab") as more:
                more.write(b"x" * 100)
            assert len(file.read(0, 1 << 20)) == 2560
        elif way == "shrinks":
            os.truncate(path, 10)
            assert file.read(0, 1 << 20) == bytes(range(10))
        else:
            path.unlink()
            path.write_bytes(b"other")
            assert file.read(0, 3) == b"\x00\x01\x02"


def test_a_size_limit(root: Path) -> None:
    with closing(Sysroot(root)) as folder:
        folder.find(b"/usr/file", most=2560).close()
        with pytest.raises(NotUsable, match=r"^has 2560 bytes, more than 2559$"):
            folder.find(b"/usr/file", most=2559)


def test_a_name_without_end(opener: FileServer | Root) -> None:
    assert why_not(opener, b"/" + b"a" * (1 << 20)) == f"has a name of {(1 << 20) + 1} bytes"
    assert "too long" in why_not(opener, b"/" + b"a" * ((1 << 16) - 1))


def test_the_build_id_is_checked(root: Path) -> None:
    (root / "elf").write_bytes(real_elf())
    identity = subprocess.run(["readelf", "-n", root / "elf"], capture_output=True, text=True, check=True).stdout
    build_id = bytes.fromhex(identity.split("Build ID: ")[1].split()[0])
    with closing(Sysroot(root)) as folder:
        folder.find(b"/elf", build_id=build_id).close()
        with pytest.raises(NotUsable, match=f"has build-id {build_id.hex()}"):
            folder.find(b"/elf", build_id=b"another")
        with pytest.raises(NotUsable, match="has no build-id"):
            folder.find(b"/usr/file", build_id=build_id)


def real_elf() -> bytes:
    return Path(os.path.realpath(shutil.which("true") or "/bin/true")).read_bytes()


# --- as whom ----------------------------------------------------------------------------------------------------


@needs_root
def test_root_reads_as_the_owner(root: Path) -> None:
    for folder in (root, *root.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    (root / "usr").chmod(0o755)
    secret, his = root / "secret", root / "his"
    for path in (secret, his):
        path.write_bytes(b"x")
        path.chmod(0o600)
    os.chown(his, USER, USER)
    with closing(Root(root)) as opened, closing(FileServer(opened, USER)) as server:
        assert why_not(server, b"/secret") == "cannot be opened: Permission denied"
        with closing(server.find(b"/his")) as file:
            assert file.read(0, 9) == b"x"
            status = Path(f"/proc/{child_of(server)}/status").read_text()
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert told["Uid"].split() == [str(USER)] * 4
    assert told["Gid"].split() == ["65534"] * 4
    assert told["Groups"].split() == []
    assert {told[name].strip() for name in ("CapPrm", "CapEff", "CapInh")} == {"0" * 16}


@needs_root
def test_the_owner_cannot_trace_who_reads_for_him(root: Path) -> None:
    with closing(Root(root)) as opened, closing(FileServer(opened, USER)) as server:
        why_not(server, b"/none")
        # What procfs shows as root's belongs to a process that is not dumpable (proc(5)).
        assert os.stat(f"/proc/{child_of(server)}/mem").st_uid == 0


@needs_root
@pytest.mark.parametrize(
    ("uid", "told", "owner"),
    [(0, None, 0), (USER, None, USER), (0, b"54321", USER), (0, b"0", 0), (0, b"-1", 0), (0, b"4294967295", 0),
     (USER, b"0", USER)],
)  # fmt: skip
def test_whose_a_core_is(uid: int, told: bytes | None, owner: int, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(b"")
    if told is not None:
        try:
            os.setxattr(path, "user.coredump.uid", told)
        except OSError as error:
            pytest.skip(f"no attributes here: {error.strerror}")
    os.chown(path, uid, uid)
    with path.open("rb") as file:
        assert owner_of(file.fileno()) == owner
        with closing(sysroot_for(str(tmp_path), file.fileno())) as found:
            assert found._server._user == (owner or None)


def test_the_root_is_for_own_cores_only(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(b"")
    path.chmod(0o600)
    with path.open("rb") as file:
        with closing(sysroot_for(None, file.fileno())) as found:
            assert found.is_root()
        for mode in (0o620, 0o602):
            path.chmod(mode)
            refuse_root(file.fileno())
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, USER, USER)
            refuse_root(file.fileno())
    reader, writer = os.pipe()
    refuse_root(reader)
    os.close(reader)
    os.close(writer)


def refuse_root(core: int) -> None:
    with pytest.raises(EvidenceError, match="another user"):
        sysroot_for(None, core)


# --- a file system that does not answer -------------------------------------------------------------------------


@contextmanager
def stopped_mount(below: Path, where: Path) -> Iterator[Callable[[], None]]:
    """Mount a directory by FUSE; gives what stops its server."""
    if not may_change_system():
        pytest.skip("needs root and COREFILT_TEST_SYSTEM=1, because it mounts a file system")
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    where.mkdir()
    server = subprocess.Popen(
        ["bindfs", "-f", "-o", "direct_io,attr_timeout=0,entry_timeout=0", below, where], stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + PATIENCE
        while not os.path.ismount(where):
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        yield lambda: server.send_signal(signal.SIGSTOP)
    finally:
        server.send_signal(signal.SIGCONT)
        # Whoever is still held by it lets go when it is gone.
        subprocess.run(["umount", "--lazy", where], check=True, timeout=PATIENCE)
        server.kill()
        server.wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_server, "DEADLINE", 0.5)
    monkeypatch.setattr(file_server, "PATIENCE", 1.0)
    monkeypatch.setattr(file_server, "QUICK", 0.0)


def test_a_server_that_stopped_before_a_name(root: Path, tmp_path: Path, quick: None) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").write_bytes(b"x")
    with stopped_mount(tmp_path / "below", root / "mnt") as stop:
        stop()
        with closing(Root(root)) as opened, closing(FileServer(opened)) as server:
            began = time.monotonic()
            assert "did not answer" in why_not(server, b"/mnt/file")
            # Others are found all the same, until too much time was lost.
            with closing(server.find(b"/usr/file")) as file:
                assert file.read(0, 1) == b"\0"
            assert "did not answer" in why_not(server, b"/mnt/other")
            assert "did not answer for" in why_not(server, b"/mnt/third")
            assert time.monotonic() - began < 4
    wait_for_children()


def test_a_server_that_stops_while_a_file_is_read(root: Path, tmp_path: Path, quick: None) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/file").write_bytes(b"x" * 100)
    mounted = stopped_mount(tmp_path / "below", root / "mnt")
    with mounted as stop, closing(Root(root)) as opened, closing(FileServer(opened)) as server:
        file: ServedFile = server.find(b"/mnt/file")
        stop()
        began = time.monotonic()
        for _ in range(2):
            with pytest.raises(NotUsable, match="did not answer"):
                file.read(0, 100)
        file.close()
        assert time.monotonic() - began < 3
    wait_for_children()


def wait_for_children() -> None:
    """Reap those that the stopped server held."""
    until = time.monotonic() + PATIENCE
    while file_server._left_behind:
        file_server._reap()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_child_that_was_killed_is_replaced(server: FileServer) -> None:
    file = server.find(b"/usr/file")
    os.kill(child_of(server), signal.SIGKILL)
    with pytest.raises(NotUsable, match="cannot be read"):
        file.read(0, 1)
    with closing(server.find(b"/usr/file")) as again:
        assert again.read(1, 1) == b"\x01"


def test_a_child_that_cannot_be_had(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    assert "temporarily unavailable" in why_not(server, b"/usr/file")
