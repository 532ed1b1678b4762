"""Whether a core was overwritten only where a report of ``corefilt scrub`` says so, and only with fill.

The listed ranges are places of the scrubbed core. In each the bytes must be what the report's ``fill`` makes of the
full core's: ``text`` puts X for all but NULs, ``bytes`` X for all, ``zeros`` zeros. Everything else must be the same.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from corefilt.documents.fields import MOST_SIZE, a_list, a_number, a_table, a_text, decode_json, one_of, read_field
from corefilt.errors import InputError, UsageError
from corefilt.text import counted
from corefilt.verify.note_segments import SCRUBBED, own_texts
from corefilt.verify.notes import aligned
from corefilt.verify.verdict import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from typing import Any

    from corefilt.documents.fields import Reader
    from corefilt.verify.files import MappedCore
    from corefilt.verify.pairs import Pair
    from corefilt.verify.tables import Tables
    from corefilt.verify.verdict import Verdict

    Spans = list[tuple[int, int]]

# A report of a million ranges has 150 MB.
_MOST_OF_A_REPORT = 256 << 20
_FILL = 0x58
_AS_TEXT = bytes([0]) + bytes([_FILL]) * 255
_FILLS = ("text", "bytes", "zeros")
_PIECE = 1 << 20


class Listed(NamedTuple):
    """One range of the report: where it is in the scrubbed core, and in memory (None: in the notes)."""

    offset: int
    length: int
    address: int | None
    fill: str


class ScrubList:
    """A report: its ``ranges``, by offset, and what the note in the core must say (``told``)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read and check it. Raises InputError."""
        self.path = str(path)
        try:
            with open(path, "rb") as file:
                raw = file.read(_MOST_OF_A_REPORT + 1)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path}: {getattr(error, 'strerror', None) or error}") from None
        place = f"{self.path}: not a report by corefilt scrub"
        if len(raw) > _MOST_OF_A_REPORT:
            raise InputError(f"{place}: has more than {_MOST_OF_A_REPORT} bytes")
        table = read_field(a_table, decode_json(raw, place, InputError), place, InputError)
        entries = read_field(a_list, table.get("ranges"), f"{place}: ranges", InputError)
        self.ranges = [_listed(entry, f"{place}: range {n}") for n, entry in enumerate(entries)]
        self.ranges.sort(key=lambda listed: (listed.offset, listed.length))
        self.told = f"level {table.get('level')}, rules of version {table.get('rules_version')}:"

    def spans(self, *fills: str) -> Spans:
        """The ranges with these fills, ascending and apart."""
        joined: Spans = []
        for listed in self.ranges:
            end = listed.offset + listed.length
            if listed.fill not in fills or not listed.length:
                continue
            if joined and listed.offset <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], end)
            else:
                joined.append((listed.offset, end))
        return joined


def _listed(entry: object, place: str) -> Listed:
    table = read_field(a_table, entry, place, InputError)
    found = {key: read_field(read, table.get(key), f"{place}: {key}", InputError) for key, read in _RANGE.items()}
    return Listed(**found)


def _address(value: object) -> int | None:
    """None, or the number that a text of hex digits is. Raises UsageError."""
    if value is None:
        return None
    try:
        return int(a_text(value), 16)
    except ValueError:
        raise UsageError(f"{value!r} is not an address in hex") from None


_OFFSET = a_number(0, MOST_SIZE)
_RANGE: dict[str, Reader[Any]] = {"offset": _OFFSET, "length": _OFFSET, "address": _address, "fill": one_of(*_FILLS)}


class _Place(NamedTuple):
    """A range of the scrubbed core, where the full one has the same, and the address of its first byte."""

    start: int
    end: int
    full: int
    address: int | None


def check_scrubbed(
    files: tuple[MappedCore, MappedCore],
    cores: tuple[Tables, Tables],
    pairs: list[Pair],
    scrubs: ScrubList,
    verdict: Verdict,
) -> None:
    """Hold what stands in the listed ranges against the fill, and their addresses against the program headers."""
    if not any(scrubs.told.encode() in text for text in own_texts(files[1], cores[1], SCRUBBED)):
        text = f"no COREFILT note says that this was scrubbed at {scrubs.told.rstrip(':')}"
        verdict.findings.append(Finding("notes", text))
    places = sorted(_places(files, cores, pairs))
    starts = [place.start for place in places]
    for listed in scrubs.ranges:
        k = bisect_right(starts, listed.offset) - 1
        place = places[k] if k >= 0 else None
        if place is None or listed.offset >= place.end:
            verdict.findings.append(Finding("payload", f"{scrubs.path} lists byte {listed.offset}, in no segment"))
        elif listed.address != (None if place.address is None else place.address + listed.offset - place.start):
            verdict.findings.append(
                Finding("payload", f"{scrubs.path} lists byte {listed.offset} with another address than it has")
            )
    zeros, all_bytes = scrubs.spans("zeros"), scrubs.spans("bytes")
    expected = [
        ("zeros", zeros), ("bytes", _without(all_bytes, zeros)),
        ("text", _without(scrubs.spans("text"), scrubs.spans("bytes", "zeros"))),
    ]  # fmt: skip
    verdict.overwritten_bytes = sum(end - start for _, spans in expected for start, end in spans)
    for fill, spans in expected:
        for start, end in spans:
            _check_fill(files, places, starts, (start, end), fill, verdict)


def _places(files: tuple[MappedCore, MappedCore], cores: tuple[Tables, Tables], pairs: list[Pair]) -> Iterator[_Place]:
    full, scrubbed = cores
    for pair in pairs:
        was, now = full.segments[pair.full], scrubbed.segments[pair.filtered]
        if was.p_type == "PT_NOTE":
            for a, b, length in aligned(files, cores, (pair.full, pair.filtered)):
                yield _Place(b, b + length, a, None)
        elif scrubbed.present(pair.filtered):
            end = now.p_offset + scrubbed.present(pair.filtered)
            yield _Place(now.p_offset, end, was.p_offset + pair.skip, now.p_vaddr)


def _check_fill(
    files: tuple[MappedCore, MappedCore],
    places: list[_Place],
    starts: list[int],
    span: tuple[int, int],
    fill: str,
    verdict: Verdict,
) -> None:
    at, end = span
    while at < end:
        k = bisect_right(starts, at) - 1
        if k < 0 or at >= places[k].end:
            # Told already, or the range goes on where nothing is.
            verdict.findings.append(Finding("payload", f"byte {at} is listed, but is in no segment", bytes=end - at))
            return
        place = places[k]
        stop = min(end, place.end, at + _PIECE)
        was = files[0].read(place.full + at - place.start, stop - at)
        now = files[1].read(at, stop - at)
        filled = {"text": was.translate(_AS_TEXT), "bytes": bytes([_FILL]) * len(was), "zeros": bytes(len(was))}[fill]
        if now != filled:
            where = f"byte {at}" if place.address is None else f"{place.address + at - place.start:#x}"
            listed = counted(stop - at, "byte is", "bytes are")
            text = f"{where}: {listed} listed as overwritten, and other bytes than the fill ({fill}) are present"
            verdict.findings.append(Finding("payload", text, bytes=stop - at))
        at = stop


def _without(spans: Iterable[tuple[int, int]], others: Spans) -> Spans:
    """The parts of ranges that lie in no others, which ascend and lie apart."""
    left: Spans = []
    ends = [end for _, end in others]
    for start, end in spans:
        k = bisect_right(ends, start)
        while k < len(others) and others[k][0] < end:
            if start < others[k][0]:
                left.append((start, others[k][0]))
            start, k = others[k][1], k + 1
        if start < end:
            left.append((start, end))
    return left
