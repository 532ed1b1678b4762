"""xxh3_128 of every segment of a core."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

from xxhash import xxh3_128

from corefilt.api import local_copy, name_of_file
from corefilt.sizes import show_size
from corefilt.verify.guard import Passed, guarded
from corefilt.verify.plain import open_plain
from corefilt.verify.tables import Tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.verify.files import MappedCore
    from corefilt.verify.tables import Segment

# What stands for holes: small enough to stay in a second-level cache.
_ZEROS = bytes(1 << 18)


class Digest:
    """One segment: its number, program header ``header``, ``bytes`` that were hashed and their ``xxh3_128`` in hex.

    ``missing`` are the bytes that p_filesz claims besides.
    """

    __slots__ = ("bytes", "header", "missing", "segment", "xxh3_128")

    def __init__(self, segment: int, header: Segment, there: int, xxh3_128: str) -> None:
        self.segment, self.header, self.bytes, self.xxh3_128 = segment, header, there, xxh3_128
        self.missing = header.p_filesz - there

    def as_dict(self) -> dict[str, object]:
        """The record as JSON: addresses are hex strings, sizes in bytes."""
        header = self.header
        p_type = header.p_type if isinstance(header.p_type, str) else f"{header.p_type:#x}"
        return {
            "segment": self.segment,
            "type": p_type,
            "start": f"{header.p_vaddr:#x}",
            "end": f"{header.p_vaddr + header.p_memsz:#x}",
            "flags": header.flags,
            "bytes": self.bytes,
            "missing": self.missing,
            "xxh3_128": self.xxh3_128,
        }

    def __repr__(self) -> str:
        return f"<corefilt.verify.Digest of segment {self.segment}: {show_size(self.bytes)}, {self.xxh3_128}>"


class Digests(list[Digest]):
    """The digests of a core's segments, in the order of the program headers.

    ``damage`` says what is wrong with the compressed stream that held the core; None for nothing.
    """

    damage: str | None = None


def digest(core: str | os.PathLike[str], *, progress: Callable[[int, int | None], object] | None = None) -> Digests:
    """Return the digests of all segments of a file or URL, in the order of the program headers; holes count as zeros.

    ``progress`` is called, from a thread, with the bytes that were hashed and the total. Compressed files and URLs
    are copied to a temporary file. Raises InputError.
    """
    passed, name = Passed(), name_of_file(core)
    with ExitStack() as stack:
        path = local_copy(name, stack)
        return guarded(partial(_digest, path, name, passed), name, passed=passed, progress=progress)


def _digest(path: str, name: str, passed: Passed) -> Digests:
    with open_plain(path, name) as file:
        tables = Tables(file)
        passed.expect(sum(tables.present(i) for i in range(len(tables.segments))))
        # Equal ranges, of which most are empty, are hashed once.
        known: dict[tuple[int, int], str] = {}
        found = Digests()
        found.damage = file.damage
        for i, segment in enumerate(tables.segments):
            there = tables.present(i)
            place = segment.p_offset if there else 0, there
            if place not in known:
                known[place] = _hash(file, *place, passed)
            else:
                passed.add(there)
            found.append(Digest(i, segment, there, known[place]))
        file.check_unchanged()
        return found


def _hash(file: MappedCore, offset: int, length: int, passed: Passed) -> str:
    hasher = xxh3_128()
    at, end = offset, offset + length
    for low, high in file.data(offset, end):
        _update_zeros(hasher, low - at)
        with file.window(low, high - low) as view:
            hasher.update(view)
        passed.add(high - at)
        at = high
    _update_zeros(hasher, end - at)
    passed.add(end - at)
    return hasher.hexdigest()


def _update_zeros(hasher: xxh3_128, count: int) -> None:
    while count > 0:
        hasher.update(_ZEROS[: min(count, len(_ZEROS))])
        count -= len(_ZEROS)
