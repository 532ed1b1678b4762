"""Answers: what does it cost to look through a core for secrets, and to write the copy.

The core is one that the kernel writes of a Python that holds texts of programs, some of them compiled, and as many
random bytes: texts have many words that rules look at, random bytes have what looks like primes. Each part is measured
in one process, warm, with its reading of the page cache; the whole command beside cp, in turn. All times are CPU
seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.before import cpu_seconds
from bench.options import Options
from bench.report import Results
from bench.signature import crash_of_python, told

QUESTION = "What does it cost to look through a core for secrets, and to write a copy without them?"

TARGET_RATE, TARGET_CP = 1.0, 3.0
_MOST = 512 << 20
_PARTS = {
    "read": "reading",
    "first": "first pass (the rules)",
    "second": "second pass (60 values in all forms)",
    "rsa": "RSA with one modulus of 2048 bits",
}
_HOLD = """
import itertools, os, sysconfig
size, held, codes, total = {size}, [], [], 0
folders = os.walk(sysconfig.get_path("stdlib"))
names = [os.path.join(d, name) for d, _, names in folders for name in names if name.endswith(".py")]
for name in itertools.cycle(names):
    held.append(open(name, "rb").read())
    if len(codes) < 500 and held[-1].isascii() and "lib2to3" not in name:
        codes.append(compile(held[-1], name, "exec"))
    total += len(held[-1])
    if total >= size // 2:
        break
held.append(os.urandom(size // 2))
os.abort()
"""


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Tell the rates of the parts, and the whole beside cp."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        folder = Path(name)
        tell("a Python that holds texts and random bytes")
        core = crash_of_python(folder, _HOLD.format(size=min(options.size, _MOST)))
        tell("each part")
        command = [sys.executable, "-m", "bench.withscrub", str(core)]
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for part, words in _PARTS.items():
            rate = found["bytes"] / found["seconds"][part] / 1e9
            target = f", target {TARGET_RATE} GB/s: {told(rate >= TARGET_RATE)}" if part == "first" else ""
            results.remarks.append(f"{words}: {rate:.2f} GB/s of a CPU{target}")
        tell("the whole, beside cp")
        env = dict(os.environ)
        pairs = []
        for _ in range(options.runs):
            out, copy = folder / "out", folder / "copy"
            scrub = [*options.corefilt, "scrub", str(core), "-o", str(out), "-f", "-q", "--no-sync"]
            pairs.append((cpu_seconds(scrub, env), cpu_seconds(["cp", "--sparse=never", str(core), str(copy)], env)))
            copy.unlink()
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        results.remarks.append(
            f"the whole command: {ours:.2f} s of CPU, {ratio:.1f} x cp ({theirs:.2f} s), with RSA's moduli of the texts"
        )
        passes = found["seconds"]["first"] + theirs
        results.remarks.append(
            f"first pass and copy: {passes / theirs:.1f} x cp, target {TARGET_CP} x: "
            f"{told(passes <= TARGET_CP * theirs)}"
        )
    return results
