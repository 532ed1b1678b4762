"""``corefilt doctor PID`` before a crash, held against what the kernel then leaves: each condition, and its reverse."""

import itertools
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kernel.crashing import NOBODY, compile_crasher, need_system, open_to_all
from kernel.dumps import CannotCompileError, kernel_version, sysctl
from support.builds import INTERPRETER, PATIENCE
from support.run import corefilt

COUNT = itertools.count()
ALL = resource.RLIM_INFINITY
# struct vfs_cap_data of revision 2: CAP_NET_RAW permitted and effective (include/uapi/linux/capability.h).
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")
HELPER = "#!{python}\nimport sys\nopen({out!r}, 'wb').write(sys.stdin.buffer.read(64))\n"


class Says:
    """What doctor said: `writes`, and the answers and reasons by the name of the condition."""

    def __init__(self, pid: int) -> None:
        done = corefilt("doctor", str(pid), "--json")
        report = json.loads(done.out)
        self.writes = report["writes_core"]
        assert done.code == (0 if self.writes else 4)
        self.answers = {row["condition"]: row["answer"] for row in report["conditions"]}
        self.reasons = {row["condition"]: row["reason"] for row in report["conditions"]}
        self.remedies = {row["condition"]: row["remedy"] for row in report["conditions"]}

    @property
    def no(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer == "no"}

    @property
    def unknown(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer == "cannot tell"}


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_system()
    folder = tmp_path_factory.mktemp("crasher")
    try:
        program = compile_crasher(folder)
    except CannotCompileError as error:
        pytest.skip(str(error))
    program.chmod(0o755)
    open_to_all(folder)
    return program


@pytest.fixture(autouse=True)
def plain_pattern() -> Iterator[None]:
    """Whatever the machine has: a file called core where the process is."""
    need_system()
    with (
        sysctl("kernel/core_pattern", "core"),
        sysctl("kernel/core_uses_pid", 0),
        sysctl("fs/suid_dumpable", 0),
        sysctl("kernel/core_pipe_limit", 0),
    ):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder where everybody may make files."""
    open_to_all(tmp_path)
    place = tmp_path / "here"
    place.mkdir()
    place.chmod(0o777)
    return place


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def setup(
    uid: int = 0, core: int = ALL, file_size: int = ALL, root: Path | None = None, filter: int = 1
) -> Callable[[], None]:
    def prepare() -> None:
        Path("/proc/self/coredump_filter").write_text(f"{filter:#x}\n")
        if root is not None:
            os.chroot(root)
            os.chdir("/")
        resource.setrlimit(resource.RLIMIT_CORE, (core, ALL))
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, ALL))
        if uid:
            become(uid)

    return prepare


def crashed(
    program: Path,
    folder: Path,
    *,
    script: str = "",
    look: Path | None = None,
    before: Callable[[], None] | None = None,
    **how: object,
) -> tuple[Says, list[Path]]:
    """Ask doctor about a process, then let it crash; give what was said and the cores that appeared, empty ones apart.

    With `script` it is a Python process that has run it. `before` is done once the process is there.
    """
    look = look or folder
    command = [str(program), "-", "wait"]
    if script:
        command = [shutil.which("python3", path=os.defpath) or INTERPRETER, "-I", "-S", "-c", script + WAIT]
    seen = files_in(look)
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=setup(**how)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        if before is not None:
            before()
        says = Says(process.pid)
        process.communicate(b"\n", timeout=PATIENCE)
    assert process.returncode < 0
    return says, [path for path, which in files_in(look).items() if seen.get(path) != which]


WAIT = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
os.abort()
"""


