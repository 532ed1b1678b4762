"""Who may read a stored core beside root: the user whose process it was, where systemd-coredump would let him."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim

SUID_DUMPABLE = "/proc/sys/fs/suid_dumpable"
SUID_DUMP_USER = 1
# Whose cores stay root's: system users, systemd's greeters and dynamic users, nobody, and what is not a user
# (uid_is_system, uid_is_greeter, uid_is_dynamic and fix_acl in systemd 258).
_NOT_FOR = (range(1000), range(60578, 60706), range(61184, 65520), range(65534, 65536), range((1 << 32) - 1, 1 << 32))

# struct posix_acl_xattr_header and _entry (include/uapi/linux/posix_acl_xattr.h): tag, permissions, id.
_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_READ, _WRITE = 4, 2
_NO_ID = (1 << 32) - 1
ACL = "system.posix_acl_access"


def reader_of(crash: CrashInfo, victim: Victim) -> int | None:
    """The user who may read this core, or None.

    Dump mode 1 says that the process had no other rights than its user, unless suid_dumpable says it of all; what
    the process shows itself can only take the right away.
    """
    if crash.dumpable != SUID_DUMP_USER or not victim.plain or _suid_dumpable() == SUID_DUMP_USER:
        return None
    return None if any(crash.uid in users for users in _NOT_FOR) else crash.uid


def acl(uid: int) -> bytes:
    """The value of ACL that lets root write, and one user read."""
    entries = [
        (_USER_OBJ, _READ | _WRITE, _NO_ID),
        (_USER, _READ, uid),
        (_GROUP_OBJ, 0, _NO_ID),
        (_MASK, _READ, _NO_ID),
        (_OTHER, 0, _NO_ID),
    ]
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _suid_dumpable() -> int:
    try:
        with open(SUID_DUMPABLE, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return SUID_DUMP_USER
