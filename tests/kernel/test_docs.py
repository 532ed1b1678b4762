"""The tutorial crashes a program, which the kernel has to dump where it is."""

from pathlib import Path

import pytest
from kernel.dumps import dumping
from support.pages import ROOT, run


def test_the_tutorial(tmp_path: Path) -> None:
    with dumping() as reason:
        if reason:
            pytest.skip(reason)
        run(ROOT / "docs" / "tutorial.md", tmp_path)
