"""What is read without argparse is what argparse reads, and all that is refused is left to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_the_same_as_the_parser(argv: list[str]) -> None:
    found = read("filter", argv)
    if found is None or not 1 <= len(found[1]) <= 2:
        return
    arguments, operands = found
    names = dict(zip(("filter", "core"), operands, strict=False))
    assert {"core": "-", **vars(arguments), **names} == vars(parser().parse_intermixed_args(argv))


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


def test_a_plain_run_loads_no_parser(core: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom corefilt.cli import main\n"
        f"assert main(['0x33', {str(core)!r}, '-o', {str(tmp_path / 'out')!r}, '-q', '--no-sync']) == 0\n"
        "print(sorted({'argparse', 're', 'gettext', 'locale', 'signal', 'pathlib'} & set(sys.modules)))"
    )
    # Without site, which loads some of them for an editable installation.
    place = str(Path(corefilt.__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {place!r})\n{script}"],
        capture_output=True, check=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stdout == "[]\n"
