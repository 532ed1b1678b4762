"""Finds equal blocks of shared memory in a group of cores.

Processes that are attached to one segment have it at addresses of their own, so a block is known by the mapped file
and its place in that file, both from NT_FILE. Equal ones are found by xxh3_128; whoever takes one of them away compares
byte for byte before.
"""

from __future__ import annotations

import os
from array import array
from functools import partial
from typing import NamedTuple

from xxhash import xxh3_128_digest

from corefilt.corefile.corefile import open_core
from corefilt.errors import CorefiltError
from corefilt.filterbits import Bit
from corefilt.kinds import Kind
from corefilt.plan.layout import tagged_loads
from corefilt.plan.plan import KeepPlan
from corefilt.verify.files import WINDOW, MappedCore
from corefilt.verify.guard import guarded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corefilt.corefile.corefile import CoreFile

# Larger blocks match less often, as a live segment changes between dumps; smaller ones make more program headers.
BLOCK = 128 << 10
SHARED = Kind.SHARED_ANON | Kind.SHARED_FILE | Kind.SHARED_HUGE | Kind.SHARED_DAX


class SharedRange(NamedTuple):
    """What a core has of a mapping of a shared kind: its file, where it begins there, and the bytes' place in the core.

    ``phdr`` is the mapping's program header; sizes in bytes.
    """

    phdr: int
    path: bytes
    file_offset: int
    offset: int
    length: int

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Every whole block: its number in the mapped file, and its offset in the core."""
        first = -(-self.file_offset // BLOCK)
        last = (self.file_offset + self.length) // BLOCK
        for number in range(first, last):
            yield number, self.offset + number * BLOCK - self.file_offset


def shared_ranges(core: CoreFile) -> Iterator[SharedRange]:
    """The shared mappings of a core that it has bytes of, but for those with memory tags."""
    tagged = set(tagged_loads(core.table).values())
    for m, finding in enumerate(KeepPlan.of(core, Bit.ALL).findings):
        i = core.maps.phdr[m]
        path, file_offset = core.maps.path(m), core.maps.file_offset(m)
        if finding.likely & SHARED and core.present[i] and i not in tagged and path is not None:
            yield SharedRange(i, path, file_offset or 0, core.table.p_offset[i], core.present[i])


class Member:
    """One core of a group: ``offsets`` of its blocks that another one holds, and by ``numbers`` which those are.

    ``size`` is the core's length in bytes; ``why_not`` says why it was left alone, or is empty.
    """

    __slots__ = ("numbers", "offsets", "path", "size", "why_not")

    def __init__(self, path: str) -> None:
        self.path, self.size, self.why_not = path, 0, ""
        self.offsets, self.numbers = array("Q"), array("Q")


class SharedBlocks:
    """What was found: the ``members``, and the blocks that are held: whose (a member's index), where, and xxh3_128."""

    __slots__ = ("digests", "holders", "members", "places")

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.holders, self.places = array("I"), array("Q")
        self.digests: list[bytes] = []


def find_equal(paths: Sequence[str]) -> SharedBlocks:
    """Look through the cores, which a child process does: the first to have a block holds it.

    Takes some 250 bytes of memory for every block that is different from all before it.
    """
    return guarded(partial(_find, paths), "one of the cores")


def _find(paths: Sequence[str]) -> SharedBlocks:
    return _Search(paths).run()


class _Search:
    """One go through all cores, one after the other."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.group = SharedBlocks([Member(path) for path in paths])
        # The first place of every block that is different from all before it, and its number once it is needed.
        self.known: dict[bytes, int] = {}
        self.first_of, self.first_at = array("I"), array("Q")
        self.number: dict[int, int] = {}
        self.files: dict[bytes, int] = {}

    def run(self) -> SharedBlocks:
        for k, member in enumerate(self.group.members):
            try:
                self._look_through(k, member)
            except CorefiltError as error:
                member.why_not = str(error)
        return self.group

    def _look_through(self, k: int, member: Member) -> None:
        with open_core(member.path) as core:
            member.why_not = objection(core)
            if member.why_not:
                return
            ranges = list(shared_ranges(core))
        with MappedCore(member.path) as file:
            member.size = file.size
            for there in ranges:
                self._look_at(k, member, file, there)
            file.check_unchanged()

    def _look_at(self, k: int, member: Member, file: MappedCore, there: SharedRange) -> None:
        segment = self.files.setdefault(there.path, len(self.files)).to_bytes(4, "little")
        blocks = list(there.blocks())
        if not blocks:
            return
        first, reached = blocks[0][1], 0
        for low, high in file.data(first, blocks[-1][1] + BLOCK):
            # Whole blocks around the data, of which a window holds a whole number.
            begin, end = max((low - first) // BLOCK, reached), -(-(high - first) // BLOCK)
            reached = max(reached, end)
            for at in range(begin, end, WINDOW // BLOCK):
                count = min(WINDOW // BLOCK, end - at)
                with file.window(first + at * BLOCK, count * BLOCK) as view:
                    for n in range(count):
                        digest = xxh3_128_digest(view[n * BLOCK : (n + 1) * BLOCK])
                        number, offset = blocks[at + n]
                        self._take_note(k, member, digest, segment + number.to_bytes(8, "little"), offset)

    def _take_note(self, k: int, member: Member, digest: bytes, place: bytes, offset: int) -> None:
        found = self.known.get(digest + place)
        if found is None:
            self.known[digest + place] = len(self.first_of)
            self.first_of.append(k)
            self.first_at.append(offset)
            return
        if (self.first_of[found], self.first_at[found]) == (k, offset):
            return
        if found not in self.number:
            self.number[found] = len(self.group.digests)
            self.group.holders.append(self.first_of[found])
            self.group.places.append(self.first_at[found])
            self.group.digests.append(digest)
        member.offsets.append(offset)
        member.numbers.append(self.number[found])


def objection(core: CoreFile) -> str:
    """What stands against taking blocks out of a core, or sharing them; empty for nothing."""
    if core.damaged:
        return f"is damaged: {core.warnings[0]}"
    if core.notes.shared is not None:
        return "is already reduced by --shared-once"
    names = os.fstat(core.source.fd).st_nlink
    return f"has {names} hard links" if names > 1 else ""