def files_in(folder: Path) -> dict[Path, tuple[int, int]]:
    """Give the regular files in a folder that hold anything, with what tells a new one from an old one."""
    return {
        path: (path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in (folder.iterdir() if folder.exists() else ())
        if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size
    }


# ---- nothing in the way ----------------------------------------------------------------------------------


def test_a_process_of_an_ordinary_user(crasher: Path, folder: Path) -> None:
    says, cores = crashed(crasher, folder, uid=NOBODY)
    assert says.writes
    assert says.no == says.unknown == set()
    assert [path.name for path in cores] == ["core"]
    assert str(folder) in says.reasons["directory"]


def test_of_roots_own_nothing_tells_whether_it_is_dumpable(crasher: Path, folder: Path) -> None:
    says, cores = crashed(crasher, folder)
    assert says.writes and cores
    assert says.unknown == {"dumpable"}


@pytest.mark.parametrize("filter", [0, 0x33])
def test_a_filter_stops_no_core(crasher: Path, folder: Path, filter: int) -> None:
    says, cores = crashed(crasher, folder, filter=filter)
    assert says.writes and cores
    assert ("keeps nothing" in says.reasons["coredump_filter"]) == (filter == 0)
    assert bool(says.remedies["coredump_filter"]) == (filter == 0)


# ---- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 4095, 4096, 1 << 20])
def test_rlimit_core(crasher: Path, folder: Path, limit: int) -> None:
    says, cores = crashed(crasher, folder, uid=NOBODY, core=limit)
    assert says.writes == bool(cores) == (limit >= resource.getpagesize())
    assert says.no == (set() if cores else {"RLIMIT_CORE"})


@pytest.mark.parametrize("limit", [0, 1, 1 << 20])
def test_rlimit_fsize(crasher: Path, folder: Path, limit: int) -> None:
    says, cores = crashed(crasher, folder, uid=NOBODY, file_size=limit)
    assert says.writes == bool(cores) == (limit > 0)
    assert says.no == (set() if cores else {"RLIMIT_FSIZE"})


# ---- rights ----------------------------------------------------------------------------------------------

BECOME = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
FORBID = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)"


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_daemon_that_gave_up_its_rights(crasher: Path, folder: Path, mode: int, absolute: bool) -> None:
    pattern = f"{folder}/core" if absolute else "core"
    with sysctl("fs/suid_dumpable", mode), sysctl("kernel/core_pattern", pattern):
        says, cores = crashed(crasher, folder, script=BECOME)
    assert says.writes == bool(cores) == (mode == 1 or (mode == 2 and absolute))
    assert says.no == (set() if cores else {"dumpable"})
    assert says.unknown == ({"dumpable"} if mode == 2 and absolute else set())
    if mode == 2 and cores:
        assert cores[0].stat().st_uid == 0


def test_a_core_for_root_replaces_nothing(crasher: Path, folder: Path) -> None:
    (folder / "core").write_bytes(b"old")
    with sysctl("fs/suid_dumpable", 2), sysctl("kernel/core_pattern", f"{folder}/core"):
        says, cores = crashed(crasher, folder, script=BECOME)
    assert not says.writes and not cores
    assert says.no == {"nothing in the way"}


def test_a_process_that_forbade_it(crasher: Path, folder: Path) -> None:
    says, cores = crashed(crasher, folder, uid=NOBODY, script=FORBID)
    assert not says.writes and not cores
    assert says.no == {"dumpable"}


def copy_of(crasher: Path, folder: Path, *, mode: int, uid: int = 0, gid: int = 0, capability: bytes = b"") -> Path:
    program = folder.parent / "program"
    shutil.copy(crasher, program)
    os.chown(program, uid, gid)
    program.chmod(mode)
    if capability:
        os.setxattr(program, "security.capability", capability)
    return program


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize(
    "program",
    [
        {"mode": 0o4755},
        {"mode": 0o4755, "uid": 1},
        {"mode": 0o2755},
        {"mode": 0o755, "capability": NET_RAW},
    ],
    ids=["set-user-ID root", "set-user-ID", "set-group-ID", "capabilities"],
)
def test_a_program_with_rights_of_its_own(crasher: Path, folder: Path, mode: int, program: dict[str, int]) -> None:
    (folder.parent / "program").unlink(missing_ok=True)
    with sysctl("fs/suid_dumpable", mode):
        says, cores = crashed(copy_of(crasher, folder, **program), folder, uid=NOBODY)
    assert says.writes == bool(cores) == (mode == 1)
    if not cores:
        assert says.no == {"dumpable", "set-ID, capabilities"}


