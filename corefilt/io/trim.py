"""Whether a file system tells its device which blocks it freed. It is looked up, never tried."""

from __future__ import annotations

import os

# File systems that name it among their mount options when they do. Others may do it without a word.
_TELL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2")


def discard_of(fd: int) -> str | None:
    """``on`` or ``off`` for the file system that a file lies on, or None where it cannot be told."""
    try:
        mount = _mount_of(fd)
    except OSError:
        return None
    if mount is None:
        return None
    kind, device, options = mount
    if kind not in _TELL:
        return None
    if not any(option.partition("=")[0] == "discard" for option in options):
        return "off"
    able = _device_discards(device)
    return None if able is None else "on" if able else "off"


def _mount_of(fd: int) -> tuple[str, str, list[str]] | None:
    """The file system's type, device and options, found by the mount's number: btrfs has no other key."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
        number = next((line.split()[1] for line in lines if line.startswith(b"mnt_id:")), None)
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines:
            if line.split(b" ", 1)[0] == number:
                # proc(5): optional fields end at a hyphen; behind it are type, source and the options of the whole.
                kind, device, options = os.fsdecode(line.partition(b" - ")[2]).split()[:3]
                return kind, device, options.split(",")
    return None


def _device_discards(device: str) -> bool | None:
    try:
        number = os.stat(device).st_rdev
        folder = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
        # A partition has its queue one folder up.
        place = next(
            (path for path in (f"{folder}/queue", f"{folder}/../queue") if os.path.exists(path)), f"{folder}/queue"
        )
        with open(f"{place}/discard_max_bytes", "rb") as file:
            return int(file.read() or b"") > 0
    except (OSError, ValueError):
        return None
