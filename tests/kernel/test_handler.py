"""The handler behind the real core_pattern: processes that crash here, and what the kernel itself would have kept."""

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kernel.crashing import compile_crasher, crash, need_system
from kernel.dumps import (
    FULL,
    CannotCompileError,
    Core,
    compile_c,
    huge_pages,
    read_tags,
    run_program,
    sysctl,
)
from kernel.handling import JOURNAL, Place, in_core_pattern
from kernel.waiting import CROWDS, Waiting, masked, waiting
from support.archives import UNPACK
from support.builds import INTERPRETER, PATIENCE

from corefilt.handler import permissions
from corefilt.handler.log import encode
from corefilt.store.attributes import OWNER
from corefilt.store.ledger import NAME as LEDGER

USER = 1000


@pytest.fixture
def place() -> Iterator[Place]:
    """Give a folder whose path is short enough for core_pattern."""
    need_system()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Place(Path(folder))


@pytest.fixture(scope="module")
def crasher() -> Iterator[Path]:
    """Compile the program where any user can start it."""
    need_system()
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        try:
            yield compile_crasher(Path(folder))
        except CannotCompileError as error:
            pytest.skip(str(error))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that any user can die in."""
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as name:
        Path(name).chmod(0o777)
        (Path(name) / "here").mkdir(mode=0o777)
        yield Path(name) / "here"


def same_but_for_pids(ours: Path, kernels: Path) -> bool:
    """Tell whether two twins' cores differ in nothing but what must differ."""
    full = Core(kernels)
    return masked(ours.read_bytes(), full) == masked(kernels.read_bytes(), full)


# --- what the kernel would have written -------------------------------------------------------------------


@pytest.mark.parametrize("value", [0x0, 0x10, 0x31, 0x33, 0x1FF])
def test_a_twin_is_dumped_alike(value: int, small: Waiting, place: Place, tmp_path: Path) -> None:
    place.write(filter=f"{value:#x}")
    small.ready()
    with in_core_pattern(place) as handler:
        status = small.die()
        said = handler.said()
    assert os.WCOREDUMP(status)
    assert b"no evidence" not in said["MESSAGE"]
    kernels = small.dump(f"{value:#x}", value)
    assert kernels is not None
    assert same_but_for_pids(place.core(), kernels)
    kernels.unlink()


@pytest.mark.parametrize("crowd", CROWDS)
def test_many_at_once(crowd: int, waiting_program: Path, place: Place, tmp_path: Path) -> None:
    """While another process forks as fast as it can, so that pids are used up."""
    place.write(name="%P", free_space=0)
    with ExitStack() as undo:
        all_of_them = [undo.enter_context(waiting(waiting_program, tmp_path / str(number))) for number in range(crowd)]
        pids = [process.ready() for process in all_of_them]
        forks = undo.enter_context(subprocess.Popen(["sh", "-c", "while :; do (exit 0); done"]))
        undo.callback(forks.kill)
        with in_core_pattern(place) as handler:
            for process in all_of_them:
                process.release()
            statuses = [process.status() for process in all_of_them]
            handler.wait()
        forks.kill()
        assert all(os.WCOREDUMP(status) for status in statuses)
        assert {path.name for path in place.cores()} == {str(pid) for pid in pids}
        for pid, process in zip(pids, all_of_them, strict=True):
            kernels = process.dump("kernels", 0x33)
            assert kernels is not None
            assert same_but_for_pids(place.out / str(pid), kernels)


