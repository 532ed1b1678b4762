"""How far a run has come: on a terminal, in one unit, of files and pipes, by each command that can take long."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.opening import in_memory, in_pipe, open_file
from support.run import corefilt
from support.samples import sample_core
from support.terminal import on_a_terminal

from corefilt.cli.progress import Bar, NoBar, amounts, bar_for, told
from corefilt.verify import digest, verify

CORE = sample_core()
# 1 KiB and more, so that the unit is known: figures, the whole, the rate.
SHOWN = r"[\d.]+ of ([\d.]+) (KiB|MiB|mappings), [\d.]+(?: \2)?/s"


def shown_by(*arguments: str | Path) -> list[tuple[str, str]]:
    """Return the wholes and units that a command's bar shows."""
    said = on_a_terminal(*arguments, "--progress", "always", without="NO_COLOR").decode()
    return re.findall(SHOWN, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said))


@pytest.mark.parametrize(
    ("command", "unit"),
    [
        (("0x33", "CORE", "-o", "OUT"), "KiB"),
        (("0x33", "CORE", "-i"), "KiB"),
        (("inspect", "CORE", "--all"), "mappings"),
        (("inspect", "CORE", "--json=OUT"), "mappings"),
        (("inspect", "CORE", "--csv"), "mappings"),
        (("verify", "CORE", "CORE"), "KiB"),
        (("digest", "CORE"), "KiB"),
        (("batch", "0x33", "CORE", "--to", "OUT"), "KiB"),
    ],
)
def test_commands_show_how_far_they_have_come(command: tuple[str, ...], unit: str, core: Path, tmp_path: Path) -> None:
    found = shown_by(*(word.replace("CORE", str(core)).replace("OUT", str(tmp_path / "out")) for word in command))
    assert found and {shown for _, shown in found} == {unit}
    assert all(float(whole) > 0 for whole, _ in found[-1:])


def test_nothing_is_shown_where_there_is_no_terminal(core: Path) -> None:
    for command in (("digest", core), ("verify", core, core), ("inspect", core)):
        assert not any("/s" in line for line in corefilt(*command).err)
        assert not any("/s" in line for line in corefilt(*command, "--progress", "never").err)


def test_a_pipe_has_the_length_that_its_program_headers_claim() -> None:
    with in_memory(CORE) as fd, open_file(fd) as core:
        whole = core.length
    with in_pipe(CORE) as fd, open_file(fd) as core:
        assert core.end is None and core.length == whole == len(CORE)


@pytest.mark.parametrize(
    ("done", "total", "seconds", "unit", "text"),
    [
        (0, None, 0.0, "", "0 B, 0 B/s"),
        (512, 1000, 1.0, "", "512 of 1000 B, 512 B/s"),
        (1 << 28, 3 << 29, 2.0, "", "0.25 of 1.50 GiB, 0.12 GiB/s"),
        (1 << 62, 1 << 62, 1.0, "", "4096.00 of 4096.00 PiB, 4096.00 PiB/s"),
        (3 << 20, None, 2.0, "", "3.00 MiB, 1.50 MiB/s"),
        (300, 1000, 2.0, "mappings", "300 of 1000 mappings, 150/s"),
        (300, None, 2.0, "mappings", "300 mappings, 150/s"),
    ],
)
def test_one_unit(done: int, total: int | None, seconds: float, unit: str, text: str) -> None:
    assert amounts(done, total, seconds, unit) == text


def test_a_bar_appears_late_and_stays_away_when_it_was_stopped(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corefilt.cli.progress.DELAY", 3600.0)
    with Bar(10) as bar:
        bar.add(5)
        assert [row for some in bar.batches(range(3000)) for row in some] == list(range(3000))
        assert (bar.done, bar._progress) == (3005, None)
    with Bar(10, at_once=True, stays=True) as bar:
        bar.describe("7 left: ")
        assert bar._progress is not None
        bar.stop()
        bar.add(1)
        assert bar._progress is None
    monkeypatch.setattr("corefilt.cli.progress.DELAY", 0.0)
    with Bar(10) as bar:
        bar.add(5)
        assert bar._progress is not None
    assert "7 left:" in capfd.readouterr().err


def test_who_wants_a_bar() -> None:
    always, never = SimpleNamespace(progress="always"), SimpleNamespace(progress="never")
    assert type(bar_for(always)) is Bar and told(bar_for(always)) is not None  # type: ignore[arg-type]
    bar = bar_for(never)  # type: ignore[arg-type]
    bar.add(1)
    assert type(bar) is NoBar and told(bar) is None and bar.done == 1


def test_verify_and_digest_tell_what_they_have_read(core: Path, tmp_path: Path) -> None:
    """The last word is the whole; a child of this process reads."""
    for tell in (lambda hear: digest(core, progress=hear), lambda hear: verify(core, core, progress=hear)):
        heard: list[tuple[int, int | None]] = []
        tell(lambda done, total, heard=heard: heard.append((done, total)))
        done, total = heard[-1]
        assert total is not None and 0 < done <= total <= os.path.getsize(core)


@pytest.mark.parametrize("turn", [0.0, 3600.0], ids=["meanwhile", "at the end"])
def test_what_hears_of_progress_may_fail(turn: float, core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(done: int, total: int | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("corefilt.verify.guard.TURN", turn)

    with pytest.raises(ZeroDivisionError):
        digest(core, progress=fails)
