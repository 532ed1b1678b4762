"""Holds what a core has of every mapped file against the file itself, below --sysroot."""

from __future__ import annotations

import os

from .kinds import Kind
from .sysroot import MOST_OF_NOTES, NotUsable, build_id_in, first_difference, objection, why_no_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .evidence import Evidence
    from .rules import Rules
    from .sysroot import MappedFile

    # Gives the core's bytes at an offset, of a length.
    Peek: TypeAlias = Callable[[int, int], bytes]

# Files that were not used and are named one by one.
MOST_NAMED = 3


class Copy:
    """What the file below --sysroot shows of one mapping.

    ``reason`` says why it was not used, or is None. ``differs`` is where the mapping differs first, in bytes from its
    begin, or None; ``same`` tells whether it is the very file that was mapped, by build-id or inode; ``first`` are its
    first four bytes, if the core's were not to be had.
    """

    __slots__ = ("differs", "executable", "first", "reason", "same")

    def __init__(self, reason: str | None) -> None:
        """Hold the reason; the rest is found out."""
        self.reason = reason
        self.differs: int | None = None
        self.executable = self.same = False
        self.first: bytes | None = None


def compare(evidence: Evidence, rules: Rules, *, peek: Peek | None, dumped_ns: int | None) -> None:
    """Fill ``evidence.copies`` for every mapping whose kind a file could settle.

    ``peek`` reads the core's payload by its offset in the core, or is None where it has passed; ``dumped_ns`` is when
    the core was written, in nanoseconds since the epoch.
    """
    if evidence.sysroot is None:
        return
    evidence.copies, told = {}, []
    mappings = rules.mappings
    groups: dict[bytes, list[int]] = {}
    for m in range(len(mappings)):
        path = mappings.path(m)
        if path is not None and why_no_file(path) is None and mappings.present(m):
            left = rules.proven(m)
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
            _compare_file(evidence, rules, file, group, heads.get(path), peek=peek, dumped_ns=dumped_ns, here=here)
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
        told.append(f"{len(refused) - MOST_NAMED} more files below --sysroot were not used")
    if peek is None and groups:
        told.append("the payload of a pipe has passed before it can be held against files")
    evidence.told_of_copies = told


def _compare_file(
    evidence: Evidence,
    rules: Rules,
    file: MappedFile,
    group: list[int],
    head: int | None,
    *,
    peek: Peek | None,
    dumped_ns: int | None,
    here: bool,
) -> None:
    mappings = rules.mappings
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
    same = expected is not None or (build_id is not None and build_id == file.build_id())
    for m in group:
        copy = evidence.copies[m] = Copy(reason)
        if reason is not None:
            continue
        copy.same = same
        copy.executable = bool(file.mode & 0o111)
        copy.first = file.read(0, 4)
        if peek is not None:
            at, start = offset_of[mappings.phdr[m]], mappings.file_offset(m) or 0
            copy.differs = first_difference(peek, at, file, start, mappings.present(m), mappings.page_size)
