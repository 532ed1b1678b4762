"""What --version tells: of this build, this kernel and these libraries, without loading them."""

import errno
import platform
import re
import subprocess
import sys
from importlib import metadata

import pytest
from support.run import corefilt

from corefilt import _fast
from corefilt.doctor import versions
from corefilt.io.movers import MOVERS


def said(name: str) -> str:
    """Return the line that begins with a name."""
    lines = [line for line in corefilt("--version").out.decode().splitlines() if line.startswith(name)]
    assert len(lines) == 1
    return lines[0]


def test_the_interpreter_the_kernel_and_the_compiler() -> None:
    assert platform.python_version() in said("Python")
    assert platform.release() in said("Python")
    assert re.search(r"by Cython 3\.\d+\.\d+ for (the stable ABI|Python 3\.\d+\.\d+\S* alone)$", said("compiled"))


def test_every_library_that_it_may_use_and_no_tool_of_its_makers() -> None:
    line = said("libraries: ")
    assert f"rich {metadata.version('rich')}" in line
    assert not re.search(r"pytest|ruff|Cython|atheris|moto|corefilt", line)


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "rich (not installed)" in versions.lines()[-1]


def test_an_engine_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said("engines: ") == f"engines: {', '.join(MOVERS)}"

    def without_splice(mover: int, *about: object) -> None:
        raise OSError(errno.ENOSYS if mover == _fast.SPLICE else errno.EBADF, "no")

    monkeypatch.setattr(_fast, "move", without_splice)
    assert "splice (not in this kernel)" in versions.lines()[0]
    assert versions.lines()[0].count("(") == 1


def test_nothing_is_loaded_that_is_named() -> None:
    script = "import sys; from corefilt.doctor import versions; versions.lines(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {"rich", "xxhash", "elftools", "backports"} & set(done.stdout.decode().split())


def test_what_counts_as_development_are_extras_that_there_are() -> None:
    extras = metadata.metadata("corefilt").get_all("Provides-Extra") or []
    assert set(extras) >= versions.DEVELOPMENT
