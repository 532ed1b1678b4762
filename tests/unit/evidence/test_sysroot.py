"""The mapped files beneath a folder: found without leaving it, told from others, and compared with a core."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel.dumps import dumping, only_file
from support.builder import ET_CORE, ET_DYN, ET_EXEC, PT_NOTE, Image, Note, elf_image, note_bytes
from support.builds import INTERPRETER
from support.opening import open_file
from support.ready import descriptors
from support.run import environment, without_privileges
from support.samples import noise

from corefilt.corefile.elf import PF_W, PF_X
from corefilt.errors import EvidenceError
from corefilt.evidence.sysroot import MappedFile, Sysroot, build_id_in, first_difference, objection
from corefilt.io import named_files
from corefilt.io.named_files import NotUsable, OpenFile, Root, why_no_file

PAGE = 4096
MIB = 1 << 20
SECRET = b"what lies outside"
MADE_UP = "is in a file system without blocks, such as /proc or /sys"
BUILD_ID = bytes(range(20))
NT_GNU_BUILD_ID, NT_GNU_ABI_TAG, NT_GNU_PROPERTY = 3, 1, 5
is_root = os.geteuid() == 0


@pytest.fixture(autouse=True)
def _no_descriptor_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    # Those of tests before may be closed meanwhile, as their objects are collected.
    assert not descriptors() - before


def without_openat2(*about: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(autouse=True, params=["openat2", "names"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Find every file both ways: by the kernel's call, and where there is none."""
    if request.param == "names":
        monkeypatch.setattr(named_files, "openat2", without_openat2)
    return str(request.param)


@pytest.fixture
def by_names(way: str) -> None:
    if way != "names":
        pytest.skip("is about what happens between two names")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with a file, and around it what must not be found: every name of it once more."""
    inside = tmp_path / "inside"
    for folder, content in ((inside, b"what lies inside"), (tmp_path, SECRET)):
        (folder / "usr" / "lib").mkdir(parents=True)
        for name in ("usr/lib/libx.so", "usr/file", "file"):
            (folder / name).write_bytes(content)
    (tmp_path / "secret").write_bytes(SECRET)
    return inside


@contextmanager
def found(root: Path | str, path: bytes | str) -> Iterator[MappedFile]:
    with closing(Root(root)) as folder, closing(MappedFile(folder.find(os.fsencode(path)))) as file:
        yield file


def content(root: Path | str, path: bytes | str) -> bytes:
    with found(root, path) as file:
        return file.read(0, file.size)


def why_not(root: Path | str, path: bytes | str) -> str:
    with pytest.raises(NotUsable) as caught, found(root, path):
        pass
    return str(caught.value)


@contextmanager
def in_file(folder: Path, stored: bytes) -> Iterator[MappedFile]:
    path = folder / "stored"
    path.write_bytes(stored)
    with found(folder, "/stored") as file:
        yield file


class Opens(list[int]):
    """The flags of every open, and something to be done before it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: Callable[[object], object] | None = None) -> None:
        real = os.open

        def opening(path: object, flags: int, *rest: object, **options: object) -> int:
            self.append(flags)
            instead = before(path) if before else None
            return real(path if instead is None else instead, flags, *rest, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", opening)

    def for_reading(self) -> int:
        return sum(not flags & os.O_PATH for flags in self)


# --- what is found ----------------------------------------------------------------------------------------


def test_what_is_known_of_a_file(root: Path) -> None:
    path = root / "usr/lib/libx.so"
    path.chmod(0o4751)
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    status = path.stat()
    with found(root, "/usr/lib/libx.so") as file:
        assert (file.mode, file.size, file.inode) == (0o4751, len(b"what lies inside"), status.st_ino)
        assert (file.mtime_ns, file.ctime_ns) == (1_234_567_890_123_456_789, status.st_ctime_ns)
        assert file.device == (os.major(status.st_dev), os.minor(status.st_dev))


@pytest.mark.parametrize(
    "path", ["/file", "//file", "/./file", "/usr/../file", "/usr//lib/./../../file", "/../../file"]
)
def test_a_name_is_taken_as_the_kernel_would(root: Path, path: str) -> None:
    assert content(root, path) == b"what lies inside"


def test_names_are_bytes(root: Path) -> None:
    name = b"\xff\n\x1b[2J \\134"
    (root / os.fsdecode(name)).write_bytes(b"here")
    assert content(root, b"/" + name) == b"here"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("usr/lib", "/link/libx.so"),
        ("/usr/lib", "/link/libx.so"),
        ("usr/lib/", "/link/libx.so"),
        ("usr/lib/libx.so", "/link"),
        ("/usr/lib/../lib/libx.so", "/link"),
        ("/", "/link/file"),
        (".", "/link/link/link/file"),
        ("..", "/link/file"),
        ("../../../file", "/link"),
        ("/../../usr/file", "/link"),
        ("usr/lib", "/link/../file"),
    ],
)
def test_links_are_resolved_inside_the_root(root: Path, target: str, path: str) -> None:
    (root / "link").symlink_to(target)
    assert content(root, path) == b"what lies inside"


@pytest.mark.parametrize("path", ["/secret", "/../secret", "/up", "/absolute", "/usr/lib/up", "/usr/../../secret"])
def test_what_lies_outside_is_not_there(root: Path, path: str) -> None:
    (root / "up").symlink_to("../secret")
    (root / "absolute").symlink_to(root.parent / "secret")
    (root / "usr/lib/up").symlink_to("../../../secret")
    assert why_not(root, path) == "does not exist"


