"""``corefilt show PID...``: the filter of a process, and what it would keep of it as it is now."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.options import make_parser
from corefilt.cli.parser import pid_number
from corefilt.cli.reportfile import STDOUT, with_json_target, write_json
from corefilt.cli.streams import draw, one_failed, say
from corefilt.doctor.live import KeptShare, Live
from corefilt.errors import ProcessError
from corefilt.filterbits import describe, parse_filter
from corefilt.filtering.report import evidence_texts, path_as_dict
from corefilt.procfs.pid import ProcFolder
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from corefilt.cli.parser import Parser

DESCRIPTION = """\
Shows the coredump_filter of processes, what it would keep of each at the moment, by kind, and the limits for cores.

size: of the mappings; resident: how much of that is in memory or in swap; kept: what the core would hold of it;
data: how much of that is not holes, at most; ambiguous: how much of what is kept depends on an assumption"""


def parser() -> Parser:
    """The options of ``corefilt show``."""
    p = make_parser("show", DESCRIPTION)
    p.add_argument("pid", metavar="PID", nargs="+", type=pid_number, help="a process")
    return p


def run(argv: list[str]) -> int:
    """Show them; returns the exit code, 1 where one could not be looked at."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    wanted, warnings = parse_filter(arguments.filter) if arguments.filter is not None else (None, [])
    reports: list[dict[str, object]] = []
    failed = False
    for pid in arguments.pid:
        try:
            with ProcFolder(pid) as folder:
                live = Live(folder)
        except ProcessError as error:
            failed = True
            reports.append(one_failed(pid, error))
            continue
        reports.append(as_dict(live, live.filter if wanted is None else wanted))
        if arguments.json != STDOUT:
            draw(*pictures(live, live.filter if wanted is None else wanted, verbose=arguments.verbose), "")
        warnings += live.notices
    if arguments.json is not None:
        write_json({"schema": 1, "version": __version__, "processes": reports}, arguments.json)
    for warning in warnings:
        say(f"corefilt: {printable(warning)}")
    return 1 if failed else 0


def as_dict(live: Live, wanted: int) -> dict[str, object]:
    """One process as JSON: sizes in bytes, addresses as hex strings; no limit and what smaps does not tell are null."""
    areas = live.areas
    mappings = [
        {
            "start": f"{areas.start[m]:#x}",
            "end": f"{areas.end[m]:#x}",
            "flags": areas.nature[m].perms.decode(),
            **path_as_dict(areas.path[m]),
            "kind": finding.kind,
            "certainty": finding.certainty,
            "evidence": evidence_texts(finding),
            **live.share(m, wanted).as_dict(),
        }
        for m, finding in enumerate(live.findings)
    ]
    return {
        "pid": live.pid,
        "filter": f"{live.filter:#x}",
        "shown_filter": f"{wanted:#x}",
        "core_limit": dict(zip(("soft", "hard"), live.limit, strict=True)),
        "kinds": {name: {"mappings": share.count, **share.as_dict()} for name, share in live.by_kind(wanted)},
        "mappings": mappings,
    }


def pictures(live: Live, wanted: int, *, verbose: bool) -> list[RenderableType]:
    """One process for a person: two lines and a table, and with ``verbose`` another one of all mappings."""
    from rich.text import Text

    soft, hard = ("unlimited" if size is None else str(size) for size in live.limit)
    lines = [Text(f"{live.name}: filter {describe(live.filter)}, RLIMIT_CORE {soft} (soft), {hard} (hard)")]
    if wanted != live.filter:
        lines.append(Text(f"what {describe(wanted)} would keep:"))
    kinds = list(live.by_kind(wanted))
    table = _table("kind", "mappings")
    for name, share in kinds:
        table.add_row(name, str(share.count), *_sizes(share))
    total = sum((share for _, share in kinds), KeptShare())
    table.add_row("all", str(total.count), *_sizes(total), style="bold")
    things: list[RenderableType] = [*lines, table]
    if verbose:
        details = _table("address", "flags", last=("kind", "certainty", "file and evidence"))
        for m, finding in enumerate(live.findings):
            areas = live.areas
            path = f"{printable(areas.path[m] or b'')}: " if areas.path[m] is not None else ""
            details.add_row(
                f"{areas.start[m]:x}-{areas.end[m]:x}", areas.nature[m].perms.decode(), *_sizes(live.share(m, wanted)),
                finding.kind, finding.certainty, Text(path + printable("; ".join(evidence_texts(finding)))),
            )  # fmt: skip
        things += ["", details]
    return things


def _table(*first: str, last: tuple[str, ...] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in first:
        table.add_column(name, no_wrap=True, justify="right" if name == "mappings" else "left")
    for name in ("size", "resident", "kept", "data", "ambiguous"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in last:
        table.add_column(name, overflow="fold", no_wrap=name != last[-1])
    return table


def _sizes(share: KeptShare) -> list[str]:
    resident = "?" if share.resident is None else show_size(share.resident)
    ambiguous = show_size(share.undecided) if share.undecided else "-"
    return [show_size(share.size), resident, show_size(share.kept), show_size(share.data), ambiguous]
