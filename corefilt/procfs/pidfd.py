"""What the kernel tells of a process by its pidfd: who it is, whether it is dumping core, and whether it has ended."""

from __future__ import annotations

# The modules signal and typing take 5 ms to load, and a crash waits meanwhile.
import _signal as signal  # type: ignore[import-not-found]
import fcntl
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

# include/uapi/asm-generic/socket.h; the module socket takes 7 ms to load.
_SOL_SOCKET, _SO_PEERPIDFD = 1, 77
# include/uapi/linux/pidfd.h of Linux 6.16: _IOWR(0xff, 11, struct pidfd_info) for a structure of 72 bytes.
_PIDFD_GET_INFO = 0xC048FF0B
_INFO = struct.Struct("=QQ11IiII")
_INFO_PID, _INFO_CREDS, _INFO_COREDUMP = 1, 2, 16
_COREDUMPED, _COREDUMP_USER, _COREDUMP_ROOT = 1, 4, 8


class Dumping:
    """A process that is dumping core: numbers of the first namespaces, ``uid`` and ``gid`` the real ones.

    ``dumpable`` is 1 for a core that its user may have, 2 for one of root's alone.
    """

    __slots__ = ("dumpable", "gid", "parent", "pid", "uid")

    def __init__(self, pid: int, parent: int, uid: int, gid: int, dumpable: int) -> None:
        self.pid, self.parent, self.uid, self.gid, self.dumpable = pid, parent, uid, gid, dumpable


def peer_pidfd(connection: socket.socket) -> int:
    """A pidfd of the process that made a connection, which is closed over exec. Raises OSError."""
    return connection.getsockopt(_SOL_SOCKET, _SO_PEERPIDFD)


def dumping(pidfd: int) -> Dumping | None:
    """The process, if it is dumping core; None if it does not, and for a kernel before 6.16. Raises OSError."""
    raw = bytearray(_INFO.size)
    struct.pack_into("=Q", raw, 0, _INFO_PID | _INFO_CREDS | _INFO_COREDUMP)
    fcntl.ioctl(pidfd, _PIDFD_GET_INFO, raw, True)
    known, _, pid, _, parent, uid, gid, *_, coredump, _ = _INFO.unpack(raw)
    if not known & _INFO_COREDUMP or not coredump & _COREDUMPED:
        return None
    # What is not said to be the user's is root's.
    return Dumping(pid, parent, uid, gid, 1 if coredump & _COREDUMP_USER else 2)


def is_process(pidfd: int, pid: int) -> bool:
    """Whether a pidfd is of the process that has this number, and it was not waited for yet."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            if b"\nPid:\t%d\n" % pid not in file.read():
                return False
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    return True


def has_ended(pidfd: int, seconds: float) -> bool:
    """Whether all threads of a process end within so many seconds."""
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def kill(pidfd: int) -> None:
    """Kill a process; one that has ended is as good. Raises OSError where that is not allowed."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def start_time(folder: int) -> int | None:
    """When the process of an open ``/proc/PID`` started, in clock ticks since boot; None where it is gone."""
    try:
        fd = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        # proc_pid_stat(5): field 22; the name is the second, and its last parenthesis is the line's last one.
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)
    return int(fields[22 - 3]) if len(fields) > 22 - 3 and fields[22 - 3].isdigit() else None
