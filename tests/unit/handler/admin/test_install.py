"""Installing and taking away below a made-up root: the line, the settings, the drop-in, and other handlers' places."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.builds import PATIENCE

from corefilt.cli import install as install_command
from corefilt.cli import main
from corefilt.errors import InstallError
from corefilt.handler.admin import audit as footing
from corefilt.handler.admin import status, sysctl
from corefilt.handler.admin.install import plan_install, plan_uninstall
from corefilt.handler.admin.recent_logs import MOST, of_kernel_log
from corefilt.handler.admin.sysctl import DROP_IN, PATTERN, PIPE_LIMIT, DropIn, Sysctls, at_start, settings_in
from corefilt.handler.crash_info import parse_crash
from corefilt.handler.path_trust import Fault
from corefilt.handler.pattern import handler_line, interpreter_of, knows_pidfd, socket_line, starts_handler
from corefilt.handler.sandbox import LAYERS
from corefilt.procfs.core_pattern import MOST_OF_A_PATTERN, arguments

PYTHON = "/opt/corefilt/bin/python3"
OURS = handler_line(PYTHON, pidfd=True)
APPORT = b"|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -F%F -- %E"


class System:
    """A folder with what a running system has of the kernel's settings."""

    def __init__(self, root: Path, pattern: bytes = b"core", pipe_limit: bytes = b"0") -> None:
        self.root = root
        (root / "proc/sys/kernel").mkdir(parents=True)
        self.set("core_pattern", pattern)
        self.set("core_pipe_limit", pipe_limit)
        self.drop_in = root / DROP_IN.lstrip("/")

    def set(self, name: str, value: bytes) -> None:
        (self.root / "proc/sys/kernel" / name).write_bytes(value + b"\n")

    @property
    def pattern(self) -> bytes:
        return (self.root / "proc/sys/kernel/core_pattern").read_bytes().removesuffix(b"\n")

    @property
    def pipe_limit(self) -> bytes:
        return (self.root / "proc/sys/kernel/core_pipe_limit").read_bytes().removesuffix(b"\n")

    def install(self, line: bytes = OURS, **how: object) -> None:
        plan_install(line, root=str(self.root), **how).carry_out()

    def uninstall(self, **how: object) -> list[str]:
        plan = plan_uninstall(root=str(self.root), **how)
        plan.carry_out()
        return plan.notices

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


# --- the line -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pidfd", [True, False])
def test_the_kernel_makes_of_the_line_what_the_handler_takes(pidfd: bool) -> None:
    values = {"P": 42, "u": 1000, "g": 1001, "s": 11, "t": 1700000000, "c": (1 << 64) - 1, "d": 2, "F": 3}
    line = handler_line("/opt/50%/python", pidfd=pidfd)
    program, *words = arguments(line, lambda letter: b"%d" % values[letter])
    assert program == b"/opt/50%/python"
    assert interpreter_of(line) == "/opt/50%/python"
    assert words[:2] == [b"-I", b"-m"]
    crash = parse_crash([word.decode() for word in words[3:]])
    assert (crash.pid, crash.uid, crash.gid, crash.signal) == (42, 1000, 1001, 11)
    assert (crash.time, crash.limit, crash.dumpable) == (1700000000, (1 << 64) - 1, 2)
    assert crash.pidfd == (3 if pidfd else None)


def test_the_longest_line_that_the_kernel_keeps() -> None:
    spare = MOST_OF_A_PATTERN - len(handler_line("/p", pidfd=True))
    assert len(handler_line("/p" + "x" * spare, pidfd=True)) == MOST_OF_A_PATTERN
    with pytest.raises(InstallError, match=f"{MOST_OF_A_PATTERN + 1} bytes"):
        handler_line("/p" + "x" * (spare + 1), pidfd=True)


