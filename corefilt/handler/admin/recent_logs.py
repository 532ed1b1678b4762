"""What the handler, and the kernel about cores, said last: from the journal and the kernel's log."""

from __future__ import annotations

import os
import shutil
import subprocess

# Of each of the two.
MOST = 5
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


def _of_journal() -> list[str]:
    program = shutil.which("journalctl")
    if program is None:
        return []
    # Anybody can call himself corefilt; the journal itself adds who he is.
    command = [program, "-q", "-o", "cat", "-n", str(MOST), "-p", str(_WARNING), "SYSLOG_IDENTIFIER=corefilt", "_UID=0"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False, env={"LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="backslashreplace").splitlines() if done.returncode == 0 else []
