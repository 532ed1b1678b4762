"""Each line of docs/handler.md's table of trust names tests, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_each_line_names_a_test_that_exists() -> None:
    page = ROOT / "docs/handler.md"
    if not page.exists():
        pytest.skip("the documentation is not beside the tests")
    section = page.read_text().split("## Who is trusted with what\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert len(rows) > 20
    for _, claim, named in rows[1:]:
        names = re.findall(r"`(test_\w+)`", named)
        assert names, claim
        assert set(names) <= tests, claim
