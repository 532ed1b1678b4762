"""Names of cores: every specifier and edge against the file that this kernel creates."""

import itertools
import os
import socket
import subprocess
from pathlib import Path

import pytest
from kernel.crashing import Crash, compile_crasher, crash, limits, names_offline, need_system
from kernel.dumps import CannotCompileError, kernel_version, sysctl
from support.builds import INTERPRETER

import corefilt
from corefilt.errors import NameTemplateError
from corefilt.procfs.core_pattern import MOST_OF_A_PATTERN, arguments, as_kept

COUNT = itertools.count()
NEEDS = {"C": (6, 8), "f": (5, 10), "F": (6, 16)}


@pytest.fixture(scope="module")
def crasher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_system()
    try:
        return compile_crasher(tmp_path_factory.mktemp("crasher"))
    except CannotCompileError as error:
        pytest.skip(str(error))


def given_for(what: Crash) -> dict[str, str]:
    """Give what no core tells."""
    return {
        "P": str(what.pid), "I": str(what.tid), "d": "1", "h": socket.gethostname(), "c": str((1 << 64) - 1), "C": "0",
    }  # fmt: skip


def held(crasher: Path, tmp_path: Path, template: bytes, uses_pid: int = 0, **how: object) -> tuple[bytes, bytes]:
    """Return the name that the kernel gave and the one that corefilt gives the same core."""
    folder = tmp_path / f"kernel{next(COUNT)}"
    folder.mkdir()
    with sysctl("kernel/core_pattern", template + b"\n"), sysctl("kernel/core_uses_pid", uses_pid):
        what = crash(crasher, folder, **how)
    (kernels,) = what.files
    offline = names_offline(
        Path(os.fsdecode(os.path.join(os.fsencode(folder), kernels))), template, tmp_path / f"offline{next(COUNT)}",
        given_for(what), "yes" if uses_pid else "no",
    )  # fmt: skip
    return kernels, offline[0]


TEMPLATES = [
    b"core", b"c.%p", b"c.%i", b"c.%P.%I", b"c.%u.%g.%d", b"c.%s", b"c.%h", b"c.%e", b"c.%E", b"c.%c", b"c.%%",
    b"c.%%p", b"%", b"c%", b"c.%q", b"c.%q%e", b"c.%\xe4.x", b"%e", b"c %e", b"c\t%e", b"c.%f", b"c.%F.x", b"c%%%",
    b"c.%p%p", "k\u00e4rn.%e".encode(), b"\xff\xfe.%e", b"./c.%e", b"x" * MOST_OF_A_PATTERN, b"%s" * 63 + b"%",
    b"\"c'%e\\",
]  # fmt: skip


@pytest.mark.parametrize("uses_pid", [0, 1])
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: repr(template)[2:18])
def test_each_specifier(crasher: Path, tmp_path: Path, template: bytes, uses_pid: int) -> None:
    for letter, version in NEEDS.items():
        if b"%" + letter.encode() in template and kernel_version() < version:
            pytest.skip(f"%{letter} came with Linux {version[0]}.{version[1]}")
    if template == b"%" and not uses_pid:
        # A name of no bytes makes no file; corefilt refuses it.
        folder = tmp_path / "none"
        folder.mkdir()
        with sysctl("kernel/core_pattern", template), sysctl("kernel/core_uses_pid", 0):
            assert crash(crasher, folder).files == []
        return
    kernels, ours = held(crasher, tmp_path, template, uses_pid)
    assert ours == kernels


COMMS = [
    b"plain",
    b".",
    b"..",
    b"...",
    b"",
    b"a/b c",
    b"/",
    b"x\ny",
    b"\xff",
    b"%p",
    b" --name=/etc/x",
    b"fifteen-letters",
    b"../../etc/x",
]


@pytest.mark.parametrize("comm", COMMS, ids=repr)
def test_what_a_process_calls_itself(crasher: Path, tmp_path: Path, comm: bytes) -> None:
    kernels, ours = held(crasher, tmp_path, b"z%e.%e", comm=comm)
    assert ours == kernels
    assert b"/" not in kernels


@pytest.mark.parametrize("called", [b"pl ain", b"..x", b"new\nline", b"%p", b"\xff\xfe", b"n" * 200, b"a!b"], ids=repr)
def test_what_its_executable_is_called(crasher: Path, tmp_path: Path, called: bytes) -> None:
    kernels, ours = held(crasher, tmp_path, b"%f", called=called)
    assert ours == kernels
    if len(called) < 100:
        kernels, ours = held(crasher, tmp_path / ".." / tmp_path.name, b"%E", called=called)
        assert ours == kernels


