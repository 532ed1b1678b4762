"""A process that still exists: its smaps and its files, and everything that can come in between."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core
from support.builds import INTERPRETER
from support.opening import opened
from support.ready import descriptors
from support.run import assert_error, corefilt, environment, listing, without_privileges

from corefilt import _fast
from corefilt.errors import EvidenceError
from corefilt.procfs import snapshot as process
from corefilt.procfs.maps import parse
from corefilt.procfs.snapshot import FileFacts, Process

PAGE = 4096
# Says "ready", and waits to be told to go on or to be killed.
CHILD = """
import mmap, os, sys
folder, held = sys.argv[1], []
def hold(fd, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ):
    held.append(mmap.mmap(fd, 4096, flags=flags, prot=prot))
    os.close(fd)
def file(name, mode=0o644):
    fd = os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(fd, mode)
    os.truncate(fd, 4096)
    return fd
hold(file("plain"))
hold(file("executable", 0o741), mmap.MAP_PRIVATE)
unlinked = file("unlinked")
hold(os.dup(unlinked))
hold(unlinked)
os.unlink(os.path.join(folder, "unlinked"))
hold(file("first-name"))
os.rename(os.path.join(folder, "first-name"), os.path.join(folder, "renamed"))
hold(file("one-of-two"))
os.link(os.path.join(folder, "one-of-two"), os.path.join(folder, "two"))
os.unlink(os.path.join(folder, "one-of-two"))
hold(file("literally (deleted)"))
hold(file("replaced"))
os.replace(os.path.join(folder, "renamed"), os.path.join(folder, "replaced"))
os.link(os.path.join(folder, "replaced"), os.path.join(folder, "renamed"))
memory = os.memfd_create("victim")
os.truncate(memory, 4096)
hold(memory)
held.append(mmap.mmap(-1, 4096))
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def child(folder: Path, *prefix: str) -> Iterator[int]:
    """Run a process with known mappings, and end it; yields its pid."""
    command = [*prefix, INTERPRETER, "-I", "-c", CHILD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            yield running.pid
        finally:
            running.kill()


@pytest.fixture
def pid(tmp_path: Path) -> Iterator[int]:
    with child(tmp_path) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_descriptor_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


def end(pid: int) -> None:
    """Kill a child and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def by_name(read: Process) -> dict[str, FileFacts | None]:
    """Return the facts of every mapped file by the end of its name."""
    return {
        os.path.basename(os.fsdecode(path)): read.facts.get(i)
        for i, path in enumerate(read.areas.path)
        if path is not None and read.areas.nature[i].what == "file"
    }


def refused(pid: int) -> str:
    with pytest.raises(EvidenceError) as caught:
        Process(pid)
    said = str(caught.value)
    assert said.startswith(f"process {pid}") and "\n" not in said
    return said


may_see_all = pytest.mark.skipif(
    not os.path.isdir("/proc/self/map_files") or os.geteuid() != 0,
    reason="files without a name can be looked at with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN only",
)


# --- facts ------------------------------------------------------------------------------------------------


@may_see_all
@pytest.mark.parametrize(
    ("name", "linked", "executable"),
    [
        ("plain", True, False),
        ("executable", True, True),
        ("unlinked (deleted)", False, False),
        ("one-of-two (deleted)", True, False),
        ("literally (deleted)", True, False),
        ("replaced (deleted)", False, False),
        ("memfd:victim (deleted)", False, True),
        ("zero (deleted)", False, None),
    ],
)
def test_what_is_known_of_a_file(name: str, linked: bool, executable: bool | None, pid: int) -> None:
    facts = by_name(Process(pid))[name]
    assert facts is not None
    assert facts.linked is linked
    assert executable is None or facts.executable is executable
    assert facts.huge is False
    assert facts.dax in (None, False)


@may_see_all
def test_every_mapping_of_a_file_has_facts_and_no_other(pid: int) -> None:
    read = Process(pid)
    assert set(read.facts) == {i for i, nature in enumerate(read.areas.nature) if nature.what == "file"}
    assert read.notices == []
    assert read.name == f"process {pid}"
    libraries = [i for i, path in enumerate(read.areas.path) if path is not None and b"libc.so" in path]
    assert len(libraries) > 2
    assert len({id(read.facts[i]) for i in libraries}) == 1


def test_its_mappings_are_those_of_smaps(pid: int) -> None:
    read, own = Process(pid), parse(Path(f"/proc/{pid}/smaps").read_bytes(), "smaps")
    assert (list(read.areas.start), list(read.areas.end)) == (list(own.start), list(own.end))
    assert read.areas.path == own.path
    assert read.areas.nature[0].flags is not None


def test_itself() -> None:
    assert os.fsencode(INTERPRETER) in Process(os.getpid()).areas.path


@may_see_all
def test_huge_pages(tmp_path: Path) -> None:
    script = (
        "import mmap, os, sys; fd = os.memfd_create('huge', os.MFD_HUGETLB); os.truncate(fd, 2 << 20)\n"
        "held = mmap.mmap(fd, 2 << 20); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [INTERPRETER, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as running:
        try:
            assert running.stdout is not None
            if running.stdout.readline() != b"ready\n":
                pytest.skip("there are no free huge pages (nr_hugepages)")
            facts = by_name(Process(running.pid))["memfd:huge (deleted)"]
        finally:
            running.kill()
    assert facts is not None
    assert (facts.huge, facts.linked) == (True, False)


def test_statx_as_os_stat_has_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o4751)
    os.link(path, tmp_path / "link")
    status = path.stat()
    fd = os.open(path, os.O_PATH)
    try:
        mode, nlink, device, inode, attributes, known = _fast.file_status(fd)
        assert (mode, nlink, inode) == (status.st_mode, 2, status.st_ino)
        assert stat.S_ISREG(mode)
        assert device == (os.major(status.st_dev), os.minor(status.st_dev))
        assert attributes & ~known == 0
        assert _fast.file_system(fd) & 0xFFFFFFFF != process.HUGETLBFS_MAGIC
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _fast.file_status(-1)
    assert _fast.file_system(-1) == 0


# --- with less power --------------------------------------------------------------------------------------

# What a process without privileges reads of another one.
READER = """
import sys, os
from corefilt.errors import EvidenceError
from corefilt.procfs.snapshot import Process
try:
    read = Process(int(sys.argv[1]))
except EvidenceError as error:
    print("refused", error)
    print(error.hint)
else:
    for i, path in enumerate(read.areas.path):
        if read.areas.nature[i].what == "file":
            facts = read.facts.get(i)
            said = None if facts is None else (facts.linked, facts.executable)
            print(os.path.basename(os.fsdecode(path)), said, sep="\\t")
    print(*read.notices, sep="\\n")
"""


def read_without_privileges(pid: int) -> list[str]:
    done = subprocess.run(
        [*without_privileges(), sys.executable, "-c", READER, str(pid)],
        capture_output=True, text=True, check=True, env=environment(), timeout=60,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_names_lead_to_files_where_map_files_may_not_be_followed(tmp_path: Path) -> None:
    """And only to the very file: what is deleted or replaced stays unknown, and that is said."""
    prefix = without_privileges()
    with child(tmp_path, *prefix) as pid:
        lines = read_without_privileges(pid)
    assert "plain\t(True, False)" in lines
    assert "executable\t(True, True)" in lines
    assert "literally (deleted)\t(True, False)" in lines
    for name in ("unlinked", "one-of-two", "replaced", "memfd:victim"):
        if os.path.isdir("/proc/self/map_files"):
            assert f"{name} (deleted)\tNone" in lines
    assert lines[-1].startswith(f"process {pid}: ")
    assert lines[-1].endswith("could not be examined for links and modes (that takes CAP_CHECKPOINT_RESTORE)")


def test_files_that_were_not_looked_at_are_counted_once_each(tmp_path: Path) -> None:
    prefix = without_privileges()
    with child(tmp_path, *prefix) as pid:
        lines = read_without_privileges(pid)
    unknown = {line.partition("\t")[0] for line in lines if line.endswith("\tNone")}
    assert f": {len(unknown)} of its files could not" in lines[-1]


def test_a_process_of_another_user_is_refused_in_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with child(tmp_path) as pid:
            lines = read_without_privileges(pid)
    else:
        pid, lines = 1, read_without_privileges(1)
    assert lines == [f"refused process {pid}: you may not read its smaps", "run as root, or as a user who may trace it"]


def test_a_name_that_leads_to_another_file_by_now_is_not_followed(
    pid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_names_of_files", lambda folder: {})
    os.unlink(tmp_path / "plain")
    (tmp_path / "plain").write_bytes(b"another one")
    assert by_name(Process(pid))["executable"] is not None
    # The name that it has now says " (deleted)", so that one is made that is called so.
    (tmp_path / "plain (deleted)").write_bytes(b"a trap")
    assert by_name(Process(pid))["plain (deleted)"] is None


def test_a_name_that_is_a_fifo_does_not_hold_anything_up(
    pid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_names_of_files", lambda folder: {})
    os.unlink(tmp_path / "plain")
    os.mkfifo(tmp_path / "plain (deleted)")
    # An open that waits for a writer would wait for ever: the test's own limit ends it.
    assert by_name(Process(pid))["plain (deleted)"] is None


# --- processes that are none ------------------------------------------------------------------------------


def test_a_process_that_does_not_exist() -> None:
    running = subprocess.Popen(["true"])
    running.wait()
    assert refused(running.pid) == f"process {running.pid} does not exist"
    assert refused((1 << 31) - 1).endswith("does not exist")


def test_a_zombie() -> None:
    running = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        said = refused(running.pid)
        assert "ended" in said
    finally:
        running.wait()


def test_a_thread_of_the_kernel() -> None:
    try:
        name = Path("/proc/2/comm").read_text()
    except OSError:
        name = ""
    if name != "kthreadd\n":
        pytest.skip("pid 2 is not a thread of the kernel here")
    if os.geteuid() != 0:
        pytest.skip("only root may look at threads of the kernel")
    assert refused(2) == "process 2 has no memory: it ended, or it is a kernel thread"


@pytest.mark.parametrize("after", ["open", "first read", "maps"])
def test_a_process_that_ends_while_it_is_looked_at(after: str, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = process._read
    calls = []

    def read(folder: int, file: str) -> bytes:
        calls.append(file)
        if after == "maps" and file == "smaps":
            raise FileNotFoundError
        if after == "open":
            end(pid)
        text = real(folder, file)
        if after != "open":
            end(pid)
            text = real(folder, file)
        return text

    monkeypatch.setattr(process, "_read", read)
    assert "ended while it was examined" in refused(pid)
    assert calls[0] == "smaps"


@may_see_all
def test_a_process_that_ends_before_its_files_are_looked_at(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mappings are known by then."""
    real = process._names_of_files

    def names(folder: int) -> dict[tuple[int, int], str]:
        end(pid)
        return real(folder)

    monkeypatch.setattr(process, "_names_of_files", names)
    read = Process(pid)
    assert len(read.areas) > 10
    assert read.facts == {}
    assert len(read.notices) == 1


def test_a_pid_that_is_given_to_another_process_is_not_asked_again(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is opened relative to the folder that was opened first, which stays that of the process that ended."""
    real, absolute = os.open, []

    def opening(path: str | bytes, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            absolute.append(path)
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opening)
    Process(pid)
    assert absolute == [f"/proc/{pid}"]


def test_a_kernel_without_smaps(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = process._read

    def read(folder: int, file: str) -> bytes:
        if file == "smaps":
            raise FileNotFoundError(2, "No such file or directory")
        return real(folder, file)

    monkeypatch.setattr(process, "_read", read)
    read_ = Process(pid)
    assert read_.areas.nature[0].flags is None
    assert len(read_.areas) > 10


def test_a_file_of_proc_without_an_end(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_OF_SMAPS", 100)
    assert refused(pid) == f"process {pid}: its smaps cannot be read: File too large"


# --- servers that do not answer ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["_facts", "_names_of_files"])
def test_a_file_system_that_does_not_answer(where: str, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    real = getattr(process, where)

    def wait(*args: object) -> object:
        answer.wait(60)
        return real(*args)

    before = set(threading.enumerate())
    monkeypatch.setattr(process, where, wait)
    monkeypatch.setattr(process, "DEADLINE", 0.2)
    began = time.monotonic()
    try:
        read = Process(pid)
        assert time.monotonic() - began < 5
        assert read.facts == {}
        assert read.notices == [f"process {pid}: its files did not all answer within 0.2 s"]
        assert len(read.areas) > 10
    finally:
        answer.set()
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
    assert read.facts == {}


def test_what_answered_in_time_counts(pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = process._facts, []

    def slowly(*args: object) -> object:
        asked.append(args)
        if len(asked) > 2:
            time.sleep(0.5)
        return real(*args)

    before = set(threading.enumerate())
    monkeypatch.setattr(process, "_facts", slowly)
    monkeypatch.setattr(process, "DEADLINE", 0.3)
    try:
        read = Process(pid)
    finally:
        for thread in set(threading.enumerate()) - before:
            thread.join(10)
    assert read.facts
    assert read.notices == [f"process {pid}: its files did not all answer within 0.3 s"]


# --- from the command line --------------------------------------------------------------------------------


def core_of(pid: int) -> bytes:
    """Make a core without payload of the process as it is."""
    areas = parse(Path(f"/proc/{pid}/maps").read_bytes(), "maps")
    loads = [
        Load(areas.start[i], memsz=areas.end[i] - areas.start[i], flags=areas.nature[i].perms.decode())
        for i in range(len(areas))
    ]
    files = [
        (areas.start[i], areas.end[i], areas.offset[i], path)
        for i, path in enumerate(areas.path)
        if path is not None and areas.nature[i].what == "file"
    ]
    return make_core(loads, kernel_notes(files))


@may_see_all
def test_a_process_settles_what_its_core_leaves_open(pid: int, tmp_path: Path) -> None:
    core = tmp_path / "the-core"
    core.write_bytes(core_of(pid))
    with opened(core.read_bytes()) as it:
        found = {os.fsdecode(m.path).rpartition("/")[2]: m for m in it.plan("all", pid=pid).mappings if m.path}
    # By descriptors that can write, all of them.
    assert found["plain"].kind == found["one-of-two (deleted)"].kind == "shared-file-backed"
    assert found["literally (deleted)"].kind == "shared-file-backed"
    assert found["unlinked (deleted)"].kind == found["replaced (deleted)"].kind == "shared-anonymous"
    assert found["memfd:victim (deleted)"].kind == "shared-anonymous"
    done = corefilt("inspect", core, "--pid", str(pid), "-v", "--all")
    assert (done.code, done.err) == (0, ())
    assert "its file has a link" in done.out.decode()


def test_errors_of_a_process_are_one_line(pid: int, core: Path) -> None:
    before = listing(core.parent)
    assert_error(corefilt("0x33", core, "-o", core.with_name("out"), "--pid", str(pid)), "does not match this core")
    assert_error(corefilt("0x33", core, "--pid", str((1 << 31) - 1)), "does not exist", "leave the option out")
    assert_error(corefilt("inspect", core, "--pid", str((1 << 31) - 1)), "does not exist")
    assert listing(core.parent) == before
