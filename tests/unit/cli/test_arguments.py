"""What is read without argparse is what argparse reads, and all that is refused is left to it."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.builds import LIMITED

import corefilt
from corefilt.cli.arguments import read
from corefilt.cli.filter import parser
from corefilt.errors import CorefiltError

WORDS = (
    "0x33", "core", "-", "", "-o", "out", "-oout", "-o=out", "--output", "--output=out", "--output=-x", "-f", "-n",
    "-fn", "-q", "--quiet", "--quiet=1", "-i", "--", "-5", "--assume", "--assume=0x1=special", "a=b", "--engine",
    "--engine=auto", "splice", "--engine=nothing", "--threads", "--threads=2", "--threads=x", "2", "--fit=1M",
    "--no-sync", "--json=-", "--max-headers=1K", "--outp=x", "--unknown", "--set", "h=web", "-h", "-V", "--help",
    "-- x",
)  # fmt: skip


# Making it takes ten times as long as asking it.
PARSER = cache(parser)


@settings(max_examples=1000)
@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_the_same_as_the_parser(argv: list[str]) -> None:
    found = read("filter", argv)
    if found is None or not 1 <= len(found[1]) <= 2:
        return
    arguments, operands = found
    names = dict(zip(("filter", "core"), operands, strict=False))
    assert {"core": "-", **vars(arguments), **names} == vars(PARSER().parse_intermixed_args(argv))


@pytest.mark.parametrize(
    "argv",
    [["-fn"], ["-ox"], ["-o"], ["-o", "-q"], ["--"], ["--quiet=1"], ["--threads", "x"], ["--engine=x"], ["--nothing"]],
    ids=" ".join,
)
def test_what_is_left_to_the_parser(argv: list[str]) -> None:
    assert read("filter", ["0x33", *argv]) is None


def test_the_environment_says_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COREFILT_ENGINE", "splice")
    found = read("filter", ["0x33", "--assume", "a=b", "--assume=c=d"])
    assert found is not None
    assert (found[0].engine, found[0].assume, found[1]) == ("splice", ["a=b", "c=d"], ["0x33"])


def test_errors_are_the_parsers(capsys: pytest.CaptureFixture[str]) -> None:
    from corefilt.cli import main

    assert main(["0x33", "core", "--engine", "none"]) == 2
    assert "--engine" in capsys.readouterr().err
    with pytest.raises(CorefiltError):
        parser().parse_intermixed_args(["0x33", "core", "--engine", "none"])


def test_a_plain_run_loads_no_parser_enum_or_collections(core: Path, tmp_path: Path) -> None:
    unwanted = {"argparse", "re", "gettext", "locale", "signal", "pathlib", "enum", "collections", "collections.abc",
                "functools", "operator", "types", "binascii"}  # fmt: skip
    if LIMITED:
        unwanted -= {"collections", "collections.abc", "operator", "types"}
    script = (
        "import sys\nfrom corefilt.startup import before_loading\nbefore_loading()\nfrom corefilt.cli import main\n"
        f"assert main(['0x33', {str(core)!r}, '-o', {str(tmp_path / 'out')!r}, '-q', '--no-sync']) == 0\n"
        f"print(sorted({unwanted} & set(sys.modules)))"
    )
    assert told_by(script) == "[]\n"


def test_array_without_collections_leaves_both_as_they_are() -> None:
    script = (
        "import sys\nfrom corefilt.startup import before_loading\nbefore_loading()\n"
        "print('array' in sys.modules, {'collections', 'collections.abc'} & set(sys.modules))\n"
        "import array, collections.abc\n"
        "print(isinstance(array.array('Q'), collections.abc.MutableSequence), collections.Counter('aa'))"
    )
    assert told_by(script) == "True set()\nTrue Counter({'a': 2})\n"


def test_garbage_is_collected_once_all_is_loaded(core: Path) -> None:
    script = (
        "import gc, sys\nfrom corefilt import cli\ncommand = cli.main\n"
        f"cli.main = lambda **about: print(gc.isenabled()) or command(['0x33', {str(core)!r}, '-n', '-q'])\n"
        "cli.os._exit = lambda code: print(code, gc.isenabled(), gc.get_freeze_count() > 0)\ncli.entry()"
    )
    assert told_by(script) == "False\n0 True True\n"


def told_by(script: str) -> str:
    """Run it without site, which loads modules for an editable installation."""
    place = str(Path(corefilt.__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {place!r})\n{script}"],
        capture_output=True, check=True, text=True, timeout=60,
    )  # fmt: skip
    return run.stdout
