"""Who wrote the core, as far as its layout and notes tell."""

from __future__ import annotations

from corefilt import _fast
from corefilt.corefile.elf import PN_XNUM, PT_LOAD, PT_NOTE
from corefilt.corefile.notes import NT_PRPSINFO, NT_PRSTATUS, WINDOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefile import CoreFile
    from corefilt.corefile.elf import Phdrs

KERNEL, GDB, CREATEDUMP, DELVE, UNKNOWN = "kernel", "gdb", "createdump", "delve", "unknown"
# Where createdump puts its own header since .NET 6 (SpecialDiagInfoAddress in specialdiaginfo.h of dotnet/runtime); one
# of 32 bits has it at the second address.
_DIAGNOSTICS = (0x7FFFFFFF10000000, 0x7FFF1000)
# A note that delve writes about itself (DelveHeaderNoteType in pkg/elfwriter of delve 1.20).
_NT_DELVE = 0x444C5645


def writer_of(core: CoreFile) -> str:
    """``kernel``, ``gdb``, ``createdump``, ``delve`` or ``unknown``.

    The kernel writes PT_NOTE first, right behind the table, NT_PRSTATUS as its first note, and no section headers but
    PN_XNUM's. What corefilt changed later does not matter.
    """
    ehdr, table = core.ehdr, core.table
    first = next((i for i, p_type in enumerate(table.p_type) if p_type == PT_NOTE), None)
    if first is None:
        return UNKNOWN
    notes = core.source.peek(table.p_offset[first], min(table.p_filesz[first], WINDOW))
    found = _fast.walk_notes(notes, big=ehdr.big)[0]
    types = [(n_type, notes[at : at + n_namesz].rstrip(b"\0")) for n_type, at, n_namesz, _, _ in found]
    if any(n_type == _NT_DELVE or (n_type == NT_PRSTATUS and not name) for n_type, name in types):
        return DELVE
    if ehdr.e_shoff and ehdr.e_shoff < ehdr.e_phoff:
        return CREATEDUMP
    if any(address in table.p_vaddr and _loads(table, address) for address in _DIAGNOSTICS):
        return CREATEDUMP
    processes = [n_type for n_type, name in types if name == b"CORE"]
    if ehdr.e_shoff and ehdr.e_phnum != PN_XNUM:
        # gdb goes over BFD, which writes section headers; newer ones begin with NT_PRPSINFO.
        return GDB if processes[:1] in ([NT_PRPSINFO], [NT_PRSTATUS]) else UNKNOWN
    own = [n_type for n_type, name in types if name != b"COREFILT"]
    return KERNEL if first == 0 and own[:1] == [NT_PRSTATUS] else UNKNOWN


def _loads(table: Phdrs, address: int) -> bool:
    """Whether a PT_LOAD begins at an address."""
    return any(
        p_type == PT_LOAD and vaddr == address for p_type, vaddr in zip(table.p_type, table.p_vaddr, strict=True)
    )