def test_a_root_that_is_a_link_is_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("inside")
    assert content(tmp_path / "link", "/file") == b"what lies inside"


def test_a_root_can_be_that_of_a_process() -> None:
    """A container's files are found beneath /proc/PID/root, which the caller names and no core."""
    assert content("/proc/self/root", "/etc/passwd") == Path("/etc/passwd").read_bytes()


def test_only_the_systems_own_root_is_it(root: Path) -> None:
    (root / "link").symlink_to("/")
    for folder, own in (("/", True), ("/proc/self/root", True), (root / "link", True), (root, False), ("/usr", False)):
        with closing(Root(folder)) as it:
            assert it.is_root() == own


@pytest.mark.parametrize("count", [40, 41])
def test_forty_links_are_followed_and_no_more(root: Path, count: int) -> None:
    (root / "link0").symlink_to("file")
    for i in range(1, count):
        (root / f"link{i}").symlink_to(f"link{i - 1}")
    path = f"/link{count - 1}"
    if count == 40:
        assert content(root, path) == b"what lies inside"
    else:
        assert why_not(root, path) == "leads through more than 40 links"


@pytest.mark.parametrize("target", ["loop", "/loop", "./loop", "usr/../loop", "loop/loop", "loop/../loop/x"])
def test_loops_end(root: Path, target: str) -> None:
    (root / "loop").symlink_to(target)
    assert why_not(root, "/loop") == "leads through more than 40 links"


def test_links_that_multiply_end(root: Path) -> None:
    """Each link names the one before a thousand times; forty of them would be 10^120 steps."""
    (root / "link0").symlink_to(".")
    for i in range(1, 30):
        (root / f"link{i}").symlink_to(f"link{i - 1}/" * 300)
    assert why_not(root, "/link29/file").startswith("leads through ")


def test_a_path_may_be_longer_than_one_call_takes(root: Path) -> None:
    """The kernel writes names of more than PATH_MAX into NT_FILE where folders lie deep enough."""
    name = "n" * 200
    here = os.open(root, os.O_PATH)
    for _ in range(30):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=here)
        os.close(here)
        here = inner
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:
        file.write(b"deep")
    os.close(here)
    assert content(root, "/" + f"{name}/" * 30 + "file") == b"deep"
    shutil.rmtree(root / name)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/" + "n" * 256, "cannot be opened: File name too long"),
        ("/n/n", "does not exist"),
        ("/usr/lib/../" * 5000 + "file", "leads through too many directories"),
        ("/usr/.." * 2000 + "/file", None),
        ("/" + "./" * 5000 + "file", "leads through too many directories"),
        ("/file/", "leads through a file instead of a directory"),
        ("/file/.", "leads through a file instead of a directory"),
        ("/file/..", "leads through a file instead of a directory"),
        ("/file/x", "leads through a file instead of a directory"),
        ("/to-file/", "leads through a file instead of a directory"),
        ("/slash", "leads through a file instead of a directory"),
        ("/usr", "is a directory"),
        ("/usr/", "is a directory"),
        ("/", "is a directory"),
        ("/..", "is a directory"),
    ],
)
def test_names_that_lead_nowhere(root: Path, path: str, why: str | None) -> None:
    (root / "to-file").symlink_to("file")
    (root / "slash").symlink_to("file/")
    if why is None:
        assert content(root, path) == b"what lies inside"
    else:
        assert why_not(root, path) == why


