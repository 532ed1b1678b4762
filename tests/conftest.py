"""Fixtures that more than one test file uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.samples import sample_core


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Write a small core into a folder of its own, where everything else that appears is corefilt's doing."""
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    return path