def test_the_zoo(zoo_program: Path, place: Place, tmp_path: Path) -> None:
    """Every sort of mapping: what the handler takes out of a full dump is what the kernel leaves out, by smaps and
    map_files. Twins with another filter than the full one are saved as the kernel dumps them."""
    place.write(filter="0x33", name="%P")
    whole = place.root / "whole.conf"
    whole.write_text(place.config.read_text().replace("'0x33'", "'all'"))
    patch = f"""
if "000001ff" not in open(f"/proc/{{sys.argv[1]}}/coredump_filter").read():
    config = {str(whole)!r}
"""
    zoo = tmp_path / "zoo"
    (zoo / "files").mkdir(parents=True)
    shutil.copytree(zoo_program.parent / "images", zoo / "images")
    for name in ("0x33", "0x1ff"):
        (zoo / name).mkdir()
    with huge_pages(zoo, 12) as hugetlbfs, in_core_pattern(place, patch) as handler:
        run_program([str(zoo_program), "wild", str(zoo), hugetlbfs, "0x33", "0x1ff"])
        for _ in range(2):
            said = handler.said()
            assert b"no evidence" not in said["MESSAGE"]
    kernels, ours = (Core(path) for path in sorted(place.cores(), key=lambda path: int(path.name)))
    tags, categories, _ = read_tags(zoo, kernels)
    theirs, mine = kernels.sizes(), ours.sizes()
    assert theirs.keys() == mine.keys()
    assert [tags[address] for address in theirs if mine[address] < theirs[address]] == []
    more = [address for address in theirs if mine[address] > theirs[address]]
    # Private and never written to, though it could have been: writable, or text of an image with DT_TEXTREL. Nothing
    # shows that (anon_vma), and what is not certain is kept.
    for address in more:
        if not tags[address].startswith("libtextrel.so"):
            assert kernels.loads[address].p_flags & 2, tags[address]
            assert categories[tags[address]] in ("file", "file+header"), tags[address]
    assert len(more) < 8
    assert (b"on an assumption" in said["MESSAGE"]) == bool(more)


# --- processes of every sort ------------------------------------------------------------------------------


def test_threads(place: Place, folder: Path) -> None:
    program = compile_c("threads.c", place.root / "threads", "-O0", "-pthread")
    (folder / "0x1ff").mkdir()
    with in_core_pattern(place) as handler:
        subprocess.run([program, folder, "0x1ff"], check=False, timeout=PATIENCE)
        said = handler.said()
    assert said["COREDUMP_COMM"] == b"threads"
    core = Core(place.core())
    assert all(load.p_offset + load.p_filesz <= len(core.data) for load in core.phdrs)
    if shutil.which("gdb"):
        command = ["gdb", "-nx", "-batch", "-ex", "thread apply all bt", str(program), str(place.core())]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        assert shown.count("\nThread ") == 5
        assert shown.count(" in wait_forever ") >= 2 * (2 + 10)


def test_the_first_thread_has_ended(crasher: Path, place: Place, folder: Path) -> None:
    """Its folder in /proc shows no memory any more; those of the others do."""
    with in_core_pattern(place) as handler:
        crash(crasher, folder, who="orphan")
        said = handler.said()
    assert b"no evidence" not in said["MESSAGE"]
    assert said["COREDUMP_EXE"] == os.fsencode(crasher)


def test_a_users_process(crasher: Path, place: Place, folder: Path) -> None:
    """It may read its core, and so may nobody else."""
    with in_core_pattern(place) as handler:
        what = crash(crasher, folder, uid=USER)
        said = handler.said()
    assert what.files == []
    core = place.core()
    assert os.getxattr(core, permissions.ACL) == permissions.acl(USER)
    assert (core.stat().st_uid, core.stat().st_gid) == (0, 0)
    assert said["MESSAGE_ID"] == b"fc2e22bc6ee647b6b90729ab34a250b1"
    facts = {
        "pid": b"%d" % what.pid,
        "uid": b"%d" % USER,
        "gid": b"%d" % USER,
        "signal": b"11",
        "comm": b"crasher",
        "exe": os.fsencode(crasher),
        "rlimit": b"%d" % (resource.RLIM_INFINITY & (1 << 64) - 1),
        "hostname": os.uname().nodename.encode(),
    }
    for name, value in facts.items():
        assert said[f"COREDUMP_{name.upper()}"] == value
        assert os.getxattr(core, f"user.coredump.{name}") == value
    assert said["COREDUMP_SIGNAL_NAME"] == b"SIGSEGV"
    assert said["COREDUMP_CMDLINE"] == os.fsencode(crasher) + b" - main"
    group = Path("/proc/self/cgroup").read_bytes().splitlines()[-1]
    assert group.endswith(b":" + said["COREDUMP_CGROUP"])
    assert os.fsencode(crasher) in said["COREDUMP_PROC_MAPS"]
    assert b" [stack]\n" in said["COREDUMP_PROC_MAPS"]
    assert said["COREDUMP_FILENAME"] == os.fsencode(core)
    assert int(said["COREDUMP_TIMESTAMP"]) // 1_000_000 in what.seconds


