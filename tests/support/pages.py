"""Runs the commands of the documentation, page by page, as someone would who reads it from top to bottom.

A fenced block whose first word is ``sh`` or ``python`` is run; all blocks of a page in one folder, one after the
other, each in a shell of its own that stops at the first failure. A second word says where:

- ```` ```sh ````: everywhere;
- ```` ```sh system ````: as root, where COREFILT_TEST_SYSTEM=1 allows what it does (tests/kernel/test_docs.py);
- ```` ```sh elsewhere ````: nowhere here; it must only be a script that bash can read.

The folder holds ``core`` (the small one that ships with corefilt), ``maps`` and ``smaps`` (of its /proc/PID), and what
``FILES`` adds for a page.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

import corefilt
from support.builds import PATIENCE
from support.run import environment

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
EVERYWHERE, SYSTEM, ELSEWHERE = "", "system", "elsewhere"
# A block in a list is indented with it.
_FENCED = re.compile(r"^( *)```([a-z]*) ?([a-z]*)\n(.*?)^\1```$", flags=re.DOTALL | re.MULTILINE)
# What a page may use where it is installed; without it, what is left of the page is skipped.
OPTIONAL = {"gdb", "zstd", "eu-stack", "eu-unstrip"}


def _journal_entry(folder: Path) -> None:
    """Write ``entry``: what `journalctl -o export` prints of what systemd-coredump tells the journal."""
    maps = (folder / "maps").read_bytes()
    size = len(maps).to_bytes(8, "little")
    head = b"__CURSOR=s=1;i=2\nCOREDUMP_PID=4242\nCOREDUMP_FILENAME=/var/lib/systemd/coredump/core.app.1000.zst\n"
    (folder / "entry").write_bytes(head + b"COREDUMP_PROC_MAPS\n" + size + maps + b"\n\n")


def _archive(folder: Path) -> None:
    """Make ``archive``: three cores in two folders."""
    for name in ("one.core", "a/two.core", "b/three.core"):
        path = folder / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "core").read_bytes())


FILES: dict[str, Callable[[Path], None]] = {
    "howto-systemd-coredump.md": _journal_entry,
    "archives.md": _archive,
    "identity.md": _archive,
}
"""By the name of a page: what puts files of its own into the folder, beside ``core`` and ``maps``."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, where it may be run, its line in the page, and its text."""

    language: str
    where: str
    line: int
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCED.finditer(text):
        indent, language, where, inside = match.groups()
        inside = re.sub(f"^{indent}", "", inside, flags=re.MULTILINE)
        found.append(Block(language, where, text.count("\n", 0, match.start()) + 1, inside))
    return found


def to_run(page: Path, places: Collection[str] = (EVERYWHERE,)) -> list[Block]:
    """Return the blocks of a page that can be run in these places."""
    return [block for block in blocks(page) if block.language in ("sh", "python") and block.where in places]


def prepare(page: Path, folder: Path) -> None:
    """Put the files into a folder that the commands of a page speak of."""
    packed = files("corefilt.cli").joinpath("small.core.gz").read_bytes()
    (folder / "core").write_bytes(gzip.decompress(packed))
    with corefilt.open(folder / "core") as core:
        lines = [(_line_of_maps(mapping), _lines_of_smaps(mapping)) for mapping in core.mappings]
    (folder / "maps").write_bytes(b"".join(line for line, _ in lines))
    (folder / "smaps").write_bytes(b"".join(line + more for line, more in lines))
    if page.name in FILES:
        FILES[page.name](folder)


def _line_of_maps(mapping: corefilt.Mapping) -> bytes:
    """Give what /proc/PID/maps held of a mapping, as far as it is in the core."""
    sharing = "s" if mapping.kind.startswith("shared") else "p"
    inode = f"fe:00 {zlib.crc32(mapping.path)}" if mapping.path else "00:00 0"
    head = f"{mapping.start:x}-{mapping.end:x} {mapping.flags}{sharing} {mapping.file_offset or 0:08x} {inode} "
    return head.encode() + (mapping.path or _name(mapping)) + b"\n"


def _lines_of_smaps(mapping: corefilt.Mapping) -> bytes:
    """Give what smaps held besides: the process had written to all its writable memory."""
    writable, shared = "w" in mapping.flags, mapping.kind.startswith("shared")
    own = (mapping.end - mapping.start) >> 10 if writable and not shared else 0
    flags = [name for letter, name in zip(mapping.flags, ("rd", "wr", "ex"), strict=True) if letter != "-"]
    flags += ["mr", "mw", "me"] + (["sh", "ms"] if shared else ["ac"] if writable else [])
    return f"KernelPageSize: 4 kB\nAnonymous: {own} kB\nVmFlags: {' '.join(flags)}\n".encode()


def _name(mapping: corefilt.Mapping) -> bytes:
    """What maps calls a mapping without a file."""
    if mapping.kind == "special":
        return {"r--": b"[vvar]", "r-x": b"[vdso]", "--x": b"[vsyscall]"}[mapping.flags]
    return b"[stack]" if any("AT_RANDOM" in reason for reason in mapping.evidence) else b""


def run(
    page: Path, folder: Path, places: Collection[str] = (EVERYWHERE,), extra: Mapping[str, str] | None = None
) -> None:
    """Run a page's blocks in a folder; ``extra`` goes into their environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for block in to_run(page, places):
        command = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, block.text],
            cwd=folder,
            env={**environment(extra), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode == 127:
            for name in re.findall(r"(\S+): command not found", done.stderr.decode()):
                if name in OPTIONAL:
                    pytest.skip(f"{name} is not installed")
        said = f"{page.name}, line {block.line}: exit {done.returncode}\n{block.text}\n{done.stderr.decode()}"
        assert done.returncode == 0 and b"Traceback" not in done.stderr, said
