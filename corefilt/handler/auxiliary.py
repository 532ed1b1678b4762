"""The auxiliary vector in ``/proc/PID/auxv``: what the kernel told a program of its rights when it was started."""

from __future__ import annotations

import struct

# elf.h
AT_NULL, AT_UID, AT_EUID, AT_GID, AT_EGID, AT_SECURE = 0, 11, 12, 13, 14, 23
_RIGHTS = (AT_UID, AT_EUID, AT_GID, AT_EGID, AT_SECURE)


class Auxiliary:
    """The entries that tell of rights; ``values`` is empty where one of them is missing, or is there twice.

    The kernel writes numbers, of the size that the program has; a process that changes them (PR_SET_MM_MAP) changes
    who may read its own core.
    """

    __slots__ = ("values",)

    def __init__(self, raw: bytes) -> None:
        self.values: dict[int, int] = next((found for form in "QI" if (found := _read(raw, form))), {})

    def is_plain(self, uid: int, gid: int) -> bool:
        """Whether a user's program had this user's rights and no others from its start.

        AT_SECURE tells of set-user-ID, set-group-ID and file capabilities. The ids are those in the program's own user
        namespace: where they are not those of the crash, that is not known.
        """
        return self.values == {AT_UID: uid, AT_EUID: uid, AT_GID: gid, AT_EGID: gid, AT_SECURE: 0}


def _read(raw: bytes, form: str) -> dict[int, int]:
    found: dict[int, int] = {}
    pair = struct.Struct(f"={form}{form}")
    for key, value in pair.iter_unpack(raw[: len(raw) // pair.size * pair.size]):
        if key == AT_NULL:
            break
        if key in found and key in _RIGHTS:
            return {}
        found[key] = value
    rights = {key: found[key] for key in _RIGHTS if key in found}
    return rights if len(rights) == len(_RIGHTS) else {}