def test_an_executable_that_was_deleted(crasher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    copy = tmp_path / "copy"
    copy.write_bytes(crasher.read_bytes())
    copy.chmod(0o755)
    with (
        sysctl("kernel/core_pattern", "%f"),
        subprocess.Popen(
            [copy, "-", "wait"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=limits()
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        copy.unlink()
        process.communicate(b"\n")
    (name,) = os.listdir(folder)
    assert name == "copy (deleted)"
    assert names_offline(folder / name, b"%f", tmp_path / "offline", {}, "no") == [name.encode()]


def test_a_thread_that_crashed(crasher: Path, tmp_path: Path) -> None:
    """The kernel names the thread; a core has only the name of the process, and that is said."""
    folder = tmp_path / "kernel"
    folder.mkdir()
    with sysctl("kernel/core_pattern", "%p.%i.%e"):
        what = crash(crasher, folder, who="thread", comm=b"worker")
    assert what.pid != what.tid
    assert what.files == [b"%d.%d.worker" % (what.pid, what.tid)]
    core = folder / os.fsdecode(what.files[0])
    report = corefilt.filter(core, filter="all", name="%p.%i.%e", directory=str(tmp_path))
    assert report.output == f"{tmp_path}/{what.pid}.{what.tid}.crasher"
    assert any("%e is the name of the process" in notice for notice in report.notices)
    given = corefilt.filter(core, filter="all", name="%p.%i.%e", directory=str(tmp_path), values={"e": "worker"})
    assert given.output == f"{tmp_path}/{what.pid}.{what.tid}.worker"
    with_threads = corefilt.filter(core, filter="all", name="c", directory=str(tmp_path), uses_pid="threads")
    assert with_threads.output == f"{tmp_path}/c.{what.pid}"


def test_the_seconds(crasher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernel"
    folder.mkdir()
    with sysctl("kernel/core_pattern", "%t"):
        what = crash(crasher, folder)
    assert int(what.files[0]) in what.seconds
    (ours,) = names_offline(folder / os.fsdecode(what.files[0]), b"%t", tmp_path / "offline", {}, "no")
    assert int(ours) - int(what.files[0]) in (0, 1)


def test_namespaces(crasher: Path, tmp_path: Path) -> None:
    """A core knows its own pid namespace alone, and says so of the other."""
    folder = tmp_path / "kernel"
    folder.mkdir()
    with sysctl("kernel/core_pattern", "%p.%P.%i.%I"):
        what = crash(crasher, folder, prefix=("unshare", "--pid", "--fork"))
    assert what.pid == 1
    numbers = what.files[0].split(b".")
    assert numbers[0] == numbers[2] == b"1"
    assert numbers[1] == numbers[3] != b"1"
    core = folder / os.fsdecode(what.files[0])
    for letter in "PI":
        with pytest.raises(NameTemplateError, match=f"%{letter}"):
            corefilt.filter(core, filter="all", name=f"c.%{letter}", directory=str(tmp_path))
    assert names_offline(core, b"%p.%i", tmp_path / "offline", {}, "no") == [b"1.1"]


def test_folders_in_a_template(crasher: Path, tmp_path: Path) -> None:
    """They must be there; none is made."""
    folder = tmp_path / "kernel"
    (folder / "sub").mkdir(parents=True)
    with sysctl("kernel/core_pattern", "sub/c.%e"):
        assert crash(crasher, folder, comm=b"../x").files == [b"sub/c...!x"]
    with sysctl("kernel/core_pattern", "missing/c.%e"):
        assert crash(crasher, folder).files == [b"sub/c...!x"]


def test_a_name_that_is_too_long(crasher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernel"
    folder.mkdir()
    with sysctl("kernel/core_pattern", "%e" * 60):
        assert crash(crasher, folder).files == []
    with sysctl("kernel/core_pattern", "core"):
        crash(crasher, folder)
    with pytest.raises(corefilt.CorefiltError, match="too long"):
        corefilt.filter(folder / "core", filter="all", name="%e" * 60, directory=str(tmp_path))


@pytest.mark.parametrize(
    "line",
    [b"x" * 200, b"a\nb", b"a b\n", b"a" * 126 + b"%p", b"a\0b", b"\n", b" lead", b"tail \n"],
    ids=lambda line: repr(line)[2:14],
)
def test_what_the_sysctl_keeps(line: bytes) -> None:
    need_system()
    file = Path("/proc/sys/kernel/core_pattern")
    with sysctl("kernel/core_pattern", line):
        assert file.read_bytes().rstrip(b"\n") == as_kept(line).rstrip(b"\n")


HELPER = """\
#!{python} -ISB
import os, sys
with open({out!r}, "wb") as file:
    file.write(b"\\0".join(map(os.fsencode, sys.argv[1:])))
"""


@pytest.mark.parametrize(
    "words",
    [
        b"%P %u %g %s %c %d",
        b"  a   b\tc  ",
        b"%e x%ex",
        b"'a b' \"c\" \\d",
        b"%q %% %",
        b"x%q%F%p",
        b"a\xa0b",
        b"a\x0bb\x0cc\rd",
        b"--=%e",
    ],
    ids=repr,
)
def test_arguments_behind_a_pipe(crasher: Path, tmp_path: Path, words: bytes) -> None:
    """Split before anything is expanded: a blank in a name adds no argument."""
    import time

    out = tmp_path / "out"
    helper = tmp_path / "h"
    helper.write_text(HELPER.format(python=INTERPRETER, out=str(out)))
    helper.chmod(0o755)
    link = Path(f"/run/corefilt-test-{os.getpid()}")
    link.symlink_to(helper)
    comm = b" -x a\tb"
    try:
        with (
            sysctl("kernel/core_pattern", b"|" + os.fsencode(link) + b" " + words),
            sysctl("kernel/core_pipe_limit", 1),
        ):
            what = crash(crasher, tmp_path, comm=comm)
            until = time.monotonic() + 20
            while not out.exists() and time.monotonic() < until:
                time.sleep(0.01)
    finally:
        link.unlink()
    values = {
        "P": b"%d" % what.pid, "p": b"%d" % what.pid, "u": b"0", "g": b"0", "s": b"11", "d": b"1", "e": comm,
        "c": b"%d" % ((1 << 64) - 1), "F": b"3",
    }  # fmt: skip
    if b"%F" in words and kernel_version() < (6, 16):
        pytest.skip("%F came with Linux 6.16")
    assert out.read_bytes().split(b"\0") == arguments(b"|x " + words, values.__getitem__)[1:]
