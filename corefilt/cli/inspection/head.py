"""What ``corefilt inspect`` says first: whose core it is, how it ended, and what became of it since."""

from __future__ import annotations

import os

from corefilt import __version__
from corefilt.filtering.report import notices
from corefilt.io.shared_holders import Holders
from corefilt.sizes import show_size
from corefilt.text import counted, moment, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.cli.inspection.page import Page
    from corefilt.corefile.corefile import CoreFile
    from corefilt.crash.identity import Identity
    from corefilt.plan.plan import KeepPlan

LABEL = 13
# Where batch tells of a file how it was made (corefilt.batching.work.provenance, which loads much).
ATTRIBUTE = "user.corefilt"


def show_head(core: CoreFile, identity: Identity, page: Page, *, verbose: bool = False) -> None:
    """A line for each thing that the core tells of itself; ``verbose`` adds identifiers."""
    size = f", {show_size(core.end)}" if core.end is not None else ""
    packed = f" ({core.source.compression})" if core.source.compression else ""
    page.line(
        (printable(core.source.name), "bold"),
        f": {core.elf_class} {core.machine}{size}{packed}, "
        f"{counted(len(core.maps), 'mapping')}, {show_size(core.maps.page_size)} pages",
    )
    for label, text in facts(core, identity, verbose=verbose):
        page.line((f"  {label:{LABEL}} ", "cyan"), printable(text))
    for line in fdpic_lines(core):
        page.line(f"  {line}")


def facts(core: CoreFile, identity: Identity, *, verbose: bool = False) -> Iterator[tuple[str, str]]:
    """What is known, by its label."""
    if identity.executable is not None:
        yield "executable", printable(identity.executable)
    elif identity.execfn is not None:
        yield "started as", printable(identity.execfn)
    elif identity.comm:
        yield "name", printable(identity.comm)
    if verbose and identity.build_id is not None:
        yield "build-id", identity.build_id.hex()
    if identity.command_line is not None:
        source = "" if identity.command_line.source == "stack" else f" (from {identity.command_line.source})"
        yield "command line", f"{identity.command_line}{source}"
    numbers = {"pid": identity.pid, "uid": identity.uid, "gid": identity.gid}
    known = ", ".join(f"{name} {value}" for name, value in numbers.items() if value is not None)
    if known:
        yield "process", known
    if identity.signal is not None:
        yield "signal", identity.signal.words
    if identity.threads:
        crashed = next(
            (f"; thread {thread.tid} crashed" for thread in identity.threads if thread.crashed and thread.tid), ""
        )
        yield "threads", f"{len(identity.threads)}{crashed}"
    if identity.time is not None:
        yield "time", f"{moment(identity.time)} ({identity.time_source})"
    if identity.host is not None:
        yield "host", f"{printable(identity.host)} ({identity.host_source})"
    if identity.writer != "unknown" or identity.kernel is not None:
        kernel = f"Linux {printable(identity.kernel)}" if identity.kernel is not None else "Linux"
        yield "written by", kernel if identity.writer == "kernel" else f"{identity.writer} on {kernel}"
    if identity.threads is None:
        yield "not read", "threads, modules, writer, crash (--spool reads them)"
    for entry in identity.environment or ():
        yield "environment", printable(entry)
    for text in changes(core):
        yield "changed", text


def changes(core: CoreFile) -> Iterator[str]:
    """What became of the core since the dump, or during it."""
    notes = core.notes
    if core.truncated:
        lost = sum(core.table.p_filesz) - sum(core.present)
        yield f"truncated: {show_size(lost)} of its segments are missing"
    made = _filter_of(notes.made) or _filter_of(_attribute(core))
    if made is not None:
        yield f"filtered by corefilt batch: {made}"
    # --shared-once cuts segments too, and the note does not tell which of them did.
    if notes.fitted and notes.shared is None:
        yield "filtered by corefilt --fit or --minimal"
    if notes.record_at is not None and not notes.made:
        yield "filtered or annotated by corefilt (--annotate)"
    if notes.signature:
        yield f"signature recorded by corefilt (--annotate): {printable(notes.signature)}"
    if notes.shared is not None:
        yield "its shared memory is stored beside it (corefilt restore puts it back)"
    held = Holders().of(core.source.name) if core.source.origin.seekable else None
    if held is not None and not held.doubt:
        yield f"{held.reason}, and must stay as it is"
    if notes.origin is not None:
        yield "converted from FDPIC to ELF by corefilt --format"
    if core.gaps:
        yield f"filtered in place (corefilt -i): {show_size(sum(b - a for a, b in core.gaps))} of the file are unused"


def _attribute(core: CoreFile) -> bytes:
    """What a batch has told of the file beside it."""
    try:
        return os.getxattr(core.source.origin.fd, ATTRIBUTE)
    except OSError:
        return b""


def _filter_of(told: bytes) -> str | None:
    """The filter that a batch made a core with, by what it tells of that; None where it tells nothing."""
    if not told:
        return None
    import json

    try:
        found = json.loads(told)
    except ValueError:
        return None
    return str(found.get("filter")) if isinstance(found, dict) else None


def as_dict(core: CoreFile, identity: Identity, plan: KeepPlan) -> dict[str, object]:
    """All but the mappings as JSON: schema 1, the keys of the filter report."""
    return {
        "schema": 1,
        "version": __version__,
        "input": core.source.name,
        "filter": f"{plan.filter:#x}",
        "class": core.elf_class,
        "machine": core.machine,
        **fdpic_as_dict(core),
        "page_size": core.maps.page_size,
        "segments": len(core.table),
        "input_bytes": core.end,
        "inferred_bytes": sum(plan.inferred),
        "warnings": core.warnings + notices(plan),
        "changes": list(changes(core)),
        "identity": identity.as_dict(),
        "modules": [module.as_dict() for module in identity.modules] if identity.modules is not None else None,
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
    places = zip(core.fdpic.loadmaps, ("program", "loader"), strict=True)
    told = " and ".join(f"{address:#x} ({whose})" for address, whose in places if address)
    kind = "ELF-FDPIC" if core.notes.of_fdpic else "made from an ELF-FDPIC core"
    lines = [f"{kind}, {mmu}; {f'loadmaps at {told}' if told else 'no loadmaps'}"]
    for whose, address, loadmap in core.loadmaps():
        if isinstance(loadmap, str):
            lines.append(f"  the loadmap of the {whose} is {loadmap}")
            continue
        lines += [
            f"  the {whose} ({address:#x}): {start:x}-{start + p_memsz:x} has p_vaddr {p_vaddr:#x}"
            for start, p_vaddr, p_memsz in loadmap.segments
        ]
    return lines
