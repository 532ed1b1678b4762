"""What the handler has to say: to the journal, else to the kernel's log; neither is waited for, neither is needed."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
KMSG = "/dev/kmsg"
NAME = b"corefilt"
# syslog(3)
CRITICAL, ERROR, WARNING, NOTICE = 2, 3, 4, 5
# A record of the kernel's log has no more (PRINTKRB_RECORD_MAX, kernel/printk).
MOST_OF_A_LINE = 900


class Messages:
    """Where messages go; ``journal`` tells whether the journal is asked at all."""

    __slots__ = ("_journal", "_kmsg", "_socket")

    def __init__(self, *, journal: bool = True, socket: str = SOCKET, kmsg: str = KMSG) -> None:
        """Open nothing yet."""
        self._journal, self._socket, self._kmsg = journal, socket, kmsg

    def say(self, text: str, priority: int = NOTICE, fields: Mapping[bytes, bytes] | None = None) -> None:
        """Write one line, and in the journal further fields with it; on standard error too, if there is one."""
        line = _one_line(text)
        entry = {b"MESSAGE": line, b"PRIORITY": b"%d" % priority, b"SYSLOG_IDENTIFIER": NAME, **(fields or {})}
        if not (self._journal and self._send(encode(entry))):
            self._write(b"<%d>%s: %s" % (priority, NAME, line[:MOST_OF_A_LINE]))
        if sys.stderr is not None:
            try:
                print(f"corefilt: {line.decode()}", file=sys.stderr, flush=True)
            except (OSError, ValueError):
                return

    def _send(self, entry: bytes) -> bool:
        import socket

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                # A journal that does not read, because it is what crashed, fills its queue up: EAGAIN.
                return sender.sendto(entry, self._socket) == len(entry)
        except OSError:
            return False

    def _write(self, line: bytes) -> None:
        try:
            fd = os.open(self._kmsg, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            return
        try:
            os.write(fd, line + b"\n")
        except OSError:
            return
        finally:
            os.close(fd)


def encode(entry: Mapping[bytes, bytes]) -> bytes:
    """An entry in the journal's native protocol: a value with a newline is counted, so that none adds a field."""
    made = bytearray()
    for name, value in entry.items():
        if b"\n" in value:
            made += name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
        else:
            made += name + b"=" + value + b"\n"
    return bytes(made)


def _one_line(text: str) -> bytes:
    """Printable ASCII; whatever else a process put into its name is spelled out."""
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text).encode()
