"""What the kernel tells of a process by its pidfd: who it is, and whether it is dumping core."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import NamedTuple

# include/uapi/asm-generic/socket.h
_SO_PEERPIDFD = 77
# include/uapi/linux/pidfd.h of Linux 6.16: _IOWR(0xff, 11, struct pidfd_info) for a structure of 72 bytes.
_PIDFD_GET_INFO = 0xC048FF0B
_INFO = struct.Struct("=QQ11IiII")
_INFO_PID, _INFO_CREDS, _INFO_COREDUMP = 1, 2, 16
_COREDUMPED, _COREDUMP_USER, _COREDUMP_ROOT = 1, 4, 8


class Dumping(NamedTuple):
    """A process that is dumping core: numbers of the first namespaces, ``uid`` and ``gid`` the real ones.

    ``dumpable`` is 1 for a core that its user may have, 2 for one of root's alone.
    """

    pid: int
    parent: int
    uid: int
    gid: int
    dumpable: int


def peer_pidfd(connection: socket.socket) -> int:
    """A pidfd of the process that made a connection, which is closed over exec. Raises OSError."""
    return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)


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
