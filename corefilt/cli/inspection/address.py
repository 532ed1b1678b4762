"""What a core has at an address: the mapping, whether the byte is there, and why it is not."""

from __future__ import annotations

from corefilt.cli.inspection.rows import Rows
from corefilt.errors import UsageError
from corefilt.filterbits import NAMES as BITS
from corefilt.kinds import ONE_PAGE, WHOLE, Kind
from corefilt.sizes import show_size
from corefilt.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.cli.inspection.page import Page

# What is shown of the memory at an address, in bytes.
SHOWN = 16
# States of an address, as JSON names them.
STATES = ("present", "zero", "dropped", "missing", "unmapped", "unknown")


def parse_address(text: str) -> int:
    """An address: hexadecimal with 0x, as all tools print it, or without where it has a letter. Raises UsageError."""
    digits = text.removeprefix("0x").removeprefix("0X").replace("`", "")
    plain = digits == text
    try:
        if not digits.isalnum() or not digits.isascii():
            raise ValueError
        value = int(digits, 16)
    except ValueError:
        raise UsageError(f"address {text!r} cannot be read", "write it in hexadecimal, like 0x7f12a4c01000") from None
    if plain and digits.isdigit() and len(digits) > 1:
        raise UsageError(f"address {text!r} could be decimal or hexadecimal", f"write 0x{digits} or {int(digits):#x}")
    if value >= 1 << 64:
        raise UsageError(f"address {text!r} is larger than 64 bits")
    return value


class Answer:
    """What the core has at an address: ``state`` is one of STATES, ``why`` says how that came, in a sentence.

    ``m`` is the number of the mapping (None: no mapping has the address), ``offset`` where the byte stands in the core
    (None: nowhere), ``data`` the first bytes from it, ``kept`` whether the filter keeps the byte.
    """

    __slots__ = ("address", "data", "kept", "m", "offset", "state", "why")

    def __init__(self, address: int, state: str, why: str, m: int | None = None) -> None:
        self.address, self.state, self.why, self.m = address, state, why, m
        self.offset: int | None = None
        self.data = b""
        self.kept = False

    def as_dict(self, rows: Rows) -> dict[str, object]:
        """The answer with the keys of the JSON."""
        entry: dict[str, object] = {"address": f"{self.address:#x}", "state": self.state, "why": self.why}
        if self.m is not None:
            entry["start"] = f"{rows.maps.start(self.m):#x}"
            entry["end"] = f"{rows.maps.end(self.m):#x}"
        entry["core_offset"] = self.offset
        entry["kept"] = self.kept
        entry["bytes"] = self.data.hex()
        return entry


def look_at(rows: Rows, address: int) -> Answer:
    """Find out what the core has at an address."""
    maps, core, plan = rows.maps, rows.plan.core, rows.plan
    found = [m for m in range(len(rows)) if maps.start(m) <= address < maps.end(m)]
    if not found:
        return Answer(address, "unmapped", _beside(rows, address))
    # Where hostile headers put two over each other, the one that begins last, as elsewhere.
    m = max(found, key=maps.start)
    i, at = maps.phdr[m], address - maps.start(m)
    present, claimed = core.present[i], maps.table.p_filesz[i]
    if at >= present:
        cut = at < claimed
        gone = f"the core is truncated: it has {show_size(present)} of the {show_size(claimed)} of this mapping"
        why = gone if cut else _why(rows, m)
        return Answer(address, "missing" if cut else "dropped", why, m)
    answer = Answer(address, "present", "the core holds it", m)
    answer.offset = maps.table.p_offset[i] + at
    answer.kept = at < plan.kept(m)
    if not core.source.seekable:
        how = "read from a pipe" if core.source.compression is None else "compressed"
        answer.state = "unknown"
        answer.why = f"the core is {how}; its headers say that the byte is there (--spool reads it)"
        return answer
    page = core.maps.page_size
    start = at - at % page
    content = core.source.peek(maps.table.p_offset[i] + start, min(page, present - start))
    answer.data = content[at - start : at - start + SHOWN]
    if not any(content):
        answer.state, answer.why = "zero", _why_zero(rows, answer.offset)
    return answer


