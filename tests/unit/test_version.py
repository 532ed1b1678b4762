"""Which version is built: by the tag, by what a source distribution notes, else by the package."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from support.pages import ROOT

spec = importlib.util.spec_from_file_location("version", ROOT / "wheels/version.py")
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("COREFILT_VERSION", raising=False)
    (tmp_path / "corefilt").mkdir()
    (tmp_path / "corefilt/__init__.py").write_text('"""Doc."""\n\n__version__ = "9.8.7"\n')
    return tmp_path


def git(tree: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *words], cwd=tree, check=True, capture_output=True)


def test_the_packages_own_where_nothing_else_tells(tree: Path) -> None:
    assert module.version(tree) == "9.8.7"
    git(tree, "init")
    git(tree, "commit", "--allow-empty", "-m", "first")
    assert module.version(tree) == "9.8.7"


@pytest.mark.parametrize(
    ("tag", "at", "behind"),
    [("v1.2.3", "1.2.3", "1.2.4.dev1+g"), ("v1.3.0rc2", "1.3.0rc2", "1.3.0.dev1+g"), ("v1", "9.8.7", "9.8.7")],
)
def test_the_tags(tree: Path, tag: str, at: str, behind: str) -> None:
    git(tree, "init")
    git(tree, "commit", "--allow-empty", "-m", "first")
    git(tree, "tag", tag)
    assert module.version(tree) == at
    git(tree, "commit", "--allow-empty", "-m", "second")
    assert module.version(tree).startswith(behind)


def test_what_a_source_distribution_notes_and_what_is_asked_for(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: corefilt\nVersion: 4.5.6\n")
    assert module.version(tree) == "4.5.6"
    monkeypatch.setenv("COREFILT_VERSION", "7.0")
    assert module.version(tree) == "7.0"
