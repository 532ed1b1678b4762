"""Answers: how long do compressed cores take, beside zstd itself on the same bytes.

Two cores of the size that was asked for: of random memory, which does not get smaller, and of memory that looks like a
heap, words of a dictionary, which gets a third of its size. Nobody waits for the disk.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import rivals
from bench.cores import KEPT, Core, plan_core
from bench.figures import SAME, Comparison
from bench.measure import BenchError, Contestant, Pipeline, bytecode_in, interleave, warm
from bench.options import Options
from bench.places import temporary_place
from bench.report import Results

QUESTION = "How long do compressed cores take, beside zstd itself?"

TARGET_TO = 1.05
"""Of ``zstd -T2`` of the same bytes."""
TARGET_FROM = 1.0
"""Of ``zstd -d`` of the whole core to a file."""
TARGET_BOTH = 0.9
"""Of ``zstd -dc | C stage | zstd -T2``."""
_BLOCK = 1 << 20
_WORDS, _LONGEST = 4000, 16


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all rows."""
    results = Results()
    if shutil.which("zstd") is None:
        results.missing.append("compressed cores: zstd is not installed")
        return results
    with temporary_place(options.folder, options.size) as place, bytecode_in(place.folder / "bytecode"):
        programs = rivals.prepare(options.corefilt, options.engine, place.folder)
        results.file_systems.append(place.file_system)
        core = plan_core(options.size)
        for name in ("random", "heap"):
            full, kept = place.folder / f"{name}.core", place.folder / f"{name}.kept"
            tell(f"writing a core of {name} memory")
            _write(core, name, full)
            packed = place.folder / f"{name}.core.zst"
            subprocess.run(["zstd", "-q", "-3", str(full), "-o", str(packed)], check=True)
            out, packed_out = place.folder / "out", place.folder / "out.zst"
            ranges = core.kept_ranges(KEPT[50])
            piped = (
                ("zstd", "-q", "-dc", str(packed)),
                programs.stage("readwrite", ranges),
                ("zstd", "-q", "-T2", "-3"),
            )
            size = core.size(KEPT[50])
            rows = (
                (
                    "to .zst", 100, full, TARGET_TO, "zstd -T2 -3",
                    _one("corefilt", programs.corefilt(KEPT[100], full, packed_out, False), packed_out),
                    _one("zstd", ("zstd", "-q", "-T2", "-3", str(full), "-o", str(packed_out)), packed_out),
                ),
                (
                    "from .zst", 50, packed, TARGET_FROM, "zstd -d",
                    _one("corefilt", programs.corefilt(KEPT[50], packed, out, False), out, size),
                    _one("zstd", ("zstd", "-q", "-d", str(packed), "-o", str(out)), out),
                ),
                (
                    ".zst to .zst", 50, packed, TARGET_BOTH, "zstd -dc | C | zstd -T2",
                    _one("corefilt", programs.corefilt(KEPT[50], packed, packed_out, False), packed_out),
                    Contestant("zstd", (Pipeline(piped, None, out),), out),
                ),
            )  # fmt: skip
            for work, percent, source, target, rival, ours, theirs in rows:
                tell(f"{name}: {work}")
                row = f"{work}, {name}"
                try:
                    outcome = _check(ours, full, core, percent, kept)
                    seconds, _ = interleave([ours, theirs], options.runs, (source,))
                except BenchError as error:
                    results.failures.append(f"{row}: {error}")
                    continue
                moved = core.size(KEPT[percent])
                times = tuple(seconds[0]), tuple(seconds[1])
                results.comparisons.append(
                    Comparison(row, percent, place.file_system, rival, *times, moved, target, outcome)
                )
            for path in (full, packed):
                path.unlink()
    return results


def _one(name: str, argv: rivals.Argv, output: Path, expected: int | None = None) -> Contestant:
    return Contestant(name, (Pipeline((argv,)),), output, expected)


def _check(ours: Contestant, full: Path, core: Core, percent: int, kept: Path) -> str:
    """Run ours once, and compare what it wrote, decompressed, with what the kernel would have written."""
    if ours.output is None:
        raise ValueError("nothing to compare")
    ours.output.unlink(missing_ok=True)
    subprocess.run(ours.steps[0].stages[0], check=True, stdin=subprocess.DEVNULL)
    try:
        with kept.open("wb") as file, full.open("rb") as source:
            file.write(core.head(KEPT[percent]))
            for offset, length in core.kept_ranges(KEPT[percent]):
                begin = max(offset, core.data_start)
                source.seek(begin)
                file.write(source.read(offset + length - begin))
        tool = ["zstdcat", str(ours.output)] if ours.output.suffix == ".zst" else ["cat", str(ours.output)]
        with subprocess.Popen(tool, stdout=subprocess.PIPE) as shown:
            done = subprocess.run(["cmp", "-", str(kept)], stdin=shown.stdout, check=False, capture_output=True)
        return SAME if done.returncode == 0 else done.stdout.decode().strip()
    finally:
        ours.output.unlink(missing_ok=True)
        kept.unlink(missing_ok=True)


def _write(core: Core, kind: str, path: Path) -> None:
    """Write the full core with memory of its kind."""
    with path.open("wb") as file:
        file.write(core.head(KEPT[100]))
        left = core.payload
        for block in _random() if kind == "random" else _heap():
            file.write(block[:left])
            left -= min(left, len(block))
            if not left:
                break
    warm(path)


def _random() -> Iterator[bytes]:
    chance = random.Random(1)
    while True:
        yield chance.randbytes(_BLOCK)


def _heap() -> Iterator[bytes]:
    chance = random.Random(2)
    words = [chance.randbytes(chance.choice((4, 8, _LONGEST))) for _ in range(_WORDS)]
    while True:
        yield b"".join(chance.choices(words, k=_BLOCK // 8))[:_BLOCK]
