"""``corefilt doctor``: rows from values, and what it says of this machine and of processes that do not crash."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.builds import INTERPRETER
from support.run import assert_error, corefilt, environment, without_privileges

from corefilt import __version__, _fast
from corefilt.doctor import filesystem, kernel, tools
from corefilt.doctor.diagnosis import diagnose, writes_core
from corefilt.doctor.limits import LEAST, core_limit, file_size_limit
from corefilt.doctor.machine import suid_dumpable
from corefilt.doctor.pattern import pattern_rows
from corefilt.doctor.place import CoreFolder
from corefilt.doctor.privileges import dump_mode_is_ordinary, dumpable
from corefilt.doctor.row import NO, OK, UNKNOWN, Row
from corefilt.doctor.settings import FILE, PIPE, SOCKET, Settings
from corefilt.doctor.subject import Subject
from corefilt.doctor.template import foreseen, split, unforeseen
from corefilt.errors import ProcessError
from corefilt.procfs.pid import ProcFolder

CONDITIONS = [
    "CONFIG_COREDUMP", "CONFIG_ELF_CORE", "process", "dumpable", "set-ID, capabilities", "program readable",
    "core_pattern", "RLIMIT_CORE", "RLIMIT_FSIZE", "directory", "directory writable", "not read-only", "space",
    "nothing in the way", "coredump_filter", "MADV_DONTDUMP",
]  # fmt: skip


def settings(pattern: bytes | None = b"core", **others: bytes) -> Settings:
    values = {"kernel/core_pattern": pattern, **{name.replace("__", "/"): value for name, value in others.items()}}
    return Settings(values.get)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a folder of its own that waits."""
    command = [INTERPRETER, "-I", "-S", "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


def diagnosed(process: subprocess.Popen[bytes], **about: object) -> dict[str, Row]:
    with ProcFolder(process.pid) as folder:
        return by_name(diagnose(folder, settings(**about)))


# --- one process ------------------------------------------------------------------------------------------


def test_every_condition_of_a_file_has_a_row(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    rows = diagnosed(running)
    assert list(rows) == CONDITIONS
    assert rows["directory"].reason == str(tmp_path)
    assert rows["nothing in the way"].reason == "there is no core"


def test_json_and_the_table_say_the_same(running: subprocess.Popen[bytes], tmp_path: Path) -> None:
    import resource

    resource.prlimit(running.pid, resource.RLIMIT_CORE, (0, 0))
    done = corefilt("doctor", str(running.pid), f"--json={tmp_path / 'report'}")
    report = json.loads((tmp_path / "report").read_text())
    assert (report["schema"], report["version"], report["pid"]) == (1, __version__, running.pid)
    answers = [row["answer"] for row in report["conditions"]]
    assert report["writes_core"] == ("no" not in answers)
    assert (done.code, done.err) == (0 if report["writes_core"] else 4, ())
    lines = done.out.decode().splitlines()
    for row in report["conditions"]:
        assert any(line.startswith(row["condition"]) and row["answer"] in line for line in lines)
    # Other tests may have set another pattern for a while.
    if any(row["reason"].startswith("a file") for row in report["conditions"]):
        assert lines[-1].startswith(f"process {running.pid}: no core would be written: ")
        assert "RLIMIT_CORE" in lines[-1]


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert_error(corefilt("doctor", str(process.pid)), f"process {process.pid} does not exist")


def test_a_process_that_ends_while_it_is_examined(running: subprocess.Popen[bytes]) -> None:
    with ProcFolder(running.pid) as folder:
        running.kill()
        running.wait()
        with pytest.raises(ProcessError, match="ended while it was examined"):
            diagnose(folder)


def test_a_process_of_another_user_is_told_as_far_as_it_may_be(running: subprocess.Popen[bytes]) -> None:
    prefix = without_privileges()
    if not prefix:
        pytest.skip("a process of another user has to be there, which takes root")
    done = corefilt("doctor", str(running.pid), "--json", prefix=prefix)
    answers = {row["condition"]: row["answer"] for row in json.loads(done.out)["conditions"]}
    for name in ("coredump_filter", "MADV_DONTDUMP", "program readable"):
        assert answers[name] == "cannot tell"
    assert answers["RLIMIT_CORE"] in ("ok", "no")


@pytest.mark.parametrize(
    ("pattern", "answer", "reason"),
    [
        (b"", NO, "empty"),
        (b"core.%p", OK, "a file: core.%p"),
        (b"|", NO, "without a program"),
        (b"|/no/such/program %P", NO, "No such file"),
        (b"|/etc", NO, "not an executable file"),
        (b"|/etc/passwd", NO, "not an executable file"),
        (b"|/bin/sh %P", OK, "a pipe to /bin/sh"),
        (b"|bin/sh", OK, "a pipe to /bin/sh"),
        (b"@relative", NO, "does not accept"),
        (b"@/a/../b", NO, "does not accept"),
        (b"@/" + b"x" * 120, NO, "does not accept"),
        (b"@@/no/such/socket", NO, "No such file"),
        (b"@/etc/passwd", NO, "not a socket"),
    ],
    ids=repr,
)
def test_what_a_pattern_names(pattern: bytes, answer: str, reason: str, running: subprocess.Popen[bytes]) -> None:
    row = diagnosed(running, pattern=pattern)["core_pattern"]
    assert row.answer == answer
    assert reason in row.reason


def test_where_cores_go_elsewhere_the_folder_does_not_matter(running: subprocess.Popen[bytes]) -> None:
    rows = diagnosed(running, pattern=b"|/bin/sh", kernel__core_pipe_limit=b"3")
    assert "nothing in the way" not in rows
    assert (rows["directory"].answer, rows["directory"].reason) == (OK, "the core goes to a pipe, not to a directory")
    assert rows["core_pipe_limit"].reason.startswith("3 cores at once")
    # The kernel counts the cores in pipes only (coredump_pipe in fs/coredump.c, Linux 6.18).
    assert "core_pipe_limit" not in diagnosed(running, pattern=b"@@/x", kernel__core_pipe_limit=b"3")


def test_a_kernel_without_a_pattern(running: subprocess.Popen[bytes]) -> None:
    with ProcFolder(running.pid) as folder:
        assert pattern_rows(Subject(folder), settings(None)) == []


def test_ways() -> None:
    assert [settings(pattern).way for pattern in (b"core", b"", None, b"|x", b"@/x", b"@@/x")] == [
        FILE, FILE, FILE, PIPE, SOCKET, SOCKET,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("soft", "hard", "way", "answer"),
    [
        (None, None, b"core", OK),
        (0, None, b"core", NO),
        (0, 0, b"core", NO),
        (LEAST - 1, None, b"core", NO),
        (LEAST, None, b"core", OK),
        (0, 0, b"|/bin/sh", OK),
        (1, 1, b"|/bin/sh", NO),
        (1, 1, b"@/x", OK),
    ],
)
def test_limits_for_cores(soft: int | None, hard: int | None, way: bytes, answer: str) -> None:
    subject = SimpleNamespace(pid=7, limits={"Max core file size": (soft, hard)})
    row = core_limit(subject, settings(way))
    assert row.answer == answer
    if answer == NO:
        assert ("as root" in row.remedy) == (hard == 0)


@pytest.mark.parametrize(
    ("soft", "way", "answer"), [(None, b"core", OK), (0, b"core", NO), (1, b"core", OK), (0, b"|x", OK)]
)
def test_limits_for_files(soft: int | None, way: bytes, answer: str) -> None:
    subject = SimpleNamespace(pid=7, limits={"Max file size": (soft, soft)})
    assert file_size_limit(subject, settings(way)).answer == answer


@pytest.mark.parametrize(
    ("value", "pattern", "left"),
    [
        (b"0", b"/var/core", "no core"),
        (b"1", b"core", "a core that its user can read"),
        (b"2", b"/var/core", "a core that only root can read"),
        (b"2", b"|/bin/handler", "a core that only root can read"),
        (b"2", b"@/run/socket", "a core that only root can read"),
        (b"2", b"core", "no core: core_pattern begins with none of /, | and @"),
        (b"2", b"", "no core: core_pattern begins with none of /, | and @"),
    ],
)
def test_what_a_process_that_changed_its_privileges_leaves(value: bytes, pattern: bytes, left: str) -> None:
    fact = suid_dumpable(settings(pattern, fs__suid_dumpable=value))
    assert (fact.value, fact.meaning) == (value.decode(), f"a process that changed its privileges leaves {left}")


@pytest.mark.parametrize(
    ("ids", "owner", "suid_dumpable", "ordinary", "answer"),
    [
        ((5, 5, 5, 5), 5, b"0", True, OK),
        ((5, 5, 5, 5), 0, b"0", False, NO),
        ((5, 5, 5, 5), 0, b"1", False, NO),
        ((5, 5, 5, 5), 0, b"2", False, UNKNOWN),
        ((0, 0, 0, 0), 0, b"0", None, UNKNOWN),
        ((5, 0, 0, 0), 0, b"0", False, NO),
        ((5, 0, 0, 0), 0, b"1", True, OK),
    ],
)
def test_dump_modes(ids: tuple[int, ...], owner: int, suid_dumpable: bytes, ordinary: bool | None, answer: str) -> None:
    subject = SimpleNamespace(
        uids=list(ids), gids=[5] * 4, groups=[], owner=owner, program=None, no_new_privileges=False
    )
    about = settings(b"/var/core", fs__suid_dumpable=suid_dumpable)
    assert dump_mode_is_ordinary(subject, about) is ordinary
    assert dumpable(subject, about).answer == answer


def test_names_that_are_foreseen(running: subprocess.Popen[bytes]) -> None:
    with ProcFolder(running.pid) as folder:
        subject = Subject(folder)
    comm = Path(f"/proc/{running.pid}/comm").read_bytes().strip()
    assert foreseen(b"%P.%u.%e", subject, settings()) == b"%d.%d." % (running.pid, os.getuid()) + comm
    assert foreseen(b"x", subject, settings(), uses_pid=True).startswith(b"x.")
    assert foreseen(b"%E", subject, settings()) == os.fsencode(INTERPRETER).replace(b"/", b"!")
    assert split(b"/a/%e/core.%p") == (b"/a/%e/", b"core.%p")
    assert split(b"core") == (b"", b"core")
    assert unforeseen(b"%e.%t.%s%%t%t") == "%t, %s"


def test_nothing_in_the_way() -> None:
    assert writes_core([Row("a", OK, ""), Row("b", UNKNOWN, "")])
    assert not writes_core([Row("a", OK, ""), Row("b", NO, "")])


# --- the kernel's configuration ---------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("line", "shown", "answer"), [("=y", True, OK), ("=y", False, UNKNOWN), (" is not set", False, NO)]
)
def test_configurations(
    packed: bool, line: str, shown: bool, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    monkeypatch.setattr(kernel, "OPTIONS", {"CONFIG_COREDUMP": str(there)})
    if shown:
        there.touch()
    text = f"CONFIG_X=y\nCONFIG_COREDUMP{line}\nCONFIG_ELF_CORE=y\n".encode()
    config = tmp_path / ("config.gz" if packed else "config")
    config.write_bytes(gzip.compress(text) if packed else text)
    (row,) = kernel.kernel_rows([str(tmp_path / "missing"), str(config)])
    assert row.answer == answer
    assert f"{config} says {'y' if line == '=y' else 'n'}" in row.reason


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"x" * 1000, mtime=0)[:20]])
def test_configurations_that_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    config = tmp_path / "config.gz"
    config.write_bytes(content)
    assert not [row.reason for row in kernel.kernel_rows([str(config)]) if "says" in row.reason]


