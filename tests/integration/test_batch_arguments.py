"""The arguments of ``corefilt.batch``: what cannot be meant is a UsageError before the job begins."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.builder import Load, kernel_notes, make_core

import corefilt
from corefilt.batching.job import EVIDENCE
from corefilt.cli import main
from corefilt.cli.command_options import OPTIONS
from corefilt.errors import InputError, UsageError
from corefilt.filtering.options import taken_by
from corefilt.sizes import parse_size

CORE = make_core([Load(0x1000, b"A" * 4096)], kernel_notes(None))
KEYWORDS = [name for name, about in inspect.signature(corefilt.batch).parameters.items() if about.kind != 4]
KEYWORDS += [name for name, _ in taken_by("batch")]
VALUES: list[object] = [
    [], ["x"], [1], (1, 2), {}, {"x": 1}, "", "x", "2", "a\0b", b"x", None, -1, 0, 1 << 70, True, 0.5, float("inf"),
    object(),
]  # fmt: skip
# Of options that go with another one.
GOES_WITH: dict[str, dict[str, object]] = {
    "follow": {"minimal": True},
    "runtime": {"minimal": True},
    "unreadable": {"minimal": True},
    "fit_allocated": {"fit": "1M"},
    "ladder": {"fit": "1M"},
    "loadmaps": {"format": "fdpic"},
}
# Seconds within which a job with one small core is done.
PATIENCE = 60


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a directory with one core, work beside it, and end what never returns."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "core").write_bytes(CORE)

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the job never ends")

    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    yield tmp_path / "archive"
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(archive: Path, **arguments: Any) -> UsageError:
    """The error that a job begins with, and that it leaves nothing behind."""
    with pytest.raises(UsageError) as told:
        corefilt.batch(archive, "out", filter=0x33, **arguments)
    assert not Path("out").exists()
    return told.value


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_a_value_is_refused_or_taken(keyword: str, archive: Path) -> None:
    """No other exception, no core that fails by a bug, and no job that hangs."""
    for number, value in enumerate(VALUES):
        arguments: dict[str, Any] = {"sources": archive, "to": f"out{number}", "filter": 0x33, "jobs": 1, "sync": False}
        arguments |= {**GOES_WITH.get(keyword, {}), keyword: value}
        try:
            outcomes = corefilt.batch(**arguments)
        except UsageError as error:
            assert "--" not in str(error)
            assert not Path(f"out{number}").exists(), (keyword, value)
        except InputError:
            assert keyword in ("sources", "policy"), (keyword, value)
        else:
            assert [outcome.source for outcome in outcomes] == [str(archive / "core")], (keyword, value)
            assert not any("bug in corefilt" in outcome.reason for outcome in outcomes), (keyword, value, outcomes)


@pytest.mark.parametrize("keyword", ["jobs", "writers"])
@pytest.mark.parametrize("value", [0, -1, 257, 1.5, True, "0", "x", [1]], ids=repr)
def test_a_number_of_processes(keyword: str, value: object, archive: Path) -> None:
    """None of them would never end."""
    error = refused(archive, **{keyword: value})
    assert (str(error), error.hint) == (f"{keyword} is {value!r}", "it can be 1 to 256")


@pytest.mark.parametrize(
    ("option", "keyword", "text"),
    [
        ("--jobs", "jobs", "0"),
        ("--writers", "writers", "0"),
        ("--compress", "compress", "zip"),
        ("--compress", "compress", "zstd:99"),
        ("--compress-threads", "compress_threads", "0"),
        ("--keep-free", "keep_free", "1X"),
        ("--max-headers", "max_headers", "1X"),
        ("--assume", "assume", "x"),
        ("--assume", "assume", "0x1000=nothing"),
        ("--loadmaps", "loadmaps", "1"),
        ("--truncate", "truncate", "1X"),
        ("--fit", "fit", "1X"),
    ],
)
def test_python_says_what_the_command_line_says(
    option: str, keyword: str, text: str, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "0x33", str(archive), "--to", "out", option, text]) == 2
    said = capsys.readouterr().err
    assert not Path("out").exists()
    error = refused(archive, **{keyword: [text] if keyword == "assume" else text})
    assert said.replace(option, keyword) == f"corefilt: {error}\n  try: {error.hint}\n"


@pytest.mark.parametrize("value", ["x", "None", None, 0, ["auto"]], ids=repr)
def test_a_word_that_there_is_not(value: object, archive: Path) -> None:
    error = refused(archive, evidence=value)
    assert (str(error), error.hint) == (f"evidence is {value!r}", "it can be auto, none")
    if value is not None:
        error = refused(archive, scrub=value)
        assert (str(error), error.hint) == (f"scrub is {value!r}", "it can be secrets, env, stacks")


def test_the_words_are_those_of_the_command_line() -> None:
    (record,) = [record for record in OPTIONS if record.name == "evidence"]
    assert record.choices == EVIDENCE


@pytest.mark.parametrize("keyword", ["keep_free", "max_headers"])
@pytest.mark.parametrize("value", ["64K", "1M", "0.5M", 1 << 20, "65536"], ids=repr)
def test_a_size(keyword: str, value: int | str, archive: Path) -> None:
    outcomes = corefilt.batch(archive, "out", filter=0x33, jobs="1", writers="2", **{keyword: value})  # type: ignore[arg-type]
    assert [outcome.status for outcome in outcomes] == ["filtered"]


def test_a_size_is_what_it_says(archive: Path) -> None:
    """More than any disk has is not free."""
    (outcome,) = corefilt.batch(archive, "out", filter=0x33, keep_free="1000P")
    assert outcome.status == "failed" and "free on its file system" in outcome.reason


def test_a_size_where_a_core_is_opened(archive: Path) -> None:
    for value in ("64M", parse_size("64M")):
        with corefilt.open(archive / "core", max_headers=value) as core:
            assert core.size == len(CORE)
        corefilt.filter(archive / "core", "out", filter=0x33, max_headers=value, force=True)
    with pytest.raises(UsageError, match="size '1X' cannot be read"):
        corefilt.open(archive / "core", max_headers="1X")
    with pytest.raises(UsageError, match="size 'None' cannot be read"):
        corefilt.open(archive / "core", max_headers=None)  # type: ignore[arg-type]
