"""Prints how many threads keep their whole stacks at which size: corefilt beside what others keep.

Run it as ``PYTHONPATH=tests python -m kernel.fitting``. google-coredumper's rule is computed for the same mappings: the
largest is cut first, from its end, to nothing if need be (WriteCoreDumpLimitedByPriority). LLDB's is run: ``process
save-core --style stack``, which writes a minidump of one size.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kernel.programs import PATIENCE, CannotStartError
from kernel.victims import VICTIMS
from support.opening import open_file

import corefilt
from corefilt.corefile.registers import read_threads
from corefilt.errors import FitError
from corefilt.plan.fit.backtrace import BacktraceMemory
from corefilt.sizes import show_size

SIZES = (64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20)


def by_priority(sizes: list[int], limit: int) -> list[int]:
    """Cut sizes as google-coredumper does until their sum is no larger than the limit."""
    sizes = list(sizes)
    over = sum(sizes) - limit
    while over > 0 and any(sizes):
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        gone = min(over, sizes[largest])
        sizes[largest] -= gone
        over -= gone
    return sizes


def others(path: Path, limit: int) -> int:
    """Count the threads whose stacks, from the stack pointer on, google-coredumper's rule would keep."""
    with open_file(path) as core:
        memory = core.memory()
        needs = BacktraceMemory(core, memory, read_threads(core.source, core.ehdr, core.table))
        loads = list(core.maps.phdr)
        head = core.table.p_offset[loads[0]]
        kept = dict(zip(loads, by_priority([core.present[i] for i in loads], limit - head), strict=True))
        return sum(
            bool(stacks) and all(b <= kept[i] for there in stacks for i, _, b in memory.pieces(*there))
            for stacks in needs.stacks
        )


def ours_at(path: Path, out: Path, limit: int) -> str:
    """Tell how many threads have their whole stacks in corefilt's core, or what it asks for."""
    try:
        report = corefilt.filter(path, out, filter="all", fit=limit, force=True, sync=False)
    except FitError as error:
        return f"needs {show_size(error.smallest)}"
    return str(report.fit.whole)


def save_core(program: str, path: Path, out: Path) -> str:
    """Tell how large LLDB's minidump with all stacks is."""
    if not shutil.which("lldb"):
        return "-"
    save = f"process save-core --style stack {out}"
    command = ["lldb", "--no-lldbinit", "-b", "-o", save, "-c", str(path), program]
    done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
    return show_size(out.stat().st_size) if done.returncode == 0 and out.exists() else "fails"


def rows(name: str, folder: Path) -> list[str]:
    """Let a program crash; give its lines of the table."""
    program, core = VICTIMS[name](folder)
    minimal = corefilt.filter(core, folder / "out", filter="all", minimal=True, sync=False)
    threads = minimal.fit.threads
    lldb = save_core(program, core, folder / "minidump")
    first = f"| {name} | {threads} | {show_size(core.stat().st_size)} | {show_size(minimal.output_bytes)} | {lldb} | "
    mine = " | ".join(ours_at(core, folder / "out", limit) for limit in SIZES)
    theirs = " | ".join(str(others(core, limit)) for limit in SIZES)
    return [f"{first}`--fit` | {mine} |", f"| | | | | | by priority | {theirs} |"]


def main() -> None:
    """Print the table."""
    sizes = " | ".join(map(show_size, SIZES))
    print(f"| program | threads | core | `--minimal` | lldb | | {sizes} |")
    print("|---|---|---|---|---|---|" + "---|" * len(SIZES))
    for name in sys.argv[1:] or VICTIMS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print("\n".join(rows(name, Path(folder))), flush=True)
            except CannotStartError as error:
                print(f"{name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
