"""The machine's memory: how much there is, and that what a run will need is at hand before it is timed."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

_AIR = 512 << 20
_WORTH_IT = 256 << 20
_REPORTED_AFTER = 2.6


def available() -> int:
    """Return how many bytes the kernel could give away now, the page cache included."""
    return _meminfo("MemAvailable")


def settle(length: int) -> None:
    """Bring the memory home that a run is going to fill with ``length`` bytes of a file, and free it.

    The host of a virtual machine may take free memory back through its balloon, and the first touch of such a
    page is a fault in the host: measured so, the same cp of 2 GiB takes 0.9 s or 2.6 s by turns. The kernel
    reports free memory two seconds after it notices some, so what is touched, held for longer than that and freed
    at the last moment is still at home when the run needs it: 0.9 to 1.1 s. Nothing is done for little files,
    without a balloon, and where little memory is free (what is recycled from the page cache was never away).
    """
    wanted = length + _AIR
    if length < _WORTH_IT or not _has_balloon() or wanted > _meminfo("MemFree"):
        return
    with mmap.mmap(-1, wanted, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        time.sleep(_REPORTED_AFTER)


def _has_balloon() -> bool:
    virtio = Path("/sys/bus/virtio/drivers/virtio_balloon").glob("virtio*")
    return any(virtio) or Path("/sys/bus/vmbus/drivers/hv_balloon").exists()


def _meminfo(name: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) << 10
    return 0
