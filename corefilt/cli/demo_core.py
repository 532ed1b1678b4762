"""A core to try things on: of a process that is crashed here and now, or the small one that ships with corefilt."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
from importlib.resources import files

# What the victim does, in one small process: memory of every common kind, then abort(). Its filter is set to
# keep everything, so that there is something to take out.
VICTIM = """
import mmap, os
with open("/proc/self/coredump_filter", "w") as f: f.write("0x1ff")
MiB = 1 << 20
shared = mmap.mmap(-1, 64 * MiB)
shared.write(bytes(range(1, 256)) * 257 * 1024 + b"x" * (64 * MiB - 255 * 257 * 1024))
private = bytearray(b"private" * (2 * MiB))
with open("data", "w+b") as f:
    f.write(b"in a file" * MiB)
    f.flush()
    by_all = mmap.mmap(f.fileno(), 9 * MiB)
    by_one = mmap.mmap(f.fileno(), 9 * MiB, access=mmap.ACCESS_COPY)
    by_one[0:4] = b"mine"
os.abort()
"""
# The kernel writes no file under a limit of less than a page (do_coredump in fs/coredump.c, Linux 6.18).
LEAST_LIMIT = 4096


def no_core_here() -> str | None:
    """Why this machine would leave no core file in the crashed process's folder, or None if it should."""
    try:
        with open("/proc/sys/kernel/core_pattern", encoding="utf-8", errors="replace") as file:
            pattern = file.read().rstrip("\n")
    except OSError as error:
        return f"kernel.core_pattern cannot be read: {error.strerror}"
    if pattern.startswith("|"):
        return f"kernel.core_pattern hands cores to a program ({pattern[1:].strip()})"
    if pattern.startswith("@"):
        return "kernel.core_pattern hands cores to a socket"
    if not pattern:
        return "kernel.core_pattern is empty"
    if "/" in pattern:
        return f"kernel.core_pattern names another directory ({pattern})"
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard != resource.RLIM_INFINITY and hard < LEAST_LIMIT:
        return f"the hard limit for core files (ulimit -Hc) is {hard}"
    return None


def crash(folder: str) -> str | None:
    """Crash a small process in ``folder``; the path of its core, or None where the kernel wrote none."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    before = set(os.listdir(folder))
    victim = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", VICTIM],
        cwd=folder,
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
    )
    status = victim.wait()
    new = sorted(set(os.listdir(folder)) - before - {"data"})
    if status != -signal.SIGABRT or not new:
        return None
    return os.path.join(folder, new[0])


def small_core(folder: str) -> str:
    """Unpack the core that ships with corefilt into ``folder``; its path. tests/demo has the program that left it."""
    path = os.path.join(folder, "shipped.core")
    packed = files(__package__).joinpath("small.core.gz").read_bytes()
    with open(path, "wb") as file:
        file.write(gzip.decompress(packed))
    return path
