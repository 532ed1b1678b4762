"""Filters in turn over cores that others wrote: a second one loses nothing that both keep.

The folders are not part of the repository: COREFILT_FOREIGN_CORES and COREFILT_FDPIC_CORES name them.
"""

from __future__ import annotations

import bz2
import lzma
from pathlib import Path

import pytest
from foreign.test_fdpic_cores import FOLDER as FDPIC
from foreign.test_foreign import FOLDER, LINUX
from support.refilter import losses

from corefilt.errors import CorefiltError

# Of cores with more than 65,535 program headers, whose plan for one filter takes as long as others' for all.
THREE = (0x0, 0x1, 0x33)
TWELVE = (0x0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x3, 0x11, 0x14, 0x31, 0x33, 0x7F)
ALL = tuple(range(0x200))
CORES = [*(FOLDER / name for name in LINUX), *sorted(FDPIC.rglob("*.core*"))]


pytestmark = pytest.mark.skipif(not CORES, reason="no cores: COREFILT_FOREIGN_CORES names no folder with any")
by_core = pytest.mark.parametrize("core", CORES, ids=lambda path: f"{path.parent.name}/{path.name}")


def unpacked(core: Path, folder: Path) -> Path:
    """Give a core as a file that can be sought, whatever it is compressed with."""
    unpack = {".bz2": bz2.decompress, ".xz": lzma.decompress}.get(core.suffix)
    if unpack is None:
        return core
    target = folder / "core"
    target.write_bytes(unpack(core.read_bytes()))
    return target


def assert_nothing_is_lost(core: Path, filters: tuple[int, ...], then: tuple[int, ...], folder: Path) -> None:
    try:
        found = losses(unpacked(core, folder), filters, folder, then)
    except CorefiltError as error:
        pytest.skip(f"is refused: {error}")
    assert not found


@by_core
def test_twelve_filters_in_turn(core: Path, tmp_path: Path) -> None:
    filters = THREE if "xnum" in core.name else TWELVE
    assert_nothing_is_lost(core, filters, filters, tmp_path)


@pytest.mark.slow
@by_core
def test_all_filters_in_turn(core: Path, tmp_path: Path) -> None:
    filters = TWELVE if "xnum" in core.name else ALL
    assert_nothing_is_lost(core, filters, filters, tmp_path)