# --- this machine -----------------------------------------------------------------------------------------


def facts(*, cwd: Path) -> dict[str, dict[str, str]]:
    done = corefilt("doctor", "--json", cwd=cwd)
    assert (done.code, done.err) == (0, ())
    report = json.loads(done.out)
    assert report["schema"] == 1
    return {fact["name"]: fact for fact in report["facts"]}


def test_what_this_machine_allows(tmp_path: Path) -> None:
    said = facts(cwd=tmp_path)
    assert said["release"]["value"].startswith(os.uname().release)
    assert said["free"]["value"].endswith("iB")
    assert said["block size"]["value"] == str(os.statvfs(tmp_path).f_bsize)
    assert said["corefilt"]["value"] == __version__
    assert "readwrite" in said["engines"]["value"].split(", ")
    for name in tools.TOOLS:
        assert (said[name]["value"] == "no") == (shutil.which(name) is None)
    if shutil.which("stat"):
        told = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True, check=True).stdout
        assert said["type"]["value"][:3] in told
    assert os.listdir(tmp_path) == []
    table = corefilt("doctor", cwd=tmp_path)
    assert table.code == 0
    text = table.out.decode()
    assert not [name for name in said if name not in text]


def test_trials_agree_with_what_the_file_system_then_does(tmp_path: Path) -> None:
    said = {fact.name: fact.value for fact in filesystem.filesystem_facts(str(tmp_path))}
    with (tmp_path / "file").open("w+b") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        before = os.fstat(file.fileno()).st_blocks
        try:
            _fast.punch(file.fileno(), 0, 1 << 19)
            punched = os.fstat(file.fileno()).st_blocks < before
        except OSError:
            punched = False
        assert said["hole punching"] == ("yes" if punched else "no")
        finds = os.lseek(file.fileno(), 0, os.SEEK_DATA) > 0 if punched else said["SEEK_DATA"] == "yes"
        assert said["SEEK_DATA"] == ("yes" if finds else "no")
    copied = subprocess.run(
        ["cp", "--reflink=always", tmp_path / "file", tmp_path / "copy"], capture_output=True, check=False
    )
    assert said["reflink"] == ("yes" if copied.returncode == 0 else "no")