def test_folders_in_one_another_take_no_more_than_some_descriptors(root: Path, way: str) -> None:
    for depth, opens in ((254, True), (255, True), (256, False)):
        folder = root / Path(*["d"] * depth)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(b"deep")
        path = "/" + "d/" * depth + "file"
        # The kernel needs none, however deep it goes.
        if opens or way == "openat2":
            assert content(root, path) == b"deep"
        else:
            assert why_not(root, path) == "leads through too many directories"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"", "is not a file"),
        (b"file", "is not a file"),
        (b"usr/lib/libx.so", "is not a file"),
        (b"anon_inode:[perf_event]", "is not a file"),
        (b"socket:[4026531840]", "is not a file"),
        (b"(unreachable)/file", "is not a file"),
        (b"[heap]", "is not a file"),
        (b"/memfd:file (deleted)", "is not a file"),
        (b"/SYSV00000000 (deleted)", "is not a file"),
        (b"/dev/zero", "is not a file"),
        (b"/dev/zero (deleted)", "is not a file"),
        (b"/anon_hugepage (deleted)", "is not a file"),
        (b"/[aio] (deleted)", "is not a file"),
        (b"/file (deleted)", "was deleted"),
        (b"/file\0", "is not a file name"),
        (b"/usr\0/file", "is not a file name"),
    ],
)
def test_names_that_are_no_files(root: Path, path: bytes, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told by their wording, and a file of that name is not looked for."""
    (root / "file (deleted)").write_bytes(b"a name that is a lie")
    assert why_no_file(path) == why
    with closing(Root(root)) as folder:
        opens = Opens(monkeypatch)
        with pytest.raises(NotUsable, match=re.escape(why)):
            folder.find(path)
        assert opens == []


@pytest.mark.parametrize("path", [b"/lib/x", b"/ (deleted)x", b"/a (deleted)/b", b"/dev/zer"])
def test_names_that_may_be_files(path: bytes) -> None:
    assert why_no_file(path) is None


@pytest.mark.parametrize(
    ("folder", "words"), [("none", "No such file"), ("file", "Not a directory"), ("a\0b", "embedded null")]
)
def test_a_root_that_cannot_be_used(root: Path, folder: str, words: str) -> None:
    with pytest.raises(EvidenceError, match=words) as caught:
        Root(str(root / folder))
    assert str(caught.value).startswith(str(root))
    assert "\n" not in str(caught.value)


# --- what is not opened -----------------------------------------------------------------------------------


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # A socket's address is short, a test's folder may not be.
        here = os.open(path.parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def make_device(kind: int, number: tuple[int, int]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        if not is_root:
            pytest.skip("only root makes device nodes")
        try:
            os.mknod(path, kind | 0o600, os.makedev(*number))
        except PermissionError as error:
            pytest.skip(f"device nodes cannot be made here: {error}")

    return make


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(make_fifo, "is a FIFO", id="fifo"),
        pytest.param(make_socket, "is a socket", id="socket"),
        pytest.param(Path.mkdir, "is a directory", id="directory"),
        pytest.param(make_device(0o020000, (1, 5)), "is a device", id="character device"),
        pytest.param(make_device(0o060000, (7, 0)), "is a device", id="block device"),
    ],
)
def test_only_regular_files_are_opened_for_reading(
    root: Path, make: Callable[[Path], None], why: str, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root / "it")
    (root / "link").symlink_to("it")
    opens = Opens(monkeypatch)
    assert why_not(root, "/link" if linked else "/it") == why
    assert opens
    assert opens.for_reading() == 0


def test_a_file_is_opened_for_reading_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = Opens(monkeypatch)
    assert content(root, "/usr/lib/libx.so")
    (flags,) = [flags for flags in opens if not flags & os.O_PATH]
    assert flags & os.O_ACCMODE == os.O_RDONLY
    assert flags & os.O_NONBLOCK
    assert flags & os.O_NOCTTY
    assert all(flags & os.O_CLOEXEC for flags in opens)


@pytest.mark.parametrize(
    "path",
    [
        "/proc/self/root",
        "/proc/self/cwd/usr/lib/libx.so",
        "/proc/self/exe",
        "/proc/self/fd/{fd}",
        "/proc/thread-self/fd/{fd}",
        "/proc/{pid}/fd/{fd}",
        "/proc/self/maps",
        "/proc/kmsg",
        "/proc/kcore",
        "/proc/sys/kernel/ostype",
        "/sys/kernel/uevent_seqnum",
    ],
)
def test_what_the_kernel_makes_up_is_not_opened(root: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither through links that are none, nor although it says that it is a regular file."""
    with (root.parent / "secret").open("rb") as secret:
        opens = Opens(monkeypatch)
        why = why_not("/", path.format(fd=secret.fileno(), pid=os.getpid()))
    assert why == MADE_UP or (why == "does not exist" and not os.path.lexists(path.split("{")[0]))
    assert opens.for_reading() == 0


def test_magic_links_are_nothing_but_their_text(root: Path, by_names: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a file system that makes them is not recognised, the text leads to what lies beneath the root."""
    monkeypatch.setattr(named_files, "_refuse_made_up", lambda place: None)
    with (root.parent / "secret").open("rb") as secret:
        path = f"/self/fd/{secret.fileno()}"
        assert why_not("/proc", path) == "does not exist"
        assert content("/", f"/proc{path}") == SECRET
        (root.parent / "secret").unlink()
        assert why_not("/", f"/proc{path}") == "does not exist"


def test_reading_leaves_no_trace_where_that_is_allowed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opens = Opens(monkeypatch)
    assert content(root, "/file") == b"what lies inside"
    assert [bool(flags & os.O_NOATIME) for flags in opens if not flags & os.O_PATH] == [True]


def test_reading_without_the_right_to_leave_no_trace(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: object, flags: int, *rest: object, **options: object) -> int:
        if flags & os.O_NOATIME == os.O_NOATIME:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(path, flags, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    assert content(root, "/file") == b"what lies inside"


@pytest.mark.parametrize("name", ["usr/file", "usr"])
def test_what_must_not_be_read_is_said(root: Path, name: str) -> None:
    (root / name).chmod(0)
    words = (
        "import sys; from corefilt.io.named_files import *\n"
        "try: Root(sys.argv[1]).find(b'/usr/file')\n"
        "except NotUsable as error: print(error)"
    )
    command = [*without_privileges(), sys.executable, "-c", words, root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
    (root / name).chmod(0o700)
    assert (done.stdout, done.stderr) == ("cannot be opened: Permission denied\n", "")


def test_too_many_descriptors_are_said(root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(Root(root)) as folder:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(NotUsable, match="Too many open files"):
                folder.find(b"/usr/lib/libx.so")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- what is exchanged meanwhile --------------------------------------------------------------------------


def test_a_folder_that_becomes_a_link_is_not_followed(
    root: Path, by_names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(name: object) -> None:
        if name == b"lib":
            (root / "usr").rename(root / "before")
            (root / "usr").symlink_to(root.parent / "usr")

    Opens(monkeypatch, exchange)
    assert content(root, "/usr/lib/libx.so") == b"what lies inside"
    assert os.path.islink(root / "usr")


def test_a_folder_that_is_moved_out_leads_nowhere_else(
    root: Path, by_names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder above it is another now; `..` goes back to where the walk came from."""

    def move_out(name: object) -> None:
        if name == b"here":
            (root / "usr/lib").rename(root.parent / "moved")

    (root / "usr/lib/here").mkdir()
    Opens(monkeypatch, move_out)
    assert content(root, "/usr/lib/here/../../file") == b"what lies inside"
    assert (root.parent / "moved/here").is_dir()


@pytest.mark.parametrize("by", ["a link", "a FIFO", "nothing"])
def test_a_file_that_is_exchanged_is_the_one_that_was_looked_at(
    root: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(path: object) -> None:
        if str(path).startswith("/proc/self/fd/"):
            (root / "file").unlink()
            if by == "a link":
                (root / "file").symlink_to(root.parent / "secret")
            elif by == "a FIFO":
                os.mkfifo(root / "file")

    Opens(monkeypatch, exchange)
    assert content(root, "/file") == b"what lies inside"


def test_a_false_proc_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Opens(monkeypatch, lambda path: root.parent / "secret" if str(path).startswith("/proc/self/fd/") else None)
    assert why_not(root, "/file") == "is not what /proc/self/fd shows"


# --- any tree and any name, held against the kernel -------------------------------------------------------

RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10


def opened_by_kernel(root: Path, path: bytes) -> int | None:
    """Open beneath a root by openat2, the kernel's own way; None where that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        fd: int = libc.syscall(437, folder, path, how, ctypes.c_size_t(len(how)))
    finally:
        os.close(folder)
    if fd < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
        pytest.skip("no openat2 here (Linux 5.6)")
    return fd if fd >= 0 else None


names = st.sampled_from(["a", "b", "c"])
steps = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "", "secret"]), min_size=1, max_size=6).map("/".join)
entries = st.lists(
    st.tuples(
        st.lists(names, min_size=1, max_size=3),
        st.one_of(
            st.just("a folder"),
            st.just("a file"),
            st.tuples(st.sampled_from(["", "", "/", "../", "OUTSIDE/"]), steps),
        ),
    ),
    max_size=12,
)


def grow(root: Path, entries: list[tuple[list[str], str | tuple[str, str]]]) -> None:
    """Make a tree; nothing is made through a link, so that nothing appears outside."""
    folders = {root}
    for components, what in entries:
        path = root.joinpath(*components)
        if path.parent not in folders or os.path.lexists(path):
            continue
        if what == "a folder":
            path.mkdir()
            folders.add(path)
        elif what == "a file":
            path.write_bytes(b"inside")
        else:
            target = "".join(what).replace("OUTSIDE", str(root.parent))
            path.symlink_to(target if target else ".")


# Twice the examples where others are looked for.
MORE = 2 if settings.get_current_profile_name() == "explore" else 1


@settings(max_examples=75 * MORE, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=entries, paths=st.lists(steps, min_size=1, max_size=6))
def test_any_tree_is_walked_as_the_kernel_does(
    entries: list[tuple[list[str], str | tuple[str, str]]], paths: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as place:
        outside = Path(place)
        root = outside / "c"
        for folder in ("a", "a/b", "b", "c"):
            (outside / folder).mkdir()
        for name in ("secret", "a/secret", "a/a", "a/b/secret", "b/a", "b/secret"):
            (outside / name).write_bytes(SECRET)
        grow(root, entries)
        for path in ["/" + path for path in paths] + ["/" + "/".join(components) for components, _ in entries]:
            expected = opened_by_kernel(root, os.fsencode(path))
            try:
                with found(root, path) as file:
                    assert expected is not None
                    assert file.inode == os.fstat(expected).st_ino
                    assert file.read(0, 100) == b"inside"
            except NotUsable as error:
                assert expected is None or (
                    str(error) == "is a directory" and os.path.isdir(f"/proc/self/fd/{expected}")
                )
            finally:
                if expected is not None:
                    os.close(expected)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=80), st.lists(st.binary(max_size=4), max_size=20).map(b"/".join)))
def test_any_bytes_are_a_name_or_not_usable(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as place, closing(Root(place)) as folder:
        for path in (name, b"/" + name):
            with pytest.raises(NotUsable):
                folder.find(path)


# --- reading ----------------------------------------------------------------------------------------------


def test_reading_ends_where_the_file_does(tmp_path: Path) -> None:
    stored = noise(600)
    with in_file(tmp_path, stored) as file:
        for offset, length in [
            (0, 10),
            (5, 3 * MIB),
            (MIB - 1, 2),
            (len(stored) - 1, 9),
            (len(stored), 1),
            (1 << 70, 1),
        ]:
            assert file.read(offset, length) == stored[offset : offset + length]
        assert file.read(0, 1 << 70) == stored


def test_a_file_that_shrinks_has_ended(tmp_path: Path) -> None:
    stored = noise(600)
    with in_file(tmp_path, stored) as file:
        os.truncate(tmp_path / "stored", MIB + 5)
        assert file.size == len(stored)
        assert file.read(PAGE, 2 * MIB) == stored[PAGE : MIB + 5]
        assert file.read(2 * MIB, PAGE) == b""


def test_a_file_that_grows_is_as_long_as_it_was(tmp_path: Path) -> None:
    with in_file(tmp_path, b"long") as file:
        (tmp_path / "stored").write_bytes(b"longer")
        assert file.read(0, 10) == b"long"


def test_a_file_that_cannot_be_read_is_not_usable(tmp_path: Path) -> None:
    with closing(MappedFile(OpenFile(os.open(tmp_path, os.O_RDONLY)))) as file:
        file.size = 1
        with pytest.raises(NotUsable, match=r"^cannot be read at byte 0: Is a directory$"):
            file.read(0, 1)


def test_closing_twice_closes_once(root: Path) -> None:
    folder = Root(root)
    file = folder.find(b"/file")
    for it in (file, folder, file, folder):
        it.close()


# --- build-ids --------------------------------------------------------------------------------------------


def image(
    notes: list[Note] | bytes,
    *,
    at: int = 0x800,
    size: int = PAGE,
    bits: int = 64,
    little_endian: bool = True,
    **options: object,
) -> bytes:
    """Make the first bytes of a shared object whose PT_NOTE stands at an offset."""
    raw = notes if isinstance(notes, bytes) else note_bytes(notes, little_endian)
    segments = [Image(0, PAGE), Image(PAGE, PAGE, "r-x"), Image(at, len(raw), type=PT_NOTE)]
    whole = bytearray(elf_image(segments, bits=bits, little_endian=little_endian, size=size, **options))  # type: ignore[arg-type]
    whole[at : at + len(raw)] = raw
    return bytes(whole)


def identified(build_id: bytes = BUILD_ID, **options: object) -> bytes:
    return image([Note("GNU", NT_GNU_BUILD_ID, build_id)], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("e_type", [ET_DYN, ET_EXEC])
@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("bits", [64, 32])
def test_a_build_id_is_found(tmp_path: Path, bits: int, little_endian: bool, e_type: int) -> None:
    others = [
        Note("GNU", NT_GNU_PROPERTY, bytes(16)),
        Note("CORE", NT_GNU_BUILD_ID, b"not this"),
        Note("GNU", NT_GNU_ABI_TAG, b"nor this"),
        Note("GNU", NT_GNU_BUILD_ID, b""),
        Note("GNU", NT_GNU_BUILD_ID, BUILD_ID),
        Note("GNU", NT_GNU_BUILD_ID, b"another"),
    ]
    whole = image(others, bits=bits, little_endian=little_endian, e_type=e_type)
    assert build_id_in(whole) == BUILD_ID
    with in_file(tmp_path, whole) as file:
        assert file.build_id() == BUILD_ID


def test_notes_behind_the_first_page_are_found_in_the_file_only(tmp_path: Path) -> None:
    whole = identified(at=0x3000, size=0x4000)
    assert build_id_in(whole[:PAGE]) is None
    assert build_id_in(whole) == BUILD_ID
    with in_file(tmp_path, whole) as file:
        assert file.build_id() == BUILD_ID


@pytest.mark.parametrize("length", [1, 8, 16, 20, 32, 64, 65, 4000])
def test_a_build_id_has_a_length(length: int) -> None:
    assert build_id_in(identified(b"i" * length, size=3 * PAGE)) == (b"i" * length if length <= 64 else None)


HOSTILE = {
    "phnum": {"e_phnum": 0xFFFF},
    "phnum 257": {"e_phnum": 257},
    "no phnum": {"e_phnum": 0},
    "phoff": {"e_phoff": (1 << 64) - 1},
    "phoff at the end": {"e_phoff": PAGE - 8},
    "phoff behind": {"e_phoff": 1 << 40},
    "phentsize": {"e_phentsize": 1},
    "type": {"e_type": ET_CORE},
    "notes' offset": {"phdr[2].p_offset": (1 << 64) - 1},
    "notes behind": {"phdr[2].p_offset": 1 << 40},
    "no notes": {"phdr[2].p_filesz": 0},
    "cut notes": {"phdr[2].p_filesz": 35},
}


@pytest.mark.parametrize("lie", HOSTILE)
def test_headers_that_lie_have_no_build_id(tmp_path: Path, lie: str) -> None:
    whole = identified(patch=HOSTILE[lie])
    assert build_id_in(whole) is None
    with in_file(tmp_path, whole) as file:
        assert file.build_id() is None
        assert objection(file, first=whole) is None


def test_a_length_that_lies_is_cut(tmp_path: Path) -> None:
    whole = identified(patch={"phdr[2].p_filesz": (1 << 64) - 1})
    assert build_id_in(whole) == BUILD_ID
    with in_file(tmp_path, whole) as file:
        assert file.build_id() == BUILD_ID


def test_notes_without_end_are_read_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table full of PT_NOTEs, each of which is the rest of a large file, and all notes empty."""
    segments = [Image(0x10000, 64 * MIB, type=PT_NOTE) for _ in range(256)]
    read = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, at: read.append(length) or real(fd, length, at))
    with in_file(tmp_path, elf_image(segments, size=0x10000)) as file:
        os.truncate(tmp_path / "stored", 65 * MIB)
        file.size = 65 * MIB
        assert file.build_id() is None
    assert sum(read) < 256 * 56 + (1 << 16) + 100


@pytest.mark.parametrize("cut", [0, 1, 4, 16, 51, 63, 64, 100, 0x800, 0x80C, 0x823])
def test_an_image_that_is_cut_has_no_build_id(cut: int) -> None:
    assert build_id_in(identified()[:cut]) is None


# No file is found here, so one way is enough.
@pytest.mark.parametrize("way", ["openat2"], indirect=True)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, PAGE - 1), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=12),
)
def test_any_image_can_be_asked(anywhere: list[tuple[int, int]], in_headers: list[tuple[int, int]]) -> None:
    whole = bytearray(identified())
    for at, value in anywhere + in_headers:
        whole[at] = value
    found = build_id_in(bytes(whole))
    assert found is None or 0 < len(found) <= 64


