"""Metrics of the directory: parsed by the reader that Prometheus's own client has."""

import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.run import corefilt

from corefilt.handler.admin import metrics as module
from corefilt.handler.admin.metrics import OTHERS, CoreSums, bounded, metrics, rows_of
from corefilt.handler.admin.status import Status
from corefilt.store.attributes import INPUT
from corefilt.store.listing import candidates


def store(path: Path, executable: bytes, number: int, input_bytes: int, when: int) -> None:
    path.write_bytes(b"\x7fELF" + bytes(8188))
    try:
        os.setxattr(path, "user.coredump.exe", executable)
    except OSError:
        pytest.skip("this file system has no attributes of users")
    os.setxattr(path, "user.coredump.signal", b"%d" % number)
    os.setxattr(path, INPUT, b"%d" % input_bytes)
    os.utime(path, (when, when))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with three cores of two programs, one of them with a name that needs escapes, and a file that is none."""
    directory = tmp_path / "var/lib/corefilt"
    directory.mkdir(parents=True)
    store(directory / "a.1", b"/usr/bin/a", signal.SIGSEGV, 1000, 100)
    store(directory / "a.2", b"/usr/bin/a", signal.SIGSEGV, 3000, 300)
    store(directory / "b.3", b'/tmp/"b\\\n', signal.SIGABRT, 50, 200)
    (directory / "notes.txt").write_text("no core")
    return tmp_path


def samples(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (sample.name, sample.labels.get("executable", ""), sample.labels.get("signal", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_cores_by_executable_and_signal(root: Path) -> None:
    rows = rows_of(candidates([str(root)]))
    disk = [os.stat(root / "var/lib/corefilt" / name).st_blocks * 512 for name in ("a.1", "a.2", "b.3")]
    assert rows["/usr/bin/a", "SIGSEGV"] == CoreSums(2, 4000, disk[0] + disk[1], 300.0)
    assert rows['/tmp/"b\\\\n', "SIGABRT"] == CoreSums(1, 50, disk[2], 200.0)
    assert len(rows) == 2


def test_what_is_told_can_be_read_by_the_client_of_prometheus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status(str(root))
    # The directory is not root's where the test does not run as root.
    status.ground.directory_error = None
    monkeypatch.setattr(module, "failures_since_boot", lambda: 7)
    found = samples(metrics(status))
    assert found["corefilt_cores", "/usr/bin/a", "SIGSEGV"] == 2
    assert found["corefilt_core_input_bytes", "/usr/bin/a", "SIGSEGV"] == 4000
    assert found["corefilt_last_core_timestamp_seconds", '/tmp/"b\\\\n', "SIGABRT"] == 200
    assert found["corefilt_core_bytes", "/usr/bin/a", "SIGSEGV"] >= 8192
    assert found["corefilt_failures_total", "", ""] == 7
    assert found["corefilt_problems", "", ""] == len(status.problems) > 0
    assert found["corefilt_lost_cores", "", ""] == found["corefilt_stuck_processes", "", ""] == 0
    assert found["corefilt_free_bytes", "", ""] > 0
    # Where the journal does not tell.
    monkeypatch.setattr(module, "failures_since_boot", lambda: None)
    assert "corefilt_failures_total" not in metrics(status)


def test_a_flood_of_names_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    rows = {(f"/bin/{n}", "SIGSEGV"): CoreSums(1, 10, n, float(n)) for n in range(5)}
    kept = bounded(rows)
    assert list(kept) == [("/bin/3", "SIGSEGV"), ("/bin/4", "SIGSEGV"), OTHERS]
    assert kept[OTHERS] == CoreSums(3, 30, 3, 2.0)


def test_the_command(root: Path) -> None:
    done = corefilt("status", "--prometheus", "--root", root)
    assert (done.code, done.err) == (0, ())
    assert samples(done.out.decode())["corefilt_problems", "", ""] > 0
    done = corefilt("status", "--prometheus", "--json")
    assert (done.code, done.err[0]) == (2, "corefilt: --prometheus and --json are two reports")
