"""``corefilt doctor [PID]``: why a process would leave no core; without one, what this machine allows."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.options import make_parser
from corefilt.cli.parser import pid_number
from corefilt.cli.reportfile import STDOUT, with_json_target, write_json
from corefilt.cli.streams import draw
from corefilt.procfs.pid import ProcFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.parser import Parser
    from corefilt.doctor.fact import Fact
    from corefilt.doctor.row import Row

DESCRIPTION = """\
With PID: checks each condition under which the kernel writes a core (core(5)) for this process, and shows the answer,
the reason and what to do. Exit status 4 if a condition prevents a core.
Without PID: shows what this machine's kernel, the file system of the current directory, tools and libraries allow."""


def parser() -> Parser:
    """The options of ``corefilt doctor``."""
    p = make_parser("doctor", DESCRIPTION)
    p.add_argument("pid", metavar="PID", nargs="?", type=pid_number, help="a process")
    return p


def run(argv: list[str]) -> int:
    """Examine; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    if arguments.pid is None:
        return _machine(arguments.json)
    from corefilt.doctor.diagnosis import diagnose, writes_core
    from corefilt.doctor.row import NO, UNKNOWN

    with ProcFolder(arguments.pid) as folder:
        rows = diagnose(folder)
    writes = writes_core(rows)
    if arguments.json is not None:
        about = {"schema": 1, "version": __version__, "pid": arguments.pid, "writes_core": writes}
        write_json({**about, "conditions": [row.as_dict() for row in rows]}, arguments.json)
    if arguments.json != STDOUT:
        names = {answer: [row.name for row in rows if row.answer == answer] for answer in (NO, UNKNOWN)}
        _draw_rows(rows)
        if not writes:
            said = f"no core would be written: {', '.join(names[NO])}"
        elif names[UNKNOWN]:
            said = f"a core would be written, as far as can be told (not: {', '.join(names[UNKNOWN])})"
        else:
            said = "a core would be written"
        draw("", f"{folder.name}: {said}")
    return 0 if writes else 4


def _draw_rows(rows: list[Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "no": "bold red", "cannot tell": "yellow"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("condition", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for row in rows:
        table.add_row(row.name, Text(row.answer, style=styles[row.answer]), Text(row.reason), Text(row.remedy))
    draw(table)


def _machine(target: str | None) -> int:
    from corefilt.doctor.filesystem import filesystem_facts
    from corefilt.doctor.machine import kernel_facts
    from corefilt.doctor.tools import tool_facts

    facts = [*kernel_facts(), *filesystem_facts(), *tool_facts()]
    if target is not None:
        about = {"schema": 1, "version": __version__}
        write_json({**about, "facts": [fact.as_dict() for fact in facts]}, target)
    if target != STDOUT:
        _draw_facts(facts)
    return 0


def _draw_facts(facts: list[Fact]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("where", "what", "value", "that means"):
        table.add_column(name, overflow="fold", no_wrap=name != "that means")
    before = ""
    for fact in facts:
        table.add_row(fact.group if fact.group != before else "", fact.name, Text(fact.value), Text(fact.meaning))
        before = fact.group
    draw(table)