def starts_as_elf(path: Path) -> bool:
    if not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def test_real_files_have_the_build_id_that_readelf_shows() -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf (binutils) in PATH")
    # Libraries: programs by Go have the id in a section that no program header covers.
    folders = [Path("/lib64"), *Path("/usr/lib").glob("*-linux-gnu*")]
    paths = sorted({path.resolve() for folder in folders for path in folder.glob("*.so*") if path.is_file()})
    images = [path for path in random.Random(1).sample(paths, min(len(paths), 200)) if starts_as_elf(path)]
    if len(images) < 2:
        pytest.skip("no system libraries where they usually are")
    done = subprocess.run(["readelf", "-nW", *images], capture_output=True, text=True, timeout=60, check=False)
    shown: dict[str, str] = {}
    name = ""
    for line in done.stdout.splitlines():
        name = line.removeprefix("File: ") if line.startswith("File: ") else name
        if match := re.search(r"Build ID: (\w+)", line):
            shown[name] = match[1]
    assert shown
    for path in images:
        with found("/", str(path)) as file:
            own = file.build_id()
            assert (own.hex() if own else None) == shown.get(str(path)), path
            assert objection(file, first=file.read(0, PAGE)) is None


# --- is it the one that was mapped? -----------------------------------------------------------------------


def test_nothing_speaks_against_a_file_of_which_nothing_is_known(tmp_path: Path) -> None:
    with in_file(tmp_path, b"words") as file:
        assert objection(file) is None


