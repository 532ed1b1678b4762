"""The very start and the end of a run: interrupts while modules are loaded, closed streams, and reports as files."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.builds import PATIENCE
from support.run import COREFILT, assert_error, assert_usage, corefilt, environment

FLT = "0x31"
SCRIPT = str(Path(sys.executable).parent / "corefilt")
# It is imported before anything of ours, and sends the signal when a module is looked for.
SENDER = """
import os, signal, sys
def hook(event, args, wanted=os.environ["WANTED"], number=int(os.environ["NUMBER"])):
    if event == "import" and args[0] == wanted:
        os.kill(os.getpid(), number)
sys.addaudithook(hook)
"""
LATE = [
    "corefilt",
    "corefilt.cli",
    "corefilt.errors",
    "corefilt.cli.filter",
    "corefilt._fast",
    "corefilt.filtering.write",
]


@pytest.mark.parametrize("way", ["script", "-m"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", LATE)
def test_a_signal_while_modules_are_loaded(
    module: str, number: signal.Signals, way: str, core: Path, tmp_path: Path
) -> None:
    if (module, way) == ("corefilt", "-m"):
        pytest.skip("python -m loads it before anything of ours runs")
    (tmp_path / "sitecustomize.py").write_text(SENDER)
    command = [SCRIPT] if way == "script" else [*COREFILT]
    done = subprocess.run(
        [*command, FLT, core, "-o", tmp_path / "out"],
        env=environment({"PYTHONPATH": str(tmp_path), "WANTED": module, "NUMBER": str(int(number))}),
        capture_output=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == -number, done.stderr
    assert done.stderr == b""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", ["script", "-m"])
def test_an_ignored_interrupt_stays_ignored(way: str, core: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SENDER)
    command = [SCRIPT] if way == "script" else [*COREFILT]
    done = subprocess.run(
        [*command, FLT, core, "-o", tmp_path / "out"],
        env=environment({"PYTHONPATH": str(tmp_path), "WANTED": "corefilt.filtering.write", "NUMBER": "2"}),
        capture_output=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def with_closed(*args: str | Path, closed: str = ">&-") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *COREFILT, *args],
        env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "args",
    [("inspect", "CORE"), ("inspect", "CORE", "--json"), ("digest", "CORE"), ("verify", "CORE", "CORE"),
     ("show", str(os.getpid())), (FLT, "CORE", "-n", "--json"), (FLT, "CORE", "-o", "OUT", "--json"), (FLT, "CORE"),
     ("batch", FLT, "CORE", "-n", "--json")],
)  # fmt: skip
def test_words_for_a_closed_output_are_an_error(args: Sequence[str], core: Path, tmp_path: Path) -> None:
    places = {"CORE": str(core), "OUT": str(tmp_path / "out")}
    done = with_closed(*(places.get(arg, arg) for arg in args))
    assert done.returncode == 1, done.stderr
    assert b"standard output" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_core_is_not_changed_whose_report_cannot_be_told(core: Path) -> None:
    before = core.read_bytes()
    done = with_closed(FLT, "-i", "-f", core, "--json")
    assert done.returncode == 1
    assert core.read_bytes() == before
    assert with_closed(FLT, "-i", "-f", core).returncode == 0
    assert core.read_bytes() != before


# --- reports as files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_a_report_is_private(umask: int, core: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = corefilt(FLT, core, "-o", tmp_path / "out", f"--json={report}", preexec_fn=lambda: os.umask(umask) and None)
    assert done.code == 0, done.err
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert json.loads(report.read_text())["schema"] == 1


def test_a_report_replaces_only_with_force(core: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text("other")
    args = (FLT, core, "-o", tmp_path / "out", f"--json={report}")
    assert_error(corefilt(*args), "exists", "-f")
    assert report.read_text() == "other"
    assert not (tmp_path / "out").exists()
    assert corefilt(*args, "-f").code == 0
    assert json.loads(report.read_text())["schema"] == 1
    # An error is no reason to replace a file either.
    report.write_text("other")
    assert corefilt(FLT, tmp_path / "none", f"--json={report}", "-o", tmp_path / "new").code == 1
    assert report.read_text() == "other"


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_reports_of_a_batch(option: str, core: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    args = ("batch", FLT, core, "--to", tmp_path / "to", f"{option}={report}")
    assert corefilt(*args, preexec_fn=lambda: os.umask(0) and None).code == 0
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    first = report.read_bytes()
    assert first
    assert_error(corefilt(*args), "exists", "-f")
    assert report.read_bytes() == first
    assert corefilt(*args, "-f").code == 0


@pytest.mark.parametrize("option", ["--html", "--json"])
@pytest.mark.parametrize("named", ["file", "folder", "link"])
def test_a_report_is_not_written_over_a_source(named: str, option: str, core: Path, tmp_path: Path) -> None:
    before = core.read_bytes()
    target = core
    if named == "link":
        target = tmp_path / "link"
        target.symlink_to(core)
    source = core.parent if named == "folder" else core
    done = corefilt("batch", FLT, source, "--to", tmp_path / "to", f"{option}={target}", "-f")
    assert_usage(done, "is a source of this job")
    assert core.read_bytes() == before


def test_a_name_that_is_not_utf8_in_every_report(core: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/core\xff"))
    odd.write_bytes(core.read_bytes())
    none = tmp_path / os.fsdecode(b"none\xff")
    for args in [
        (FLT, odd, "-n", "--json"), ("inspect", odd, "--json"), ("digest", odd, "--json"),
        ("verify", odd, odd, "--json"), ("batch", FLT, odd, "-n", "--json"), (FLT, none, "--json", "-n"),
    ]:  # fmt: skip
        done = corefilt(*args)
        for line in done.out.splitlines():
            told = json.loads(line)
            json.dumps(told, ensure_ascii=False).encode()
            if "error" not in told:
                assert os.fsencode(odd).hex() in json.dumps(told) or args[0] == "verify"
        assert done.out
