"""``corefilt inspect CORE``: the mappings, their kinds and evidence, and what every bit would keep."""

from __future__ import annotations

from corefilt import __version__
from corefilt.cli.options import make_parser
from corefilt.cli.words import STDOUT, check_report_place, draw, say, with_json_target, write_json
from corefilt.corefile.corefile import CoreFile, open_core
from corefilt.filterbits import NAMES, CoredumpFilter, describe, parse_filter
from corefilt.filtering.report import convention_lines, dropped_texts, evidence_texts, mapping_as_dict, notices
from corefilt.kinds import NOTHING, ONE_PAGE
from corefilt.plan.plan import Plan
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.cli.words import Parser

DESCRIPTION = """\
Shows the mappings of a core: address, size, flags, kind, how certain that is, why, and what each of the nine
bits of a filter would keep of it.

bits: W whole, h one page, - nothing; ? it depends on an assumption (what the default, --unknown keep, keeps
stands before the question mark)"""


def parser() -> Parser:
    """The options of ``corefilt inspect``."""
    p = make_parser("inspect", DESCRIPTION)
    p.add_argument("core", metavar="CORE", nargs="?", default="-", help="a core, or - for standard input (default)")
    return p


def run(argv: list[str]) -> int:
    """Show one core; returns the exit code."""
    arguments = parser().parse_intermixed_args(with_json_target(argv))
    wanted, warnings = parse_filter(arguments.filter)
    with open_core(arguments.core, max_headers=arguments.max_headers, spool=arguments.spool) as core:
        plan = Plan.of(
            core,
            int(wanted),
            unknown=arguments.unknown,
            assume=arguments.assume,
            maps=arguments.maps,
            pid=arguments.pid,
            sysroot=arguments.sysroot,
            dumper=arguments.dumper,
        )
        check_report_place(arguments.json, core.source, None)
        changed = core.source.check()
        if changed is not None and changed not in core.warnings:
            core.warnings.append(changed)
        if arguments.json is not None:
            write_json(as_dict(core, plan), arguments.json)
        if arguments.json != STDOUT:
            show(core, plan, named=arguments.filter != "all")
        for warning in [*core.warnings, *notices(plan), *warnings]:
            say(f"corefilt: {printable(core.source.name)}: {printable(warning)}")
        return 3 if core.damaged else 0


def as_dict(core: CoreFile, plan: Plan) -> dict[str, object]:
    """The mappings as JSON: schema 1, per mapping the keys of the filter report and what each bit keeps."""
    mappings = []
    for m, mapping in enumerate(plan.mappings):
        entry = mapping_as_dict(plan, m, mapping)
        entry["bits"] = {name: shown(plan, m, bit) for name, bit in NAMES.items()}
        mappings.append(entry)
    return {
        "schema": 1,
        "version": __version__,
        "input": core.source.name,
        "filter": f"{int(plan.filter):#x}",
        "class": "ELF64" if core.ehdr.wide else "ELF32",
        "machine": core.machine,
        **fdpic_as_dict(core),
        "page_size": core.maps.page_size,
        "segments": len(core.table),
        "input_bytes": core.end,
        "inferred_bytes": sum(plan.inferred),
        "warnings": core.warnings + notices(plan),
        "mappings": mappings,
    }


def fdpic_as_dict(core: CoreFile) -> dict[str, object]:
    """What is FDPIC about a core, if anything; addresses are hex strings, ``mmu`` is null where nothing tells."""
    if core.fdpic is None:
        return {}
    loadmaps = []
    for whose, address, loadmap in core.loadmaps():
        entry: dict[str, object] = {"of": whose, "address": f"{address:#x}"}
        if isinstance(loadmap, str):
            entry["error"] = loadmap
        else:
            entry["segments"] = [
                {"address": f"{start:#x}", "p_vaddr": f"{p_vaddr:#x}", "p_memsz": p_memsz}
                for start, p_vaddr, p_memsz in loadmap.segments
            ]
        loadmaps.append(entry)
    return {
        "format": "fdpic" if core.notes.of_fdpic else "elf",
        "fdpic": {
            "mmu": core.fdpic.mmu,
            "exec_loadmap": f"{core.fdpic.exec_loadmap:#x}",
            "interp_loadmap": f"{core.fdpic.interp_loadmap:#x}",
            "loadmaps": loadmaps,
        },
    }


