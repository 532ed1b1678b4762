"""The examples of docs/archives.md do what they say."""

import gzip
import os
from importlib.resources import files
from pathlib import Path

import pytest
from support import pages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    core = gzip.decompress(files("corefilt.demo").joinpath("small.core.gz").read_bytes())
    for name in ("one.core", "a/two.core", "b/three.core"):
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(core)
    return tmp_path


def test_the_examples_run_one_after_the_other(folder: Path) -> None:
    pages.run(pages.ROOT / "docs" / "archives.md", folder)
    full = (folder / "small/one.core").stat().st_size
    assert (folder / "globbed/a/two.core").stat().st_size <= full
    assert (folder / "listed/archive/b/three.core").exists()
    assert (folder / "smaller.core").read_bytes()[:4] == b"\x7fELF"
    assert (folder / "archive/one.core").read_bytes() == (folder / "small/one.core").read_bytes()
    assert os.getxattr(folder / "archive/one.core", "user.corefilt").startswith(b'{"schema":1')
