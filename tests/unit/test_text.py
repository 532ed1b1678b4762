"""Text for people: a number agrees with what it counts, in every message."""

from __future__ import annotations

import re

import pytest
from support.pages import ROOT

from corefilt.text import counted

PLURAL = re.compile(
    r"\{([^{}\"]+)\} (?:more |other |different )?(?:copies|cores|directories|files|frames|mappings|modules|notes|"
    r"others|program headers|ranges|records|section headers|segments|stacks|symbols|threads)\b"
)
# Never 1 where they are printed.
MANY = {"total", "most"}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 mappings"), (1, "1 mapping"), (2, "2 mappings"), (1 << 20, "1048576 mappings")]
)
def test_counted(count: int, text: str) -> None:
    assert counted(count, "mapping") == text


def test_counted_where_more_changes_than_an_s() -> None:
    assert [counted(n, "copy was", "copies were") for n in (1, 2)] == ["1 copy was", "2 copies were"]


def test_every_count_is_written_by_one_function() -> None:
    """A message that has a variable before several of something would say "1 mappings"."""
    if not (ROOT / "corefilt" / "text.py").exists():
        pytest.skip("the sources are not beside the tests")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "corefilt").rglob("*.py"))
        for match in PLURAL.finditer(path.read_text())
        if not match[1].isupper() and match[1] not in MANY
    ]
    assert found == []
