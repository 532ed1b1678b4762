"""``--dedupe``: equal blocks stand on the same extents where the file system can do that; every core stays whole."""

from __future__ import annotations

import os
import struct
import subprocess
from fcntl import ioctl
from pathlib import Path

import pytest
from support.disks import disk
from support.run import assert_error, corefilt
from support.shared import BLOCK, group, sums

from corefilt.batching.shared import dedupe as room
from corefilt.batching.shared.dedupe import dedupe
from corefilt.errors import OutputError

FS_IOC_FIEMAP = 0xC020660B
FIEMAP_EXTENT_SHARED = 0x2000


def shared_bytes(path: Path) -> int:
    """Count the bytes of a file whose extents belong to other files too."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        head = struct.pack("=QQIIII", 0, (1 << 64) - 1, 1, 0, 256, 0)
        answer = bytearray(head + bytes(56 * 256))
        ioctl(file.fileno(), FS_IOC_FIEMAP, answer)
    count = struct.unpack_from("=I", answer, 20)[0]
    extents = [struct.unpack_from("=QQQQQIIII", answer, 32 + 56 * n) for n in range(count)]
    return sum(extent[2] for extent in extents if extent[5] & FIEMAP_EXTENT_SHARED)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_extents_are_shared(kind: str, tmp_path: Path) -> None:
    with disk(kind, tmp_path) as place:
        paths = group(place / "cores", 4)
        before = sums(paths)
        subprocess.run(["sync", "-f", place], check=True)
        assert [shared_bytes(path) for path in paths] == [0] * 4
        done = dedupe(paths)
        assert (done.skipped, done.shared_bytes) == ({}, (6 + 7 + 7) * BLOCK)
        assert sums(paths) == before
        assert [shared_bytes(path) for path in paths][1:] != [0] * 3
        assert shared_bytes(paths[3]) >= 7 * BLOCK
        again = dedupe(paths)
        assert again.shared_bytes == done.shared_bytes
        assert sums(paths) == before


def test_elsewhere_it_is_an_error(tmp_path: Path) -> None:
    with disk("ext4", tmp_path) as place:
        paths = group(place / "cores", 2)
        with pytest.raises(OutputError, match="shares no extents") as caught:
            dedupe(paths)
        assert "--shared-once" in caught.value.hint
        done = corefilt("batch", "all", place / "cores", "--to", place / "out", "--dedupe", "-q")
        assert_error(done, "shares no extents")


def test_batch(tmp_path: Path) -> None:
    with disk("btrfs", tmp_path) as place:
        group(place / "cores", 3)
        done = corefilt("batch", "all", place / "cores", "--to", place / "out", "--dedupe")
        assert done.code == 0, done
        assert any("in 2 cores are stored once" in line for line in done.err)


def test_the_kernel_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that changed after they were looked at are left as they are."""
    with disk("btrfs", tmp_path) as place:
        paths = group(place / "cores", 2, changes=False)
        found = room.find_equal([str(path) for path in paths])
        with paths[1].open("r+b") as file:
            file.seek(found.members[1].offsets[2])
            file.write(b"changed")
        after = sums(paths)
        monkeypatch.setattr(room, "find_equal", lambda names: found)
        assert dedupe(paths).shared_bytes < 8 * BLOCK
        assert sums(paths) == after
