"""What corefilt makes of cores that others wrote holds before ``corefilt verify``, which shares no code with it."""

from __future__ import annotations

import bz2
from pathlib import Path

import pytest
from foreign.test_foreign import FOLDER, LINUX, NAMES, NOT_OF_A_PROCESS
from support.run import corefilt

import corefilt as api
from corefilt.verify import verify

pytestmark = pytest.mark.skipif(not NAMES, reason="no cores: COREFILT_FOREIGN_CORES names no folder with any")


# 66,000 segments take pyelftools 4 s each time.
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "phdrs" in n else n for n in LINUX])
def test_outputs_hold(name: str, tmp_path: Path) -> None:
    full, out = tmp_path / "full", tmp_path / "out"
    raw = (FOLDER / name).read_bytes()
    full.write_bytes(bz2.decompress(raw) if name.endswith(".bz2") else raw)
    damaged = False
    for flt in ("0x33",) if "phdrs" in name else ("0x0", "0x31", "all"):
        try:
            damaged = api.filter(full, out, filter=flt, force=True, sync=False).damaged
        except api.CorefiltError:
            assert name in NOT_OF_A_PROCESS
            return
        verdict = verify(full, out, filter=flt)
        assert verdict.holds, str(verdict)
    if "phdrs" in name:
        return
    api.filter(full, out, filter="all", minimal=True, force=True, sync=False)
    verdict = verify(full, out, filter="all")
    assert verdict.holds, str(verdict)
    if not damaged:
        in_place = tmp_path / "in-place"
        in_place.write_bytes(full.read_bytes())
        assert corefilt("0x31", in_place, "-i", "-q").code == 0
        verdict = verify(full, in_place, filter="0x31")
        assert verdict.holds, str(verdict)