def test_who_owns_the_program_is_noted_and_counts(crasher: Path, place: Place, folder: Path) -> None:
    """A copy that belongs to somebody else is another program; of one user's program one core is left."""
    copied = folder / "copied"
    shutil.copy(crasher, copied)
    os.chown(copied, USER, USER)
    place.write(max_per_executable=1, limit_interval="10m", limit_burst=4, name="%p")
    with in_core_pattern(place) as handler:
        for program in (crasher, copied, crasher):
            crash(program, folder, uid=USER)
            handler.wait()
    cores = [path for path in place.cores() if path.name != LEDGER]
    owners = sorted(os.getxattr(core, OWNER) for core in cores)
    assert owners == [b"%d" % crasher.stat().st_uid, b"%d" % USER]
    assert {os.getxattr(core, "user.coredump.exe") for core in cores} == {os.fsencode(crasher), os.fsencode(copied)}


def test_a_set_uid_program(crasher: Path, place: Place, folder: Path) -> None:
    """With suid_dumpable 2 its core is root's alone, whoever started it."""
    program = place.root / "privileged"
    shutil.copy(crasher, program)
    program.chmod(0o4755)
    with sysctl("fs/suid_dumpable", 2), in_core_pattern(place) as handler:
        crash(program, folder, uid=USER)
        said = handler.said()
    assert said["COREDUMP_UID"] == b"%d" % USER
    assert b"no evidence" not in said["MESSAGE"]
    assert place.core().stat().st_mode & 0o777 == 0o600
    assert permissions.ACL not in os.listxattr(place.core())
    assert len(Core(place.core()).loads) > 4


def test_a_process_in_other_namespaces(crasher: Path, place: Place, folder: Path) -> None:
    """Its number and its paths are its own: the executable lies on a mount that nobody else sees."""
    place.write(name="%e.%p.%P")
    script = (
        f"ulimit -S -c unlimited && mount -t tmpfs none /mnt && cp {crasher} /mnt/inside && exec /mnt/inside - main"
    )
    command = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-c", script]

    def none_of_its_own() -> None:
        # unshare dies of the signal that its child died of.
        resource.setrlimit(resource.RLIMIT_CORE, (1, resource.RLIM_INFINITY))

    with in_core_pattern(place) as handler:
        subprocess.run(
            command, cwd=folder, preexec_fn=none_of_its_own, capture_output=True, timeout=PATIENCE, check=False
        )
        said = handler.said()
    outside = int(said["COREDUMP_PID"])
    assert outside > 1
    assert place.core().name == f"inside.1.{outside}"
    assert said["COREDUMP_EXE"] == b"/mnt/inside"
    assert b"no evidence" not in said["MESSAGE"]


@pytest.mark.parametrize(
    "comm", [b" --name=/etc/x", b"new\nline", b"100%p %s", b"../../etc/x", b"\xff\xfe", b"a:\tb", b""]
)
def test_what_a_process_calls_itself(comm: bytes, crasher: Path, place: Place, folder: Path) -> None:
    place.write(name="z%e.%s")
    with in_core_pattern(place) as handler:
        crash(crasher, folder, comm=comm, called=b"--config=x %c \n")
        said = handler.said()
    assert said["COREDUMP_COMM"] == comm
    assert os.fsencode(place.core().name) == b"z" + (comm.replace(b"/", b"!") or b"!") + b".11"
    assert b"\n" not in said["MESSAGE"]