@pytest.mark.parametrize("program", [{"mode": 0o4755}, {"mode": 0o2755}, {"mode": 0o755, "capability": NET_RAW}])
def test_rights_that_give_root_nothing(crasher: Path, folder: Path, program: dict[str, int]) -> None:
    says, cores = crashed(copy_of(crasher, folder, **program), folder)
    assert says.writes and cores


@pytest.mark.parametrize("mode", [0o711, 0o511, 0o755])
def test_a_program_that_its_user_may_not_read(crasher: Path, folder: Path, mode: int) -> None:
    says, cores = crashed(copy_of(crasher, folder, mode=mode), folder, uid=NOBODY)
    assert says.writes == bool(cores) == (mode == 0o755)
    assert says.no == (set() if cores else {"dumpable", "program readable"})
    says, cores = crashed(folder.parent / "program", folder)
    assert says.writes and cores


# ---- the folder ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "uid"), [(0o755, NOBODY), (0o777, NOBODY), (0o722, NOBODY), (0o755, 0), (0o555, 0)])
def test_who_may_write_there(crasher: Path, folder: Path, mode: int, uid: int) -> None:
    folder.chmod(mode)
    says, cores = crashed(crasher, folder, uid=uid)
    assert says.writes == bool(cores)
    assert says.no == (set() if cores else {"directory writable"})


def test_a_way_that_is_closed(crasher: Path, folder: Path) -> None:
    """The folder itself may be written to, but not be reached."""
    folder.parent.chmod(0o700)
    with sysctl("kernel/core_pattern", f"{folder}/core"):
        says, cores = crashed(crasher, Path("/"), look=folder, uid=NOBODY)
        assert not says.writes and not cores
        assert says.no == {"directory writable"}
        folder.parent.chmod(0o711)
        says, cores = crashed(crasher, Path("/"), look=folder, uid=NOBODY)
    assert says.writes and cores


def test_an_access_list_counts(crasher: Path, folder: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("setfacl (acl) is not installed")
    folder.chmod(0o755)
    subprocess.run(["setfacl", "-m", f"u:{NOBODY}:rwx", folder], check=True)
    says, cores = crashed(crasher, folder, uid=NOBODY)
    assert says.writes and cores


def test_a_folder_that_was_removed(crasher: Path, folder: Path) -> None:
    says, cores = crashed(crasher, folder, before=folder.rmdir)
    assert not says.writes and not cores
    assert "directory" in says.no


@pytest.mark.parametrize(
    "pattern", ["missing/core", "{folder}/missing/core", "sub/core", "{folder}/sub/%e.%u", "sub/%t"]
)
def test_the_folder_of_a_pattern(crasher: Path, folder: Path, pattern: str) -> None:
    (folder / "sub").mkdir()
    with sysctl("kernel/core_pattern", pattern.format(folder=folder)):
        says, cores = crashed(crasher, folder, look=folder / "sub")
    assert says.writes == bool(cores) == ("missing" not in pattern)
    assert says.no == (set() if cores else {"directory"})
    assert ("nothing in the way" in says.unknown) == ("%t" in pattern)


@pytest.mark.parametrize("made", [False, True])
def test_a_process_with_a_root_of_its_own(crasher: Path, folder: Path, made: bool) -> None:
    """An absolute pattern means its root, not ours."""
    where = f"/corefilt-test-{os.getpid()}"
    if made:
        (folder / where[1:]).mkdir()
    shutil.copy(crasher, folder / "crasher")
    with sysctl("kernel/core_pattern", f"{where}/core"):
        says, cores = crashed(Path("/crasher"), folder, look=folder / where[1:], root=folder)
    assert says.writes == bool(cores) == made
    assert says.no == (set() if made else {"directory"})


def test_a_link_in_another_root(crasher: Path, folder: Path) -> None:
    """It leads the process elsewhere than us, and is not followed."""
    (folder / "real").mkdir()
    (folder / "link").symlink_to("/real")
    shutil.copy(crasher, folder / "crasher")
    with sysctl("kernel/core_pattern", "/link/core"):
        says, cores = crashed(Path("/crasher"), folder, look=folder / "real", root=folder)
    assert cores
    assert says.answers["directory"] == "cannot tell"


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """Mount a small file system."""
    with ExitStack() as undo:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=False).returncode != 0:
            pytest.skip("a tmpfs cannot be mounted here")
        undo.callback(subprocess.run, ["umount", folder], check=True)
        yield folder