def fdpic_lines(core: CoreFile) -> list[str]:
    """The same for a person; for a core that only looks like one, why it is none."""
    if core.fdpic is None:
        if core.notes.loadmaps is not None:
            return [
                f"plain ELF, though NT_PRSTATUS has the {core.notes.prstatus} bytes of ELF-FDPIC, as Linux 4.14 to 5.8 "
                "wrote it on ARM (--format elf makes debuggers see the registers)"
            ]
        return []
    mmu = {True: "with an MMU", False: "without an MMU", None: "with or without an MMU"}[core.fdpic.mmu]
    first, second = core.fdpic.loadmaps
    kind = "ELF-FDPIC" if core.notes.of_fdpic else "made of an ELF-FDPIC core"
    lines = [f"{kind}, {mmu}; loadmaps at {first:#x} (program) and {second:#x} (loader)"]
    for whose, address, loadmap in core.loadmaps():
        if isinstance(loadmap, str):
            lines.append(f"  the loadmap of the {whose} is {loadmap}")
            continue
        lines += [
            f"  the {whose} ({address:#x}): {start:x}-{start + p_memsz:x} has p_vaddr {p_vaddr:#x}"
            for start, p_vaddr, p_memsz in loadmap.segments
        ]
    return lines


def shown(plan: Plan, m: int, bit: CoredumpFilter) -> str:
    """What one bit alone keeps of a mapping, as a letter."""
    least, _, most = plan.findings[m].levels(bit)
    letter = "-" if most == NOTHING else "h" if most == ONE_PAGE else "W"
    return letter + ("?" if least != most else "")


def show(core: CoreFile, plan: Plan, *, named: bool) -> None:
    """Draw the table on standard output."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("address", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("there", justify="right", no_wrap=True)
    if named:
        table.add_column("kept", justify="right", no_wrap=True)
        table.add_column("on convention", justify="right", no_wrap=True)
    table.add_column("flags", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("certainty", no_wrap=True)
    table.add_column("bits 0-8", no_wrap=True)
    table.add_column("file and evidence", overflow="fold")
    styles = {"exact": "green", "inferred": "", "stated": "cyan", "assumed": "yellow"}
    for m, mapping in enumerate(plan.mappings):
        bits = "".join(shown(plan, m, bit).ljust(2) for bit in NAMES.values())
        why = "; ".join(evidence_texts(mapping.finding) + dropped_texts(plan, m))
        where = f"{printable(mapping.path)}: " if mapping.path is not None else ""
        why = printable(why)
        dropped = show_size(plan.inferred[m]) if plan.inferred[m] else "-"
        kept = [show_size(plan.kept(m)), dropped] if named else []
        style = styles[mapping.certainty]
        table.add_row(
            f"{mapping.start:x}-{mapping.end:x}", show_size(mapping.end - mapping.start), show_size(mapping.present),
            *kept, mapping.flags, mapping.kind, Text(mapping.certainty, style=style), bits, Text(where + why),
        )  # fmt: skip
    head = Text(
        f"{printable(core.source.name)}: {'ELF64' if core.ehdr.wide else 'ELF32'} {core.machine}, "
        f"{len(core.table)} segments, pages of {core.maps.page_size} bytes, filter {describe(plan.filter)}"
    )
    draw(head, *(Text(line) for line in fdpic_lines(core)), table, totals(plan))


def totals(plan: Plan) -> str:
    """One line a kind: bytes kept and dropped, and what is undecided."""
    lines = [""]
    for name, kept, dropped, assumed in plan.by_kind():
        open_question = f", {show_size(assumed)} undecided" if assumed else ""
        lines.append(f"{name}: {show_size(kept)} kept, {show_size(dropped)} dropped{open_question}")
    lines += convention_lines(plan, everything=True)
    open_ones = [m for m, finding in enumerate(plan.findings) if finding.certainty == "assumed" and plan.kept(m)]
    if open_ones:
        there = show_size(sum(plan.core.present[plan.core.maps.phdr[m]] for m in open_ones))
        hanging = show_size(sum(plan.assumed))
        lines.append(
            f"undecided: {len(open_ones)} mappings of {there} could be of several kinds, and {hanging} hang on that "
            "under this filter; --maps, --pid, --sysroot or --assume settle it"
        )
    return "\n".join(lines)