def _beside(rows: Rows, address: int) -> str:
    maps = rows.maps
    below = max((m for m in range(len(rows)) if maps.end(m) <= address), key=maps.end, default=None)
    above = min((m for m in range(len(rows)) if maps.start(m) > address), key=maps.start, default=None)
    parts = ["the process had nothing mapped there"]
    if below is not None:
        parts.append(f"{show_size(address - maps.end(below))} above {maps.start(below):x}-{maps.end(below):x}")
    if above is not None:
        parts.append(f"{show_size(maps.start(above) - address)} below {maps.start(above):x}-{maps.end(above):x}")
    return "; ".join(parts)


def _why_zero(rows: Rows, offset: int) -> str:
    core, page = rows.plan.core, rows.plan.core.maps.page_size
    source = core.source
    if source.seekable and not source.spooled and source.compression is None:
        start = offset - offset % page
        if not any(True for _ in core.data(start, min(start + page, core.end or start))):
            return (
                "its page is a hole in the file: the process had zeros there, had not touched it, or its memory could "
                "not be read when the core was written"
            )
    return "its page holds zeros only"


def _why(rows: Rows, m: int) -> str:
    """Why the core does not hold the byte at the end of mapping ``m``."""
    plan, maps, core = rows.plan, rows.maps, rows.plan.core
    i, finding = maps.phdr[m], plan.findings[m]
    present = core.present[i]
    if core.maps.given_up.get(i):
        return "an earlier run of corefilt -i dropped it"
    if core.notes.shared is not None:
        return "batch --shared-once stored it in another core (corefilt restore puts it back), or a filter dropped it"
    if core.notes.fitted:
        return "an earlier run of corefilt with --fit or --minimal dropped it"
    if finding.possible == Kind.EXCLUDED:
        return "the kernel never dumps this mapping: it belongs to a device, or has MADV_DONTDUMP"
    enough = WHOLE if present else ONE_PAGE
    keep = [name for name, bit in BITS.items() if finding.levels(bit)[2] >= enough]
    left = "only the first page was dumped" if 0 < present <= core.maps.page_size else "none of this mapping was dumped"
    if present > core.maps.page_size:
        left = f"only {show_size(present)} of this mapping were dumped"
    if not keep:
        return f"{left}; no bit of coredump_filter keeps this kind"
    return f"{left}; these bits of coredump_filter keep it: {', '.join(keep)}"


def show_answer(rows: Rows, answer: Answer, page: Page) -> None:
    """Three to five lines about an address."""
    plan, m = rows.plan, answer.m
    name = {"missing": "not present", "dropped": "not present", "unmapped": "not mapped", "unknown": "not read"}
    page.text(f"{answer.address:#x}: {name.get(answer.state, answer.state)}: {answer.why}", indent=2)
    if m is None:
        return
    for label, text in _about(rows, answer, m):
        page.text(f"  {label:9} {text}", indent=12)
    finding = plan.findings[m]
    if answer.offset is not None:
        verb = "keeps" if answer.kept else "drops"
        level = finding.levels(plan.filter)
        sure = ", on an assumption" if level[0] != level[2] else ""
        page.text(f"  {'filter':9} {show_filter(rows)} {verb} this byte{sure}", indent=12)


def show_filter(rows: Rows) -> str:
    """The filter as people name it, with its number."""
    number = rows.plan.filter
    names = {0x33: "default (0x33)", 0x1FF: "all (0x1ff)", 0: "none (0x0)"}
    return names.get(number, f"{number:#x}")


def _about(rows: Rows, answer: Answer, m: int) -> Iterator[tuple[str, str]]:
    names = ("address", "flags", "size", "present", "kind", "certainty")
    columns, maps = rows.columns(), rows.maps
    place, flags, size, present, kind, certainty = (next(iter(columns[name]([m]))) for name in names)
    yield (
        "mapping",
        (
            f"{place} {flags}, {size}, {present} in the core; "
            f"the address is {answer.address - maps.start(m):#x} bytes into it"
        ),
    )
    path, offset = maps.path(m), maps.file_offset(m)
    if path is not None:
        where = f" at {offset + answer.address - maps.start(m):#x}" if offset is not None else ""
        yield "file", printable(path) + where
    yield "kind", f"{kind} ({certainty}): {rows.reasons(m)}"
    if answer.offset is not None:
        text = "".join(chr(c) if 32 <= c < 127 else "." for c in answer.data)
        shown = f": {answer.data.hex(' ')}  {text}" if answer.data else ""
        yield "core", f"at {answer.offset:#x}{shown}".rstrip()