def test_a_file_system_that_is_read_only(crasher: Path, folder: Path) -> None:
    with tmpfs(folder, "mode=0777,ro"):
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert not says.writes and not cores
        assert {"not read-only"} <= says.no <= {"not read-only", "directory writable"}
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert says.writes and cores


def test_a_file_system_that_is_full(crasher: Path, folder: Path) -> None:
    with tmpfs(folder, "mode=0777,size=1m"):
        (folder / "filler").write_bytes(bytes(1 << 20))
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert not says.writes and not cores
        assert says.no == {"space"}
        (folder / "core").unlink()
        (folder / "filler").unlink()
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert says.writes and cores


def test_a_file_system_without_inodes(crasher: Path, folder: Path) -> None:
    with tmpfs(folder, "mode=0777,size=8m,nr_inodes=4"):
        for n in itertools.count():
            try:
                (folder / f"filler{n}").touch()
            except OSError:
                break
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert not says.writes and not cores
        assert says.no == {"space"}
        (folder / "filler0").unlink()
        says, cores = crashed(crasher, folder, uid=NOBODY)
        assert says.writes and cores


# ---- the name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "file", "foreign file", "symlink", "fifo", "hard link"])
@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["open", "sticky"])
def test_what_is_there_by_its_name(crasher: Path, folder: Path, kind: str, mode: int) -> None:
    folder.chmod(mode)
    core, other = folder / "core", folder.parent / "other"
    other.write_bytes(b"")
    if kind == "folder":
        core.mkdir()
    elif kind == "symlink":
        core.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(core)
    elif kind == "hard link":
        os.link(other, core)
    else:
        core.write_bytes(b"old")
    os.chown(core, *(0, 0) if kind == "foreign file" else (NOBODY, NOBODY), follow_symlinks=False)
    says, cores = crashed(crasher, folder, uid=NOBODY)
    assert says.writes == bool(cores), says.reasons
    assert says.no == (set() if cores else {"nothing in the way"})
    assert (kind != "folder" and (kind != "foreign file" or mode == 0o777)) == bool(cores)
    assert other.read_bytes() == b""


@pytest.mark.parametrize(
    ("pattern", "uses_pid"),
    [
        ("", 0),
        ("", 1),
        ("%e" * 60, 0),
        ("sub/", 0),
        ("sub/", 1),
        ("sub/..", 0),
        ("%", 0),
        ("%", 1),
        ("core.%p", 0),
        ("core", 1),
    ],
)
def test_patterns_for_files(crasher: Path, folder: Path, pattern: str, uses_pid: int) -> None:
    (folder / "sub").mkdir()
    with sysctl("kernel/core_pattern", pattern), sysctl("kernel/core_uses_pid", uses_pid):
        says, cores = crashed(crasher, folder, script="" if "%e" not in pattern else "pass")
        cores += list(files_in(folder / "sub"))
    assert says.writes == bool(cores), says.reasons


# ---- pipes and sockets -----------------------------------------------------------------------------------