@pytest.mark.parametrize(
    "python", ["/opt/my env/python", "/opt/a\tb", "/opt/a\nb", "python3", "", "./python", "/a\xa0b"]
)
def test_an_interpreter_that_no_line_can_name(python: str) -> None:
    with pytest.raises(InstallError):
        handler_line(python, pidfd=False)


@pytest.mark.parametrize(
    ("release", "known"),
    [("6.16.0", True), ("6.18.44-fc", True), ("7.0-rc1", True), ("6.15.9", False), ("5.20", False), ("odd", False)],
)
def test_which_kernels_know_a_pidfd(release: str, known: bool) -> None:
    assert knows_pidfd(release) is known


@pytest.mark.parametrize("path", ["relative", "/run/../x", "/run/a b", "", "/run/%h", "/" + "x" * 107])
def test_a_socket_that_the_kernel_does_not_take(path: str) -> None:
    with pytest.raises(InstallError):
        socket_line(path)


def test_a_socket() -> None:
    assert socket_line("/" + "x" * 106) == b"@@/" + b"x" * 106


@pytest.mark.parametrize(
    "line", [b"", b"core", b"|", b"|/usr/bin/python3 -I -m other %P", APPORT, b"@@/run/corefilt.sock"]
)
def test_lines_that_do_not_start_the_handler(line: bytes) -> None:
    assert not starts_handler(line)
    assert interpreter_of(line) is None


# --- installing and taking away -----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"core", b"", b"/var/cores/%e.%p", b"\xff %e ", b'"quoted" # %e', b"x" * 127])
def test_what_was_before_comes_back(tmp_path: Path, before: bytes) -> None:
    system = System(tmp_path, before, b"4")
    system.install(pipe_limit=16)
    assert (system.pattern, system.pipe_limit) == (OURS, b"16")
    assert settings_in(system.drop_in.read_bytes()) == [(PATTERN, OURS), (PIPE_LIMIT, b"16")]
    assert system.drop_in.stat().st_mode & 0o777 == 0o644
    assert system.uninstall() == []
    assert (system.pattern, system.pipe_limit) == (before, b"4")
    assert list(system.drop_in.parent.iterdir()) == []


def test_without_a_limit_the_limit_is_left_alone(tmp_path: Path) -> None:
    system = System(tmp_path, pipe_limit=b"7")
    system.install()
    system.set("core_pipe_limit", b"8")
    system.uninstall()
    assert system.pipe_limit == b"8"


@pytest.mark.parametrize("other", [APPORT, b"|/bin/false", b"@@/run/other.sock", b"@/run/other.sock", b"|"])
def test_another_handler_keeps_its_place(tmp_path: Path, other: bytes) -> None:
    system = System(tmp_path, other)
    with pytest.raises(InstallError, match="another handler") as caught:
        system.install()
    assert "--force" in caught.value.hint
    assert system.pattern == other
    assert not system.drop_in.exists()
    system.install(force=True)
    assert system.pattern == OURS
    system.uninstall()
    assert system.pattern == other


def test_installing_again_remembers_what_was_first(system: System) -> None:
    system.install(pipe_limit=16)
    system.install(handler_line("/usr/bin/python3", pidfd=False))
    assert system.pattern == handler_line("/usr/bin/python3", pidfd=False)
    system.install(socket_line("/run/corefilt.sock"), pipe_limit=3)
    assert (system.pattern, system.pipe_limit) == (b"@@/run/corefilt.sock", b"3")
    system.install()
    system.uninstall()
    assert (system.pattern, system.pipe_limit) == (b"core", b"0")


def test_a_handler_that_came_after_stays(system: System) -> None:
    system.install(pipe_limit=16)
    system.set("core_pattern", APPORT)
    (notice,) = system.uninstall()
    assert PATTERN in notice
    assert (system.pattern, system.pipe_limit) == (APPORT, b"0")
    assert not system.drop_in.exists()


def test_a_handler_that_came_after_goes_by_force(system: System) -> None:
    system.install()
    system.set("core_pattern", APPORT)
    with pytest.raises(InstallError):
        system.install()
    system.uninstall(force=True)
    assert system.pattern == b"core"


