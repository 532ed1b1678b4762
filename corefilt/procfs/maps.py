"""``/proc/PID/maps`` and ``smaps``, live or saved: what the kernel says of every mapping of a process.

Formats by ``show_map_vma`` and ``show_smap`` in fs/proc/task_mmu.c of Linux 6.18, and ``nommu_vma_show`` in
task_nommu.c; fields that an older kernel does
not write are unknown here, not zero.
"""

from __future__ import annotations

import re
from array import array

from corefilt.errors import EvidenceError

_LINE = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][spS]) ([0-9a-f]{1,16}) ([0-9a-f]{1,8}):([0-9a-f]{1,8}) "
    rb"([0-9]{1,20})(?:[ \t]+([^\n]*)|)$",
    re.MULTILINE,
)
_ATTRIBUTES = re.compile(rb"(?:\n[A-Za-z_]+:[^\n]*(?=\n))*\n*")
_WORTH = re.compile(rb"\n(VmFlags|Anonymous|Swap|SwapPss|KernelPageSize):[ \t]*([^\n]*)")
# What takes room: Rss does not count pages of hugetlbfs, which stand by themselves (smaps_hugetlb_range).
_RESIDENT = re.compile(rb"\n(?:(Rss)|Swap|Shared_Hugetlb|Private_Hugetlb):[ \t]*([0-9]{1,20}) kB")

# What stands in brackets and is no mapping that the kernel made of itself (show_map_vma); older kernels also name
# threads' stacks.
_MEMORY = (b"[heap]", b"[stack]", b"[stack:", b"[anon:", b"[anon_shmem:")


class Nature:
    """What a map says of a mapping's kind; like mappings share one. All but the first three are None if not said.

    ``shared`` is the letter ``s`` (VM_MAYSHARE) or, without an MMU and for VM_SHARED besides, ``S``, which sets
    ``written_through``; ``what`` is "file", "memory" (no file) or "special", ``perms`` the letters ``rwx``. ``flags``
    are the VmFlags, ``copied`` whether pages of its own are counted (Anonymous, SwapPss), ``swapped`` whether only Swap
    counts some, ``page_size`` is in bytes.
    """

    __slots__ = ("copied", "flags", "name", "page_size", "perms", "shared", "swapped", "what", "written_through")

    def __init__(
        self,
        perms: bytes,
        what: str,
        name: bytes,
        flags: frozenset[bytes] | None,
        copied: bool | None,
        swapped: bool | None,
        page_size: int | None,
    ) -> None:
        """Hold them; ``name`` is that of a special mapping."""
        self.shared, self.perms = perms[3:] in (b"s", b"S"), perms[:3]
        self.written_through = perms[3:] == b"S"
        self.what, self.name = what, name
        self.flags, self.copied, self.swapped, self.page_size = flags, copied, swapped, page_size


class Areas:
    """All mappings of a map in its order; addresses and offsets in bytes, ``device`` as (major, minor).

    ``resident`` are the bytes of it that are in memory or in swap, -1 where the map does not tell; it is empty unless
    that was asked for.
    """

    __slots__ = ("device", "end", "inode", "nature", "offset", "path", "resident", "start")

    def __init__(self) -> None:
        self.start, self.end, self.offset, self.inode = (array("Q") for _ in range(4))
        self.resident = array("q")
        self.device: list[tuple[int, int]] = []
        self.path: list[bytes | None] = []
        self.nature: list[Nature] = []

    def __len__(self) -> int:
        return len(self.start)


