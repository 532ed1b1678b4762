"""An installation that root alone can change, an account for the handler's child, and its settings, for a while."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.builds import PATIENCE, SANITIZED

import corefilt
from corefilt.handler.config import PATH

# Nobody's, and not the account that the crashing programs of these tests run under.
CHILD = 64007
PACKAGES = ("corefilt", "backports.zstd", "pyseccomp")


class Installation:
    """A virtual environment below /opt, a folder for cores, and /etc/corefilt.conf."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin/python"
        self.cores = folder / "cores"
        self.config = Path(PATH)

    def run(self, *words: object) -> "subprocess.CompletedProcess[str]":
        """Run a command of corefilt as the installed interpreter does."""
        command = [str(self.python), "-I", "-m", "corefilt", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd="/")

    def cores_of(self, count: int) -> dict[int, Path]:
        """Wait until that many cores have their names, and give them by their pid.

        The kernel waits for the process that reads a core, not for the one that names it afterwards.
        """
        until = time.monotonic() + PATIENCE
        while len(found := list(self.cores.iterdir())) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(found) == count, [path.name for path in found]
        return {int(path.suffix[1:]): path for path in found}

    def configure(self, text: str = "", name: str = "core.%P") -> None:
        """Write the settings: the test's, and where the cores go."""
        own = f'directory = "{self.cores}"\nuser = {CHILD}\nfree-space = 0\nname = "{name}"\n'
        self.config.write_text(own + text)
        self.config.chmod(0o644)


@contextmanager
def installation() -> Iterator[Installation]:
    """Make one where every folder on the way is root's alone; the tests' own may lie below /tmp."""
    if SANITIZED:
        pytest.skip("nothing loads a sanitizer's runtime into the interpreter of an installation")
    folder = Path(f"/opt/corefilt-test-{os.getpid()}")
    with ExitStack() as undo:
        folder.mkdir(mode=0o755, parents=True)
        undo.callback(shutil.rmtree, folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        for name in PACKAGES:
            copy_package(name, site)
        it = Installation(folder)
        it.cores.mkdir()
        before = it.config.read_bytes() if it.config.exists() else None
        undo.callback(put_back, it.config, before)
        it.configure()
        yield it


def copy_package(name: str, site: Path) -> None:
    """Copy what an import of this name finds, if it finds anything."""
    if name == "corefilt":
        (where,) = corefilt.__path__
    else:
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:
            return
        if spec is None or spec.origin is None:
            return
        where = os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin
    if os.path.isdir(where):
        shutil.copytree(where, site / name.replace(".", "/"), ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(where, site)


def put_back(file: Path, before: bytes | None) -> None:
    """Make a file what it was."""
    if before is None:
        file.unlink(missing_ok=True)
    else:
        file.write_bytes(before)
