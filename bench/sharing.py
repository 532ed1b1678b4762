"""Answers: what does a core cost on a file system that shares extents.

On XFS and Btrfs, made on loop devices under ``--dir``, corefilt filters cores of 1, 1,000 and 100,000 extents
with 0x33 and 0x31, which keep all and half of the payload, beside ``cp --reflink=always`` of the whole core, which
shares everything at once. What the interpreter takes to start is measured beside it and told as a remark, because
a single extent is shared in less time than any program needs to start.

This needs root, because it mounts what it makes; everything is taken down again, whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import rivals
from bench.cores import KEPT, PAGE, plan_core
from bench.figures import SAME, Comparison
from bench.measure import BenchError, Contestant, Pipeline, bytecode_in, check, interleave
from bench.options import Options
from bench.report import Results
from bench.rivals import Programs

QUESTION = "What does a core cost where extents are shared, beside cp --reflink=always of all of it?"

TARGET_SHARE = 1.2

_MAKE = {"xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q")}
_EXTENTS = (1, 1_000, 100_000)
_AIR = 2 << 30


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows that this machine allows."""
    results = Results()
    if os.geteuid() != 0:
        results.remarks.append("nothing was measured: only root can mount a file system")
        return results
    root = (options.folder or Path(tempfile.gettempdir())).absolute()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=root) as name:
        folder = Path(name)
        with bytecode_in(folder / "bytecode"):
            programs = rivals.prepare(options.corefilt, "auto", folder)
            for kind, make in _MAKE.items():
                try:
                    with mounted(folder, kind, make, 2 * options.size + _AIR) as place:
                        _measure_on(place, kind, options, programs, results, tell)
                except (BenchError, OSError, subprocess.CalledProcessError) as error:
                    results.failures.append(f"{kind}: {error}")
    return results


@contextlib.contextmanager
def mounted(folder: Path, kind: str, make: tuple[str, ...], size: int) -> Iterator[Path]:
    if shutil.which(make[0]) is None:
        raise BenchError(f"{make[0]} is not installed")
    image, place = folder / f"{kind}.image", folder / kind
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([*make, image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()


def _measure_on(
    place: Path, kind: str, options: Options, programs: Programs, results: Results, tell: Callable[[str], None]
) -> None:
    results.file_systems.append(kind)
    core = plan_core(options.size)
    full, out, expected = place / "core", place / "out", place / "expected"
    for extents in _EXTENTS:
        if extents > 1 and options.size < 2 * extents * PAGE:
            results.remarks.append(
                f"no core of {extents:,} extents: {extents * PAGE >> 20} MiB do not go into half of it"
            )
            continue
        tell(f"{kind}, {extents:,} extents")
        if extents == 1:
            core.write(full, KEPT[100])
        else:
            core.write_sparse(full, extents * PAGE, PAGE)
        for kept in (100, 50):
            argv = programs.corefilt(KEPT[kept], full, out, False, "--engine", "reflink")
            ours = Contestant("corefilt", (Pipeline((argv,)),), out, core.size(KEPT[kept]))
            rival = Contestant("cp --reflink", (Pipeline((rivals.reflink(full, out),)),), out, core.size(KEPT[100]))
            copied = programs.corefilt(KEPT[kept], full, expected, False, "--engine", "readwrite")
            subprocess.run(copied, check=True, stdin=subprocess.DEVNULL)
            output = check(ours, expected)
            expected.unlink()
            seconds, sizes = interleave([ours, rival], max(options.runs, 5), ())
            if sizes[0] != core.size(KEPT[kept]):
                output = f"{output}, {sizes[0]} bytes"
            results.comparisons.append(
                Comparison(
                    f"share {extents:,}",
                    kept,
                    kind,
                    rival.name,
                    tuple(seconds[0]),
                    tuple(seconds[1]),
                    core.size(KEPT[kept]),
                    TARGET_SHARE,
                    SAME if output == SAME else output,
                )
            )
        full.unlink()
    bare, _ = interleave([Contestant("python", (Pipeline((programs.bare(),)),))], 10, ())
    results.remarks.append(f"{kind}: the bare interpreter took {statistics.median(bare[0]):.4f} s of each of our times")
