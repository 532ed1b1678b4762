"""Runs of corefilt of which one call to the kernel fails, is short, or is the last: hundreds a second.

The calls are those of the C library, before which faults.c stands; faulty.py forks for every run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.builds import PATIENCE
from support.run import environment

HERE = Path(__file__).parent
SHORT, KILLED = -1, -2
NEVER = 1 << 40
# Calls that move bytes and say how many.
COUNTED = (
    "read", "write", "pread64", "pwrite64", "readv", "writev", "pwritev", "preadv2", "pwritev2", "sendfile64", "splice",
    "copy_file_range",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: a signal), what it said, its calls, and descriptors that it left open."""

    code: int
    out: bytes
    err: tuple[str, ...]
    count: int = 0
    names: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@dataclass
class Faults:
    """Gives runs to the program that forks for them, each in ``folder``, with the arguments that it was opened with."""

    folder: Path
    argv: tuple[str, ...]
    stdin: Path | None
    without_tmpfile: bool
    process: subprocess.Popen[str]

    def run(
        self, at: int = NEVER, what: int = 0, *, argv: tuple[str, ...] | None = None, killed_after: float | None = None
    ) -> Ended:
        """Run once; ``at`` is the call (from 0) that meets with the fault ``what``: an errno, SHORT or KILLED.

        ``argv`` are other arguments, for once; with ``killed_after`` SIGKILL comes after so many seconds.
        """
        answer = self._ask(at=at, what=what, argv=argv, killed_after=killed_after)
        out, err = (_taken(self.folder / name) for name in ("stdout", "stderr"))
        lines = tuple(err.decode(errors="backslashreplace").splitlines())
        return Ended(
            int(answer["code"]), out, lines, int(answer.get("count", 0)),
            tuple(answer.get("names", ())), tuple(answer.get("left", ())),
        )  # fmt: skip

    def warm(self) -> None:
        """Have all modules loaded that a run needs."""
        self._ask(warm=True)
        (self.folder / "stderr").unlink()

    def _ask(
        self,
        *,
        at: int = NEVER,
        what: int = 0,
        argv: tuple[str, ...] | None = None,
        killed_after: float | None = None,
        warm: bool = False,
    ) -> dict[str, object]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {
            "folder": str(self.folder), "argv": argv or self.argv, "stdin": self.stdin and str(self.stdin), "at": at,
            "what": what, "without_tmpfile": self.without_tmpfile, "warm": warm, "name_calls": at == NEVER,
            "killed_after": killed_after,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the program that forks has ended"
        return json.loads(line)


def _taken(path: Path) -> bytes:
    """Read a file and remove it; a run that was killed early may not have made it."""
    if not path.exists():
        return b""
    content = path.read_bytes()
    path.unlink()
    return content


def library(folder: Path) -> Path:
    """Compile what stands before the C library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, for what stands before the C library")
    made = folder / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "faults.c", "-ldl"], check=True)
    return made


@contextmanager
def faults(
    made: Path, folder: Path, *argv: str, stdin: Path | None = None, without_tmpfile: bool = False
) -> Iterator[Faults]:
    """Open one command for runs with faults; ``made`` is the library."""
    preload = {"LD_PRELOAD": str(made), "COREFILT_PRELOAD": str(made), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, HERE / "faulty.py", made], env={**environment(), **preload},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        it = Faults(folder, argv, stdin, without_tmpfile, process)
        it.warm()
        yield it
    finally:
        process.communicate(timeout=PATIENCE)