def unlimited() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize(("how", "limit"), [("ignore", 0), ("truncate", 60000), ("fit", 80000), ("truncate", 0)])
def test_the_limit_of_the_process(how: str, limit: int, small: Waiting, place: Place) -> None:
    place.write(rlimit=how, filter="all")
    small.ready(limit=limit)
    with in_core_pattern(place) as handler:
        small.die()
        said = handler.said()
    assert said["COREDUMP_RLIMIT"] == b"%d" % limit
    if how == "ignore":
        assert len(Core(place.core()).data) > 100_000
    elif limit == 0:
        assert place.cores() == []
        assert b"RLIMIT_CORE is 0" in said["MESSAGE"]
    elif how == "truncate":
        kernels = small.dump("cut", FULL, limit)
        assert kernels is not None
        assert place.core().stat().st_size == kernels.stat().st_size
        kernels.unlink()
    else:
        assert place.cores(), said["MESSAGE"]
        assert place.core().stat().st_size <= limit
        assert len(Core(place.core()).loads) > 4


def test_the_journal_itself_crashes(place: Place) -> None:
    """It holds the socket that the handler would tell it by, and reads no more."""
    code = f"""
import os, signal, socket
taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
taken.bind({str(JOURNAL)!r})
os.kill(os.getpid(), signal.SIGSEGV)
"""
    with in_core_pattern(place) as handler:
        JOURNAL.unlink()
        subprocess.run([INTERPRETER, "-I", "-c", code], preexec_fn=unlimited, timeout=PATIENCE, check=False)
        handler.wait()
    assert len(Core(place.core()).loads) > 4


# --- pids that are used again -----------------------------------------------------------------------------


def test_a_number_that_is_used_again_before_the_handler_looks(small: Waiting, place: Place) -> None:
    """The process is killed while it is dumped, and root's next process has its number: nothing of that is shown."""
    go = place.root / "go"
    os.mkfifo(go)
    pid = small.ready()
    with in_core_pattern(place, f"open({str(go)!r}).close()") as handler:
        small.release()
        wait_for_handler(place)
        os.kill(pid, signal.SIGKILL)
        small.status()
        with process_of_number(pid) as secret:
            go.write_text("")
            said = handler.said()
            secret.kill()
    assert b"no evidence" in said["MESSAGE"]
    assert "COREDUMP_COMM" not in said
    assert place.core().name.startswith("core.!.")


def wait_for_handler(place: Place) -> None:
    """Wait until the kernel has started the handler, and sent it the first bytes of the core."""
    name = os.fsencode(place.root / "h")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if name in process.read_bytes().split(b"\0"):
                    with open(process.parent / "fd/0", "rb", buffering=0) as pipe:
                        if fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4):
                            return
            except OSError:
                continue
    raise AssertionError("the kernel has started no handler")


def process_of_number(pid: int) -> "subprocess.Popen[bytes]":
    """Start processes until one has this number."""
    for _ in range(1000):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        process = subprocess.Popen(["sleep", "60"])
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    raise AssertionError(f"{pid} cannot be had")


def test_without_a_pidfd_its_status_tells(small: Waiting, place: Place) -> None:
    """As before Linux 6.16."""
    small.ready()
    with in_core_pattern(place, 'os.close(3); sys.argv[-1] = ""') as handler:
        small.die()
        said = handler.said()
    assert b"no evidence" not in said["MESSAGE"]
    assert said["COREDUMP_COMM"] == b"program"
    kernels = small.dump("without", 0x33)
    assert kernels is not None
    assert same_but_for_pids(place.core(), kernels)
    kernels.unlink()


# --- faults -----------------------------------------------------------------------------------------------

