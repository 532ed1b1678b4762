"""Whether a process may be dumped at all: its dump mode, and what takes the right away.

The mode is 1 after an ordinary exec. What gains or gives up rights, and what may not be read, gets the value of
fs.suid_dumpable instead (begin_new_exec in fs/exec.c and commit_creds in kernel/cred.c, Linux 6.18): 0 leaves no core,
2 one for root in an absolute place, or through a pipe or a socket.
"""

from __future__ import annotations

import stat

from corefilt.doctor.row import NO, OK, UNKNOWN, Row
from corefilt.doctor.settings import Settings
from corefilt.doctor.subject import Subject

_REMEDY = (
    "prctl(PR_SET_DUMPABLE, 1) in the program; or fs.suid_dumpable = 2, with a pattern that begins with /, | or @, "
    "before the process starts"
)


def dump_mode_is_ordinary(subject: Subject, settings: Settings) -> bool | None:
    """Whether the process's dump mode is 1; None where that cannot be told.

    Files of /proc belong to the process's effective user only while the mode is 1, and to root otherwise
    (task_dump_owner in fs/proc/base.c); of root's own processes that tells nothing, but what they run may.
    """
    if subject.owner != subject.uids[1]:
        return False
    if subject.uids[1] != 0:
        return True
    return settings.suid_dumpable == 1 if causes(subject) else None


def causes(subject: Subject) -> list[str]:
    """What is known to have changed the mode, in words."""
    return [reason for reason in (_gained(subject), _unreadable(subject), _changed(subject)) if reason]


def _gained(subject: Subject) -> str:
    program = subject.program
    if program is None or subject.no_new_privileges or not program.set_id_counts:
        return ""
    mode, uid, gid = program.status.st_mode, program.status.st_uid, program.status.st_gid
    if mode & stat.S_ISUID and uid != subject.uids[0]:
        return f"its program is set-user-ID to user {uid}, and it was started by user {subject.uids[0]}"
    if mode & stat.S_ISGID and mode & stat.S_IXGRP and gid != subject.gids[0]:
        return f"its program is set-group-ID to group {gid}, and it was started by group {subject.gids[0]}"
    if program.has_capabilities and subject.uids[0] != 0:
        return "its program has file capabilities"
    return ""


def _unreadable(subject: Subject) -> str:
    """A program that its user may execute, but not read; root may read all, and ACLs are not looked at."""
    program = subject.program
    if program is None or subject.uids[0] == 0:
        return ""
    status = program.status
    if status.st_uid == subject.uids[0]:
        bit = stat.S_IRUSR
    elif status.st_gid in (subject.gids[0], *subject.groups):
        bit = stat.S_IRGRP
    else:
        bit = stat.S_IROTH
    return "" if status.st_mode & bit else f"its program ({stat.filemode(status.st_mode)}) may not be read by its user"


def _changed(subject: Subject) -> str:
    for what, ids in (("user", subject.uids), ("group", subject.gids)):
        if len(set(ids)) > 1:
            return f"its {what}s differ (real {ids[0]}, effective {ids[1]}, saved {ids[2]})"
    return ""


def _verdict(settings: Settings) -> tuple[str, str]:
    """What becomes of a process whose mode is not 1: 0 or 2 cannot be told apart, but by what they now can be."""
    if settings.suid_dumpable != 2:
        return NO, f"fs.suid_dumpable is {settings.suid_dumpable}"
    if not settings.leads_somewhere_safe:
        return NO, "fs.suid_dumpable is 2, but kernel.core_pattern begins with none of /, | and @"
    return UNKNOWN, "fs.suid_dumpable is 2: root gets a core, unless the process forbade it (PR_SET_DUMPABLE 0)"


def dumpable(subject: Subject, settings: Settings) -> Row:
    """The dump mode itself."""
    name = "dumpable"
    ordinary = dump_mode_is_ordinary(subject, settings)
    if ordinary and subject.uids[1] == 0:
        return Row(name, OK, f"{'; '.join(causes(subject))}, but fs.suid_dumpable is 1")
    if ordinary:
        return Row(name, OK, "its files in /proc belong to its own user")
    if ordinary is None:
        return Row(
            name,
            UNKNOWN,
            "a process of root: the owner of its files in /proc shows nothing; nothing found that prevents a core",
        )
    answer, why = _verdict(settings)
    seen = "its files in /proc belong to root, not to its user" if subject.owner != subject.uids[1] else ""
    cause = "; ".join(causes(subject)) or "it changed its user, or called prctl(PR_SET_DUMPABLE)"
    return Row(name, answer, "; ".join(part for part in (seen, cause, why) if part), _REMEDY)


def program_rights(subject: Subject, settings: Settings) -> Row:
    """Set-user-ID, set-group-ID and file capabilities that gave the process more than its user has."""
    return _cause("set-ID, capabilities", _gained(subject), "its program gives it no privileges", subject, settings)


def program_readable(subject: Subject, settings: Settings) -> Row:
    """A program that its user may not read is not shown to him as a core either (would_dump in fs/exec.c)."""
    return _cause("program readable", _unreadable(subject), "its user may read its program", subject, settings)


def _cause(name: str, cause: str, fine: str, subject: Subject, settings: Settings) -> Row:
    if subject.program is None:
        return Row(name, UNKNOWN, "you may not read its program", "ask as root")
    if not cause:
        return Row(name, OK, fine)
    if dump_mode_is_ordinary(subject, settings):
        return Row(name, OK, f"{cause}, but it is dumpable anyway")
    answer, why = _verdict(settings)
    return Row(name, answer, f"{cause}; {why}", _REMEDY)
