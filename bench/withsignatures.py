"""Finds identity and signature of a core again and again, in one process; prints CPU times in seconds as JSON."""

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
    """Print the CPU time of every round but the first, which is cold, and the mean.

    What the process that opens files takes is known at its end alone, and is shared out among the rounds.
    """
    seconds = []
    before = os.times()
    files = Sysroot("/")
    for _ in range(rounds):
        with open_core(core) as opened:
            began = time.process_time()
            crash_of(opened, identify(opened), sysroot=files)
            seconds.append(time.process_time() - began)
    files.close()
    after = os.times()
    opener = (sum(after[2:4]) - sum(before[2:4])) / rounds
    cpu = (sum(after[:4]) - sum(before[:4])) / rounds
    print(json.dumps({"seconds": [one + opener for one in seconds[1:]], "cpu": cpu}))


main(sys.argv[1], int(sys.argv[2]))
