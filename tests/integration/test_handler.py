"""The handler, started as the kernel would start it but by a test: what it saves, and what nobody gains by it."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kernel.handling import (
    ACCOUNT,
    PATIENCE,
    Place,
    child_of,
    entry,
    finish,
    handle,
    journal,
    need_root,
    numbers,
    start,
    status_of,
)
from support.archives import UNPACK
from support.builder import parse_core
from support.builds import SANITIZED
from support.disks import need_mounts
from support.frames import crash_core
from support.run import assert_error, assert_promises, environment, kept_sizes
from support.run import corefilt as corefilt_command
from support.samples import sample_core

import corefilt
from corefilt.errors import ConfigError, UsageError
from corefilt.handler import crashed_process as victim
from corefilt.handler import permissions
from corefilt.handler import request as order
from corefilt.handler.account import Account, find_account
from corefilt.handler.config import Config, parse_config, read_config
from corefilt.handler.crash_info import CrashInfo, parse_crash
from corefilt.handler.crashed_process import Victim
from corefilt.handler.log import Messages
from corefilt.handler.process_evidence import read_within
from corefilt.handler.result import FAILED, FILTERED, MOST, Result, unpack
from corefilt.handler.sandbox import ADDRESS_SPACE, MOST_TASKS
from corefilt.handler.store import name_of

SAVED = "core.!.2147483647.1700000000"
USER = 1000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    need_root()
    return Place(tmp_path)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """Give a folder that any user can pass: pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# --- what it saves ----------------------------------------------------------------------------------------


def test_a_core_is_filtered_as_corefilt_filters_it(place: Place, tmp_path: Path) -> None:
    """Beside a process that is gone, as any core from a pipe into a file."""
    place.write(filter="default,-shared-anonymous")
    done = handle(place, sample_core())
    assert done.code == 0
    assert "no evidence" in done.said
    (tmp_path / "core").write_bytes(sample_core())
    with (tmp_path / "core").open("rb") as full:
        corefilt.filter(full, tmp_path / "offline", filter=0x31)
    assert place.core().read_bytes() == (tmp_path / "offline").read_bytes()
    assert stat.S_IMODE(place.core().stat().st_mode) == 0o600
    assert place.core().stat().st_uid == 0
    assert place.core().name == SAVED


def test_the_full_core_with_a_note(place: Place) -> None:
    place.write(annotate_full=True)
    full = sample_core()
    assert handle(place, full).code == 0
    assert kept_sizes(place.core().read_bytes()) == kept_sizes(full)
    assert b"COREFILT" in place.core().read_bytes()


@pytest.mark.parametrize("what", [b"not a core at all" * 1000, b"\x7fELF", b"x"])
def test_what_cannot_be_filtered_is_saved_as_it_came(what: bytes, place: Place) -> None:
    done = handle(place, what)
    assert done.code == 0
    assert "saved unfiltered" in done.said
    assert place.core().read_bytes() == what


def test_nothing_came(place: Place) -> None:
    done = handle(place, b"")
    assert (done.code, place.cores()) == (1, [])
    assert "no core was saved: the kernel sent no data" in done.said


