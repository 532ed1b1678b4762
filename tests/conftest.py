"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.samples import sample_core

# `python -m corefilt` in a child would find the sources of this checkout, which hold no compiled module, before
# the installed package.
os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """Write a small core into a folder of its own, where everything else that appears is corefilt's doing."""
    path = tmp_path / "core"
    path.write_bytes(sample_core())
    return path
