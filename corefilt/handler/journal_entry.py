"""What systemd-coredump notes of a crash, for coredumpctl: fields of a journal entry, and attributes of the file."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.crashed_process import Victim
    from corefilt.handler.statement import Statement

# SD_MESSAGE_COREDUMP (systemd/sd-messages.h)
MESSAGE_ID = b"fc2e22bc6ee647b6b90729ab34a250b1"


def attributes(crash: CrashInfo, victim: Victim) -> dict[str, bytes]:
    """Extended attributes by the names that systemd-coredump gives them."""
    return {f"user.coredump.{name}": value for name, value in _facts(crash, victim).items()}


def fields(
    crash: CrashInfo, victim: Victim, stated: Statement, path: str | None = None, *, truncated: bool = False
) -> dict[bytes, bytes]:
    """Fields of the journal's entry; ``path`` is where the core is, if it was saved."""
    facts = {**stated.fields, **_facts(crash, victim)}
    made = {f"COREDUMP_{name.upper()}".encode(): value for name, value in facts.items()}
    made[b"MESSAGE_ID"] = MESSAGE_ID
    name = _signal_name(crash.signal)
    if name is not None:
        made[b"COREDUMP_SIGNAL_NAME"] = name
    # In microseconds here, in seconds there.
    made[b"COREDUMP_TIMESTAMP"] = b"%d000000" % crash.time
    if path is not None:
        made[b"COREDUMP_FILENAME"] = os.fsencode(path)
        if truncated:
            made[b"COREDUMP_TRUNCATED"] = b"1"
    return made


def _facts(crash: CrashInfo, victim: Victim) -> dict[str, bytes]:
    facts = {
        "pid": b"%d" % crash.pid,
        "uid": b"%d" % crash.uid,
        "gid": b"%d" % crash.gid,
        "signal": b"%d" % crash.signal,
        "timestamp": b"%d" % crash.time,
        "rlimit": b"%d" % crash.limit,
        "hostname": os.fsencode(os.uname().nodename),
    }
    if victim.comm is not None:
        facts["comm"] = victim.comm
    if victim.executable is not None:
        facts["exe"] = victim.executable
    return facts


def _signal_name(number: int) -> bytes | None:
    import signal

    try:
        return signal.Signals(number).name.encode()
    except ValueError:
        return None
