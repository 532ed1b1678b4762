"""Joins the records of an earlier run's COREFILT note with the core's mappings, by address."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.corefile.corefilt_note import Record
    from corefilt.corefile.mappings import Mappings

# Addresses in a note have 64 bits; a mapping can end right behind the last of them.
_MASK = (1 << 64) - 1


def records_by_mapping(records: dict[tuple[int, int], Record], mappings: Mappings) -> dict[int, Record]:
    """Join records with the whole mappings whose addresses they have; of a mapping in parts the first part's counts."""
    whole = mappings.whole
    joined = {m: records.get((whole.start(m), whole.end(m) & _MASK)) for m in range(len(whole))}
    if whole is not mappings:
        for m in range(len(mappings)):
            if m not in mappings.continues and joined[mappings.whole_of(m)] is None:
                joined[mappings.whole_of(m)] = records.get((mappings.start(m), mappings.end(m) & _MASK))
    return {m: record for m, record in joined.items() if record is not None}


def strangers(records: dict[tuple[int, int], Record], mappings: Mappings) -> int:
    """How many records have the addresses of no mapping, nor of a part of one."""
    known = {(each.start(m), each.end(m) & _MASK) for each in (mappings, mappings.whole) for m in range(len(each))}
    return len(records.keys() - known)