@pytest.mark.parametrize(
    ("mapped", "stored", "why"),
    [
        pytest.param(identified(), identified(), None, id="same"),
        pytest.param(
            identified(), identified(b"another"), "has build-id 616e6f74686572, what was mapped had 0001", id="id"
        ),
        # Debug information that was stripped moves the section headers, and nothing that is loaded.
        pytest.param(identified(), identified(patch={"e_shoff": 99}), None, id="same id, stripped"),
        pytest.param(image(b""), image(b""), None, id="no ids"),
        pytest.param(image(b""), image(b"", patch={"e_entry": 1}), "has other ELF headers", id="entry"),
        pytest.param(image(b""), image(b"", patch={"phdr[1].p_memsz": 1}), "has other ELF headers", id="segment"),
        pytest.param(image(b"", bits=32), image(b"", bits=32, patch={"phdr[1].p_memsz": 1}), "has other ELF", id="32"),
        pytest.param(image(b"", bits=32), image(b""), "has other ELF headers", id="class"),
        pytest.param(image(b""), image(b"")[:300], None, id="cut behind its headers"),
        pytest.param(image(b""), image(b"")[:200], "has other ELF headers", id="cut in its headers"),
        pytest.param(identified(), image(b""), "has other ELF headers", id="no id any more"),
        pytest.param(image(b""), identified(), "has other ELF headers", id="an id now"),
        pytest.param(image(b"")[:100], image(b"", patch={"phdr[1].p_memsz": 1}), None, id="headers out of sight"),
        pytest.param(image(b"", phoff=0x1000)[:PAGE], image(b"", phoff=0x1000), None, id="table behind the page"),
        pytest.param(
            identified(at=0x3000, size=0x4000)[:PAGE], identified(at=0x3000, size=0x4000), None, id="id behind"
        ),
        pytest.param(image(b"", e_type=ET_CORE), image(b"", e_type=ET_CORE), None, id="no image"),
        pytest.param(image(b"", e_type=ET_CORE), image(b"", e_type=ET_CORE, patch={"e_entry": 1}), "other", id="other"),
        pytest.param(image(b""), b"#!/bin/sh\n", "begins differently", id="a script now"),
        pytest.param(b"#!/bin/sh\n".ljust(PAGE, b"\0"), image(b""), "begins differently", id="ELF now"),
        pytest.param(b"", identified(), None, id="nothing in the core"),
        pytest.param(bytes(PAGE), identified(), None, id="a hole in the core"),
        # What is no ELF may have been written to.
        pytest.param(b"words", b"other words", None, id="no ELF"),
        pytest.param(b"\x7fELF\x09", b"\x7fELF\x09 cut", None, id="nearly ELF"),
        pytest.param(b"\x7fELF\x09", b"\x7fELF\x08 cut", "other ELF headers", id="other nearly ELF"),
    ],
)
def test_an_image_is_known_by_its_id_or_its_headers(
    tmp_path: Path, mapped: bytes, stored: bytes, why: str | None
) -> None:
    with in_file(tmp_path, stored) as file:
        said = objection(file, first=mapped)
    assert said == why if why is None else said is not None and why in said


