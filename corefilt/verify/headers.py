"""The ELF header and the section headers of both cores."""

from __future__ import annotations

from bisect import bisect_right

from corefilt.text import counted
from corefilt.verify.files import difference
from corefilt.verify.pairs import SECTIONS, claims
from corefilt.verify.tables import PN_XNUM
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Segment, Tables
    from corefilt.verify.verdict import Verdict

# What no option changes. The other fields say where tables stand and how long they are.
_FIXED = ("e_ident", "e_type", "e_machine", "e_version", "e_entry", "e_ehsize", "e_phentsize")
_SECTION_FIXED = ("sh_name", "sh_flags", "sh_addr", "sh_link", "sh_info", "sh_addralign", "sh_entsize")
# What the ELF header says of the section headers but their place.
_SECTIONS_COUNTED = ("e_shentsize", "e_shnum", "e_shstrndx")
_SHF_ALLOC = 2


def check_header(full: Tables, filtered: Tables, verdict: Verdict, *, fitted: bool, converted: bool) -> None:
    """Hold the ELF headers against each other; e_flags may differ where --format made other notes."""
    for name in _FIXED:
        was, now = full.header[name], filtered.header[name]
        if was != now:
            verdict.findings.append(Finding("header", f"{name} is {_text(now)}, not {_text(was)}"))
    was, now = full.header["e_flags"], filtered.header["e_flags"]
    if was != now and converted:
        verdict.changes.append(f"e_flags is {now:#x}, not {was:#x} (--format)")
    elif was != now:
        verdict.findings.append(Finding("header", f"e_flags is {now:#x}, not {was:#x}"))
    # Behind payload, as delve writes it, the table moves with what is dropped before it.
    moves = any(segment.p_filesz and segment.p_offset < full.header["e_phoff"] for segment in full.segments)
    if filtered.header["e_phoff"] != full.header["e_phoff"] and not (fitted or moves):
        text = f"e_phoff is {filtered.header['e_phoff']:#x}, not {full.header['e_phoff']:#x}"
        verdict.findings.append(Finding("header", text))
    count = min(len(filtered.segments), PN_XNUM) if fitted else full.header["e_phnum"]
    if filtered.header["e_phnum"] != count:
        verdict.findings.append(Finding("header", f"e_phnum is {filtered.header['e_phnum']}, not {count}"))


def _text(value: Any) -> str:
    """A field as people read it: pyelftools has names for some, and a record for e_ident."""
    if isinstance(value, int | str):
        return f"{value:#x}" if isinstance(value, int) else value
    return " ".join(str(part) for part in dict(value).values())


def check_sections(
    files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], verdict: Verdict, *, fitted: bool, cut: bool
) -> None:
    """Hold the section headers, which gdb writes, and the one of PN_XNUM, against each other."""
    full, filtered = cores
    if filtered.sections_lost:
        at = filtered.header["e_shoff"]
        if cut and _may_be_cut_off(full, filtered):
            return
        verdict.findings.append(Finding("sections", f"the section headers at {at:#x} (e_shoff) are not in the file"))
        return
    if filtered.header["e_phnum"] == PN_XNUM and filtered.sections:
        sh_info = filtered.sections[0]["sh_info"]
        if sh_info != filtered.count:
            count = counted(filtered.count, "program header")
            said = f"section header 0: sh_info is {sh_info}, and the core has {count} (PN_XNUM)"
            verdict.findings.append(Finding("sections", said))
    if len(full.sections) != len(filtered.sections):
        numbers = f"the count of section headers is {len(filtered.sections)}, not {len(full.sections)}"
        if fitted or full.sections_lost or _is_repaired(full, filtered) or _lies_over(full, filtered):
            verdict.changes.append(numbers)
        else:
            verdict.findings.append(Finding("sections", numbers))
        return
    if filtered.header["e_phnum"] == PN_XNUM or not filtered.sections:
        return
    loads = [
        sorted((s for s in core.segments if s.p_type == "PT_LOAD" and s.p_filesz), key=lambda s: s.p_vaddr)
        for core in cores
    ]
    taken = sorted((start, end) for start, end, _ in claims(full))
    for k, (was, now) in enumerate(zip(full.sections, filtered.sections, strict=True)):
        text = _section_fault(files, was, now, loads, filtered.size, taken, cut=cut)
        if text is not None:
            finding = Finding("sections", f"section {k}: {text}", address=now["sh_addr"], bytes=now["sh_size"])
            verdict.findings.append(finding)


