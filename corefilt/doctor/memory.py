"""What a core would hold: the filter, what the process asked to leave out, and what cannot have a core."""

from __future__ import annotations

from corefilt.doctor.row import NO, OK, UNKNOWN, Row
from corefilt.filterbits import describe
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.doctor.live import Live
    from corefilt.doctor.subject import Subject


def alive(subject: Subject) -> Row:
    """Only what has memory of its own can leave a core."""
    state = subject.status.get("State", "")
    if subject.has_memory:
        return Row("process", OK, f"{subject.name} exists" + (", being dumped" if _dumping(subject) else ""))
    if state.startswith(("Z", "X")):
        return Row("process", NO, "it is a zombie: it has ended, and its parent has not waited for it")
    return Row("process", NO, "it is a kernel thread, and has no memory")


def _dumping(subject: Subject) -> bool:
    return subject.status.get("CoreDumping") == "1"


def filter_row(live: Live | None) -> Row:
    """A filter never stops a core, but can leave it without any memory worth having."""
    if live is None:
        return Row("coredump_filter", UNKNOWN, "you may not read what it keeps", "ask as root")
    kinds = dict(live.by_kind(live.filter))
    kept = sum(share.kept for name, share in kinds.items() if name != "special")
    size = sum(share.size for share in kinds.values())
    if not kept:
        said = f"{describe(live.filter)} keeps nothing of the process's own memory"
        return Row("coredump_filter", OK, said, f"corefilt set default {live.pid}")
    return Row("coredump_filter", OK, f"{describe(live.filter)} keeps {show_size(kept)} of {show_size(size)}")


def left_out(live: Live | None) -> Row:
    """Mappings that are marked, by MADV_DONTDUMP or by a driver, are in no core (VmFlags dd)."""
    name = "MADV_DONTDUMP"
    if live is None:
        return Row(name, UNKNOWN, "you may not read its mappings", "ask as root")
    natures = live.areas.nature
    if all(nature.flags is None for nature in natures):
        return Row(name, UNKNOWN, "this kernel's smaps has no VmFlags")
    marked = [m for m, nature in enumerate(natures) if b"dd" in (nature.flags or ()) and nature.what != "special"]
    if not marked:
        return Row(name, OK, "no mapping is marked")
    size = sum(live.areas.end[m] - live.areas.start[m] for m in marked)
    return Row(
        name, OK, f"{show_size(size)} in {counted(len(marked), 'mapping')} are marked, and no filter can keep them"
    )


def data_of(live: Live | None) -> int | None:
    """How many bytes the core may take at most, as far as memory goes."""
    return sum(share.data for _, share in live.by_kind(live.filter)) if live is not None else None
