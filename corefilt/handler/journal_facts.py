"""What ``coredumpctl info`` shows besides: command line, control group, unit, session, and the map.

Read by the child once it has no rights, on threads that are left behind where they take too long: a command line is
read from the memory of the process, which can lie on a server that does not answer.
"""

from __future__ import annotations

import re

from corefilt.handler.process_evidence import read_within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from corefilt.handler.crashed_process import Victim

# All of it takes less than a millisecond otherwise.
BUDGET = 1.0
MOST_OF_A_COMMAND = 64 << 10
MOST_OF_A_GROUP = 64 << 10
# 65530 mappings, the usual most, take 6 MiB; the usual program's take 10 KiB.
MOST_OF_A_MAP = 1 << 20
# A name as systemd lets a unit have it (unit_name_is_valid), behind what cg_escape puts before it.
_NAME = rb"_?([A-Za-z0-9:_.\\@-]{1,249}\.(?:service|scope|socket|mount|swap))"
_UNIT = re.compile(_NAME)
_SLICE = re.compile(rb"[A-Za-z0-9:_.\\@-]{1,250}\.slice")
_USER_SLICE = re.compile(rb"user-([0-9]{1,10})\.slice")
_MANAGER = re.compile(rb"_?user@[0-9]{1,10}\.service")
_SESSION = re.compile(rb"_?session-([A-Za-z0-9]{1,32})\.scope")


def gather(victim: Victim, *, with_map: bool) -> tuple[dict[str, bytes], list[str]]:
    """Values by the names of ``statement.FIELDS``, and what could not be read."""
    found: dict[str, bytes] = {}
    notices = []
    command = _read(victim.cmdline, MOST_OF_A_COMMAND)
    if command:
        found["CMDLINE"] = command.rstrip(b"\0").replace(b"\0", b" ")
    elif command is None and victim.cmdline >= 0:
        notices.append(f"its command line was not read within {BUDGET:g} s")
    group = group_of(_read(victim.cgroup, MOST_OF_A_GROUP) or b"")
    if group is not None:
        found["CGROUP"] = group
        found.update(units_of(group))
    if with_map and victim.maps >= 0:
        table = _read(victim.maps, MOST_OF_A_MAP)
        if table:
            found["PROC_MAPS"] = table
        else:
            notices.append("its map is not in the journal: it is longer than 1 MiB, or was not read within 1 s")
    return found, notices


def group_of(text: bytes) -> bytes | None:
    """The control group that systemd goes by: of the second version, else of its own hierarchy of the first."""
    for beginning in (rb"0::", rb"[0-9]+:name=systemd:"):
        line = re.search(rb"^" + beginning + rb"(/[^\n]*)$", text, re.MULTILINE)
        if line is not None:
            return line[1]
    return None


def units_of(group: bytes) -> Mapping[str, bytes]:
    """Unit, slice, session and owner, as systemd tells them by the names of control groups (cgroup-util.c)."""
    parts = [part for part in group.split(b"/") if part]
    found: dict[str, bytes] = {}
    slices, rest = _behind_slices(parts)
    found["SLICE"] = slices[-1] if slices else b"-.slice"
    owner = next((match for part in slices if (match := _USER_SLICE.fullmatch(part))), None)
    if owner is not None:
        found["OWNER_UID"] = owner[1]
    unit = _UNIT.fullmatch(rest[0]) if rest else None
    if unit is None:
        return {} if not slices else found
    found["UNIT"] = unit[1]
    session = _SESSION.fullmatch(rest[0])
    if session is not None:
        found["SESSION"] = session[1]
    if _MANAGER.fullmatch(rest[0]):
        _, inner = _behind_slices(rest[1:])
        user_unit = _UNIT.fullmatch(inner[0]) if inner else None
        if user_unit is not None:
            found["USER_UNIT"] = user_unit[1]
    return found


def _behind_slices(parts: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    count = 0
    while count < len(parts) and _SLICE.fullmatch(parts[count]):
        count += 1
    return parts[:count], parts[count:]


def _read(fd: int, most: int) -> bytes | None:
    """A short text from its beginning; None where it is longer than ``most``, takes too long or cannot be read."""
    return read_within(fd, BUDGET, most, at_start=True) if fd >= 0 else None
