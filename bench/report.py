"""What a person or a program reads: tables and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.figures import Comparison, Peak, Trial

_MIB, _GIB = 1 << 20, 1 << 30

_COMPARISON = (
    *("work", "kept", "on", "beside", "ours s", "rival s"),
    *("ratio", "(min-max)", "ours cpu", "rival cpu", "GiB/s", "target", "met", "output"),
)
_PEAK = ("memory of", "core", "RssAnon", "bare", "over", "allowed", "met", "VmHWM", "bare VmHWM")
_TRIAL = ("tool", "works on", "seconds", "ratio", "(min-max)", "size", "on disk", "what came back")
_QUIET = 0.1
"""The part of the CPUs that others may have before a reader is warned."""
_LEGEND = """\
seconds: medians; ratio: the median of ours / rival's, pair by pair; cpu: user and system seconds of all processes of a
run, medians; GiB/s: what corefilt had to move (from a pipe the whole core, from a file what is kept); output:
corefilt's, compared with what the kernel would have written, byte by byte"""
_TRIAL_LEGEND = """\
seconds: medians, nobody waits for the disk; ratio: the median of corefilt's (first row) / the tool's, turn by turn,
none where no file came back; what came back: beside the full core and what the kernel writes under the filter"""


@dataclass
class Results:
    """Everything that one script found out."""

    comparisons: list[Comparison] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    file_systems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What this machine cannot measure, and why."""
    others_cpu_share: float = 0.0


def tables(results: Results) -> str:
    """Return the results as plain tables."""
    parts = []
    if results.comparisons:
        parts += [_table(_COMPARISON, map(_comparison_row, results.comparisons), left=4), _LEGEND]
    if results.peaks:
        parts.append(_table(_PEAK, map(_peak_row, results.peaks), left=1))
    if results.trials:
        parts += [_table(_TRIAL, map(_trial_row, results.trials), left=2), _TRIAL_LEGEND]
    meanwhile = f"other programs and kernel threads had {results.others_cpu_share:.0%} of the CPUs meanwhile"
    if results.others_cpu_share > _QUIET:
        meanwhile += ": too much for ratios to be trusted"
    parts.append(meanwhile)
    if results.remarks:
        parts.append("\n".join(results.remarks))
    if results.missing:
        parts.append("\n".join(f"NOT MEASURED {row}" for row in results.missing))
    if results.failures:
        parts.append("\n".join(f"FAILED {failure}" for failure in results.failures))
    return "\n\n".join(parts)


def as_json(results: Results) -> dict[str, Any]:
    """Return the results with every single run in them."""
    return {
        "comparisons": [
            {
                "work": each.work,
                "kept_percent": each.kept,
                "file_system": each.on,
                "rival": each.rival,
                "ours_seconds": each.ours_seconds,
                "rival_seconds": each.rival_seconds,
                "ours_median": each.ours,
                "rival_median": each.theirs,
                "ratio": each.ratio,
                "ratio_of_medians": each.ours / each.theirs,
                "cpu_medians": each.cpu,
                "moved_bytes": each.moved,
                "bytes_per_second": each.rate,
                "target": each.target,
                "met": each.met,
                "output": each.output,
            }
            for each in results.comparisons
        ],
        "peaks": [
            {
                "work": each.work,
                "core_bytes": each.core_bytes,
                "rss_anon": each.ours.rss_anon,
                "vm_hwm": each.ours.vm_hwm,
                "bare_rss_anon": each.bare.rss_anon,
                "bare_vm_hwm": each.bare.vm_hwm,
                "over_bare": each.over,
                "allowed_over_bare": each.allowed,
                "met": each.met,
            }
            for each in results.peaks
        ],
        "trials": [
            {
                "tool": each.tool,
                "works_on": each.work,
                "ours_seconds": each.ours_seconds,
                "seconds": each.seconds,
                "median": each.theirs,
                "ratio": None if each.size is None else each.ratio,
                "size_bytes": each.size,
                "allocated_bytes": each.allocated,
                "worth": each.worth,
            }
            for each in results.trials
        ],
        "file_systems": results.file_systems,
        "others_cpu_share": results.others_cpu_share,
        "remarks": results.remarks,
        "failures": results.failures,
        "missing": results.missing,
    }


def size_text(length: int) -> str:
    """Return a size as a person says it."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (1 << 10, "KiB")):
        if length >= unit:
            return f"{length / unit:.4g} {name}"
    return f"{length} B"


def _comparison_row(each: Comparison) -> tuple[str, ...]:
    digits = 3 if each.theirs >= 0.1 else 4
    return (
        each.work,
        "" if each.kept is None else f"{each.kept} %",
        each.on,
        each.rival,
        f"{each.ours:.{digits}f}",
        f"{each.theirs:.{digits}f}",
        f"{each.ratio:.2f}",
        f"({min(each.ratios):.2f}-{max(each.ratios):.2f})",
        *(("", "") if each.cpu is None else (f"{seconds:.3f}" for seconds in each.cpu)),
        f"{each.rate / _GIB:.2f}" if each.moved >= _MIB else "",
        "" if each.target is None else f"{each.target:.2f}",
        {None: "", True: "yes", False: "NO"}[each.met],
        each.output,
    )


def _peak_row(each: Peak) -> tuple[str, ...]:
    sizes = each.ours.rss_anon, each.bare.rss_anon, each.over, each.allowed
    return (
        each.work,
        size_text(each.core_bytes),
        *(f"{size / _MIB:.1f} MiB" for size in sizes),
        "yes" if each.met else "NO",
        f"{each.ours.vm_hwm / _MIB:.1f} MiB",
        f"{each.bare.vm_hwm / _MIB:.1f} MiB",
    )


def _trial_row(each: Trial) -> tuple[str, ...]:
    gave = each.size is not None
    return (
        each.tool,
        each.work,
        f"{each.theirs:.3f}",
        f"{each.ratio:.2f}" if gave else "",
        f"({min(each.ratios):.2f}-{max(each.ratios):.2f})" if gave else "",
        *("" if size is None else size_text(size) for size in (each.size, each.allocated)),
        each.worth,
    )


def _table(header: Sequence[str], rows: Iterable[tuple[str, ...]], left: int) -> str:
    """Return columns two blanks apart, the first ``left`` of them (and the last) flush left."""
    lines = [tuple(header), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = []
    for line in [lines[0], tuple("-" * width for width in widths), *lines[1:]]:
        cells = (
            cell.ljust(width) if column < left or column == len(header) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
