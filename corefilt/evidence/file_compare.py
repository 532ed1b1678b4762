"""Holds what a core has of every mapped file against the file itself, below --sysroot."""

from __future__ import annotations

import os

from corefilt.evidence.evidence import Copy
from corefilt.evidence.sysroot import MOST_OF_NOTES, build_id_in, first_difference, objection
from corefilt.io.named_files import NotUsable, why_no_file
from corefilt.kinds import Kind
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from corefilt.corefile.mappings import Mappings
    from corefilt.evidence.evidence import Evidence
    from corefilt.evidence.sysroot import MappedFile

    # Gives the core's bytes at an offset, of a length.
    Peek: TypeAlias = Callable[[int, int], bytes]
    # Gives the ranges of a range of the core that are no holes.
    DataRuns: TypeAlias = Callable[[int, int], Iterator[tuple[int, int]]]

# Files that were not used and are named one by one.
MOST_NAMED = 3


def compare(
    evidence: Evidence,
    mappings: Mappings,
    proven: Callable[[int], int],
    *,
    peek: Peek | None,
    data: DataRuns | None,
    dumped_ns: int | None,
) -> None:
    """Fill ``evidence.copies`` for every mapping whose kind a file could settle, by the kinds ``proven`` leaves it.

    ``peek`` reads the core's payload by its offset in the core, or is None where it has passed; ``data`` tells where
    it is no hole, if that is known; ``dumped_ns`` is when the core was written, in nanoseconds since the epoch.
    """
    if evidence.sysroot is None:
        return
    evidence.copies, told = {}, []
    groups: dict[bytes, list[int]] = {}
    for m in range(len(mappings)):
        path = mappings.path(m)
        if path is not None and why_no_file(path) is None and mappings.present(m):
            left = proven(m)
            if (left & Kind.CLEAN and left & Kind.WRITTEN) or (left & Kind.HEADED and left & Kind.UNHEADED):
                groups.setdefault(path, []).append(m)
    heads: dict[bytes, int] = {}
    for m in range(len(mappings)):
        if mappings.file_offset(m) == 0 and mappings.present(m):
            heads.setdefault(mappings.path(m) or b"", m)
    refused: dict[bytes, str] = {}
    here = evidence.sysroot.is_root()
    for path, group in groups.items():
        try:
            file = evidence.sysroot.find(path)
        except NotUsable as error:
            refused[path] = str(error)
            continue
        try:
            _compare_file(
                evidence, mappings, file, group, heads.get(path), peek=peek, data=data, dumped_ns=dumped_ns, here=here
            )
        except NotUsable as error:
            refused[path] = str(error)
        finally:
            file.close()
        reason = evidence.copies[group[0]].reason if group[0] in evidence.copies else None
        if reason is not None:
            refused[path] = reason
    for path, reason in refused.items():
        evidence.copies.update((m, Copy(reason)) for m in groups[path])
    for path, reason in list(refused.items())[:MOST_NAMED]:
        told.append(f"{os.fsdecode(path)} below --sysroot was not used: it {reason}")
    if len(refused) > MOST_NAMED:
        told.append(f"{counted(len(refused) - MOST_NAMED, 'more file', 'more files')} below --sysroot not used")
    if dumped_ns is None and groups:
        told.append("a pipe does not tell when the core was written: files that were changed since go unnoticed")
    if peek is None and groups:
        told.append("the payload of a pipe has passed before it can be compared with files")
    evidence.told_of_copies = told


def _compare_file(
    evidence: Evidence,
    mappings: Mappings,
    file: MappedFile,
    group: list[int],
    head: int | None,
    *,
    peek: Peek | None,
    data: DataRuns | None,
    dumped_ns: int | None,
    here: bool,
) -> None:
    first = b""
    begins = max(mappings.file_offset(m) or 0 for m in group)
    offset_of = mappings.table.p_offset
    if peek is not None and head is not None:
        first = peek(offset_of[mappings.phdr[head]], min(mappings.present(head), MOST_OF_NOTES))
    area = evidence.area(group[0])
    expected = (*area.device, area.inode) if here and area is not None else None
    reason = objection(
        file, first=first, begins=begins, page_size=mappings.page_size, expected=expected, dumped_ns=dumped_ns
    )
    build_id = build_id_in(first) if first else None
    # Without the time of the dump, the inode does not tell whether the file was changed in place since.
    same = (expected is not None and dumped_ns is not None) or (build_id is not None and build_id == file.build_id())
    known: dict[tuple[int, int, int], int | None] = {}
    for m in group:
        copy = evidence.copies[m] = Copy(reason)
        if reason is not None:
            continue
        copy.same = same
        copy.executable = bool(file.mode & 0o111)
        copy.first = file.read(0, 4)
        if peek is not None:
            span = offset_of[mappings.phdr[m]], mappings.file_offset(m) or 0, mappings.present(m)
            if span not in known:
                known[span] = _first_difference(peek, data, file, *span, mappings.page_size)
            copy.differs = known[span]


def _first_difference(
    peek: Peek, data: DataRuns | None, file: MappedFile, at: int, start: int, length: int, page: int
) -> int | None:
    """As first_difference, without reading what is a hole in the core."""
    for low, high in data(at, at + length) if data is not None else [(at, at + length)]:
        skipped = (low - at) // page * page
        found = first_difference(peek, at + skipped, file, start + skipped, high - at - skipped, page)
        if found is not None:
            return skipped + found
    return None
