"""The filter and the limits that a process has: ``coredump_filter`` and ``limits`` in its folder of /proc."""

from __future__ import annotations

from corefilt.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.procfs.pid import ProcFolder

FILE = "coredump_filter"


def read_filter(folder: ProcFolder) -> int:
    """The filter that is in force. Raises ProcessError, also for what has no memory of its own."""
    text = folder.read(FILE).strip()
    if not text:
        raise ProcessError(f"{folder.name} has no memory: it ended, or it is a kernel thread")
    try:
        # Eight hex digits without 0x (proc_coredump_filter_read in fs/proc/base.c, Linux 6.18).
        return int(text, 16)
    except ValueError:
        raise ProcessError(f"{folder.name}: its {FILE} is {text[:40]!r}, which is not a number") from None


def set_filter(folder: ProcFolder, wanted: int) -> tuple[int, int]:
    """Set the filter; returns what it was, and what the kernel made of it: bits that it does not know are dropped.

    Raises ProcessError, also where somebody else has set another one at the same time.
    """
    before = read_filter(folder)
    folder.write(FILE, b"%#x\n" % wanted)
    after = read_filter(folder)
    if after & ~wanted:
        raise ProcessError(
            f"{folder.name}: its filter was set to {wanted:#x} and reads {after:#x}",
            "another process sets it too",
        )
    return before, after


def read_limits(folder: ProcFolder) -> dict[str, tuple[int | None, int | None]]:
    """Soft and hard limits by the names that the kernel gives them, like ``Max core file size``; None is unlimited.

    Raises ProcessError.
    """
    limits: dict[str, tuple[int | None, int | None]] = {}
    for line in folder.read("limits").decode("ascii", "replace").splitlines()[1:]:
        # "%-25s %-20s %-20s %-10s" (proc_pid_limits in fs/proc/base.c).
        soft, hard = (None if word == "unlimited" else int(word) for word in line[26:67].split())
        limits[line[:25].strip()] = soft, hard
    return limits
