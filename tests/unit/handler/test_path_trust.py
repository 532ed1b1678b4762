"""Who may change what runs as root: made-up trees, a real interpreter, and search paths of ELF files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from corefilt.corefile.dynamic import search_paths
from corefilt.handler.admin.audit import ask, hold
from corefilt.handler.admin.import_probe import beside, named_in_pth
from corefilt.handler.path_trust import MOST_LINKS, Trust

ANOTHER = 12345


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a system whose every component is its owner's."""
    for folder in (
        "usr/bin",
        "usr/lib/python/site-packages",
        "usr/lib/python/json/__pycache__",
        "home/alice/lib",
        "opt/env/bin",
    ):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("usr/bin/python", "usr/lib/python/os.py", "usr/lib/python/json/decoder.py"):
        (tmp_path / file).write_text("")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    return tmp_path


def trust(root: Path) -> Trust:
    return Trust(str(root), owner=os.getuid())


def faulty(it: Trust) -> list[str]:
    return [fault.path for fault in it.faults]


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another")
    os.chown(path, ANOTHER, -1, follow_symlinks=False)


def test_what_is_the_owners_alone_has_no_fault(root: Path) -> None:
    it = trust(root)
    assert it.path("/usr/bin/python", "the interpreter") == "/usr/bin/python"
    it.tree("/usr/lib/python", "on sys.path")
    assert it.faults == []


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777, 0o2775])
@pytest.mark.parametrize("component", ["", "usr", "usr/bin", "usr/bin/python"])
def test_a_component_that_others_may_write_to(root: Path, component: str, mode: int) -> None:
    (root / component).chmod(mode)
    it = trust(root)
    it.path("/usr/bin/python", "the interpreter")
    (fault,) = it.faults
    assert fault.path == f"/{component}"
    assert f"{mode:04o}" in fault.what
    assert ("anybody" if mode & 2 else f"group {root.stat().st_gid}") in fault.what
    assert fault.why == "the interpreter"


@pytest.mark.parametrize("component", ["usr", "usr/bin", "usr/bin/python"])
def test_a_component_of_another(root: Path, component: str) -> None:
    give_away(root / component)
    it = trust(root)
    it.path("/usr/bin/python", "the interpreter")
    assert [(fault.path, fault.what) for fault in it.faults] == [(f"/{component}", f"belongs to user {ANOTHER}")]


@pytest.mark.parametrize("target", ["/home/alice/lib", "../../../home/alice/lib", "/home/alice/../alice/lib/."])
def test_a_link_leads_to_a_users_folder(root: Path, target: str) -> None:
    (root / "usr/lib/python/more").symlink_to(target)
    (root / "home/alice/lib/evil.py").write_text("")
    (root / "home/alice").chmod(0o777)
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == ["/home/alice"]
    (root / "home/alice").chmod(0o755)
    (root / "home/alice/lib/evil.py").chmod(0o666)
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == ["/home/alice/lib/evil.py"]


def test_a_link_of_another(root: Path) -> None:
    link = root / "opt/env/bin/python"
    link.symlink_to("/usr/bin/python")
    give_away(link)
    it = trust(root)
    assert it.path("/opt/env/bin/python", "the interpreter") == "/usr/bin/python"
    assert faulty(it) == ["/opt/env/bin/python"]


def test_a_link_is_followed_below_the_root_it_was_given(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / "usr/up").symlink_to("../../../../../../../../../usr/bin/python")
    assert trust(root).path("/usr/up", "") == "/usr/bin/python"


def test_links_that_go_round(root: Path) -> None:
    (root / "usr/a").symlink_to("b")
    (root / "usr/b").symlink_to("a")
    it = trust(root)
    assert it.path("/usr/a/x", "") is None
    (fault,) = it.faults
    assert str(MOST_LINKS) in fault.what


def test_a_folder_that_holds_itself(root: Path) -> None:
    (root / "usr/lib/python/again").symlink_to(".")
    (root / "usr/lib/python/os.py").chmod(0o666)
    it = trust(root)
    it.tree("/usr/lib/python", "")
    assert faulty(it) == ["/usr/lib/python/os.py"]


def test_what_is_missing_can_be_made_by_who_may_write_to_its_folder(root: Path) -> None:
    it = trust(root)
    assert it.path("/usr/lib/python311.zip", "on sys.path") is None
    it.tree("/usr/none/at/all", "on sys.path")
    assert it.faults == []
    (root / "usr/lib").chmod(0o1777)
    it = trust(root)
    it.path("/usr/lib/python311.zip", "on sys.path")
    assert faulty(it) == ["/usr/lib"]


@pytest.mark.parametrize("inside", ["site-packages", "json", "json/decoder.py", "json/__pycache__", "os.py"])
def test_everything_in_a_tree_counts(root: Path, inside: str) -> None:
    (root / "usr/lib/python" / inside).chmod(0o777)
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == [f"/usr/lib/python/{inside}"]


