"""Looks through a core for secrets, part by part, in one process; prints bytes and CPU seconds as JSON."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable

from corefilt.corefile.corefile import open_core
from corefilt.scrub.again import BY_OPTION, Known, SecondPass
from corefilt.scrub.found import TEXT, Matches
from corefilt.scrub.regions import RunReader, runs
from corefilt.scrub.rsa import Factors
from corefilt.scrub.rules import RULES
from corefilt.scrub.search import Captured, FirstPass

VALUES, ROUNDS = 60, 3


def main(path: str) -> None:
    """Print the CPU seconds of each part, the least of some rounds."""
    with open_core(path) as core:
        parts, reader = runs(core, files=False), RunReader(core)

        def read() -> None:
            for run in parts:
                for _ in reader.chunks(run):
                    continue

        def first() -> None:
            FirstPass(RULES, Matches(path), Captured()).run(reader, parts)

        def second() -> None:
            found = SecondPass(Matches(path))
            for _ in range(VALUES):
                found.add(secrets.token_urlsafe(24).encode(), Known("bench", BY_OPTION, TEXT))
            found.run(reader, parts)

        def rsa() -> None:
            captured = Captured()
            # Both primes of a key have their two highest bits set.
            first, other = (secrets.randbits(1024) | 3 << 1022 | 1 for _ in range(2))
            captured.moduli[first * other] = None
            Factors(captured, Matches(path)).search(core, reader, parts)

        told = {each.__name__: least(each) for each in (read, first, second, rsa)}
        print(json.dumps({"bytes": sum(run.length for run in parts), "seconds": told}))


def least(work: Callable[[], None]) -> float:
    """Run it some times; return the CPU seconds of the quickest."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


main(sys.argv[1])
