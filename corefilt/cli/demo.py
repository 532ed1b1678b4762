"""``corefilt demo``: crashes a small process here and filters its core."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from corefilt.api import filter_core
from corefilt.cli import demo_core as demo
from corefilt.cli.options import make_parser
from corefilt.cli.streams import draw, tell
from corefilt.filterbits import describe, parse_filter
from corefilt.filtering.report import Report
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Crashes a small process of its own in a temporary directory, filters the core that the kernel wrote, and shows what
became smaller. If this machine leaves no core file, it uses a small core that ships with corefilt."""
# gdb reads symbols of libraries before it answers; that took 0.2 s for a Python process.
PATIENCE = 60


def parser() -> Parser:
    """The options of ``corefilt demo``."""
    return make_parser("demo", DESCRIPTION)


def run(argv: list[str]) -> int:
    """Show it; returns the exit code."""
    arguments = parser().parse_args(argv)
    parse_filter(arguments.filter)
    with tempfile.TemporaryDirectory(prefix="corefilt-demo-") as folder:
        small = os.path.join(folder, "small.core")
        core: str | None = None
        program: str | None = sys.executable
        why_not = demo.no_core_here()
        if why_not is None:
            core = demo.crash(folder)
            why_not = "the kernel wrote none (a container may forbid it)"
        report = filter_core(core, small, filter=arguments.filter) if core is not None else None
        if report is not None and report.damaged:
            why_not, report = "the kernel cut it short (ulimit -c, or a full disk)", None
        if core is None or report is None:
            tell(
                f"No core file can be made here: {why_not}. "
                "Instead, this shows a small core that ships with corefilt.\n"
            )
            core, program = demo.small_core(folder), None
            report = filter_core(core, small, filter=arguments.filter, force=True)
        else:
            tell("Crashed a small process; the kernel wrote its core with everything in it.\n")
        show(report, os.path.getsize(core), os.path.getsize(small))
        tell(gdb_says(small, program) + "\n")
    return 0


def show(report: Report, before: int, after: int) -> None:
    """Draw the table of kinds on standard output."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind")
    for name in ("mappings", "before", "after"):
        table.add_column(name, justify="right")
    counts: dict[str, int] = {}
    for mapping in report.mappings:
        counts[mapping.kind] = counts.get(mapping.kind, 0) + 1
    for name, kept, dropped, _ in report.kinds:
        table.add_row(name, str(counts[name]), show_size(kept + dropped), show_size(kept))
    table.add_row("whole file", str(sum(counts.values())), show_size(before), show_size(after), style="bold")
    draw(
        f"corefilt {describe(report.filter)}, {counted(report.segments, 'segment')}, {report.seconds:.3f} s\n",
        table,
        "",
    )


def gdb_says(core: str, program: str | None) -> str:
    """Whether gdb opens the core, in a sentence."""
    gdb = shutil.which("gdb")
    if gdb is None:
        return "gdb is not installed, so the result was not opened with it."
    command = [gdb, "-nx", "-batch", "-ex", "info threads", "-ex", "bt -3", "-c", core, *([program] if program else [])]
    environment = {**os.environ, "DEBUGINFOD_URLS": ""}
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"gdb could not be started to open the result: {error}"
    line = next((line for line in answer.stdout.splitlines() if line.startswith("Program terminated")), None)
    if answer.returncode or line is None:
        return f"gdb cannot open the result: {(answer.stderr.strip() or 'no reason given').splitlines()[-1]}"
    return f"gdb opens the result: {line}"
