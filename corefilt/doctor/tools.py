"""Which tools and libraries are here, and in which version."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from corefilt import __version__
from corefilt.doctor.fact import Fact
from corefilt.doctor.versions import libraries, version_of
from corefilt.text import printable

# Each with what it is for.
TOOLS = {
    "gdb": "debugs cores",
    "gdb-multiarch": "debugs cores of other machines",
    "lldb": "debugs cores",
    "drgn": "debugs cores by scripts",
    "eu-stack": "backtraces",
    "eu-readelf": "reads headers and notes",
    "readelf": "reads headers and notes",
    "coredumpctl": "finds cores that systemd keeps",
    "journalctl": "has the maps of systemd's cores (--maps auto)",
    "zstd": "unpacks .zst",
    "lz4": "unpacks .lz4",
    "xz": "unpacks .xz",
    "gzip": "unpacks .gz",
    "strace": "shows what a run asks of the kernel",
}
# For a tool to say its version, in seconds; lldb took 0.3 s.
PATIENCE = 10


def tool_facts() -> list[Fact]:
    """One fact a tool that PATH has or has not, and one a library."""
    with ThreadPoolExecutor() as pool:
        facts = list(pool.map(_tool, TOOLS, TOOLS.values()))
    libc = " ".join(part for part in platform.libc_ver() if part)
    facts.append(Fact("libraries", "corefilt", __version__))
    facts.append(Fact("libraries", "python", f"{platform.python_version()}{f', {libc}' if libc else ''}"))
    return facts + [Fact("libraries", name, version_of(name)) for name in libraries()]


def _tool(name: str, purpose: str) -> Fact:
    path = shutil.which(name)
    if path is None:
        return Fact("tools", name, "no", purpose)
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
            env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return Fact("tools", name, "yes", f"{purpose}; does not tell its version")
    # Some tell it on standard error; others complain there of a plugin.
    told = (done.stdout + b"\n" + done.stderr).decode("utf-8", "backslashreplace")
    lines = [printable(line.strip()) for line in told.splitlines()]
    return Fact("tools", name, next((line for line in lines if line), "yes"), purpose)