@pytest.mark.parametrize(
    ("size", "page_size", "begins", "fits"),
    [
        (1, PAGE, 0, True),
        (0, PAGE, 0, False),
        (1, PAGE, PAGE, False),
        (PAGE, PAGE, 0, True),
        (PAGE, PAGE, PAGE, False),
        (PAGE + 1, PAGE, PAGE, True),
        (PAGE + 1, PAGE, 2 * PAGE, False),
        (PAGE + 1, 65536, 2 * PAGE, True),
        (PAGE, PAGE, 1 << 63, False),
    ],
)
def test_a_mapping_begins_inside_its_file(tmp_path: Path, size: int, page_size: int, begins: int, fits: bool) -> None:
    with in_file(tmp_path, bytes(size)) as file:
        said = objection(file, begins=begins, page_size=page_size)
    assert said == (None if fits else f"is too small for what was mapped of it (at byte {begins})")


ANOTHER = "is not the file that was mapped (its inode differs)"


@pytest.mark.parametrize(
    ("device", "expected", "why"),
    [
        ((8, 2), (8, 2, 77), None),
        ((8, 2), (8, 2, 78), ANOTHER),
        ((8, 2), (8, 3, 77), ANOTHER),
        ((8, 2), (9, 2, 77), ANOTHER),
        ((0, 42), (0, 41, 77), None),
        ((0, 42), (0, 42, 78), ANOTHER),
        ((0, 42), (8, 2, 77), None),
        ((8, 2), (0, 42, 77), None),
    ],
)
def test_the_inode_of_a_map_is_the_files(
    tmp_path: Path, device: tuple[int, int], expected: tuple[int, int, int], why: str | None
) -> None:
    with in_file(tmp_path, b"x") as file:
        file.device, file.inode = device, 77
        assert objection(file, expected=expected) == why


