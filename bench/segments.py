"""Answers: how long does a core of a million segments take, headers, plan and all, and how much memory.

Every second segment has a page, all of it holes, so that next to nothing is moved. One core has no NT_FILE, as a
kernel's own core of so many mappings may have none; in the other half of the mappings are of a thousand files. The
targets are absolute times, with nothing to compare to. A listing of 20,000 mappings is compared to a plan of them.
"""

from __future__ import annotations

import statistics
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import rivals
from bench.figures import SAME, Comparison, Peak
from bench.measure import Contestant, Pipeline, bytecode_in, peak_memory, run, warm
from bench.options import Options
from bench.report import Results

QUESTION = "How long does a core of a million segments take?"

TARGETS = {"file to file": 1.0, "pipe to file": 1.5, "with 500,000 NT_FILE entries, file to file": 2.5}
"""Seconds."""
TARGET_LIST = 3.0
"""Of the CPU seconds of ``0x33 -n``."""
_SEGMENTS, _PAGE, _FILTER = 1_000_000, 4096, 0x33
_LISTED, _FILES = 20_000, 1000
_ALLOWED, _EACH = 40 << 20, 360
_PT_LOAD, _PT_NOTE, _PN_XNUM, _EM_X86_64 = 1, 4, 0xFFFF, 62


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run all ways and tell the medians."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        folder = Path(name)
        core, named, some, out = folder / "core", folder / "named", folder / "some", folder / "out"
        tell(f"writing cores of {_SEGMENTS:,} segments")
        write(core)
        # The first to read a hole fills the page cache with its zeros.
        warm(core)
        write(named, files=_FILES)
        write(some, _LISTED)
        with bytecode_in(folder / "bytecode"):
            programs = rivals.prepare(options.corefilt, options.engine, folder)
            filtered = (programs.corefilt(_FILTER, one, out, False) for one in (core, named))
            steps = [
                Pipeline((next(filtered),)),
                Pipeline((rivals.cat(core), programs.corefilt(_FILTER, None, out, False))),
                Pipeline((next(filtered),)),
            ]
            asleep = Contestant("python", (Pipeline((programs.bare(0.2),)),))
            bare = peak_memory(asleep, 0)
            for (way, target), step in zip(TARGETS.items(), steps, strict=True):
                tell(way)
                contestant = Contestant("corefilt", (step,), out)
                taken = [run(contestant)[0] for _ in range(options.runs)]
                median, cpu = statistics.median(taken), statistics.median(each.cpu for each in taken)
                met = "met" if median <= target else "not met"
                results.remarks.append(
                    f"{_SEGMENTS:,} segments, {way}: {median:.2f} s ({min(taken):.2f}-{max(taken):.2f}), "
                    f"{cpu:.2f} s of CPU, target {target} s: {met}"
                )
                notes = 24 * _SEGMENTS if "NT_FILE" in way else 0
                peak = peak_memory(contestant, len(step.stages) - 1, 1)
                results.peaks.append(Peak(way, core.stat().st_size, peak, bare, _ALLOWED + _EACH * _SEGMENTS + notes))
            tell("a listing")
            sides = [
                (*programs.command, "inspect", str(some), "--all"),
                (*programs.command, hex(_FILTER), str(some), "-n"),
            ]
            pair = [Contestant("list", (Pipeline((side,)),)) for side in sides]
            turns = [[run(each)[0].cpu for each in pair] for _ in range(options.runs + 1)]
            seconds = list(zip(*turns[1:], strict=True))
            work = f"inspect --all of {_LISTED:,}, CPU"
            results.comparisons.append(
                Comparison(work, None, "", "0x33 -n", seconds[0], seconds[1], 0, TARGET_LIST, SAME)
            )
    return results


def write(path: Path, segments: int = _SEGMENTS, *, files: int = 0) -> None:
    """Write a core of so many segments, sparse; every second one is mapped from one of so many ``files``."""
    count = segments + 1
    auxv = struct.pack("<4Q", 6, _PAGE, 0, 0)
    parts = [(1, bytes(336)), (6, auxv)] + ([(0x46494C45, _nt_file(segments, files))] if files else [])
    notes = b"".join(
        struct.pack("<III", 5, len(desc), kind) + b"CORE\0\0\0\0" + desc + bytes(-len(desc) % 4) for kind, desc in parts
    )
    behind = 64 + 56 * count
    data = -(-(behind + len(notes)) // _PAGE) * _PAGE
    end = data + segments // 2 * _PAGE
    table = bytearray(struct.pack("<IIQQQQQQ", _PT_NOTE, 0, behind, 0, 0, len(notes), 0, 4))
    at = data
    for i in range(segments):
        size = _PAGE if i % 2 == 0 else 0
        table += struct.pack(
            "<IIQQQQQQ", _PT_LOAD, 6 if size else 4, at, (1 << 28) + 2 * _PAGE * i, 0, size, _PAGE, _PAGE
        )
        at += size
    ehdr = b"\x7fELF\x02\x01\x01" + bytes(9)
    ehdr += struct.pack("<HHIQQQIHHHHHH", 4, _EM_X86_64, 1, 0, 64, end, 0, 64, 56, _PN_XNUM, 64, 1, 0)
    with path.open("wb") as file:
        file.write(ehdr + table + notes)
        file.seek(end)
        file.write(struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 1, 0, count, 0, 0))


def _nt_file(segments: int, files: int) -> bytes:
    """Return the note's content for every second segment."""
    table, names = bytearray(), bytearray()
    for k in range(segments // 2):
        start = (1 << 28) + 2 * _PAGE * (2 * k + 1)
        table += struct.pack("<QQQ", start, start + _PAGE, k // files)
        names += b"/data/%d\0" % (k % files)
    return struct.pack("<QQ", segments // 2, _PAGE) + bytes(table + names)