def test_a_core_that_was_cut(place: Place) -> None:
    full = sample_core()
    done = handle(place, full[: len(full) // 2])
    assert done.code == 0
    assert "truncated" in done.said
    assert_promises(full[: len(full) // 2], place.core().read_bytes())


@pytest.mark.parametrize("how", ["zstd", "zstd:1", "zstd:19"])
def test_compressed(how: str, place: Place) -> None:
    place.write(compress=how)
    assert handle(place, sample_core()).code == 0
    core = place.core()
    assert core.name == SAVED + ".zst"
    place.write()
    core.rename(place.root / "compressed")
    assert handle(place, sample_core()).code == 0
    assert UNPACK["zstd"]((place.root / "compressed").read_bytes()) == place.core().read_bytes()


def test_without_the_library_it_is_not_compressed(place: Place) -> None:
    place.write(compress="zstd")
    done = handle(
        place, sample_core(), patch="import sys; sys.modules['compression.zstd'] = sys.modules['backports.zstd'] = None"
    )
    assert done.code == 0
    assert "not compressed: zstd needs the package backports.zstd, which is not installed" in done.said
    parse_core(place.core().read_bytes())


# --- RLIMIT_CORE ------------------------------------------------------------------------------------------


def test_a_limit_is_ignored(place: Place) -> None:
    assert handle(place, sample_core(), *numbers(limit=0)).code == 0
    parse_core(place.core().read_bytes())


@pytest.mark.parametrize("how", ["truncate", "fit"])
def test_a_limit_below_a_page_leaves_no_core(how: str, place: Place) -> None:
    place.write(rlimit=how)
    done = handle(place, sample_core(), *numbers(limit=4095))
    assert (done.code, place.cores()) == (1, [])
    assert "RLIMIT_CORE is 4095" in done.said


@pytest.mark.parametrize("how", ["truncate", "fit"])
@pytest.mark.parametrize("limit", [(1 << 64) - 1, 1 << 30])
def test_a_limit_that_does_not_bind(how: str, limit: int, place: Place) -> None:
    assert handle(place, sample_core()).code == 0
    whole = place.core().read_bytes()
    place.core().unlink()
    place.write(rlimit=how)
    assert handle(place, sample_core(), *numbers(limit=limit)).code == 0
    assert place.core().read_bytes() == whole


def test_a_limit_that_cuts(place: Place, tmp_path: Path) -> None:
    place.write(rlimit="truncate", filter="all")
    assert handle(place, sample_core(), *numbers(limit=40000)).code == 0
    (tmp_path / "core").write_bytes(sample_core())
    with subprocess.Popen(["cat", tmp_path / "core"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        corefilt.filter(cat.stdout, tmp_path / "cut", filter="all", truncate=40000)
    assert place.core().read_bytes() == (tmp_path / "cut").read_bytes()
    assert len(place.core().read_bytes()) < len(sample_core())


def test_a_limit_that_is_fitted(place: Place) -> None:
    place.write(rlimit="fit", filter="all")
    full = sample_core(anon_pages=100)
    done = handle(place, full, *numbers(limit=60000))
    assert done.code == 0
    assert "made to fit RLIMIT_CORE" in done.said
    core = place.core().read_bytes()
    assert len(core) <= 60000
    _, phdrs = parse_core(core)
    assert all(phdr.p_offset + phdr.p_filesz <= len(core) for phdr in phdrs)


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filter = '0x3z'", "filter"),
        ("filter = -1", "filter"),
        ("filter = true", "filter"),
        ("filter = '33'", "decimal"),
        ("directory = 'cores'", "absolute"),
        ("directory = '/var/../etc'", "absolute"),
        ("directory = ''", "cannot be used as a name"),
        ("name = 'a/b'", "leads out of the directory"),
        ("name = '|cat'", "program"),
        ("name = '%I'", "does not receive"),
        ("name = '%e.%C'", "does not receive"),
        ("name = ''", "cannot be used as a name"),
        ("compress = 'gzip'", "zstd"),
        ("compress = 'zstd:0'", "level 0"),
        ("compress = 'zstd:20'", "level 20"),
        ("compress = 'none:3'", "zstd"),
        ("rlimit = 'obey'", "ignore"),
        ("smaps-budget = 0", "seconds"),
        ("deadline = 'soon'", "seconds"),
        ("deadline = 86401", "seconds"),
        ("free-space = '1X'", "size"),
        ("free-space = -1", "size"),
        ("annotate-full = 1", "true"),
        ("annotate-full = true\nfilter = 'all'", "annotate-full"),
        ("journal = 'yes'", "true"),
        ("serve = 1", "table"),
        ("colour = 'red'", "colour"),
        ("smaps_budget = 5", "smaps_budget"),
        ("filter", "TOML"),
        ("\xff", "TOML"),
    ],
)
def test_settings_that_cannot_be_meant(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_config(text.encode("latin-1"), "the.conf")
    assert str(caught.value).startswith("the.conf: ")


def test_settings() -> None:
    config = parse_config(
        b'filter = "none,+elf-headers"\ndirectory = "/var/crash"\nname = "%e.%p.zip"\nuser = 61999\ncompress = "zstd"\n'
        b'rlimit = "fit"\nsmaps-budget = 0.5\ndeadline = 60\nfree-space = "2G"\njournal = false\n[serve]\nany = 1\n',
        "",
    )
    assert (config.filter, config.directory, config.name, config.user) == (0x10, "/var/crash", b"%e.%p.zip", "61999")
    assert (config.compress, config.rlimit, config.smaps_budget, config.deadline) == (3, "fit", 0.5, 60.0)
    assert (config.free_space, config.journal, config.serve) == (2 << 30, False, {"any": 1})


def test_without_settings(tmp_path: Path) -> None:
    need_root()
    assert read_config(str(tmp_path / "none")).directory == "/var/lib/corefilt"


BUILT_IN = """
from corefilt.handler import config
class Built(config.Config):
    def __init__(self):
        super().__init__()
        self.directory, self.user, self.free_space = {directory!r}, {user!r}, 0
config.Config = Built
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{root}/none", "cannot be read: No such file or directory"),
        ("{root}/none/corefilt.conf", "cannot be read: No such file or directory"),
        ("corefilt.conf", "is not an absolute path"),
        ("./corefilt.conf", "is not an absolute path"),
        ("{root}/cores/../corefilt.conf", "is not an absolute path"),
    ],
)
def test_no_core_is_lost_because_named_settings_are_not_there(name: str, words: str, place: Place) -> None:
    """What has no absolute path is not looked for in the directory that the handler starts in."""
    patch = BUILT_IN.format(directory=str(place.out), user=str(ACCOUNT))
    patch += f"import sys; sys.argv[2] = {name.format(root=place.root)!r}"
    place.write(directory="/nonexistent")
    done = handle(place, sample_core(), patch=patch, cwd=place.root)
    assert (done.code, len(place.cores())) == (0, 1), done.said
    assert "the default settings apply" in done.said and words in done.said


@pytest.mark.parametrize("how", ["other's", "writable", "symlink", "folder", "fifo", "writable folder", "its folder"])
def test_settings_that_are_not_only_roots(how: str, place: Place, tmp_path: Path) -> None:
    config, real = place.config, tmp_path / "real"
    if how == "other's":
        os.chown(config, USER, 0)
    elif how == "writable":
        config.chmod(0o646)
    elif how == "symlink":
        config.rename(real)
        config.symlink_to(real)
    elif how in ("folder", "fifo"):
        config.unlink()
        config.mkdir() if how == "folder" else os.mkfifo(config)
    elif how == "writable folder":
        tmp_path.chmod(0o777)
    else:
        os.chown(tmp_path, USER, 0)
    done = handle(place, sample_core())
    assert (done.code, place.cores()) == (1, [])
    assert "no core was saved" in done.said


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["1"] * 6,
        ["1"] * 9,
        numbers(pid=0),
        numbers(pid=1 << 31),
        numbers(uid=1 << 32),
        numbers(dumpable=3),
        numbers(signal=65),
        numbers(pidfd=" 3"),
        ["+1", *numbers()[1:]],
        ["1_0", *numbers()[1:]],
        ["\u0661", *numbers()[1:]],
        ["--name=/etc/x", *numbers()[1:]],
        [*numbers()[:2], "", *numbers()[3:]],
    ],
)
def test_numbers_that_are_none(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_crash(words)


def test_too_few_numbers_are_told_with_those_that_are_expected() -> None:
    with pytest.raises(UsageError, match=r"^got 1 argument; expected the numbers %P %u %g %s %t %c %d %F$"):
        parse_crash(["foo"])


def test_numbers() -> None:
    crash = parse_crash(numbers(pid=7, uid=8, gid=9, signal=6, time=5, limit=4, dumpable=2, pidfd="3"))
    assert (crash.pid, crash.uid, crash.gid, crash.signal) == (7, 8, 9, 6)
    assert (crash.time, crash.limit, crash.dumpable, crash.pidfd) == (5, 4, 2, 3)
    assert parse_crash(numbers()).pidfd is parse_crash(numbers()[:-1]).pidfd is None


def test_the_account(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_bytes(b"root:x:0:0::/:\n\n+\nbroken:x:1\ncorefilt:x:998:997:c:/:\n\xff:x:5:5::/:\n")
    account = find_account("corefilt", str(passwd))
    assert (account.uid, account.gid) == (998, 997)
    assert (find_account("61999").uid, find_account("61999:5").gid, find_account("61999").gid) == (61999, 5, 61999)
    for user in ("root", "0", "5:0", "broken", "nobody-here", "", "5:", "4294967295", "+"):
        with pytest.raises(ConfigError):
            find_account(user, str(passwd))


# --- who may do what --------------------------------------------------------------------------------------

# The child tells about itself instead of reading a core, in the file that is to be the core.
ASKED = """
import os, signal, socket, threading
from corefilt.handler import worker
from corefilt.handler.result import FILTERED, Result
def carry_out(self):
    code = compile({code!r}, "asked", "exec")
    told = []
    exec(code, {{"tell": told.append, "socket": socket, "threading": threading}})
    os.write(self.outputs[0].fd, "\\n".join(map(str, told)).encode())
    return Result(FILTERED)
worker.Work.carry_out = carry_out
"""


def asked(place: Place, code: str, **options: object) -> list[str]:
    done = handle(place, sample_core(), patch=ASKED.format(code=code), **options)
    assert done.code == 0, done.said
    return place.core().read_text().splitlines()


@contextmanager
def at_its_core(place: Place, patch: str = "", **options: object) -> Iterator[int]:
    """Start a handler whose child has come to its core, and waits for it; give the child's pid."""
    with start(place, patch=patch, **options) as process:
        child = child_of(process)
        until = time.monotonic() + PATIENCE
        # What it states is closed behind it, and nothing comes between that and the first byte of the core.
        while "Seccomp:\t2" not in status_of(child) or any("memfd" in name for name in open_in(child)):
            assert time.monotonic() < until, status_of(child)
            time.sleep(0.01)
        yield child
        assert finish(process, sample_core()).code == 0


def open_in(pid: int) -> list[str]:
    """What a process has open, but for standard input, output and error."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        # It closes some meanwhile.
        with suppress(FileNotFoundError):
            if int(fd) > 2:
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_who_reads_the_core(place: Place) -> None:
    """By the kernel's own word, where the parser is about to begin."""
    pytest.importorskip("pyseccomp")
    with at_its_core(place) as child:
        lines = status_of(child).splitlines()
        for line in (
            f"Uid:\t{ACCOUNT}\t{ACCOUNT}\t{ACCOUNT}\t{ACCOUNT}",
            f"Gid:\t{ACCOUNT}\t{ACCOUNT}\t{ACCOUNT}\t{ACCOUNT}",
            "Groups:\t ",
            *(f"Cap{name}:\t0000000000000000" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
            "NoNewPrivs:\t1",
        ):
            assert line in lines, line
        for name in ("net", "ipc", "mnt", "pid"):
            assert os.readlink(f"/proc/{child}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
        assert os.listdir(f"/proc/{child}/root/") == []
        assert os.readlink(f"/proc/{child}/cwd") == os.readlink(f"/proc/{child}/root")
        limits = Path(f"/proc/{child}/limits").read_text()
        assert re.search(rf"Max processes +{MOST_TASKS} +{MOST_TASKS} ", limits)
        assert re.search(r"Max core file size +0 +0 ", limits)
        found = re.search(r"Max address space +(\d+) +(\d+) ", limits)
        assert found is not None
        # Beside what the interpreter has by then; a sanitizer reserves the addresses of its shadow.
        beside = 1 << (45 if SANITIZED else 30)
        assert ADDRESS_SPACE < int(found[1]) == int(found[2]) < ADDRESS_SPACE + beside


def test_its_environment_is_empty(place: Place) -> None:
    assert asked(place, "import os; tell(dict(os.environ))") == ["{}"]


def test_only_the_child_gives_way(place: Place) -> None:
    """It is nice, the first to be killed where memory runs out, and waits for the disk; the parent is as it was."""
    pytest.importorskip("pyseccomp")
    with start(place) as process:
        child = child_of(process)
        until = time.monotonic() + PATIENCE
        while "Seccomp:\t2" not in status_of(child):
            assert time.monotonic() < until
            time.sleep(0.01)
        for pid, nice, adjust in ((child, 9, 500), (process.pid, 0, 0)):
            before = (os.getpriority(os.PRIO_PROCESS, 0), int(Path("/proc/self/oom_score_adj").read_text()))
            assert os.getpriority(os.PRIO_PROCESS, pid) == before[0] + nice
            assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == (adjust or before[1])
        done = subprocess.run(["ionice", "-p", str(child)], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "best-effort: prio 7", done
        assert finish(process, sample_core()).code == 0


@pytest.mark.parametrize(("pipes", "limits"), [(1, {}), (3, {"max_use": "1G"})], ids=["alone", "among others"])
def test_what_it_has_open(pipes: int, limits: dict[str, object], place: Place) -> None:
    """The core, two files, what the process shows, a pipe to the parent, two more where it asks how much it may take;
    no folder, not its ledger, and not the parent's pidfd."""
    pytest.importorskip("pyseccomp")
    place.write(**limits)
    reader, other = os.pipe()
    try:
        with at_its_core(place, pass_fds=(reader, other)) as child:
            names = open_in(child)
    finally:
        os.close(reader)
        os.close(other)
    assert len([name for name in names if name.startswith("pipe:")]) == pipes
    files = [name for name in names if not name.startswith("pipe:")]
    assert len(files) == 2
    assert all("#" in name and name.endswith(" (deleted)") for name in files)


WITHOUT_SECCOMP = """
from corefilt.handler import sandbox, seccomp
seccomp.find_library = lambda: None
sandbox.MOST_TASKS = {tasks}
"""


def tried(place: Place, code: str, tasks: int = 4096) -> dict[str, str]:
    """What the child says that it could do, without seccomp."""
    patch = WITHOUT_SECCOMP.format(tasks=tasks) + ASKED.format(code=code)
    done = handle(place, sample_core(), patch=patch)
    assert done.code == 0, done.said
    assert "its core was read without seccomp" in done.said
    return dict(line.split(" ", 1) for line in place.core().read_text().splitlines())


def test_what_is_refused_without_seccomp(place: Place) -> None:
    """The kernel's own walls: no file but those that it was given, no network, no user namespace, no other process."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0corefilt-{os.getpid()}")
        abstract.listen()
        queue = subprocess.run(["ipcmk", "-Q", "-p", "0666"], capture_output=True, text=True, check=True).stdout
        number = queue.split()[-1]
        code = f"""
import ctypes, os, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
def connect(family, address):
    with socket.socket(family) as client:
        client.connect(address)
def links():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asked:
        asked.send(struct.pack("=IHHIIBBHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
        found, answer = 0, asked.recv(65536)
        while answer:
            length, kind = struct.unpack_from("=IH", answer)
            found += kind == 16
            answer = answer[(length + 3) & ~3:]
        if found < 2:
            raise OSError(found, "only the loopback that is down")
for name, attempt in {{
    "connect": lambda: connect(socket.AF_INET, ("127.0.0.1", {listener.getsockname()[1]})),
    "abstract": lambda: connect(socket.AF_UNIX, chr(0) + "corefilt-{os.getpid()}"),
    "journal": lambda: connect(socket.AF_UNIX, "/run/systemd/journal/socket"),
    "netlink": links,
    "queue": lambda: call(libc.msgget(0, 0) if {number} < 0 else libc.msgsnd({number}, b"12345678x", 1, 0o4000)),
    "user namespace": lambda: call(libc.unshare(0x10000000)),
    "mount": lambda: call(libc.mount(b"none", b"/", b"tmpfs", 0, None)),
    "read": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "proc": lambda: os.open("/proc/1/maps", os.O_RDONLY),
    "create": lambda: os.open("/made", os.O_CREAT | os.O_RDWR, 0o600),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill({os.getpid()}, 0),
    "kill all": lambda: os.kill(-1, signal.SIGCONT),
    "setuid": lambda: os.setuid(0),
    "chroot": lambda: os.chroot("/"),
    "more memory": lambda: __import__("resource").setrlimit(9, (-1, -1)),
}}.items():
    try:
        attempt()
        tell(name.replace(" ", "-") + " allowed")
    except (OSError, ValueError) as error:
        tell(name.replace(" ", "-") + f" {{getattr(error, 'errno', None)}}")
"""
        try:
            found = tried(place, code)
        finally:
            subprocess.run(["ipcrm", "-q", number], check=True)
    assert found == {
        "connect": str(errno.ENETUNREACH),
        "abstract": str(errno.ECONNREFUSED),
        "journal": str(errno.ENOENT),
        "netlink": "1",
        "queue": str(errno.EINVAL),
        "user-namespace": str(errno.EPERM),
        "mount": str(errno.EPERM),
        "read": str(errno.ENOENT),
        "proc": str(errno.ENOENT),
        "create": str(errno.EROFS),
        "exec": str(errno.ENOENT),
        "kill": str(errno.ESRCH),
        "kill-all": str(errno.ESRCH),
        "setuid": str(errno.EPERM),
        "chroot": str(errno.EPERM),
        "more-memory": "None",
    }


def test_what_listens_inside_is_not_heard_outside(place: Place) -> None:
    """The child holds a port of its own loopback; from here nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code = f"""
with socket.create_server(("0.0.0.0", {port})):
    os.read(self_stream, 1)
"""
    patch = WITHOUT_SECCOMP.format(tasks=4096) + ASKED.format(code=code).replace(
        '"tell": told.append', '"os": os, "self_stream": self.stream, "tell": told.append'
    )
    with start(place, patch=patch) as process:
        child = child_of(process)
        until = time.monotonic() + PATIENCE
        while not any(name.startswith("socket:") for name in open_in(child)):
            assert time.monotonic() < until
            time.sleep(0.01)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
        assert finish(process, b"x").code == 0


def test_forks_are_bounded_and_end_with_the_child(place: Place) -> None:
    """Without seccomp: RLIMIT_NPROC counts them, and no process of a pid namespace outlives its first."""
    code = """
import os, time
count = 0
try:
    while count < 1000:
        if not os.fork():
            while True:
                time.sleep(60)
        count += 1
except OSError as error:
    tell(f"forks {count}")
    tell(f"error {error.errno}")
"""
    found = tried(place, code, tasks=40)
    assert 1 <= int(found["forks"]) < 40
    assert found["error"] == str(errno.EAGAIN)
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and f"\nUid:\t{ACCOUNT}\t" in status_of(int(pid))]


def test_memory_is_bounded(place: Place) -> None:
    """More than any core's headers take, and an end of it."""
    code = """
tell(len(bytearray(1 << 30)) >> 30)
try:
    tell(len(bytearray(3 << 30)))
except MemoryError:
    tell("refused")
"""
    assert asked(place, code) == ["1", "refused"]


def test_a_lost_binding_is_said_at_error_level(place: Place, tmp_path: Path) -> None:
    """And the core is saved all the same."""
    place.write(journal=True)
    path = str(tmp_path / "socket")
    with journal(tmp_path / "socket") as listener:
        patch = WITHOUT_SECCOMP.format(tasks=4096)
        patch += f"from corefilt.handler.log import Messages; Messages.__init__.__kwdefaults__['socket'] = {path!r}"
        assert handle(place, sample_core(), patch=patch).code == 0
        saved, lost = (entry(listener.recv(1 << 18)) for _ in range(2))
    assert b"dumped core" in saved["MESSAGE"]
    assert lost["PRIORITY"] == b"3"
    assert b"its core was read without seccomp (corefilt status tells why)" in lost["MESSAGE"]
    assert_promises(sample_core(), place.core().read_bytes())


def test_what_the_kernel_refuses_it(place: Place) -> None:
    """Everything but reading, writing and threads, where pyseccomp is installed."""
    pytest.importorskip("pyseccomp")
    code = """
import os
for name, call in {
    "fork": os.fork,
    "socket": lambda: socket.socket(),
    "kill": lambda: os.kill(os.getppid(), 0),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "create": lambda: os.open("/tmp/made", os.O_CREAT, 0o600),
    "write": lambda: os.open("/dev/null", os.O_WRONLY),
    "link": lambda: os.link("/etc/passwd", "/tmp/linked"),
    "setuid": lambda: os.setuid(0),
    "pipe": os.pipe,
    "chmod": lambda: os.chmod("/tmp", 0o777),
}.items():
    try:
        call()
        tell(f"{name} allowed")
    except OSError as error:
        tell(f"{name} {error.errno}")
worker = threading.Thread(target=lambda: tell("thread allowed"))
worker.start()
worker.join()
"""
    lines = asked(place, code)
    assert lines.pop() == "thread allowed"
    assert len(lines) == 10
    assert {line.split()[1] for line in lines} == {"1"}, lines


def attempts(pid: int, uid: int, *, kills: bool) -> list[str]:
    """Try to trace a process as a user, to read its memory and, perhaps, to stop it; return the errors' numbers."""
    code = f"""
import ctypes, os, signal
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
libc = ctypes.CDLL(None, use_errno=True)
print(ctypes.get_errno() if libc.ptrace(16, {pid}, 0, 0) else "traced")
for name in ("mem", "maps", "environ", "fd/0"):
    try:
        open(f"/proc/{pid}/{{name}}", "rb").read(1)
        print("read")
    except OSError as error:
        print(error.errno)
if {kills}:
    for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGUSR1):
        try:
            os.kill({pid}, number)
            print("sent")
        except OSError as error:
            print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("uid", [USER, ACCOUNT])
def test_who_can_trace_or_stop_it(uid: int, place: Place) -> None:
    """Neither the user whose process crashed, nor, as to tracing, a process of its own account."""
    with start(place, *numbers(uid=USER)) as process:
        child = child_of(process)
        refused = {str(errno.EPERM), str(errno.EACCES)}
        assert set(attempts(child, uid, kills=uid == USER)) <= refused
        assert set(attempts(process.pid, uid, kills=True)) <= refused
        assert finish(process, sample_core()).code == 0


def test_a_core_of_the_accounts_own(place: Place) -> None:
    done = handle(place, sample_core(), *numbers(uid=ACCOUNT))
    assert (done.code, place.cores()) == (1, [])
    assert "handler's own account" in done.said


# --- who may read it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "dumpable", "plain", "suid_dumpable", "may"),
    [
        (1000, 1, True, 0, True),
        (1000, 1, True, 2, True),
        (60000, 1, True, 0, True),
        (1 << 31, 1, True, 0, True),
        (1000, 2, True, 0, False),
        (1000, 2, True, 2, False),
        (1000, 0, True, 0, False),
        (1000, 1, False, 0, False),
        (1000, 1, True, 1, False),
        (0, 1, True, 0, False),
        (999, 1, True, 0, False),
        (61184, 1, True, 0, False),
        (65519, 1, True, 0, False),
        (65534, 1, True, 0, False),
        (65535, 1, True, 0, False),
        ((1 << 32) - 1, 1, True, 0, False),
    ],
)
def test_who_may_read(
    uid: int, dumpable: int, plain: bool, suid_dumpable: int, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suid_dumpable").write_text(f"{suid_dumpable}\n")
    monkeypatch.setattr(permissions, "SUID_DUMPABLE", str(tmp_path / "suid_dumpable"))
    victim = Victim()
    victim.plain = plain
    reader = permissions.reader_of(CrashInfo(1, uid, uid, 11, 0, 0, dumpable), victim)
    assert reader == (uid if may else None)


def test_the_right_to_read(everybodys: Path) -> None:
    """The kernel takes it, and lets that user read and nobody else."""
    need_root()
    file = everybodys / "core"
    file.write_text("secret")
    file.chmod(0o600)
    os.setxattr(file, permissions.ACL, permissions.acl(USER))
    assert os.getxattr(file, permissions.ACL) == permissions.acl(USER)
    code = "import os, sys; os.setgid(7); os.setuid({0}); print(open(sys.argv[1], sys.argv[2]).read(3))"
    for uid, mode, out in ((USER, "r", "sec\n"), (USER + 1, "r", ""), (USER, "r+", "")):
        run = [sys.executable, "-I", "-c", code.format(uid), str(file), mode]
        assert subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout == out


def test_nobody_may_read_a_core_of_dump_mode_2(place: Place) -> None:
    assert handle(place, sample_core(), *numbers(dumpable=2)).code == 0
    assert stat.S_IMODE(place.core().stat().st_mode) == 0o600
    assert permissions.ACL not in os.listxattr(place.core())


# --- faults -----------------------------------------------------------------------------------------------


@contextmanager
def halfway(place: Place, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Start a handler and give it the first half of a core."""
    full = sample_core()
    with start(place, **options) as process:
        assert process.stdin is not None
        process.stdin.write(full[: len(full) // 2])
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def test_the_child_is_killed(place: Place) -> None:
    with halfway(place) as process:
        os.kill(child_of(process), signal.SIGKILL)
        done = finish(process)
    assert (done.code, place.cores()) == (1, [])
    assert "no core was saved: the child that reads it ended" in done.said


def test_the_parent_is_killed(place: Place) -> None:
    """The child ends with it, so that nothing reads from the kernel any more."""
    with halfway(place) as process:
        child = os.pidfd_open(child_of(process))
        process.kill()
        process.wait(PATIENCE)
        ended = select.select([child], [], [], PATIENCE)[0]
        os.close(child)
        assert ended
    assert place.cores() == []


def test_the_parent_is_killed_before_it_has_read_the_settings(place: Place) -> None:
    """The child, which waits for them, ends: nothing reads from the kernel any more."""
    patch = "import os; from corefilt.handler import config; config.read_config = lambda path: os.kill(os.getpid(), 9)"
    with start(place, patch=patch) as process:
        assert process.wait(PATIENCE) == -signal.SIGKILL
        assert process.stdin is not None
        waiting = select.poll()
        # POLLERR tells of a pipe that nobody reads, without being asked for.
        waiting.register(process.stdin, 0)
        assert waiting.poll(PATIENCE * 1000)
        process.stdin.close()
    assert place.cores() == []


def test_an_order_is_what_the_child_then_goes_by() -> None:
    config = Config()
    config.annotate_full, config.compress, config.free_space = True, 19, (1 << 64) - 1
    config.journal_maps = False
    config.rlimit, config.smaps_budget, config.filter = "truncate", 86400.0, 0x1FF
    raw = order.pack(order.Order(config, Account((1 << 32) - 2, 5), (7, 8)))
    assert len(raw) <= order.MOST
    found = order.unpack(raw)
    assert (found.account.uid, found.account.gid, found.files) == ((1 << 32) - 2, 5, (7, 8))
    names = ("annotate_full", "compress", "free_space", "journal_maps", "rlimit", "smaps_budget", "filter")
    assert [getattr(found.config, name) for name in names] == [getattr(config, name) for name in names]


def test_the_parent_is_asked_to_end(place: Place) -> None:
    with halfway(place) as process:
        child = child_of(process)
        process.terminate()
        process.wait(PATIENCE)
        while status_of(child):
            os.sched_yield()
    assert place.cores() == []


def test_the_deadline(place: Place) -> None:
    place.write(deadline=0.5)
    with halfway(place) as process:
        process.wait(PATIENCE)
        done = finish(process)
    assert (done.code, place.cores()) == (1, [])
    assert "longer than 0.5 s (deadline)" in done.said


# The child takes so many seconds to end, or more.
TAKES = """
from corefilt.procfs import pidfd
ended = pidfd.has_ended
pidfd.has_ended = lambda fd, seconds: seconds > {seconds} and ended(fd, seconds)
"""


def test_a_child_that_takes_long_to_end_costs_no_core(place: Place) -> None:
    """On a machine where a hundred processes crash at once; the deadline bounds it."""
    place.write(deadline=300)
    done = handle(place, sample_core(), patch=TAKES.format(seconds=5))
    assert (done.code, len(place.cores())) == (0, 1), done.said
    place.core().unlink()
    done = handle(place, sample_core(), patch=TAKES.format(seconds=300))
    assert (done.code, place.cores()) == (1, [])
    assert "the child that read it did not end" in done.said


def test_less_room_than_the_floor(place: Place) -> None:
    place.write(free_space="1000P")
    done = handle(place, sample_core())
    assert (done.code, place.cores()) == (1, [])
    assert "are free (free-space)" in done.said


def test_room_that_shrinks_to_the_floor(place: Place) -> None:
    """Seen by the child while it writes."""
    place.write(free_space=4096)
    patch = "from corefilt.handler import outputs; real = outputs.free; outputs.free = lambda fd: 4095"
    done = handle(place, sample_core(), patch=patch)
    assert (done.code, place.cores()) == (1, [])
    assert "would stay free (free-space)" in done.said


def test_a_full_disk(place: Place) -> None:
    need_mounts("ext4")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place.out], check=True)
    try:
        done = handle(place, sample_core(anon_pages=200))
        assert (done.code, place.cores()) == (1, [])
        assert "No space left on device" in done.said
        assert os.statvfs(place.out).f_bfree == os.statvfs(place.out).f_blocks
    finally:
        subprocess.run(["umount", place.out], check=True)


def test_the_folder_goes_away(place: Place) -> None:
    with halfway(place) as process:
        child_of(process)
        place.out.rmdir()
        done = finish(process, sample_core()[len(sample_core()) // 2 :])
    assert done.code == 1
    assert "cannot be given its name: No such file or directory" in done.said


def test_there_is_no_folder(place: Place) -> None:
    place.out.rmdir()
    done = handle(place, sample_core())
    assert done.code == 1
    assert f"{place.out}: cannot be opened as a directory: No such file or directory" in done.said


def test_stdout_and_stderr_are_closed(place: Place) -> None:
    """As the kernel starts it: the next file that is opened would be one of the two."""
    command = f'exec "{sys.executable}" -I -c "$1" --config "$2" {" ".join(numbers()[:-1])} >&- 2>&-'
    main = "import sys; from corefilt.handler.entry import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        ["sh", "-c", command, "sh", main, str(place.config)],
        input=sample_core(),
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert_promises(sample_core(), place.core().read_bytes())


# --- evidence ---------------------------------------------------------------------------------------------


def test_a_process_that_does_not_dump_core_is_no_evidence(place: Place) -> None:
    """Without a pidfd: whoever has that number now. Its name is not taken either."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            done = handle(place, sample_core(), *numbers(pid=other.pid))
        finally:
            other.kill()
    assert done.code == 0
    assert "is not the one that crashed: it does not dump core" in done.said
    assert place.core().name.startswith("core.!.")


def test_a_number_that_was_given_to_another_process(place: Place) -> None:
    """A pidfd of the process that crashed, and another one that has its number by now."""
    with subprocess.Popen(["sleep", "60"]) as crashed, subprocess.Popen(["sleep", "60"]) as other:
        pidfd = os.pidfd_open(crashed.pid)
        try:
            words = numbers(pid=other.pid, pidfd=str(pidfd))
            done = handle(place, sample_core(), *words, pass_fds=(pidfd,))
            assert "its pidfd is of another one" in done.said
            crashed.kill()
            crashed.wait()
            place.core().unlink()
            done = handle(place, sample_core(), *numbers(pid=crashed.pid, pidfd=str(pidfd)), pass_fds=(pidfd,))
            assert "no evidence" in done.said
        finally:
            os.close(pidfd)
            crashed.kill()
            other.kill()
    assert place.core().name.startswith("core.!.")


def test_a_process_whose_memory_is_not_that_of_the_core(place: Place) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        pidfd = os.pidfd_open(other.pid)
        try:
            done = handle(place, sample_core(), *numbers(pid=other.pid, pidfd=str(pidfd)), pass_fds=(pidfd,))
        finally:
            os.close(pidfd)
            other.kill()
    assert done.code == 0
    assert "does not match this core" in done.said


@pytest.mark.parametrize("why", ["more than are looked at", "the limit", "none"])
def test_more_mapped_files_than_descriptors(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are looked at, and that is said; descriptors are left for the rest of the work."""
    need_root()
    there = len(os.listdir("/proc/self/map_files"))
    if why == "more than are looked at":
        monkeypatch.setattr(victim, "MOST_FILES", 2)
    if why == "the limit":
        monkeypatch.setattr(resource, "setrlimit", refused_by_the_kernel)
        monkeypatch.setattr(resource, "getrlimit", lambda which: (victim.LEFT_OVER + 2, victim.LEFT_OVER + 2))
    pidfd = os.pidfd_open(os.getpid())
    try:
        seen = victim.open_victim(CrashInfo(os.getpid(), 0, 0, 11, 0, 0, 1, pidfd))
    finally:
        os.close(pidfd)
    try:
        assert seen.why_not == ""
        assert len(seen.files) == (there if why == "none" else 2)
        assert seen.notices == ([] if why == "none" else [f"only 2 of its {there} mapped files are examined"])
        assert min(seen.smaps, seen.maps) >= 0
    finally:
        seen.close()


def refused_by_the_kernel(*args: object) -> None:
    raise ValueError("not allowed to raise maximum limit")


def test_a_map_that_takes_too_long() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"the beginning")
        assert read_within(reader, 0.05) is None
    finally:
        os.close(writer)
    assert read_within(reader, PATIENCE) == b""
    os.close(reader)
    assert read_within(-1, 0.05) is None


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("core.%e.%P", b"core. --name=!etc!x\n.7"),
        ("%f|%E", b"x y|!bin!x y"),
        ("%p.%u.%g.%s.%t.%c.%d%F", b"2.8.9.11.5.4.1"),
        ("%%.%q%h", None),
        ("%", b"core"),
    ],
)
def test_names(template: str, name: bytes | None) -> None:
    config, victim = Config(), Victim()
    config.name = template.encode()
    victim.comm, victim.executable, victim.inside = b" --name=/etc/x\n", b"/bin/x y", 2
    made = name_of(config, CrashInfo(7, 8, 9, 11, 5, 4, 1), victim)
    assert made == (b"%." + os.uname().nodename.encode() if name is None else name)


@pytest.mark.parametrize("comm", [b".", b"..", b"", b"/", b"../../etc/passwd", b"x" * 15])
@pytest.mark.parametrize("template", ["%e", "%e%e", "%E", "%f" * 63])
def test_no_name_leaves_the_folder(comm: bytes, template: str) -> None:
    config, victim = Config(), Victim()
    config.name, victim.comm = template.encode(), comm
    for executable in (None, b"/" + comm, b"n" * 4000):
        victim.executable = executable
        made = name_of(config, CrashInfo(7, 8, 9, 11, 5, 4, 1), victim)
        assert b"/" not in made
        assert made not in (b"", b".", b"..")
        assert len(made) < 240


def test_what_bears_the_name_already(place: Place, tmp_path: Path) -> None:
    """A link, a hard link or a FIFO that somebody put there stays as it was; the core gets the next name."""
    place.write(name="core")
    place.out.chmod(0o1777)
    prey = tmp_path / "prey"
    prey.write_text("precious")
    os.mkfifo(place.out / "core")
    (place.out / "core.1").symlink_to(prey)
    (place.out / "core.2").hardlink_to(prey)
    (place.out / "core.3").symlink_to(tmp_path / "nowhere")
    (place.out / "core.4").mkdir()
    for number in (5, 6):
        done = handle(place, sample_core())
        assert done.code == 0
        assert f"{place.out}/core.{number}, " in done.said
        assert_promises(sample_core(), (place.out / f"core.{number}").read_bytes())
    assert prey.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_by_a_link(place: Place, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(place.out)
    for directory in (tmp_path / "link", tmp_path / "link" / "below"):
        place.write(directory=str(directory))
        done = handle(place, sample_core())
        assert (done.code, place.cores()) == (1, [])
        assert f"{tmp_path}/link: cannot be opened as a directory" in done.said


# --- messages ---------------------------------------------------------------------------------------------


def test_the_journal_gets_fields_that_no_name_can_add_to(tmp_path: Path) -> None:
    with journal(tmp_path / "socket") as listener:
        messages = Messages(socket=str(tmp_path / "socket"), kmsg="/dev/null")
        messages.say("two\nlines", 3, {b"COREDUMP_COMM": b"x\nMESSAGE_ID=0", b"COREDUMP_PID": b"7"})
        found = entry(listener.recv(1 << 16))
    assert found["COREDUMP_COMM"] == b"x\nMESSAGE_ID=0"
    assert (found["MESSAGE"], found["PRIORITY"], found["COREDUMP_PID"]) == (rb"two\nlines", b"3", b"7")
    assert "MESSAGE_ID" not in found


@pytest.mark.parametrize("how", ["none", "not read", "off"])
def test_without_the_journal_the_kernels_log_has_it(how: str, tmp_path: Path) -> None:
    """Also where the journal is what crashed: nobody reads its socket, and nobody waits for it."""
    kmsg, path = tmp_path / "kmsg", tmp_path / "socket"
    kmsg.touch()
    if how == "none":
        Messages(socket=str(path), syslog=str(path), kmsg=str(kmsg)).say("a word", 5)
    else:
        with journal(path):
            if how == "not read":
                messages = Messages(socket=str(path), syslog="/none", kmsg="/dev/null")
                for _ in range(2000):
                    messages.say("more than fits")
            Messages(journal=how == "not read", socket=str(path), syslog=str(path), kmsg=str(kmsg)).say("a word", 5)
    assert kmsg.read_bytes() == b"<5>corefilt: a word\n"


def test_without_the_journal_the_syslog_daemon_has_it(tmp_path: Path) -> None:
    """By /dev/log: facility daemon, one line, of a length that every daemon takes."""
    kmsg = tmp_path / "kmsg"
    kmsg.touch()
    with journal(tmp_path / "log") as listener:
        messages = Messages(socket=str(tmp_path / "none"), syslog=str(tmp_path / "log"), kmsg=str(kmsg))
        messages.say("two\nlines", 3, {b"COREDUMP_PID": b"7"})
        assert listener.recv(1 << 16) == b"<27>corefilt[%d]: two\\nlines" % os.getpid()
        messages.say("x" * 5000, 5)
        assert len(listener.recv(1 << 16)) < 2048
    assert kmsg.read_bytes() == b""


def test_an_entry_that_no_datagram_holds(tmp_path: Path) -> None:
    """It comes as the journal takes it: a sealed file in memory."""
    table = b"a line\n" * 200_000
    with journal(tmp_path / "socket") as listener:
        Messages(socket=str(tmp_path / "socket"), syslog="/none", kmsg="/none").say("a word", 5, {b"MAPS": table})
        sent, fds, _, _ = socket.recv_fds(listener, 1 << 16, 1)
    assert sent == b""
    found = entry(os.pread(fds[0], 4 << 20, 0))
    assert (found["MESSAGE"], found["MAPS"]) == (b"a word", table)
    with pytest.raises(PermissionError):
        os.pwrite(fds[0], b"x", 0)
    os.close(fds[0])


def test_the_childs_word_is_taken_only_as_it_should_be() -> None:
    result = Result(FILTERED, "words\n\u00e4")
    result.file, result.damaged, result.output_bytes = 1, True, 1 << 40
    back = unpack(result.pack())
    assert back is not None
    assert (back.status, back.file, back.damaged, back.compressed, back.output_bytes, back.words) == (
        FILTERED, 1, True, False, 1 << 40, "words\n\u00e4",
    )  # fmt: skip
    raw = result.pack()
    for bad in (b"", raw[:-1], raw + b"x", b"\x03" + raw[1:], raw[:1] + b"\x02" + raw[2:], raw[:30], bytes(4096)):
        assert unpack(bad) is None or bad == bytes(struct.calcsize("<BBBBQQQQH"))
    assert len(Result(FAILED, "x" * 10000).pack()) == MOST


# --- by hand ----------------------------------------------------------------------------------------------


def test_help_names_exactly_the_options() -> None:
    done = corefilt_command("handle", "--help")
    assert done.code == 0
    assert set(re.findall(r"^  (?:-[hV], )?(--?[a-z]+)", done.out.decode(), re.MULTILINE)) == {
        "--help",
        "--config",
        "--version",
    }
    assert "%P %u %g %s %t %c %d %F" in done.out.decode()


def test_the_command_saves_a_core_too(place: Place) -> None:
    done = corefilt_command("handle", "--config", place.config, *numbers(), pipe=sample_core())
    assert (done.code, done.out) == (0, b"")
    assert_promises(sample_core(), place.core().read_bytes())


def test_commands_take_settings_with_a_relative_name(place: Place) -> None:
    """The server refuses those that are not there, and reads the others before it listens."""
    done = corefilt_command("handle", "--config", "./corefilt.conf", *numbers(), pipe=sample_core(), cwd=place.root)
    assert (done.code, len(place.cores())) == (0, 1), done.err
    place.write(colour="red")
    done = corefilt_command("serve", place.root / "sock", "--config", "corefilt.conf", cwd=place.root)
    assert_error(done, str(place.config), "colour")
    done = corefilt_command("serve", place.root / "sock", "--config", "none.conf", cwd=place.root)
    assert_error(done, str(place.root / "none.conf"), "No such file or directory", "name a file that exists")


@pytest.mark.parametrize("words", [["1", "2"], ["x", *numbers()[1:]]])
def test_what_the_command_refuses(words: list[str], place: Place) -> None:
    done = corefilt_command("handle", "--config", place.config, *words, pipe=sample_core())
    assert (done.code, len(done.err), place.cores()) == (2, 1, [])


# --- what it loads ----------------------------------------------------------------------------------------


def test_the_parent_loads_the_standard_library_and_no_name_service() -> None:
    code = "import sys; before = set(sys.modules); import corefilt.handler.entry; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    names = set(done.stdout.split())
    ours = {name for name in names if name.startswith("corefilt.")}
    allowed = {"errors", "filterbits", "sizes", "startup", "text", "handler", "procfs"}
    assert {name.split(".")[1] for name in ours} <= allowed
    others = {name.partition(".")[0] for name in names - ours} - {"corefilt"}
    assert others <= sys.stdlib_module_names
    assert not others & {"pwd", "grp", "socket", "_socket", "spwd", "argparse", "subprocess", "threading", "ctypes"}


# Words of the child about modules that it loaded while it was confined, and about heavy ones.
LATE = """
import sys
from corefilt.handler import worker
real = worker.Work.carry_out
def carry_out(self):
    before = set(sys.modules)
    result = real(self)
    result.words += " late:" + ",".join(name for name in set(sys.modules) - before)
    result.words += " heavy:" + ",".join(set(sys.modules) & {"dask", "rich", "fsspec", "elftools", "pwd", "grp"})
    return result
worker.Work.carry_out = carry_out
"""


@pytest.mark.parametrize("rlimit", ["ignore", "truncate", "fit"])
def test_the_child_loads_nothing_once_it_is_confined(rlimit: str, place: Place) -> None:
    """It may have no right to read the package then, or the interpreter's own modules."""
    place.write(rlimit=rlimit)
    with subprocess.Popen(["sleep", "60"]) as other:
        pidfd = os.pidfd_open(other.pid)
        try:
            words = numbers(pid=other.pid, pidfd=str(pidfd), limit=60000)
            done = handle(place, sample_core(), *words, patch=LATE, pass_fds=(pidfd,))
        finally:
            os.close(pidfd)
            other.kill()
    assert done.code == 0
    assert " late: heavy:\n" in done.said, done.said


def test_the_child_that_finds_signatures_out_loads_nothing_either(place: Place) -> None:
    place.write(filter="all", keep_per_signature=1, repeats="minimal", max_use="1G")
    for repeat in (False, True):
        done = handle(place, crash_core(), *numbers(), patch=LATE)
        assert done.code == 0 and ("made minimal: a repeat" in done.said) == repeat
        assert " late: heavy:\n" in done.said, done.said