def _is_repaired(full: Tables, filtered: Tables) -> bool:
    """Whether section header 0 of PN_XNUM is there alone where the full core's is missing or counts otherwise."""
    if filtered.header["e_phnum"] != PN_XNUM or len(filtered.sections) != 1:
        return False
    return not full.sections or full.sections[0]["sh_info"] != full.count


def _lies_over(full: Tables, filtered: Tables) -> bool:
    """Whether all section headers are gone, and the full core's were said to stand where other things do."""
    start = full.header["e_shoff"]
    taken = sorted((low, high) for low, high, label in claims(full) if label != SECTIONS)
    return not filtered.sections and _overlaps(taken, start, start + len(full.sections) * full.header["e_shentsize"])


def _may_be_cut_off(full: Tables, filtered: Tables) -> bool:
    """Whether section headers that are not there are as many as the full core's, and behind all that is."""
    if not full.header["e_shoff"] or any(filtered.header[name] != full.header[name] for name in _SECTIONS_COUNTED):
        return False
    # Of PN_XNUM's it is known where they stand; those of gdb have their contents before them, and are aligned.
    exact = full.header["e_phnum"] == PN_XNUM and len(filtered.segments) == filtered.count
    return not exact or _behind_segments(filtered) == _behind_segments(full)


def _behind_segments(core: Tables) -> int:
    """How far behind the last segment the section headers begin."""
    ends = (segment.p_offset + segment.p_filesz for segment in core.segments if segment.p_filesz)
    at: int = core.header["e_shoff"]
    return at - max(ends, default=0)


def _section_fault(
    files: tuple[MappedCore, MappedCore],
    was: dict[str, Any],
    now: dict[str, Any],
    loads: list[list[Segment]],
    size: int,
    taken: list[tuple[int, int]],
    *,
    cut: bool,
) -> str | None:
    for name in _SECTION_FIXED:
        if was[name] != now[name]:
            return f"{name} is {now[name]:#x}, not {was[name]:#x}"
    if now["sh_type"] not in (was["sh_type"], "SHT_NOBITS"):
        return f"sh_type is {now['sh_type']}, not {was['sh_type']}"
    if now["sh_type"] in ("SHT_NOBITS", "SHT_NULL"):
        return None
    reached = was["sh_offset"] + was["sh_size"] > files[0].size
    if not cut and not reached and now["sh_offset"] + now["sh_size"] > size:
        return "extends past the end of the file"
    if now["sh_type"] == "SHT_NOTE":
        return None
    if now["sh_size"] > was["sh_size"]:
        return f"sh_size is {now['sh_size']:#x}, more than {was['sh_size']:#x}"
    if now["sh_flags"] & _SHF_ALLOC and now["sh_addr"]:
        if _where_loaded(was, loads[0]) and not _where_loaded(now, loads[1]):
            return f"sh_offset {now['sh_offset']:#x} is not where its segment has address {now['sh_addr']:#x}"
        return None
    if _overlaps(taken, was["sh_offset"], was["sh_offset"] + was["sh_size"]):
        # What is a table's or a segment's has been judged there.
        return None
    there = min(now["sh_size"], max(0, files[0].size - was["sh_offset"]), max(0, size - now["sh_offset"]))
    found = difference(files[0], was["sh_offset"], files[1], now["sh_offset"], there)
    return None if found is None else f"{counted(found.count, 'byte differs', 'bytes differ')}: {found}"


def _overlaps(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether any of some sorted ranges has bytes of another."""
    return any(low < end and start < high for low, high in taken[: bisect_right(taken, (end, 0))])


def _where_loaded(section: dict[str, Any], loads: list[Segment]) -> bool:
    """Whether a section stands where the segment at its address has its bytes."""
    at = bisect_right(loads, section["sh_addr"], key=lambda segment: segment.p_vaddr) - 1
    if at < 0:
        return False
    segment = loads[at]
    inside: int = section["sh_addr"] - segment.p_vaddr
    offset: int = section["sh_offset"]
    return inside + int(section["sh_size"]) <= segment.p_filesz and offset == segment.p_offset + inside
