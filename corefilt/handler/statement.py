"""What the child states before it reads a byte of the core: the layers that are missing, and what a journal shows.

It is written into a file in memory, of a size that cannot change, and sealed: whatever reads the core later, no byte
of it can be changed any more. The parent reads lengths and passes on what they measure.
"""

from __future__ import annotations

import fcntl
import os
import struct

from corefilt.handler.sandbox import LAYERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SIZE = 2 << 20
# Fields of the journal, without COREDUMP_, by their index.
FIELDS = ("CMDLINE", "CGROUP", "UNIT", "USER_UNIT", "SLICE", "SESSION", "OWNER_UID", "PROC_MAPS")
_HEAD = struct.Struct("<HH")
_ENTRY = struct.Struct("<BI")


class Statement:
    """``missing`` are names of LAYERS, ``fields`` values by the names of FIELDS; ``made`` tells that it was stated."""

    __slots__ = ("fields", "made", "missing")

    def __init__(self) -> None:
        self.made = False
        self.missing: list[str] = []
        self.fields: dict[str, bytes] = {}


def new_file() -> int:
    """An empty file in memory that neither grows nor shrinks. Raises OSError."""
    fd = os.memfd_create("corefilt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def state(fd: int, missing: Mapping[str, str], fields: Mapping[str, bytes]) -> list[str]:
    """Write and seal it; returns the names of fields that there was no room for. Raises OSError."""
    mask = sum(1 << LAYERS.index(name) for name in missing)
    made, left_out = bytearray(_HEAD.size), []
    count = 0
    for index, name in enumerate(FIELDS):
        value = fields.get(name)
        if value is None:
            continue
        if len(made) + _ENTRY.size + len(value) > SIZE:
            left_out.append(name)
            continue
        made += _ENTRY.pack(index, len(value)) + value
        count += 1
    _HEAD.pack_into(made, 0, mask, count)
    view = memoryview(made)
    at = 0
    while at < len(view):
        at += os.pwrite(fd, view[at:], at)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    return left_out


def read_statement(fd: int) -> Statement:
    """What was stated and sealed; nothing where it was not, or contradicts itself."""
    found = Statement()
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE:
        return found
    mask, count = _HEAD.unpack(os.pread(fd, _HEAD.size, 0))
    at = _HEAD.size
    for _ in range(min(count, len(FIELDS))):
        index, length = _ENTRY.unpack(os.pread(fd, _ENTRY.size, at).ljust(_ENTRY.size, b"\0"))
        at += _ENTRY.size
        if index >= len(FIELDS) or length > SIZE - at:
            return Statement()
        found.fields[FIELDS[index]] = os.pread(fd, length, at)
        at += length
    found.missing = [name for index, name in enumerate(LAYERS) if mask >> index & 1]
    found.made = True
    return found
