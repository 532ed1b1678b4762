"""The examples of docs/archives.md do what they say."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "archives.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    core = gzip.decompress(files("corefilt.demo").joinpath("small.core.gz").read_bytes())
    for name in ("one.core", "a/two.core", "b/three.core"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(core)
    return tmp_path


def test_the_examples_run_one_after_the_other(folder: Path) -> None:
    assert len(BLOCKS) == 3
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    program = f'corefilt() {{ "{sys.executable}" -m corefilt "$@"; }}\n'
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    for block in [*BLOCKS[1:], BLOCKS[0]]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", program + block],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, block + done.stderr
    full = (folder / "small/one.core").stat().st_size
    assert (folder / "globbed/a/two.core").stat().st_size <= full
    assert (folder / "listed/archive/b/three.core").exists()
    assert (folder / "smaller.core").read_bytes()[:4] == b"\x7fELF"
    assert (folder / "archive/one.core").read_bytes() == (folder / "small/one.core").read_bytes()
    assert os.getxattr(folder / "archive/one.core", "user.corefilt").startswith(b'{"schema":1')