def parse(text: bytes, name: str, *, most: int = 1 << 24, sizes: bool = False) -> Areas:
    """Read a maps or smaps file of no more than ``most`` mappings; ``name`` is for messages.

    With ``sizes`` it tells what is resident, which takes a third longer. Raises EvidenceError with the line that is
    wrong.
    """
    areas = Areas()
    natures: dict[tuple[object, ...], Nature] = {}
    devices: dict[tuple[int, int], tuple[int, int]] = {}
    paths: dict[bytes, bytes] = {}
    reached = 0
    line = _LINE.match(text)
    while line is not None:
        # Attributes follow to the next line that begins with an address.
        attributes = _ATTRIBUTES.match(text, line.end())
        behind = attributes.end() if attributes is not None else line.end()
        start, end = int(line[1], 16), int(line[2], 16)
        if len(areas) == most:
            raise EvidenceError(f"{name}: has more than {most} mappings, many more than the core has")
        if start >= end:
            raise _bad(text, line.start(), name, "its addresses are not a range")
        path = (line[8] or b"").rstrip(b"\r") or None
        if path is not None and path[:1] == b"[" and path[-1:] != b"]" and line.end() == len(text):
            break
        key = (line[3], *_what(path, int(line[7])), *_details(text[line.end() : behind]))
        if key not in natures:
            natures[key] = Nature(*key)
        device = int(line[5], 16), int(line[6], 16)
        areas.start.append(start)
        areas.end.append(end)
        areas.offset.append(int(line[4], 16))
        areas.inode.append(min(int(line[7]), (1 << 64) - 1))
        if sizes:
            areas.resident.append(_resident(text, line.end(), behind))
        areas.device.append(devices.setdefault(device, device))
        areas.path.append(paths.setdefault(path, path) if path is not None else None)
        areas.nature.append(natures[key])
        reached = behind
        line = _LINE.match(text, reached)
    if text[reached:].strip():
        raise _bad(text, reached, name, "is not a line of maps or smaps")
    if not areas:
        raise EvidenceError(f"{name}: is empty", "a saved /proc/PID/maps or smaps has a line for every mapping")
    return areas


def _what(path: bytes | None, inode: int) -> tuple[str, bytes]:
    if path is None:
        return ("file" if inode else "memory"), b""
    if inode or not path.startswith(b"["):
        return "file", b""
    return ("memory", b"") if path.startswith(_MEMORY) else ("special", path)


def _details(attributes: bytes) -> tuple[frozenset[bytes] | None, bool | None, bool | None, int | None]:
    """VmFlags, whether pages were copied, whether only Swap says so, and the page size in bytes."""
    if len(attributes) < 3:
        return None, None, None, None
    found = dict(_WORTH.findall(attributes))
    flags = frozenset(found[b"VmFlags"].split()) if b"VmFlags" in found else None
    anonymous, swap_pss, swap = (_kilobytes(found.get(key)) for key in (b"Anonymous", b"SwapPss", b"Swap"))
    page = _kilobytes(found.get(b"KernelPageSize"))
    copied = None if anonymous is None and swap_pss is None else bool(anonymous or swap_pss)
    # Swap also counts what shared memory has swapped out, which says nothing of this mapping (smap_gather_stats).
    swapped = None if swap is None else bool(swap and swap_pss is None)
    return flags, copied, swapped, page << 10 if page is not None else None


def _resident(text: bytes, start: int, end: int) -> int:
    """The bytes that are in memory or in swap, by the attributes that stand there; -1 where they do not tell."""
    found = _RESIDENT.findall(text, start, end)
    if not any(rss for rss, _ in found):
        return -1
    # A saved map can claim anything.
    return min(sum(int(size) for _, size in found) << 10, (1 << 63) - 1)


def _kilobytes(value: bytes | None) -> int | None:
    digits = value.split(b" ", 1)[0] if value is not None else b""
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


def _bad(text: bytes, at: int, name: str, what: str) -> EvidenceError:
    at += len(text[at:]) - len(text[at:].lstrip(b"\n"))
    number = text.count(b"\n", 0, at) + 1
    cut = text.find(b"\n", at) < 0
    shown = text[at : at + 60].split(b"\n")[0].decode("utf-8", "backslashreplace")
    return EvidenceError(f"{name}: line {number} {'is cut off' if cut else what}: {shown!r}")
