"""Writes /proc/PID/maps and smaps as the kernel does (show_map_vma and show_smap of Linux 6.18)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import corefilt

ZERO = "/dev/zero (deleted)"


@dataclass(frozen=True)
class Area:
    """One mapping; ``flags`` None is an smaps without VmFlags, other fields that are None are not written."""

    start: int
    end: int
    perms: str = "rw-p"
    path: str | bytes = ""
    offset: int = 0
    device: tuple[int, int] = (0, 0)
    inode: int = 0
    flags: str | None = "rd wr mr mw me ac sd"
    anonymous: int | None = 0
    swap: int | None = 0
    swap_pss: int | None = 0
    page_size: int | None = 4096

    def line(self) -> bytes:
        """Return the line of maps, padded as ``show_vma_header_prefix`` pads it on 64 bits."""
        head = (
            f"{self.start:08x}-{self.end:08x} {self.perms} {self.offset:08x} "
            f"{self.device[0]:02x}:{self.device[1]:02x} {self.inode} "
        )
        path = self.path if isinstance(self.path, bytes) else self.path.encode()
        return (head.ljust(73) if path else head).encode() + path.replace(b"\n", b"\\012") + b"\n"

    def details(self) -> bytes:
        """Return what smaps adds; sizes are in kB."""
        size = (self.end - self.start) >> 10
        page = self.page_size >> 10 if self.page_size is not None else None
        fields = {
            "Size": size, "KernelPageSize": page, "MMUPageSize": page, "Rss": size, "Pss": size, "Pss_Dirty": 0,
            "Shared_Clean": 0, "Shared_Dirty": 0, "Private_Clean": size, "Private_Dirty": 0, "Referenced": size,
            "Anonymous": self.anonymous, "KSM": 0, "LazyFree": 0, "AnonHugePages": 0, "ShmemPmdMapped": 0,
            "FilePmdMapped": 0, "Shared_Hugetlb": 0, "Private_Hugetlb": 0, "Swap": self.swap,
            "SwapPss": self.swap_pss, "Locked": 0,
        }  # fmt: skip
        lines = [f"{name + ':':15} {value:8} kB\n" for name, value in fields.items() if value is not None]
        lines.append("THPeligible:           0\n")
        if self.flags is not None:
            lines.append(f"VmFlags: {''.join(flag + ' ' for flag in self.flags.split())}\n")
        return "".join(lines).encode()


def maps_text(areas: Iterable[Area]) -> bytes:
    """Return maps."""
    return b"".join(area.line() for area in areas)


def smaps_text(areas: Iterable[Area]) -> bytes:
    """Return smaps."""
    return b"".join(area.line() + area.details() for area in areas)


def saved(folder: Path, areas: Iterable[Area], *, detailed: bool = False, name: str = "saved-map") -> str:
    """Write a map into a folder, where nothing looks for it by its name, and return its path."""
    path = folder / name
    path.write_bytes((smaps_text if detailed else maps_text)(areas))
    return str(path)


def map_of(core: Path, folder: Path, *, moved: int = 0, detailed: bool = False) -> str:
    """Write down a map of a core's mappings, or of those of a process that is none of its."""
    with corefilt.open(core) as it:
        areas = [
            Area(
                each.start + moved,
                each.end + moved,
                f"{each.flags}p",
                each.path or "",
                each.file_offset or 0,
                (8, 1),
                7,
            )
            if each.path
            else Area(each.start + moved, each.end + moved, f"{each.flags}p", "[vdso]" if "x" in each.flags else "")
            for each in it.mappings
            if each.start >> 63 == 0
        ]
    return saved(folder, areas, detailed=detailed)
