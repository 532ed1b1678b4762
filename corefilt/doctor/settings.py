"""What the kernel is set to do with cores: the sysctls that fs/coredump.c reads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FILE, PIPE, SOCKET = "file", "pipe", "socket"
_WAYS = {b"|": PIPE, b"@": SOCKET}


def read_sysctl(name: str) -> bytes | None:
    """A sysctl by its path below /proc/sys, without its newline; None where the kernel has none of that name."""
    try:
        with open(f"/proc/sys/{name}", "rb") as file:
            return file.read().removesuffix(b"\n")
    except OSError:
        return None


class Settings:
    """The sysctls: ``pattern`` (None: the kernel has none), ``uses_pid``, ``pipe_limit`` and ``suid_dumpable``."""

    __slots__ = ("pattern", "pipe_limit", "suid_dumpable", "uses_pid")

    def __init__(self, read: Callable[[str], bytes | None] = read_sysctl) -> None:
        self.pattern = read("kernel/core_pattern")
        self.uses_pid = (read("kernel/core_uses_pid") or b"0") != b"0"
        self.pipe_limit = int(read("kernel/core_pipe_limit") or 0)
        self.suid_dumpable = int(read("fs/suid_dumpable") or 0)

    @property
    def way(self) -> str:
        """Where cores go: into a FILE, a PIPE or a SOCKET."""
        return _WAYS.get((self.pattern or b"")[:1], FILE)

    @property
    def leads_somewhere_safe(self) -> bool:
        """Whether cores of dump mode 2 are written: through a pipe or a socket, or into a file by an absolute path."""
        return self.way != FILE or (self.pattern or b"")[:1] == b"/"
