"""Runs corefilt under strace: which system calls it makes on a core, and what becomes of it when one fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from support.builds import UNTRACED
from support.run import Done, finish, start

# What can change a file or a name; where strace is to fail a call, it is one of these.
CHANGING = (
    "pwritev2", "pwritev", "pwrite64", "write", "fallocate", "fdatasync", "fsync", "ftruncate", "linkat", "renameat",
    "renameat2", "rename", "unlinkat", "fchmod", "fchown", "fsetxattr", "utimensat", "copy_file_range",
)  # fmt: skip


@cache
def why_no_strace() -> str | None:
    """Say why system calls cannot be watched, or None when they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "strace may not trace here"


def need_strace() -> None:
    """Skip where there is no strace, or where it may not trace."""
    reason = why_no_strace()
    if reason:
        pytest.skip(reason)


def calls_after_opening(core: Path, *args: str | Path, everything: bool = False) -> list[tuple[str, int]]:
    """Name the system calls of a run from where it opens the core for writing, each with its count so far.

    The count is how often this call was made in the whole run, as strace's ``when=`` has it. Without
    ``everything`` only calls that can change something are named.
    """
    log = core.with_name("strace.log")
    done = finish(start(*args, prefix=("strace", "-f", "-o", str(log)), env=_steady()))
    assert done.code in (0, 3), "\n".join(done.err)
    counts: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    opened = False
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if not match:
            continue
        counts[match[1]] += 1
        if opened and match[1] != "exit_group" and (everything or match[1] in CHANGING):
            found.append((match[1], counts[match[1]]))
        opened = opened or ("O_RDWR" in line and f'"{core}"' in line)
    log.unlink()
    assert opened, "the core was never opened for writing"
    return found


def run_with_fault(fault: str, name: str, count: int, *args: str | Path) -> Done:
    """Run corefilt with a fault at the ``count``-th call of a name: ``error=EIO``, ``signal=KILL``."""
    prefix = ("strace", "-f", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:{fault}:when={count}")
    return finish(start(*args, prefix=prefix, env=_steady()))


def _steady() -> dict[str, str]:
    """Make runs alike, so that a call has the same count in each, and all calls are corefilt's or the interpreter's."""
    return {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", **UNTRACED}
