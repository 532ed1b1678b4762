"""What the handler, and the kernel about cores, said last: from the journal and the kernel's log."""

from __future__ import annotations

import os
import shutil
import subprocess

# Of each of the two.
MOST = 5
# Of failures that are counted; a journal keeps no more of them in practice.
MOST_FAILURES = 100_000
# What every message of a core that was not saved has in it.
NOT_SAVED = "no core was saved"
# A journal of many gigabytes was seen to answer within two seconds.
PATIENCE = 10
_KMSG = "/dev/kmsg"
# The least urgent that is a trouble: LOG_WARNING of syslog(3).
_WARNING = 4
# A record's longest form is 8 KiB (CONSOLE_EXT_LOG_MAX in kernel/printk).
_RECORD = 8192


def last_troubles(kmsg: str = _KMSG) -> list[str]:
    """Warnings and errors, the oldest first; none where neither log can be read."""
    return [*_of_journal(), *of_kernel_log(kmsg)]


def of_kernel_log(kmsg: str = _KMSG) -> list[str]:
    """What the kernel says of cores that it did not write, and the handler where there is no journal."""
    try:
        fd = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return []
    found: list[str] = []
    try:
        while record := _record(fd):
            head, _, text = record.partition(b";")
            line = text.split(b"\n", 1)[0].decode(errors="backslashreplace")
            urgency = head.split(b",", 1)[0]
            # The upper bits name the facility.
            if line.startswith(("coredump: ", "corefilt: ")) and urgency.isdigit() and int(urgency) & 7 <= _WARNING:
                found.append(line)
    finally:
        os.close(fd)
    return found[-MOST:]


def _record(fd: int) -> bytes:
    """The next record, empty behind the last one."""
    while True:
        try:
            return os.read(fd, _RECORD)
        except BrokenPipeError:
            # It was overwritten meanwhile; the descriptor stands on the oldest that is left.
            continue
        except OSError:
            return b""


def failures_since_boot() -> int | None:
    """How many cores the handler could not save since the system started; None where the journal does not tell."""
    lines = _journal("-b", "-n", str(MOST_FAILURES), "-p", "err")
    return sum(NOT_SAVED in line for line in lines) if lines is not None else None


def _of_journal() -> list[str]:
    return _journal("-n", str(MOST), "-p", str(_WARNING)) or []


def _journal(*wanted: str) -> list[str] | None:
    """What the handler wrote into the journal; None where that cannot be read."""
    program = shutil.which("journalctl")
    if program is None:
        return None
    # Anybody can call himself corefilt; the journal itself adds who he is.
    command = [program, "-q", "-o", "cat", *wanted, "SYSLOG_IDENTIFIER=corefilt", "_UID=0"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False, env={"LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="backslashreplace").splitlines() if done.returncode == 0 else None
