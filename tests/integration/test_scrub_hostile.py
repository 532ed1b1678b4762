"""What a core that was made to cost much costs ``corefilt scrub``: memory by match, and values that begin alike."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.builder import Load, kernel_notes, make_core

SIZE = 1 << 18
# The address space that a child may have beyond that of one with an empty core, in bytes: it is held to it. 11,000
# matches took 44 MB, of which each value that is looked for again in twelve forms takes 4 KB; without these a match
# takes 190 bytes.
MOST_MORE = 56 << 20
CHILD = """
import resource, sys
from corefilt.corefile.corefile import open_core
from corefilt.scrub.find import find
from corefilt.scrub.request import make_request
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with open_core(sys.argv[1]) as core:
    print(len(find(core, make_request()).matches))
peak = [line for line in open("/proc/self/status") if line.startswith("VmPeak")]
print(int(peak[0].split()[1]) << 10)
"""


def searched(folder: Path, raw: bytes, limit: int = 0) -> tuple[int, int]:
    """Look through memory in a child; returns the count of matches and the most address space it had."""
    path = folder / "core"
    path.write_bytes(make_core([Load(0x10000000, raw.ljust(-(-len(raw) // 4096) * 4096, b"\0"))], kernel_notes()))
    done = subprocess.run([sys.executable, "-c", CHILD, path, str(limit)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, peak = done.stdout.split()
    return int(count), int(peak)


def modulus(draw: random.Random) -> bytes:
    """An odd number of 1024 bits as a public key has it, in DER."""
    return b"\x02\x81\x81\0" + (draw.getrandbits(1024) | 1 << 1023 | 1).to_bytes(128, "big") + b"\x02\x03\x01\0\x01"


HOSTILE = {
    "anchors": lambda n, _: b"token=",
    "matches": lambda n, draw: b"sk_live_%016x\0" % draw.getrandbits(64),
    "values": lambda n, draw: b"token=x%015x;" % draw.getrandbits(60),
    "values that begin alike": lambda n, _: b"token=aliKe7%014x;" % n,
    "moduli": lambda n, draw: modulus(draw),
}


_LONG = ("matches", "values", "values that begin alike")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow if k in _LONG else ()) for k in HOSTILE])
def test_memory_is_bounded(tmp_path: Path, kind: str) -> None:
    draw, raw, n = random.Random(kind), bytearray(), 0
    while len(raw) < SIZE:
        raw += HOSTILE[kind](n, draw)
        n += 1
    _, usual = searched(tmp_path, b"x")
    count, _ = searched(tmp_path, bytes(raw), usual + MOST_MORE)
    assert count > 5000 or kind in ("anchors", "moduli")
