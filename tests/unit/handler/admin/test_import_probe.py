"""What the handler loads, told by an interpreter that loads it: the test's own."""

import os
import subprocess
import sys
from pathlib import Path

import corefilt
from corefilt.handler.admin.import_probe import beside, loaded, named_in_pth


def test_what_is_loaded_is_named() -> None:
    told = loaded()
    package = Path(corefilt.__file__).parent
    assert told["packages"] == [str(package)]
    names = set(told["files"])
    assert {str(package / name) for name in ("handler/supervisor.py", "handler/worker.py", "io/engine.py")} <= names
    assert all(os.path.isabs(name) for name in names)
    assert any(name.startswith(str(package / "_fast")) for name in {*names, *told["mapped"]})
    assert told["path"] == [os.path.abspath(entry) for entry in sys.path]
    assert told["beside"] == beside(sys.executable)


def test_rooms_that_the_handler_uses_nothing_of_are_not_asked_for() -> None:
    code = "import sys; from corefilt.handler.admin.import_probe import import_all; import_all(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert "corefilt.plan.fit.choose" in names
    assert not {name for name in names if name.startswith(("corefilt.cli.", "corefilt.batching.", "corefilt.verify."))}


def test_a_pth_file_names_folders_and_runs_nothing_here(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("# comment\nimport os\nbelow\n/elsewhere\n\n")
    (tmp_path / "b.txt").write_text("nowhere\n")
    name = str(tmp_path / "a.pth")
    assert named_in_pth(str(tmp_path)) == [(str(tmp_path / "below"), name), ("/elsewhere", name)]
    assert named_in_pth(str(tmp_path / "missing")) == []