@contextmanager
def helper(folder: Path, text: str, mode: int = 0o755) -> Iterator[tuple[str, Path]]:
    """Make a program behind a pipe; yields its short name and where it writes what it reads."""
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    program = folder.parent / "helper"
    program.write_text(text.format(python=INTERPRETER, out=str(out / "core")))
    program.chmod(mode)
    link = Path(f"/run/corefilt-test-{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    try:
        with sysctl("kernel/core_pipe_limit", 4):
            yield str(link), out
    finally:
        link.unlink()


@pytest.mark.parametrize("limit", [0, 1, 4096])
def test_a_pipe(crasher: Path, folder: Path, limit: int) -> None:
    folder.chmod(0o755)
    with helper(folder, HELPER) as (name, out), sysctl("kernel/core_pattern", f"|{name} %P"):
        says, cores = crashed(crasher, folder, look=out, uid=NOBODY, core=limit)
    assert says.writes == bool(cores) == (limit != 1)
    assert says.no == (set() if cores else {"RLIMIT_CORE"})


def test_a_program_behind_a_pipe_that_is_not_roots(crasher: Path, folder: Path) -> None:
    with helper(folder, HELPER) as (name, out), sysctl("kernel/core_pattern", f"|{name}"):
        os.chown(folder.parent / "helper", NOBODY, NOBODY)
        says, cores = crashed(crasher, folder, look=out)
    assert says.writes and cores
    assert "becomes root" in says.remedies["core_pattern"]


@pytest.mark.parametrize("mode", [0, 2])
def test_a_pipe_takes_what_gave_up_its_rights_only_in_mode_2(crasher: Path, folder: Path, mode: int) -> None:
    with (
        helper(folder, HELPER) as (name, out),
        sysctl("kernel/core_pattern", f"|{name}"),
        sysctl("fs/suid_dumpable", mode),
    ):
        says, cores = crashed(crasher, folder, look=out, script=BECOME)
    assert says.writes == bool(cores) == (mode == 2)


@pytest.mark.parametrize(
    ("text", "mode", "pattern"),
    [
        (HELPER, 0o644, "|{name}"),
        ("#!/no/such/interpreter\n", 0o755, "|{name}"),
        (HELPER, 0o755, "|{name}.missing"),
        (HELPER, 0o755, "|/run"),
        (HELPER, 0o755, "|"),
        (HELPER, 0o755, "|  "),
    ],
)
def test_pipes_to_nothing(crasher: Path, folder: Path, text: str, mode: int, pattern: str) -> None:
    with helper(folder, text, mode) as (name, out), sysctl("kernel/core_pattern", pattern.format(name=name)):
        says, cores = crashed(crasher, folder, look=out)
    assert not says.writes and not cores and not files_in(folder)
    assert says.no == {"core_pattern"}


@pytest.mark.parametrize("state", ["listening", "bound", "gone", "a file"])
def test_sockets(crasher: Path, folder: Path, state: str) -> None:
    if kernel_version() < (6, 16):
        pytest.skip("sockets came with Linux 6.16")
    path = Path(f"/run/corefilt-test-{os.getpid()}.sock")
    received = []
    with socket.socket(socket.AF_UNIX) as server, ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        if state in ("listening", "bound"):
            server.bind(str(path))
        if state == "listening":
            server.listen()
        if state == "a file":
            path.touch()
        undo.enter_context(sysctl("kernel/core_pattern", f"@{path}"))

        def take() -> None:
            import threading

            def read() -> None:
                connection, _ = server.accept()
                connection.settimeout(PATIENCE)
                with connection:
                    while piece := connection.recv(1 << 16):
                        received.append(len(piece))

            if state == "listening":
                thread = threading.Thread(target=read)
                thread.start()
                undo.callback(thread.join, 60)

        says, _ = crashed(crasher, folder, before=take)
    assert bool(received) == (state == "listening")
    assert says.answers["core_pattern"] == {"listening": "ok", "bound": "cannot tell"}.get(state, "no")


# ---- what is no process ----------------------------------------------------------------------------------


def test_a_zombie() -> None:
    zombie = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        says = Says(zombie.pid)
    finally:
        zombie.wait()
    assert says.no == {"process"}
    assert "ended" in says.reasons["process"]


def test_a_thread_of_the_kernel() -> None:
    if Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("pid 2 is not a thread of the kernel here")
    assert Says(2).no == {"process"}


def test_what_the_program_asked_to_leave_out(crasher: Path, folder: Path) -> None:
    script = (
        "import mmap; m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE); m[:] = b'x' * len(m)\n"
        "m.madvise(mmap.MADV_DONTDUMP)"
    )
    says, cores = crashed(crasher, folder, script=script)
    assert says.reasons["MADV_DONTDUMP"].startswith("1.00 MiB in 1 mapping")
    assert says.writes and cores
    assert b"x" * 8192 not in cores[0].read_bytes()