@pytest.mark.parametrize("name", ["site-packages", "x-1.0.dist-info"])
def test_a_folder_that_no_import_names_is_entered_only_where_it_is_on_the_path(root: Path, name: str) -> None:
    inside = root / "usr/lib/python" / name / "evil.py"
    inside.parent.mkdir(exist_ok=True)
    inside.parent.chmod(0o755)
    inside.write_text("")
    inside.chmod(0o666)
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert it.faults == []
    it.tree(f"/usr/lib/python/{name}", "on sys.path")
    assert faulty(it) == [f"/usr/lib/python/{name}/evil.py"]


def test_a_zip_on_the_path(root: Path) -> None:
    (root / "usr/lib/code.zip").write_text("")
    it = trust(root)
    it.tree("/usr/lib/code.zip", "on sys.path")
    assert it.faults == []


# --- what an interpreter tells -------------------------------------------------------------------------------------


def test_folders_named_in_pth_files(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("# comment\n\nimport sys\n/home/alice/lib\nbeside  \n../above\n")
    (tmp_path / "b.txt").write_text("/home/bob\n")
    file = str(tmp_path / "a.pth")
    assert named_in_pth(str(tmp_path)) == [
        ("/home/alice/lib", file), (str(tmp_path / "beside"), file), (str(tmp_path.parent / "above"), file),
    ]  # fmt: skip
    assert named_in_pth(str(tmp_path / "missing")) == []


def told(root: Path, **what: object) -> Trust:
    """Hold what an interpreter could tell against a made-up tree."""
    it = trust(root)
    nothing = {name: [] for name in ("beside", "path", "packages", "pth", "files", "mapped")}
    hold({**nothing, **what}, it)  # type: ignore[typeddict-item]
    return it


def test_a_pth_file_names_a_folder_below_home(root: Path) -> None:
    (root / "home/alice").chmod(0o777)
    it = told(root, pth=[("/home/alice/missing", "/usr/lib/python/site-packages/x.pth")])
    assert faulty(it) == ["/home/alice"]
    assert "x.pth" in it.faults[0].why


@pytest.mark.parametrize("where", ["beside", "path", "packages", "files"])
def test_each_sort_of_file_is_looked_at(root: Path, where: str) -> None:
    (root / "usr/lib/python/os.py").chmod(0o666)
    assert faulty(told(root, **{where: ["/usr/lib/python/os.py"]})) == ["/usr/lib/python/os.py"]


def test_the_configuration_of_an_environment(tmp_path: Path) -> None:
    assert f"{tmp_path}/env/pyvenv.cfg" in beside(f"{tmp_path}/env/bin/python")


def test_what_this_interpreter_loads(installed_python: str) -> None:
    told = ask(installed_python)
    assert any(os.path.basename(name).startswith("_fast.") for name in told["mapped"])
    assert any("libc.so" in name for name in told["mapped"])
    assert all(os.path.isabs(name) for sort in ("path", "files", "mapped", "beside") for name in told[sort])  # type: ignore[literal-required]
    (package,) = told["packages"]
    assert package in {os.path.dirname(name) for name in told["files"]}


@pytest.fixture
def installed_python() -> str:
    done = subprocess.run([sys.executable, "-I", "-c", "import corefilt._fast"], cwd="/", check=False)
    if done.returncode:
        pytest.skip("corefilt is not installed for this interpreter, only on its PYTHONPATH")
    return sys.executable


# --- ELF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", ["--enable-new-dtags", "--disable-new-dtags"])
def test_search_paths_of_a_library(tmp_path: Path, tags: str) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc) in PATH")
    source, library = tmp_path / "a.c", tmp_path / "liba.so"
    source.write_text("int a(void) { return 1; }")
    paths = "/home/alice/lib:$ORIGIN/../more:relative:/opt/$LIB/x"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, f"-Wl,-rpath,{paths},{tags}"], check=True)
    assert [os.path.normpath(path) for path in search_paths(str(library))] == [
        "/home/alice/lib", str(tmp_path.parent / "more"), "/relative", "/opt",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01" + b"\xff" * 200])
def test_search_paths_of_what_is_no_program(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert search_paths(str(file)) == []


def test_a_dangling_link_where_an_import_looks(root: Path) -> None:
    """What it leads to is not there yet: who may write to that folder can make it, and it is imported."""
    (root / "usr/lib/python/plugin.py").symlink_to("/home/alice/lib/plugin.py")
    (root / "usr/lib/python/nowhere").symlink_to("/usr/lib/missing")
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == []
    (root / "home/alice/lib").chmod(0o777)
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == ["/home/alice/lib"]


def test_a_link_to_a_folder_where_an_import_looks(root: Path) -> None:
    """A package behind a link is looked into, whatever the folder there is called."""
    (root / "home/alice/lib/x-1.0").mkdir(mode=0o755)
    (root / "home/alice/lib/x-1.0/a.py").write_text("")
    (root / "home/alice/lib/x-1.0/a.py").chmod(0o666)
    (root / "usr/lib/python/package").symlink_to("/home/alice/lib/x-1.0")
    it = trust(root)
    it.tree("/usr/lib/python", "on sys.path")
    assert faulty(it) == ["/home/alice/lib/x-1.0/a.py"]