def test_nothing_to_take_away(system: System) -> None:
    with pytest.raises(InstallError, match="not installed"):
        system.uninstall()


def test_the_record_of_what_was_before_is_gone(system: System) -> None:
    system.install()
    system.drop_in.unlink()
    with pytest.raises(InstallError) as caught:
        system.uninstall()
    assert "--force" in caught.value.hint
    assert system.pattern == OURS
    system.uninstall(force=True)
    assert system.pattern == b"core"


@pytest.mark.parametrize(
    "text", ["", "kernel.core_pattern = x\n", "# former: {\n", "# former: [1]\n", '# former: {"a": 1}\n']
)
def test_a_drop_in_that_others_wrote_is_not_touched(system: System, text: str) -> None:
    system.write(DROP_IN.lstrip("/"), text)
    for change in (system.install, system.uninstall):
        with pytest.raises(InstallError, match="60-corefilt"):
            change()
    assert system.drop_in.read_text() == text
    assert system.pattern == b"core"


def test_the_kernel_kept_something_else(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Sysctls.get
    monkeypatch.setattr(sysctl.Sysctls, "get", lambda self, name: (real(self, name) or b"")[:60])
    with pytest.raises(InstallError, match="the kernel made"):
        system.install()
    assert system.pattern == b"core"
    assert not system.drop_in.exists()


def test_a_drop_in_that_cannot_be_written_changes_nothing(system: System) -> None:
    (system.root / "etc").mkdir()
    (system.root / "etc/sysctl.d").write_text("a file, not a folder")
    with pytest.raises(InstallError, match="60-corefilt"):
        system.install(pipe_limit=16)
    assert (system.pattern, system.pipe_limit) == (b"core", b"0")


def test_an_image_has_only_a_drop_in(tmp_path: Path) -> None:
    plan_install(OURS, root=str(tmp_path), pipe_limit=4).carry_out()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path(DROP_IN.lstrip("/"))]
    assert at_start(PATTERN, str(tmp_path)) == (DROP_IN, OURS)
    plan_uninstall(root=str(tmp_path)).carry_out()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_image_with_another_handler(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/sysctl.d"
    folder.mkdir(parents=True)
    (folder / "50-coredump.conf").write_text("kernel.core_pattern=|/usr/lib/systemd/systemd-coredump %P\n")
    with pytest.raises(InstallError, match="50-coredump"):
        plan_install(OURS, root=str(tmp_path))
    plan_install(OURS, root=str(tmp_path), force=True).carry_out()
    assert at_start(PATTERN, str(tmp_path)) == (DROP_IN, OURS)


# --- what decides at the next start -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "winner"),
    [
        ({}, None),
        ({"etc/sysctl.d/10-a.conf": "kernel.core_pattern=a"}, ("/etc/sysctl.d/10-a.conf", b"a")),
        (
            {
                "etc/sysctl.d/10-a.conf": "kernel/core_pattern = a",
                "usr/lib/sysctl.d/90-b.conf": "-kernel.core_pattern = b ",
            },
            ("/usr/lib/sysctl.d/90-b.conf", b"b"),
        ),
        ({"etc/sysctl.d/50-x.conf": "", "usr/lib/sysctl.d/50-x.conf": "kernel.core_pattern=masked"}, None),
        ({"etc/sysctl.d/50-x.conf.bak": "kernel.core_pattern=a"}, None),
        ({"etc/sysctl.d/50-x.conf": "#kernel.core_pattern=a\n;kernel.core_pattern=b\nkernel.core_pattern"}, None),
        (
            {"run/sysctl.d/50-x.conf": "kernel.core_pattern = |/x y=z\nkernel.core_uses_pid = 1\n"},
            ("/run/sysctl.d/50-x.conf", b"|/x y=z"),
        ),
    ],
)
def test_the_last_name_wins(system: System, files: dict[str, str], winner: tuple[str, bytes] | None) -> None:
    for path, text in files.items():
        system.write(path, text)
    assert at_start(PATTERN, str(system.root)) == winner