def test_a_map_of_this_process_knows_its_files(tmp_path: Path) -> None:
    with in_file(tmp_path, bytes(PAGE)) as file:
        path = tmp_path / "stored"
        with path.open("rb") as again, mmap.mmap(again.fileno(), PAGE, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE):
            lines = Path("/proc/self/maps").read_text().splitlines()
        (line,) = [line.split() for line in lines if line.endswith(str(path))]
        major, minor = (int(number, 16) for number in line[3].split(":"))
        assert objection(file, expected=(major, minor, int(line[4]))) is None
        assert objection(file, expected=(major, minor, int(line[4]) + 1)) == ANOTHER


@pytest.mark.parametrize(
    ("mtime", "ctime", "here", "changed"),
    [
        (100, 100, True, False),
        (100, 999, False, False),
        (100, 999, True, True),
        (101, 101, False, True),
        (101, 99, False, True),
        (99, 101, True, True),
    ],
)
def test_what_was_changed_after_the_dump_is_not_compared(
    tmp_path: Path, mtime: int, ctime: int, here: bool, changed: bool
) -> None:
    """A copy has a ctime of its own; the very inode does not."""
    with in_file(tmp_path, b"x") as file:
        file.mtime_ns, file.ctime_ns = mtime, ctime
        expected = (*file.device, file.inode) if here else None
        said = objection(file, expected=expected, dumped_ns=100)
        assert said == ("was changed after the dump" if changed else None)
        assert objection(file, expected=expected) is None


# --- where they differ ------------------------------------------------------------------------------------


def difference(
    folder: Path, dumped: bytes, stored: bytes, *, page_size: int = PAGE, offset: int = 0, length: int | None = None
) -> int | None:
    """Compare what a core has of a mapping, 777 bytes behind its begin, with a file."""
    core = bytes(777) + dumped
    with in_file(folder, stored) as file:
        return first_difference(
            lambda at, count: core[at : at + count],
            777,
            file,
            offset,
            len(dumped) if length is None else length,
            page_size,
        )


def changed(data: bytes, *places: int) -> bytes:
    out = bytearray(data)
    for at in places:
        out[at] ^= 0xFF
    return bytes(out)


def emptied(data: bytes, page_size: int, *pages: int) -> bytes:
    out = bytearray(data)
    for page in pages:
        out[page * page_size : (page + 1) * page_size] = bytes(page_size)
    return bytes(out)


@pytest.mark.parametrize("page_size", [PAGE, 16384, 65536])
def test_the_first_page_that_differs_is_named(tmp_path: Path, page_size: int) -> None:
    pages = 3 * MIB // page_size + 1
    stored = random.Random(3).randbytes(pages * page_size)
    last = (pages - 1) * page_size

    def page_of(*places: int) -> int | None:
        return difference(tmp_path, changed(stored, *places), stored, page_size=page_size)

    assert page_of() is None
    assert page_of(0) == 0
    assert page_of(page_size - 1) == 0
    assert page_of(page_size) == page_size
    assert page_of(last) == last
    assert page_of(len(stored) - 1) == last
    assert page_of(MIB - 1) == MIB - page_size
    assert page_of(MIB) == MIB
    assert page_of(len(stored) - 1, MIB + 1, 5 * page_size) == 5 * page_size


@pytest.mark.parametrize("page_size", [PAGE, 65536])
def test_pages_that_are_zero_prove_nothing(tmp_path: Path, page_size: int) -> None:
    stored = random.Random(4).randbytes(40 * page_size)
    assert difference(tmp_path, bytes(len(stored)), stored, page_size=page_size) is None
    assert difference(tmp_path, emptied(stored, page_size, 0, 7, 39), stored, page_size=page_size) is None
    dumped = changed(emptied(stored, page_size, 0, 1, 8), 9 * page_size)
    assert difference(tmp_path, dumped, stored, page_size=page_size) == 9 * page_size
    # A page that has one byte was not a hole.
    assert (
        difference(tmp_path, changed(bytes(len(stored)), 3 * page_size), stored, page_size=page_size) == 3 * page_size
    )
    # Zeros in the file are content.
    assert difference(tmp_path, stored, bytes(len(stored)), page_size=page_size) == 0


def test_what_lies_behind_the_files_end_proves_nothing(tmp_path: Path) -> None:
    stored = noise(3)
    for cut in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE + 100):
        assert difference(tmp_path, stored + noise(2, 9), stored[:cut]) is None
        if cut:
            assert difference(tmp_path, changed(stored, cut - 1), stored[:cut]) == (cut - 1) // PAGE * PAGE


def test_a_mapping_begins_where_it_does_in_its_file(tmp_path: Path) -> None:
    stored = random.Random(5).randbytes(2 * MIB + 3 * PAGE)
    dumped = stored[3 * PAGE :]
    assert difference(tmp_path, dumped, stored, offset=3 * PAGE) is None
    assert difference(tmp_path, changed(dumped, MIB + 5 * PAGE), stored, offset=3 * PAGE) == MIB + 5 * PAGE
    assert difference(tmp_path, dumped, stored, offset=2 * PAGE) == 0
    assert difference(tmp_path, dumped, stored, offset=1 << 70) is None


