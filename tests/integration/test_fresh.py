"""What README's first command installs, without extras, runs every command of README and docs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import PAGES, ROOT, prepare, run, to_run

RUN_BY_OTHERS = ("fdpic.md", "live.md", "tutorial.md")
"""Their files and processes are made by the tests of their subjects; the commands are those of other pages."""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install a copy of this tree into an environment of its own."""
    if not (ROOT / "corefilt" / "_fast.pyx").exists():
        pytest.skip("the sources are not beside the tests")
    folder = tmp_path_factory.mktemp("fresh")
    tracked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(tracked, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no checkout of git")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "tree" / name, follow_symlinks=False)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "."],
        cwd=folder / "tree",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index")
    assert done.returncode == 0, done.stderr
    return str(python)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if to_run(page) and page.name not in RUN_BY_OTHERS], ids=lambda page: page.name
)
def test_commands_run_without_extras(page: Path, interpreter: str, tmp_path: Path) -> None:
    prepare(page, tmp_path)
    run(page, tmp_path, interpreter=interpreter)


@pytest.mark.slow
def test_no_extra_is_there(interpreter: str) -> None:
    """Else the others would show nothing."""
    names = "pyseccomp", "s3fs", "gcsfs", "paramiko", "distributed", "pytest", "sphinx"
    script = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run([interpreter, "-c", script], env=env, capture_output=True, text=True).stdout == "[]\n"