def test_a_folder_where_nothing_can_be_made() -> None:
    said = {fact.name: fact for fact in filesystem.filesystem_facts("/proc")}
    assert said["type"].value == "proc"
    assert said["trials"].value == "cannot tell"
    assert "reflink" not in said


def test_a_file_system_without_o_tmpfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def opening(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", opening)
    said = {fact.name: fact.value for fact in filesystem.filesystem_facts(str(tmp_path))}
    assert said["O_TMPFILE"] == "no"
    assert said["hole punching"] in ("yes", "no")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("script", "value", "meaning"),
    [
        ("echo; echo 'tool 1.2'", "tool 1.2", "for it"),
        ("echo 'no plugin' >&2; echo 'tool 1.2'", "tool 1.2", "for it"),
        ("echo 'tool 1.2' >&2", "tool 1.2", "for it"),
        ("exit 1", "yes", "for it"),
        ("printf '\\033[31mred\\n'", "\\x1b[31mred", "for it"),
    ],
)
def test_tools_tell_their_version(
    script: str, value: str, meaning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{environment()['PATH']}")
    monkeypatch.setattr(tools, "TOOLS", {"tool": "for it"})
    fact = tools.tool_facts()[0]
    assert (fact.value, fact.meaning) == (value, meaning)


def test_a_tool_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_bytes(b"\x7fELF no program")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "TOOLS", {"tool": "for it"})
    assert tools.tool_facts()[0].meaning == "for it; does not tell its version"


@pytest.mark.parametrize(
    ("pattern", "answer", "error"),
    [
        ("below/core", OK, ""), ("./below//core", OK, ""), ("link/core", UNKNOWN, "by a link in another root"),
        ("../core", UNKNOWN, "by .. in another root"), ("file/core", NO, "Not a directory"),
        ("none/core", NO, "No such file"),
    ],
)  # fmt: skip
def test_the_way_in_another_root_is_walked_without_links(
    running: subprocess.Popen[bytes], tmp_path: Path, pattern: str, answer: str, error: str
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("below")
    (tmp_path / "file").touch()
    with ProcFolder(running.pid) as folder:
        subject = Subject(folder)
        subject.same_root = False
        with CoreFolder(subject, settings(pattern.encode())) as place:
            assert (place.answer, place.folder >= 0) == (answer, answer == OK)
            assert error in place.error
