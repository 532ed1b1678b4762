"""What is run: corefilt, and the programs beside it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError

Argv = tuple[str, ...]
Ranges = list[tuple[int, int]]

_SOURCE = Path(__file__).with_name("pipestage.c")


@dataclass(frozen=True)
class Programs:
    """Command lines of everything that takes part."""

    command: Argv
    engine: str
    python: str
    pipestage: Path

    def corefilt(
        self,
        coredump_filter: int,
        core: Path | None = None,
        out: Path | None = None,
        sync: bool = True,
        *more: str,
    ) -> Argv:
        """Return corefilt between two files; standard input and output where one is left out."""
        argv = [*self.command, hex(coredump_filter)]
        if core is not None:
            argv.append(str(core))
        if out is not None:
            argv += ["-o", str(out)]
        if not sync:
            argv.append("--no-sync")
        if self.engine != "auto" and "--engine" not in more:
            argv += ["--engine", self.engine]
        return (*argv, *more, "-q")

    def bare(self, seconds: float = 0.0) -> Argv:
        """Return the same interpreter with nothing to do, or asleep for a while."""
        return self.python, "-c", f"import time; time.sleep({seconds})" if seconds else "pass"

    def stage(self, mode: str, ranges: Ranges | None = None) -> Argv:
        """Return the C stage (readwrite or splice) that keeps these ranges of its input, or all of it."""
        return str(self.pipestage), mode, *(f"{offset}:{length}" for offset, length in ranges or ())

    def drain(self) -> Argv:
        """Return the C stage that reads to the end and says how many bytes there were."""
        return str(self.pipestage), "drain"


def copy(source: Path, out: Path) -> Argv:
    """Return cp that moves every byte, whatever the file system could share."""
    return "cp", "--reflink=never", str(source), str(out)


def copy_by_dd(source: Path, out: Path) -> Argv:
    """Return dd that reads and writes 256 KiB at a time."""
    return "dd", f"if={source}", f"of={out}", "bs=256K", "status=none"


def reflink(source: Path, out: Path) -> Argv:
    """Return cp that shares every extent, or fails."""
    return "cp", "--reflink=always", str(source), str(out)


def read(path: Path) -> Argv:
    """Return dd that reads a file and keeps nothing."""
    return "dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"


def sync(path: Path) -> Argv:
    """Return what waits for the disk to hold one file."""
    return "sync", str(path)


def cat(*paths: Path) -> Argv:
    """Return plain cat."""
    return "cat", *map(str, paths)


def prepare(command: Argv, engine: str, folder: Path) -> Programs:
    """Find all programs, build the C stage in ``folder`` and see that corefilt starts."""
    for name in ("cp", "cat", "dd", "sync"):
        if shutil.which(name) is None:
            raise BenchError(f"no {name} on this machine")
    help_text = _call((*command, "--help"), "corefilt does not start")
    if "FILTER" not in help_text:
        raise BenchError(f"this is not corefilt: {shlex.join(command)}")
    return Programs(command, engine, _interpreter(command), _build(folder))


def version(command: Argv) -> str:
    """Return the first line that a program says about itself, or 'unknown'."""
    try:
        lines = _call((*command, "--version"), "no version").splitlines()
    except BenchError:
        return "unknown"
    return lines[0].strip() if lines else "unknown"


def _build(folder: Path) -> Path:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    built = folder / "pipestage"
    _call((*compiler, "-O2", "-o", str(built), str(_SOURCE)), "the C stage cannot be built (set CC)")
    return built


def _interpreter(command: Argv) -> str:
    """Return the Python that the command runs on: the command itself, or what its first line names."""
    first = shutil.which(command[0]) or command[0]
    if Path(first).name.startswith("python"):
        return first
    with Path(first).open("rb") as file:
        line = file.readline(4096).decode(errors="replace")
    words = line[2:].split() if line.startswith("#!") else []
    if words and "python" in Path(words[0]).name:
        return words[0]
    raise BenchError(f"{first} does not name its Python; give --corefilt 'PYTHON -m corefilt'")


def _call(argv: Argv, complaint: str) -> str:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False)
    except OSError as error:
        raise BenchError(f"{complaint}: {argv[0]}: {error.strerror}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise BenchError(f"{complaint}: {shlex.join(argv)}: exit {done.returncode}: {said}")
    return done.stdout
