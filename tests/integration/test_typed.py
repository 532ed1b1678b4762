"""The types that corefilt ships, as a type checker sees them from outside: right calls pass, wrong ones do not."""

import subprocess
import sys
from pathlib import Path

import pytest

import corefilt

TYPED = Path(__file__).parent / "typed"


pytestmark = pytest.mark.skipif(
    str(Path(corefilt.__file__).parents[1]) not in sys.path, reason="installed editable: mypy finds no such package"
)


def test_calls(tmp_path: Path) -> None:
    """Check two files strictly; an error that is expected and does not come is an error."""
    names = ["right.py", "wrong.py"]
    for name in names:
        text = (TYPED / name).read_text()
        assert (text.count("# type: ignore[") > 20) == (name == "wrong.py")
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--cache-dir", tmp_path / "cache",
         "--python-executable", sys.executable, *names],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
