"""Finds identity and signature of a core again and again, in one process; prints seconds and CPU time as JSON."""

from __future__ import annotations

import json
import os
import sys
import time

from corefilt.corefile.corefile import open_core
from corefilt.crash.identity import identify
from corefilt.crash.signature import crash_of
from corefilt.evidence.sysroot import Sysroot


def main(core: str, rounds: int) -> None:
    """Print the seconds of every round but the first, which is cold, and the CPU time of one, children included."""
    seconds = []
    before = os.times()
    files = Sysroot("/")
    for _ in range(rounds):
        with open_core(core) as opened:
            began = time.perf_counter()
            crash_of(opened, identify(opened), sysroot=files)
            seconds.append(time.perf_counter() - began)
    files.close()
    after = os.times()
    print(json.dumps({"seconds": seconds[1:], "cpu": (sum(after[:4]) - sum(before[:4])) / rounds}))


main(sys.argv[1], int(sys.argv[2]))
