"""What the journal tells of the handler, by a journalctl that is made for it."""

from pathlib import Path

import pytest

from corefilt.handler.admin.recent_logs import failures_since_boot, last_troubles

JOURNALCTL = """#!/bin/sh
for word; do [ "$word" != -b ] || boot=1; done
[ -z "$boot" ] || echo "process 7: no core was saved: the disk is full"
[ -z "$boot" ] || echo "process 8: no core was saved: its handler was killed"
echo "process 9: its core was read without seccomp"
exit STATUS
"""


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "journalctl"
    path.write_text(JOURNALCTL.replace("STATUS", "0"))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_failures_are_counted_since_the_system_started(journal: Path) -> None:
    assert failures_since_boot() == 2
    assert last_troubles(kmsg="/nonexistent") == ["process 9: its core was read without seccomp"]


def test_a_journal_that_cannot_be_read_tells_of_no_count(journal: Path) -> None:
    journal.write_text(JOURNALCTL.replace("STATUS", "1"))
    assert failures_since_boot() is None
    journal.unlink()
    assert failures_since_boot() is None
