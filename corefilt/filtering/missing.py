"""What a core that was cut by a limit or a full disk lacks, by mapping."""

from __future__ import annotations

from corefilt.corefile.elf import PT_LOAD, PT_NOTE
from corefilt.corefile.mappings import flags_text
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.corefile.corefile import CoreFile

# Mappings that are named one by one; JSON has them all.
MOST_NAMED = 8


def missing_lines(core: CoreFile) -> Iterator[str]:
    """What is missing, by mapping, for people: the first few, and how much there is besides."""
    table, maps = core.table, core.maps
    lost = [claimed - there for claimed, there in zip(table.p_filesz, core.present, strict=True)]
    for i, p_type in enumerate(table.p_type):
        if lost[i] and p_type != PT_LOAD:
            what = "the notes" if p_type == PT_NOTE else f"program header {i}"
            yield f"{what}: {show_size(lost[i])} of {show_size(table.p_filesz[i])}"
    short = [m for m, i in enumerate(maps.phdr) if lost[i]]
    for m in short[:MOST_NAMED]:
        i, path = maps.phdr[m], maps.path(m)
        yield (
            f"{maps.start(m):x}-{maps.end(m):x} {flags_text(maps.flags(m))}: {show_size(lost[i])} of "
            f"{show_size(table.p_filesz[i])}{f', {printable(path)}' if path is not None else ''}"
        )
    rest = short[MOST_NAMED:]
    if rest:
        more = counted(len(rest), "more mapping")
        yield f"{show_size(sum(lost[maps.phdr[m]] for m in rest))} of {more} (--json names them)"