def test_a_drop_in_survives_being_written_and_read(tmp_path: Path) -> None:
    made = DropIn({PATTERN: OURS, PIPE_LIMIT: b"3"}, {PATTERN: b"\xff\\ \"%e'", PIPE_LIMIT: b"0"})
    made.write(str(tmp_path))
    read = DropIn.read(str(tmp_path))
    assert read is not None
    assert (read.settings, read.former) == (made.settings, made.former)


# --- the commands -------------------------------------------------------------------------------------------------


@pytest.fixture
def sound(system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    """Make a system on which everything is as it should be, whatever this interpreter stands on."""
    if os.geteuid() != 0:
        pytest.skip("the configuration and the folder must be root's")
    system.write("etc/corefilt.conf", 'user = "nobody"\n')
    system.write("etc/passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (system.root / "var/lib/corefilt").mkdir(parents=True)
    monkeypatch.setattr(footing, "faults", lambda python: [])
    monkeypatch.setattr(install_command, "faults", lambda python: [])
    return system


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


def status_of(system: System, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    import json

    code, out, err = run(capsys, "status", "--json", "--root", str(system.root))
    assert err == ""
    return code, json.loads(out)


def test_install_status_uninstall(sound: System, capsys: pytest.CaptureFixture[str]) -> None:
    root = ("--root", str(sound.root))
    code, report = status_of(sound, capsys)
    assert code == 4
    assert (report["installed"], report["ours"], report["pattern"]) == (False, False, "core")
    code, out, err = run(capsys, "install", *root)
    assert (code, out) == (0, "")
    assert PATTERN in err
    assert DROP_IN in err
    assert "--pipe-limit" in err
    assert starts_handler(sound.pattern)
    code, report = status_of(sound, capsys)
    assert (code, report["problems"]) == (0, [])
    assert (report["installed"], report["ours"], report["core_pipe_limit"]) == (True, True, 0)
    assert report["at_start"] == {"path": DROP_IN, "pattern": os.fsdecode(sound.pattern)}
    assert report["drop_in"]["former"] == {PATTERN: "core"}  # type: ignore[index]
    assert len(report["recommendations"]) == 1  # type: ignore[arg-type]
    assert run(capsys, "install", "--pipe-limit", "16", *root)[0] == 0
    code, report = status_of(sound, capsys)
    assert (report["core_pipe_limit"], report["recommendations"]) == (16, [])
    code, out, err = run(capsys, "status", *root)
    assert (code, err) == (0, "")
    assert "core_pipe_limit  16" in out
    assert run(capsys, "uninstall", *root)[0] == 0
    assert (sound.pattern, sound.pipe_limit) == (b"core", b"0")


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_dry_run_says_it_and_changes_nothing(command: str, sound: System, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "uninstall":
        sound.install()
    before = {path: path.read_bytes() for path in sound.root.rglob("*") if path.is_file()}
    code, out, err = run(capsys, command, "-n", "--root", str(sound.root))
    assert (code, out) == (0, "")
    assert "would" in err
    assert PATTERN in err
    assert {path: path.read_bytes() for path in sound.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda system: system.write("etc/corefilt.conf", "user = 3.5"), "user"),
        (lambda system: system.write("etc/corefilt.conf", 'user = "nobody"\nfolder = "/x"'), "folder"),
        (lambda system: (system.root / "etc/corefilt.conf").chmod(0o666), "0666"),
        (lambda system: system.write("etc/corefilt.conf", 'user = "nobody"\n[serve]\nat-once = 0'), "at-once"),
        (lambda system: system.write("etc/corefilt.conf", 'user = "ghost"'), "useradd"),
        (lambda system: (system.root / "var/lib/corefilt").rmdir(), "var/lib/corefilt"),
    ],
)
def test_bad_ground_is_refused_and_shown(
    spoil: object, word: str, sound: System, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(sound)  # type: ignore[operator]
    code, _, err = run(capsys, "install", "--root", str(sound.root))
    assert code == 1
    assert word in err
    assert sound.pattern == b"core"
    assert not sound.drop_in.exists()
    sound.install()
    code, report = status_of(sound, capsys)
    assert code == 4
    assert any(word in problem for problem in report["problems"])  # type: ignore[attr-defined]


def test_what_others_could_change_is_refused_and_shown(
    sound: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [Fault("/home/alice", "belongs to user 1000", "on sys.path"), Fault("/opt", "may be written", "imported")]
    monkeypatch.setattr(footing, "faults", lambda python: faults)
    monkeypatch.setattr(install_command, "faults", lambda python: faults)
    for more, nothing in ((["--force"], "nothing was installed"), (["-n"], "nothing would be installed")):
        code, _, err = run(capsys, "install", *more, "--root", str(sound.root))
        assert code == 1
        *problems, count, hint = err.splitlines()
        assert problems == [f"corefilt: {fault}" for fault in faults]
        assert (count, hint.startswith("  try: ")) == (f"corefilt: 2 problems: {nothing}", True)
    assert sound.pattern == b"core"
    sound.install()
    code, report = status_of(sound, capsys)
    assert code == 4
    assert [fault["path"] for fault in report["untrusted"]] == ["/home/alice", "/opt"]  # type: ignore[attr-defined]


def test_a_later_drop_in_is_shown(sound: System, capsys: pytest.CaptureFixture[str]) -> None:
    sound.install()
    sound.write("etc/sysctl.d/99-local.conf", "kernel.core_pattern = core.%p\n")
    code, report = status_of(sound, capsys)
    assert code == 4
    assert any("99-local" in problem for problem in report["problems"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("modes", [None, b"file\npipe"])
def test_a_kernel_without_sockets(sound: System, modes: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    if modes is not None:
        sound.set("core_modes", modes)
    code, _, err = run(capsys, "install", "--socket", "/run/corefilt.sock", "--root", str(sound.root))
    assert code == 1
    assert "6.17" in err
    assert sound.pattern == b"core"


def test_a_kernel_with_sockets(sound: System, capsys: pytest.CaptureFixture[str]) -> None:
    sound.set("core_modes", b"file\npipe\nsocket")
    assert run(capsys, "install", "--socket", "/run/corefilt.sock", "--root", str(sound.root))[0] == 0
    assert sound.pattern == b"@@/run/corefilt.sock"
    code, report = status_of(sound, capsys)
    assert (code, report["ours"]) == (0, True)
    assert run(capsys, "uninstall", "--root", str(sound.root))[0] == 0
    assert sound.pattern == b"core"


@pytest.mark.parametrize(
    ("flags", "path", "listening"),
    [
        ("00010000", "/run/corefilt.sock", True),
        ("00010000", "/run/corefilt.sock2", False),
        ("00000000", "/run/corefilt.sock", False),
        ("00010000", "", False),
    ],
)
def test_whether_somebody_listens_at_the_socket(
    sound: System, flags: str, path: str, listening: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    row = f"0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {path}".rstrip()
    sound.write("proc/net/unix", f"Num       RefCount Protocol Flags    Type St Inode Path\n{row}\n")
    sound.install(socket_line("/run/corefilt.sock"))
    code, report = status_of(sound, capsys)
    assert (code, report["listening"]) == (0 if listening else 4, listening)


def test_a_line_without_a_pidfd(
    sound: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "knows_pidfd", lambda release: True)
    sound.install(handler_line(PYTHON, pidfd=False), pipe_limit=1)
    _, report = status_of(sound, capsys)
    (recommendation,) = report["recommendations"]  # type: ignore[misc]
    assert "%F" in recommendation


@pytest.mark.parametrize("limit", ["-1", "x", "2147483648", ""])
def test_a_limit_that_is_none(limit: str, sound: System, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "install", f"--pipe-limit={limit}", "--root", str(sound.root))
    assert code == 2
    assert "--pipe-limit" in err


def test_the_kernels_log_tells_troubles(tmp_path: Path) -> None:
    records = [f"4,{i},1,-;coredump: {i}(x): Core dump to |/x disabled" for i in range(7)]
    for record in (
        "6,1,1,-;coredump: 1(x): fine",
        "3,1,1,-;other: coredump: x",
        "12,9,1,-;corefilt: no core was saved",
    ):
        log = tmp_path / "log"
        log.write_text(record)
        assert of_kernel_log(str(log)) == (["corefilt: no core was saved"] if record[0] == "1" else [])
    assert of_kernel_log(str(tmp_path / "missing")) == []
    assert len(records) > MOST


# --- layers around the child --------------------------------------------------------------------------------------


def missing(monkeypatch: pytest.MonkeyPatch, **layers: str) -> None:
    """Have these layers be missing."""
    monkeypatch.setattr(footing, "missing_layers", lambda python: layers)
    monkeypatch.setattr(install_command, "missing_layers", lambda python: layers)


def test_nothing_is_installed_without_seccomp(
    sound: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ("--root", str(sound.root))
    missing(monkeypatch, seccomp="no binding of libseccomp", network="Operation not permitted")
    code, _, err = run(capsys, "install", *root)
    assert code == 1
    assert "no binding of libseccomp: nothing was installed" in err
    assert "--without-seccomp" in err
    assert "libseccomp: nothing would be installed" in run(capsys, "install", "-n", *root)[2]
    assert (sound.pattern, sound.drop_in.exists()) == (b"core", False)
    code, _, err = run(capsys, "install", "--without-seccomp", *root)
    assert code == 0
    assert "runs without seccomp: no binding" in err
    assert "runs without network: Operation not permitted" in err
    assert starts_handler(sound.pattern)
    assert "\n# without: seccomp\n" in sound.drop_in.read_text()


def test_what_was_accepted_is_named_and_what_was_lost_is_a_problem(
    sound: System, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = ("--root", str(sound.root))
    missing(monkeypatch, seccomp="gone", pids="refused")
    assert run(capsys, "install", "--without-seccomp", *root)[0] == 0
    code, report = status_of(sound, capsys)
    assert (code, report["problems"]) == (0, [])
    assert "the process that reads cores runs without seccomp: gone" in report["recommendations"]  # type: ignore[operator]
    # Once it is installed with it, its loss is one.
    missing(monkeypatch, pids="refused")
    assert run(capsys, "install", *root)[0] == 0
    assert "# without" not in sound.drop_in.read_text()
    missing(monkeypatch, seccomp="gone", pids="refused")
    code, report = status_of(sound, capsys)
    assert (code, report["problems"]) == (4, ["the process that reads cores runs without seccomp: gone"])
    assert "the process that reads cores runs without pids: refused" in report["recommendations"]  # type: ignore[operator]
    code, out, _ = run(capsys, "status", *root)
    assert code == 4
    assert "layers missing   seccomp, pids\n" in out


def test_the_layers_of_this_machine() -> None:
    """Asked of the interpreter as the kernel starts it; what is missing here is what sandbox.confine cannot have."""
    found = footing.missing_layers(sys.executable)
    assert set(found) <= set(LAYERS)
    assert ("seccomp" in found) == (find_spec("pyseccomp") is None and find_spec("seccomp") is None)


def test_a_binding_that_is_not_there(tmp_path: Path) -> None:
    code = "import sys; sys.modules['seccomp'] = sys.modules['pyseccomp'] = None; " \
        "from corefilt.handler.admin.layers import missing_layers; print(*missing_layers())"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "seccomp" in done.stdout.split()
