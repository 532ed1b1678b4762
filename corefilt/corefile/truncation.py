"""What a core that was cut by a limit or a full disk lacks, and where its notes still end well."""

from __future__ import annotations

from corefilt import _fast
from corefilt.corefile.elf import PT_LOAD, PT_NOTE, Ehdr
from corefilt.corefile.mappings import flags_text
from corefilt.corefile.notes import MOST_WALKED, WINDOW
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corefilt.corefile.corefile import CoreFile

# Mappings that are named one by one; JSON has them all.
MOST_NAMED = 8


def whole_notes(peek: Callable[[int, int], bytes], ehdr: Ehdr, start: int, there: int) -> int:
    """How many of the ``there`` bytes of notes at ``start`` of the core are whole notes, padding included.

    gdb takes a core whose last note is cut for no core at all (BFD, ``elf_parse_notes``), and opens one that ends
    before.
    """
    at = 0
    while there - at >= 12 and at < MOST_WALKED:
        chunk = peek(start + at, min(WINDOW, there - at))
        found, done = _fast.walk_notes(chunk, big=ehdr.big)
        padding = next(
            (name - 12 for n_type, name, n_namesz, _, n_descsz in found if not n_type | n_namesz | n_descsz), -1
        )
        if padding >= 0:
            # Zeros behind the last note are none.
            return at + padding
        if not done:
            if len(chunk) < 12:
                break
            # It is cut, or larger than the window.
            n_namesz, n_descsz = (ehdr.number(chunk[i : i + 4]) for i in (0, 4))
            desc = 12 + (n_namesz + 3 & ~3)
            if at + desc + n_descsz > there:
                break
            done = min(desc + (n_descsz + 3 & ~3), there - at)
        at += done
    return at


def missing_lines(core: CoreFile, printable: Callable[[bytes], str]) -> Iterator[str]:
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
        yield f"{show_size(sum(lost[maps.phdr[m]] for m in rest))} of {len(rest)} more mappings (--json names them)"
