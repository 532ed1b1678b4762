"""The command line that all scripts share."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

WORKS = ("file-to-file", "pipe-to-pipe", "pipe-to-file", "file-to-pipe", "start-up", "memory")

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FULL_SIZE, _FULL_RUNS = 2 << 30, 5
_QUICK_SIZE, _QUICK_RUNS = 64 << 20, 2
_ALL_SIZE, _ALL_RUNS = 512 << 20, 3
# The scripts whose rows stand in the table of docs/performance.md.
ALL = ("filter", "compressed", "segments", "batch", "stores", "handler")


@dataclass(frozen=True)
class Options:
    """What was asked for, defaults filled in."""

    scripts: tuple[str, ...]
    size: int
    runs: int
    quick: bool
    folder: Path | None
    tmpfs: str
    works: frozenset[str]
    corefilt: tuple[str, ...]
    before: tuple[str, ...] | None
    engine: str
    json: Path | None
    every: bool
    """Whether a row that cannot be measured is a failure."""


def parse(arguments: list[str], scripts: dict[str, str]) -> Options:
    """Read the command line; ``scripts`` maps each script's name to the question it answers."""
    questions = "\n".join(f"  {name:<12}{question}" for name, question in scripts.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures corefilt beside other programs, in pairs of runs side by side.",
        epilog=f"scripts:\n{questions}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "scripts",
        nargs="*",
        metavar="SCRIPT",
        help="what to run (default: every script); all: the rows that have a target, at 512 MiB and "
        "with 3 runs, and exit code 1 where one cannot be measured",
    )
    parser.add_argument("--size", type=_size, help="memory in the core, such as 512M (default: 2G)")
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of each side (default: 5)")
    parser.add_argument("--quick", action="store_true", help="64 MiB and 2 runs, to see that all works")
    parser.add_argument("--dir", type=Path, help="where the files are written (default: a temporary directory)")
    parser.add_argument(
        "--tmpfs",
        default="auto",
        metavar="DIR",
        help="a tmpfs for the second half, or 'none' (default: /dev/shm or /tmp)",
    )
    parser.add_argument("--only", type=_works, default=frozenset(WORKS), metavar="WORK[,WORK]", help=", ".join(WORKS))
    parser.add_argument(
        "--corefilt",
        type=_command,
        default=_installed(),
        metavar="COMMAND",
        help="how corefilt is started (default: the one that belongs to this Python)",
    )
    parser.add_argument(
        "--before", type=_command, metavar="COMMAND", help="another corefilt, which the script `before` runs beside it"
    )
    parser.add_argument("--engine", default="auto", help="passed on to corefilt (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured here")
    found = parser.parse_args(arguments)
    if found.json is not None and not found.json.absolute().parent.is_dir():
        parser.error(f"--json: no folder for {found.json}")
    every = found.scripts == ["all"]
    if every:
        found.scripts = list(ALL)
        found.size, found.runs = found.size or _ALL_SIZE, found.runs or _ALL_RUNS
    for name in found.scripts:
        if name not in scripts:
            parser.error(f"no script {name!r}; there is: {', '.join(scripts)}")
    return Options(
        scripts=tuple(found.scripts or scripts),
        size=found.size or (_QUICK_SIZE if found.quick else _FULL_SIZE),
        runs=found.runs or (_QUICK_RUNS if found.quick else _FULL_RUNS),
        quick=found.quick,
        folder=found.dir,
        tmpfs=found.tmpfs,
        works=found.only,
        corefilt=found.corefilt,
        before=found.before,
        engine=found.engine,
        json=found.json,
        every=every,
    )


def _installed() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("corefilt")
    return (str(script),) if script.exists() else (sys.executable, "-m", "corefilt")


def _command(text: str) -> tuple[str, ...]:
    words = shlex.split(text)
    if not words:
        raise argparse.ArgumentTypeError("an empty command")
    if "/" in words[0]:
        words[0] = str(Path(words[0]).absolute())
    return tuple(words)


def _size(text: str) -> int:
    digits, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    if not digits.isdecimal() or int(digits) == 0:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (65536, 64K, 500M, 2G)")
    return int(digits) * unit


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"not a number of runs: {text!r}")
    return int(text)


def _works(text: str) -> frozenset[str]:
    wanted = frozenset(text.split(","))
    if unknown := wanted - set(WORKS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there is {', '.join(WORKS)}")
    return wanted
