"""``corefilt show`` and ``corefilt set``: a process's own filter, and what it keeps of the process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import pages
from support.builds import INTERPRETER
from support.run import COREFILT, assert_error, assert_usage, corefilt, environment, without_privileges

from corefilt.doctor.live import Live
from corefilt.errors import ProcessError
from corefilt.filterbits import Bit
from corefilt.procfs import snapshot as process
from corefilt.procfs.coredump_filter import read_filter, read_limits, set_filter
from corefilt.procfs.pid import ProcFolder

MIB = 1 << 20
# Of every common kind so much that it cannot be overlooked; says "ready", and tells its filter whenever it is asked.
CHILD = """
import mmap, os, sys
size = 1 << 20
held = [mmap.mmap(-1, 8 * size, flags=mmap.MAP_PRIVATE)]
held[0][0:4 * size] = b"x" * (4 * size)
held.append(mmap.mmap(-1, 5 * size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
held.append(mmap.mmap(-1, 3 * size))
with open(sys.argv[1], "w+b") as file:
    file.truncate(2 * size)
    held.append(mmap.mmap(file.fileno(), 2 * size))
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    print(open("/proc/self/coredump_filter").read(), end="", flush=True)
"""


@contextmanager
def child(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [INTERPRETER, "-I", "-c", CHILD, str(folder / "mapped")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline().startswith("ready")
            yield running
        finally:
            running.kill()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with child(tmp_path) as process_:
        yield process_


def own_words(running: subprocess.Popen[str]) -> str:
    """Ask a child for its own filter."""
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write("\n")
    running.stdin.flush()
    return running.stdout.readline().strip()


def gone() -> int:
    """Return the pid of a process that has ended."""
    process_ = subprocess.Popen(["true"])
    process_.wait()
    return process_.pid


def shown(*args: object) -> list[dict[str, object]]:
    done = corefilt("show", *map(str, args), "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["schema"] == 1
    return report["processes"]


# --- show -------------------------------------------------------------------------------------------------


def test_what_each_bit_would_keep_of_a_process(running: subprocess.Popen[str]) -> None:
    by_filter = {
        name: shown(running.pid, "--filter", name)[0]
        for name in ("none", "private-anonymous", "shared-anonymous", "shared-file-backed", "all")
    }
    for name, kind, kept, data in (
        ("private-anonymous", "private-anonymous", 8 * MIB, 4 * MIB),
        ("shared-anonymous", "shared-anonymous", 3 * MIB, 3 * MIB),
        ("shared-file-backed", "shared-file-backed", 2 * MIB, 2 * MIB),
    ):
        sizes = by_filter[name]["kinds"][kind]
        assert kept <= sizes["kept"] < kept + 8 * MIB
        assert data <= sizes["data"] <= sizes["kept"]
        assert sizes["kept"] == by_filter["all"]["kinds"][kind]["kept"]
        assert by_filter["none"]["kinds"][kind]["kept"] == 0
        assert by_filter["none"]["kinds"][kind]["size"] == sizes["size"]
    assert by_filter["none"]["kinds"]["special"]["kept"] > 0
    assert by_filter["all"]["filter"] == f"{int(own_words(running), 16):#x}"
    assert by_filter["all"]["shown_filter"] == "0x1ff"


def test_memory_that_was_only_reserved_hangs_on_an_assumption_and_is_no_data(running: subprocess.Popen[str]) -> None:
    (report,) = shown(running.pid, "--filter", "0x1")
    (reserved,) = (m for m in report["mappings"] if m["path"] is None and m["size"] == 5 * MIB and m["flags"] == "r--")
    assert (reserved["kind"], reserved["certainty"]) == ("not-dumped", "assumed")
    assert (reserved["kept"], reserved["undecided"], reserved["data"]) == (5 * MIB, 5 * MIB, 0)
    assert "could also be: private-anonymous" in reserved["evidence"]


def test_the_kinds_are_the_sums_of_the_mappings(running: subprocess.Popen[str]) -> None:
    (report,) = shown(running.pid)
    own = Path(f"/proc/{running.pid}/maps").read_text().splitlines()
    assert [f"{int(m['start'], 16):08x}-{int(m['end'], 16):08x}" for m in report["mappings"]] == [
        line.split()[0] for line in own
    ]
    for name, sizes in report["kinds"].items():
        mappings = [m for m in report["mappings"] if m["kind"] == name]
        assert sizes.pop("mappings") == len(mappings)
        assert sizes == {key: sum(m[key] for m in mappings) for key in sizes}
    status = Path(f"/proc/{running.pid}/status").read_text()
    resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10
    special = report["kinds"]["special"]["resident"]
    assert abs(sum(sizes["resident"] for sizes in report["kinds"].values()) - special - resident) < MIB


def test_a_table_for_people(running: subprocess.Popen[str]) -> None:
    done = corefilt("show", str(running.pid), "--filter", "0x3")
    lines = done.out.decode().splitlines()
    assert (done.code, done.err) == (0, ())
    assert lines[0].startswith(f"process {running.pid}: filter {spelled(int(own_words(running), 16))}")
    assert "RLIMIT_CORE" in lines[0]
    assert lines[1] == "what 0x3 (private-anonymous, shared-anonymous) would keep:"
    assert lines[2].split() == ["kind", "mappings", "size", "resident", "kept", "data", "ambiguous"]
    row = next(line.split() for line in lines if line.startswith("shared-anonymous"))
    assert row[1:8] == ["1", "3.00", "MiB", "0", "B", "3.00", "MiB"]
    done = corefilt("show", str(running.pid), "-v")
    rows = [line for line in done.out.decode().splitlines() if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line)]
    assert len(rows) == len(Path(f"/proc/{running.pid}/maps").read_text().splitlines())
    assert any("mapped: maps shows a file" in row and "shared-file-backed" in row for row in rows)


def test_limits(running: subprocess.Popen[str]) -> None:
    import resource

    hard = resource.prlimit(running.pid, resource.RLIMIT_CORE)[1]
    resource.prlimit(running.pid, resource.RLIMIT_CORE, (0, hard))
    (report,) = shown(running.pid)
    assert report["core_limit"] == {"soft": 0, "hard": None if hard == resource.RLIM_INFINITY else hard}
    with ProcFolder(running.pid) as folder:
        assert read_limits(folder)["Max open files"] == resource.prlimit(running.pid, resource.RLIMIT_NOFILE)


def test_other_processes_are_shown_when_one_is_gone(running: subprocess.Popen[str]) -> None:
    pid = gone()
    done = corefilt("show", str(pid), str(running.pid), "--json")
    assert_error(done, f"process {pid} does not exist", out=done.out)
    first, second = json.loads(done.out)["processes"]
    assert first == {
        "pid": pid,
        "error": {
            "type": "ProcessError", "message": f"process {pid} does not exist", "hint": "", "exit_code": 1,
        },
    }  # fmt: skip
    assert second["pid"] == running.pid


def test_a_zombie_has_nothing_to_show() -> None:
    zombie = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        for command in (("show",), ("set", "0x33")):
            assert_error(corefilt(*command, str(zombie.pid)), "has no memory: it ended, or it is a kernel thread")
    finally:
        zombie.wait()


def test_a_process_of_another_user(tmp_path: Path) -> None:
    prefix = without_privileges()
    with child(tmp_path) as running:
        pid = running.pid if prefix else 1
        done = corefilt("show", str(pid), prefix=prefix)
    assert_error(done, f"process {pid}: you may not read its smaps", "root")


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "4294967296", "\u0661"])
def test_what_is_no_pid(text: str) -> None:
    for command in (("show",), ("set", "0x33")):
        assert corefilt(*command, text).code == 2


def test_a_process_that_ends_while_it_is_looked_at(running: subprocess.Popen[str]) -> None:
    with ProcFolder(running.pid) as folder:
        running.kill()
        running.wait()
        assert not folder.exists()
        for ask in (Live, read_filter, read_limits, lambda folder: set_filter(folder, Bit.ALL)):
            with pytest.raises(ProcessError, match=f"process {running.pid} ended while it was examined"):
                ask(folder)


def test_all_of_a_process_is_asked_of_the_folder_that_was_opened_first(
    running: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, absolute = os.open, []

    def opening(path: str | bytes, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if dir_fd is None:
            absolute.append(path)
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opening)
    with ProcFolder(running.pid) as folder:
        set_filter(folder, Bit.ALL)
        Live(folder)
    assert absolute == [f"/proc/{running.pid}"]


def test_memory_that_does_not_answer(running: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a file whose server is gone is waited for no longer than a while, and the rest is still known."""
    import threading

    from corefilt.doctor import live

    answer = threading.Event()
    monkeypatch.setattr(live, "DEADLINE", 0.2)
    monkeypatch.setattr(live, "_read_at", lambda *about: answer.wait(60))
    try:
        with ProcFolder(running.pid) as folder:
            found = Live(folder)
    finally:
        answer.set()
    assert found.notices == [f"process {running.pid}: its memory did not all answer within 0.2 s"]
    assert dict(found.by_kind(Bit.ALL))["shared-anonymous"].kept == 3 * MIB


def test_without_smaps_sizes_are_known_and_what_is_resident_is_not(
    running: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = process._read

    def read(folder: int, file: str) -> bytes:
        if file == "smaps":
            raise FileNotFoundError(2, "No such file or directory")
        return real(folder, file)

    monkeypatch.setattr(process, "_read", read)
    with ProcFolder(running.pid) as folder:
        found = Live(folder)
    share = dict(found.by_kind(Bit.ALL))["shared-anonymous"]
    assert (share.resident, share.kept) == (None, 3 * MIB)


def spelled(value: int) -> str:
    """How a filter begins in a sentence: by its name where it has one."""
    return {0x33: "default (0x33)", 0x1FF: "all (0x1ff)"}.get(value, f"{value:#x} (")


# --- set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x31", 0x31), ("default,-shared-anonymous", 0x31), ("all", 0x1FF), ("none", 0), ("00000037", 0x37)],
)
def test_set_is_what_the_kernel_then_has(text: str, value: int, running: subprocess.Popen[str]) -> None:
    before = int(own_words(running), 16)
    done = corefilt("set", text, str(running.pid))
    assert (done.code, done.out) == (0, b"")
    (said,) = done.err
    assert said.startswith(f"corefilt: process {running.pid}: filter {spelled(value)}")
    assert said.endswith(f", was {before:#x}")
    assert own_words(running) == f"{value:08x}"
    assert corefilt("set", text, str(running.pid), "-q").err == ()


def test_set_for_several_of_which_one_is_gone(tmp_path: Path) -> None:
    with child(tmp_path) as first, child(tmp_path) as second:
        pid = gone()
        done = corefilt("set", "0x1", str(first.pid), str(pid), str(second.pid), "-q")
        assert_error(done, f"process {pid} does not exist")
        assert own_words(first) == own_words(second) == "00000001"


def test_bits_that_nobody_knows_are_named(running: subprocess.Popen[str]) -> None:
    done = corefilt("set", "0xffffffff", str(running.pid))
    assert done.code == 0
    assert "bits that do not exist are ignored: 0xfffffe00" in done.err[0]
    assert own_words(running) == "000001ff"


class OldKernel:
    """The folder of a process under a kernel before 4.4, which knows bits 0 to 6."""

    name, text = "process 7", b"00000033\n"

    def read(self, file: str) -> bytes:
        assert file == "coredump_filter"
        return self.text

    def write(self, file: str, text: bytes) -> None:
        self.text = b"%08x\n" % (int(text, 0) & 0x7F)


def test_what_the_kernel_drops_is_found_by_reading_back() -> None:
    assert set_filter(OldKernel(), Bit.ALL) == (0x33, 0x7F)
    contested = OldKernel()
    contested.write = lambda file, text: None
    with pytest.raises(ProcessError, match="was set to 0x1 and reads 0x33"):
        set_filter(contested, 1)


def test_set_without_the_right_to() -> None:
    prefix = without_privileges()
    if not prefix:
        pytest.skip("a process of another user has to be there, which takes root")
    with subprocess.Popen(["setpriv", "--reuid=65534", "--clear-groups", "sh", "-c", "echo; read x"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:  # fmt: skip
        running.stdout.readline()
        file = Path(f"/proc/{running.pid}/coredump_filter")
        before = file.read_text()
        done = corefilt("set", "0x1", str(running.pid), prefix=prefix)
        assert file.read_text() == before
        running.kill()
    assert_error(done, f"process {running.pid}: you may not write its coredump_filter", "owner or as root")


def test_a_command_has_the_filter_and_so_have_its_children() -> None:
    script = "cat /proc/self/coredump_filter; sh -c 'cat /proc/self/coredump_filter; cat /proc/$$/coredump_filter'"
    done = corefilt("set", "0x155", "--", "sh", "-c", script)
    assert (done.code, done.out, done.err) == (0, b"00000155\n" * 3, ())


def test_a_command_takes_this_processs_place() -> None:
    command = [*COREFILT, "set", "0x5", "--", "sh", "-c", "echo $$; exit 7", "--", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as running:
        out, _ = running.communicate()
    assert (int(out), running.returncode) == (running.pid, 7)


def test_a_command_has_the_signals_that_it_would_have_otherwise() -> None:
    done = corefilt("set", "0x5", "--", "cat", "/proc/self/status")
    ignored = int(re.search(rb"SigIgn:\s+([0-9a-f]+)", done.out)[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_commands_that_cannot_be_run(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for command, code in (
        (tmp_path / "missing", 127), ("no-such-command", 127), (plain / "below", 127), ("", 127),
        (plain, 126), (tmp_path, 126),
    ):  # fmt: skip
        assert_error(corefilt("set", "0x33", "--", command), "cannot be run", code=code)
    plain.chmod(0o755)
    assert_error(corefilt("set", "0x33", "--", plain), "Exec format error", code=126)


@pytest.mark.parametrize(
    "args",
    [("0x33",), ("0x33", "--"), ("0x33", "1", "--", "true"), (), ("33", "1"), ("nothing", "1"), ("-none", "1")],
    ids=" ".join,
)
def test_usage(args: tuple[str, ...]) -> None:
    assert_usage(corefilt("set", *args))


# --- the page ---------------------------------------------------------------------------------------------


def test_the_commands_of_the_page(running: subprocess.Popen[str], tmp_path: Path) -> None:
    pages.run(pages.ROOT / "docs" / "live.md", tmp_path, extra={"PID": str(running.pid)})
