"""The machine: what a reader must know of it, and whether others were at work on it meanwhile."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import time
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    """Return what a reader must know of the machine to compare the numbers with others."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": os.getloadavg()[0],
    }


class Bystanders:
    """Counts the CPU time that went neither to us nor to what we started: other programs, kernel threads, steal."""

    def __init__(self) -> None:
        """Begin to count."""
        self._before = _busy_seconds() - _own_seconds()
        self._started = time.monotonic()

    def share(self) -> float:
        """Return their part of all CPUs since then, from 0 to 1."""
        used = _busy_seconds() - _own_seconds() - self._before
        passed = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return min(max(used / passed, 0.0), 1.0) if passed > 0 else 0.0


def _busy_seconds() -> float:
    """Return the seconds that all CPUs were busy or taken away: user, nice, system, irq, softirq, steal."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(numbers[:3]) + sum(numbers[5:8])) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "cpu model", "Model"):
            return value.strip()
    return platform.processor() or "unknown"
