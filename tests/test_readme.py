"""The README's examples do what they say."""

import gzip
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

import corefilt

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packed = files("corefilt.demo").joinpath("small.core.gz").read_bytes()
    (tmp_path / "core").write_bytes(gzip.decompress(packed))
    (tmp_path / "maps").write_bytes(b"".join(lines_of_maps(tmp_path / "core")))
    return tmp_path


def lines_of_maps(path: Path) -> Iterator[bytes]:
    """Give what /proc/PID/maps held of the process, as far as it is in the core."""
    with corefilt.open(path) as core:
        for mapping in core.mappings:
            sharing = "s" if mapping.kind.startswith("shared") else "p"
            inode = f"fe:00 {zlib.crc32(mapping.path)}" if mapping.path else "00:00 0"
            head = f"{mapping.start:x}-{mapping.end:x} {mapping.flags}{sharing} {mapping.file_offset or 0:08x} {inode} "
            yield head.encode() + (mapping.path or b"") + b"\n"


def test_there_are_examples() -> None:
    assert [language for language, _ in BLOCKS].count("sh") >= 4


@pytest.mark.parametrize(("language", "text"), BLOCKS, ids=[f"{i}-{block[0]}" for i, block in enumerate(BLOCKS)])
def test_example(language: str, text: str, folder: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_the_two_commands_are_what_ci_runs() -> None:
    commands = re.findall(r"^    (python3 -m venv .*)$", README.read_text(), flags=re.MULTILINE)
    assert len(commands) == 2
    script = (README.parent / ".ci" / "run").read_text()
    assert commands[1].replace("pip install ", "pip install --quiet ") in script