def test_only_what_the_core_has_is_compared(tmp_path: Path) -> None:
    stored = noise(4)
    dumped = changed(stored, 3 * PAGE)
    assert difference(tmp_path, dumped, stored, length=3 * PAGE) is None
    assert difference(tmp_path, dumped, stored, length=4 * PAGE) == 3 * PAGE
    assert difference(tmp_path, dumped[: 3 * PAGE + 1], stored, length=1 << 60) == 3 * PAGE
    assert difference(tmp_path, dumped[: 3 * PAGE], stored, length=1 << 60) is None
    assert difference(tmp_path, b"", stored, length=0) is None


def test_a_file_that_cannot_be_compared_is_not_usable(tmp_path: Path) -> None:
    with closing(MappedFile(OpenFile(os.open(tmp_path, os.O_RDONLY)))) as file:
        file.size = PAGE
        with pytest.raises(NotUsable, match="cannot be read"):
            first_difference(lambda at, count: b"x" * count, 0, file, 0, PAGE, PAGE)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    page_size=st.sampled_from([512, PAGE]),
    pages=st.lists(st.tuples(st.sampled_from(["same", "zero", "other", "both zero", "last byte"])), max_size=12),
    cut_core=st.integers(0, 13 * PAGE),
    cut_file=st.integers(0, 13 * PAGE),
)
def test_any_mapping_is_compared_page_by_page(
    page_size: int, pages: list[tuple[str]], cut_core: int, cut_file: int
) -> None:
    dumped = stored = b""
    for i, (what,) in enumerate(pages):
        page = bytes([i + 1]) * page_size
        stored += bytes(page_size) if what == "both zero" else page
        dumped += {"same": page, "other": b"\xfe" * page_size, "last byte": page[1:] + b"\xfe"}.get(
            what, bytes(page_size)
        )
    dumped, stored = dumped[:cut_core], stored[:cut_file]
    expected = None
    for at in reversed(range(0, len(dumped), page_size)):
        ours, theirs = dumped[at : at + page_size], stored[at : at + page_size]
        both = min(len(ours), len(theirs))
        if any(ours) and ours[:both] != theirs[:both]:
            expected = at
    with tempfile.TemporaryDirectory() as folder:
        assert difference(Path(folder), dumped, stored, page_size=page_size, length=len(pages) * page_size) == expected


# --- a core of the running kernel -------------------------------------------------------------------------

CRASH = """
import os
with open("/proc/self/coredump_filter", "w") as file:
    file.write("0x7f")
os.abort()
"""


@pytest.fixture(scope="module")
def real_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("crash")

    def setup() -> None:
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

    command = [INTERPRETER, "-I", "-S", "-c", CRASH]
    with dumping() as reason:
        if reason:
            pytest.skip(reason)
        subprocess.run(command, cwd=folder, preexec_fn=setup, stderr=subprocess.DEVNULL, timeout=60, check=False)
    yield only_file(folder)
    shutil.rmtree(folder)


def test_a_real_core_and_the_files_that_it_mapped(real_core: Path) -> None:
    """Text is as on the disk, the data that the loader and the program wrote is not, and each file is known again."""
    dumped_ns = real_core.stat().st_mtime_ns
    text, data, ids = [], [], set()
    with open_file(real_core) as core, closing(Sysroot("/")) as folder:
        maps, peek = core.maps, core.source.peek
        first = {
            maps.path(m): peek(maps.table.p_offset[maps.phdr[m]], PAGE)
            for m in range(len(maps))
            if maps.file_offset(m) == 0
        }
        for m in range(len(maps)):
            path, offset = maps.path(m), maps.file_offset(m)
            if path is None or offset is None or why_no_file(path) is not None:
                continue
            begin, length = maps.table.p_offset[maps.phdr[m]], maps.present(m)
            with closing(folder.find(path)) as file:
                assert objection(file, first=first[path], begins=offset, dumped_ns=dumped_ns) is None
                own = build_id_in(first[path])
                assert own == file.build_id()
                ids.add(own)
                if length == maps.end(m) - maps.start(m):
                    where = first_difference(peek, begin, file, offset, length, maps.page_size)
                    if maps.flags(m) & PF_X:
                        text.append(where)
                    elif maps.flags(m) & PF_W:
                        data.append(where)
    assert len(ids - {None}) >= 2, "the interpreter and its libraries are no real test without build-ids"
    assert len(text) >= 2
    assert set(text) == {None}
    assert len(data) >= 2
    assert None not in data


def test_a_library_of_another_build_is_not_the_one_that_was_mapped(real_core: Path, tmp_path: Path) -> None:
    with open_file(real_core) as core:
        maps = core.maps
        m = next(m for m in range(len(maps)) if b"libc" in (maps.path(m) or b"") and maps.file_offset(m) == 0)
        path, first = maps.path(m) or b"", core.source.peek(maps.table.p_offset[maps.phdr[m]], PAGE)
    copy = tmp_path / os.fsdecode(path).lstrip("/")
    copy.parent.mkdir(parents=True)
    stored = Path(os.fsdecode(path)).read_bytes()
    copy.write_bytes(stored)
    with found(tmp_path, path) as file:
        assert objection(file, first=first) is None
        own = file.build_id()
    assert own
    other = changed(own, 0)
    copy.write_bytes(stored.replace(own, other))
    with found(tmp_path, path) as file:
        assert objection(file, first=first) == f"has build-id {other.hex()}, what was mapped had {own.hex()}"
