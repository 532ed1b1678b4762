"""Answers: how long does a core of a million segments take, headers, plan and all.

Every second segment has a page, all of it holes, so that next to nothing is moved; there is no NT_FILE, as in a
kernel's own core of so many mappings. The bar is an absolute time, so that there is nothing to run beside.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import rivals
from bench.measure import bytecode_in
from bench.options import Options
from bench.report import Results

QUESTION = "How long does a core of a million segments take?"

BAR_SECONDS = 3.0
_SEGMENTS, _PAGE, _FILTER = 1_000_000, 4096, 0x33
_PT_LOAD, _PT_NOTE, _PN_XNUM, _EM_X86_64 = 1, 4, 0xFFFF, 62


def measure(options: Options, tell: Callable[[str], None]) -> Results:
    """Run both ways and tell the medians."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="corefilt-bench-", dir=options.folder) as name:
        folder = Path(name)
        core, out = folder / "core", folder / "out"
        tell(f"writing a core of {_SEGMENTS:,} segments")
        write(core)
        with bytecode_in(folder / "bytecode"):
            programs = rivals.prepare(options.corefilt, options.engine, folder)
            piped = 'out=$1 core=$2; shift 2; cat "$core" | "$@" > "$out"'
            in_pipe = programs.corefilt(_FILTER, None, None, False, "-q")
            ways = {
                "file to file": programs.corefilt(_FILTER, core, out, False, "-q", "-f"),
                "pipe to file": ["sh", "-c", piped, "sh", str(out), str(core), *in_pipe],
            }
            for way, command in ways.items():
                tell(way)
                seconds = [timed(list(command)) for _ in range(options.runs)]
                median = statistics.median(seconds)
                met = "met" if median <= BAR_SECONDS else "missed"
                results.remarks.append(
                    f"{_SEGMENTS:,} segments, {way}: {median:.2f} s ({min(seconds):.2f}-{max(seconds):.2f}), "
                    f"bar {BAR_SECONDS} s: {met}"
                )
    return results


def timed(command: list[str]) -> float:
    """Run a command; return its seconds."""
    began = time.monotonic()
    subprocess.run(command, check=True, timeout=300)
    return time.monotonic() - began


def write(path: Path, segments: int = _SEGMENTS) -> None:
    """Write a core of so many segments, sparse."""
    count = segments + 1
    auxv = struct.pack("<4Q", 6, _PAGE, 0, 0)
    notes = b"".join(
        struct.pack("<III", 5, len(desc), kind) + b"CORE\0\0\0\0" + desc for kind, desc in ((1, bytes(336)), (6, auxv))
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