IN_THE_MIDDLE = """
from corefilt.handler import worker
real = worker.write_filtered
def write_filtered(*args, **options):
    result = real(*args, **options)
    {what}
    return result
worker.write_filtered = write_filtered
"""
FAULTS = {
    "child falls": IN_THE_MIDDLE.format(what="import ctypes; ctypes.string_at(0)"),
    "parent killed": "from corefilt.handler import config as c; c.read_config = lambda path: os.kill(os.getpid(), 9)",
    "child stuck": IN_THE_MIDDLE.format(what="import time; time.sleep(99)"),
    "child mad": IN_THE_MIDDLE.format(what="raise ZeroDivisionError('mad')"),
    "child silent": IN_THE_MIDDLE.format(what="os._exit(0)"),
    "parent mad": "from corefilt.handler import supervisor; supervisor._give_rights = None",
    "settings": "config = '/etc/passwd'",
    "no memory": IN_THE_MIDDLE.format(what="raise MemoryError"),
    "child killed early": "from corefilt.handler import worker as c; c.Work.carry_out = lambda w: os._exit(9)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_leaves_nothing_and_takes_no_slot(fault: str, small: Waiting, place: Place) -> None:
    """With core_pipe_limit 1 the next crash is handled only if nothing of the first is left."""
    place.write(deadline=2)
    small.ready()
    with in_core_pattern(place, FAULTS[fault], pipe_limit=1) as handler:
        small.die()
        if fault != "parent killed":
            said = handler.said()
            assert b"no core was saved" in said["MESSAGE"]
        handler.wait()
    assert place.cores() == []
    place.write()
    small.ready()
    with in_core_pattern(place, pipe_limit=1) as handler:
        assert os.WCOREDUMP(small.die())
        assert b"dumped core" in handler.said()["MESSAGE"]
    assert len(Core(place.core()).loads) > 4


def test_evidence_that_cannot_be_read(small: Waiting, place: Place) -> None:
    patch = "from corefilt.handler import crashed_process; crashed_process._look = lambda *args: None"
    small.ready()
    with in_core_pattern(place, patch) as handler:
        small.die()
        said = handler.said()
    assert b"no evidence" in said["MESSAGE"]
    assert len(Core(place.core()).loads) > 4


def test_smaps_that_takes_too_long(small: Waiting, place: Place) -> None:
    """Then maps is used, and that is said."""
    patch = """
from corefilt.handler import process_evidence
real = process_evidence.read_within
def read_within(fd, budget, *more, **options):
    return real(fd, budget, *more, **options) if budget != 0.25 else None
process_evidence.read_within = read_within
"""
    place.write(smaps_budget=0.25)
    small.ready()
    with in_core_pattern(place, patch) as handler:
        small.die()
        said = handler.said()
    assert b"smaps was not read within 0.25 s; its maps tells less" in said["MESSAGE"]
    assert b"no evidence" not in said["MESSAGE"]
    assert len(Core(place.core()).loads) > 4


def test_coredumpctl_lists_it(crasher: Path, place: Place, folder: Path) -> None:
    """By the journal that its message makes."""
    writer = shutil.which("systemd-journal-remote", path=f"{os.environ['PATH']}:/lib/systemd:/usr/lib/systemd")
    if writer is None or shutil.which("coredumpctl") is None:
        pytest.skip(
            "needs systemd-journal-remote and coredumpctl (Debian: the packages of these names, systemd-coredump)"
        )
    # Of one that is not compressed, its dump says "Protocol not supported" (systemd 252).
    place.write(compress="zstd")
    with in_core_pattern(place) as handler:
        what = crash(crasher, folder, uid=USER)
        said = handler.said()
    book = place.root / "crashes.journal"
    stamps = {"__REALTIME_TIMESTAMP": said["COREDUMP_TIMESTAMP"], "_BOOT_ID": b"0" * 31 + b"1"}
    # Units are those of this session or service; one is made up, so that there is one wherever this runs.
    told = {name.encode(): value for name, value in {**stamps, **said, "COREDUMP_UNIT": b"made-up.service"}.items()}
    export = encode(told) + b"\n"
    subprocess.run([writer, "-o", book, "-"], input=export, check=True, capture_output=True)
    command = ["coredumpctl", "--file", book, "--no-pager", "--no-legend"]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True).stdout.split()
    shown = subprocess.run([*command, "info"], capture_output=True, text=True, check=True).stdout
    rows = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in shown.splitlines())}
    assert rows["Command Line"] == f"{crasher} - main"
    assert rows["Control Group"] == said["COREDUMP_CGROUP"].decode()
    assert rows["Unit"] == "made-up.service"
    assert rows["Executable"] == str(crasher)
    assert rows["Signal"] == "11 (SEGV)"
    assert f"Process {what.pid}" in shown or f"process {what.pid} (crasher)" in shown
    assert listed[-7:-1] == [str(what.pid), str(USER), str(USER), "SIGSEGV", "present", str(crasher)]
    done = subprocess.run([*command, "dump", str(what.pid), "-o", folder / "out"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "out").read_bytes() == UNPACK["zstd"](place.core().read_bytes())
