"""Runs the commands of the documentation, page by page, as someone would who reads it from top to bottom.

A fenced block whose first word is ``sh``, ``python`` or ``console`` is run; all blocks of a page in one folder, one
after the other, each ``sh`` and ``python`` block, and each command of a ``console`` block, in a process of its own that
stops at the first failure. In ``console``, what follows ``$ `` is a command (``> `` continues it), and all else is what
it says on a terminal of 80 columns; a line ``...`` stands for any lines. A second word says where:

- ```` ```sh ````: everywhere;
- ```` ```sh elsewhere ````: nowhere here; it must only be a script that bash can read.

A comment above the block, which no reader sees, says what else is expected: ``<!-- exit 3 -->`` of its last command,
``<!-- numbers vary -->`` where sizes and addresses are the machine's.

The folder holds ``core`` (the small one that ships with corefilt), ``maps`` and ``smaps`` (of its /proc/PID), and what
``FILES`` adds for a page. ``python -m support.pages PAGE...`` writes what the commands say now into the pages.
"""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

import corefilt
from support.builds import PATIENCE
from support.run import environment
from support.terminal import told_on_a_terminal

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
EVERYWHERE, ELSEWHERE = "", "elsewhere"
LANGUAGES = ("sh", "python", "console")
WIDTH = 80
# A block in a list is indented with it.
_FENCED = re.compile(
    r"(?:^ *<!-- (?:exit (\d))?(?:, )?(numbers vary)? -->\n)?^( *)```([a-z]*) ?([a-z]*)\n(.*?)^\3```$",
    flags=re.DOTALL | re.MULTILINE,
)
# How long something took, and when it was.
_TIMES = re.compile(r"\b\d+\.\d+ s\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_NUMBERS = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f.]*(?: (?:[KMGT]i)?B\b| %)?| {2,}|[\u2588\u2591]+")
# What a page may use where it is installed; without it, what is left of the page is skipped.
OPTIONAL = {"gdb", "zstd", "eu-stack", "eu-unstrip", "gcc"}


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
    """A fenced block: its language, where it may be run, its line in the page, its text, and what is expected of it."""

    language: str
    where: str
    line: int
    text: str
    code: int
    varies: bool

    def commands(self) -> list[tuple[str, str]]:
        """What is run, and what it says; of all but ``console`` nothing is known of that."""
        if self.language != "console":
            return [(self.text, "...\n")]
        found: list[tuple[str, str]] = []
        for line in self.text.splitlines(keepends=True):
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1] = (found[-1][0] + line[2:], "")
            else:
                found[-1] = (found[-1][0], found[-1][1] + line)
        return found


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in _FENCED.finditer(text):
        code, varies, indent, language, where, inside = match.groups()
        inside = re.sub(f"^{indent}", "", inside, flags=re.MULTILINE)
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(language, where, line, inside, int(code or 0), bool(varies)))
    return found


def to_run(page: Path) -> list[Block]:
    """Return the blocks of a page that can be run here."""
    return [block for block in blocks(page) if block.language in LANGUAGES and block.where == EVERYWHERE]


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


def run(page: Path, folder: Path, extra: Mapping[str, str] | None = None, interpreter: str = sys.executable) -> None:
    """Run a page's blocks in a folder; ``extra`` goes into their environment, ``interpreter`` has corefilt."""
    for block in to_run(page):
        for command, expected, code, said in carry_out(block, folder, extra or {}, interpreter):
            where = f"{page.name}, line {block.line}: exit {code}\n{command}\n{said}"
            assert code == block.code and "Traceback" not in said, where
            assert agrees(expected, said, varies=block.varies), f"{where}\ninstead of\n{expected}"


def carry_out(
    block: Block, folder: Path, extra: Mapping[str, str], interpreter: str
) -> Iterator[tuple[str, str, int, str]]:
    """Run the commands of a block; give each with what it is expected to say, its exit code, and what it said."""
    path = f"{Path(interpreter).parent}:{os.environ['PATH']}"
    env = {**environment(), "PATH": path, "COLUMNS": str(WIDTH), **extra}
    commands = block.commands()
    for n, (text, expected) in enumerate(commands):
        command = [interpreter, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        if block.language == "console":
            code, raw = told_on_a_terminal([*command, text], {**env, "TERM": "dumb"}, width=WIDTH, cwd=folder)
        else:
            done = subprocess.run(
                [*command, text],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
                check=False,
            )
            code, raw = done.returncode, done.stdout
        said = raw.decode().replace("\r\n", "\n")
        if code == 127:
            for name in re.findall(r"(\S+): command not found", said):
                if name in OPTIONAL:
                    pytest.skip(f"{name} is not installed")
        # Only the last command may end otherwise than well.
        yield text, expected, code if n == len(commands) - 1 or code else block.code, said


def agrees(expected: str, said: str, *, varies: bool) -> bool:
    """Tell whether a command said what a page has of it."""
    pattern = ""
    for line in _even(expected, varies=varies).splitlines():
        pattern += "(?:.*\n)*" if line == "..." else re.escape(line) + "\n"
    return re.fullmatch(pattern, _even(said, varies=varies)) is not None


def _even(text: str, *, varies: bool) -> str:
    """Take out what differs from run to run."""
    text = "".join(line.rstrip() + "\n" for line in text.splitlines())
    # Where a line is broken depends on its numbers.
    text = re.sub(r"\n {4,}(?=\S)", " ", text)
    text = _TIMES.sub("0.01 s", text)
    return _NUMBERS.sub(" ", text) if varies else text


def rewrite(page: Path, folder: Path) -> None:
    """Put what the commands of a page say now in the place of what it has, where that differs."""
    text = page.read_text()
    for block in to_run(page):
        now = ""
        for (command, expected), (_, _, _, said) in zip(
            block.commands(), carry_out(block, folder, {}, sys.executable), strict=True
        ):
            now += "$ " + command.replace("\n", "\n> ").removesuffix("> ")
            now += expected if agrees(expected, said, varies=block.varies) else said
        if block.language == "console":
            text = text.replace(block.text, now)
    page.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(name).resolve(), Path(place))
            rewrite(Path(name).resolve(), Path(place))
