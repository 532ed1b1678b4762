"""What the handler has to say: to the journal, else to /dev/log, else to the kernel's log; none is waited for."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
KMSG = "/dev/kmsg"
NAME = b"corefilt"
# syslog(3)
CRITICAL, ERROR, WARNING, NOTICE = 2, 3, 4, 5
# A record of the kernel's log has no more (PRINTKRB_RECORD_MAX, kernel/printk).
MOST_OF_A_LINE = 900
# What every syslog daemon takes (RFC 5424, 6.1); the facility is "daemon".
MOST_OF_A_MESSAGE = 2048 - 64
DAEMON = 3 << 3


class Messages:
    """Where messages go; ``journal`` tells whether the journal, or what stands for it, is asked at all."""

    __slots__ = ("_journal", "_kmsg", "_socket", "_syslog")

    def __init__(self, *, journal: bool = True, socket: str = SOCKET, syslog: str = SYSLOG, kmsg: str = KMSG) -> None:
        self._journal, self._socket, self._syslog, self._kmsg = journal, socket, syslog, kmsg

    def say(self, text: str, priority: int = NOTICE, fields: Mapping[bytes, bytes] | None = None) -> None:
        """Write one line, and in the journal further fields with it; on standard error too, if there is one."""
        line = _one_line(text)
        entry = {b"MESSAGE": line, b"PRIORITY": b"%d" % priority, b"SYSLOG_IDENTIFIER": NAME, **(fields or {})}
        if not (self._journal and (self._send(encode(entry), self._socket) or self._log(line, priority))):
            self._write(b"<%d>%s: %s" % (priority, NAME, line[:MOST_OF_A_LINE]))
        if sys.stderr is not None:
            try:
                print(f"corefilt: {line.decode()}", file=sys.stderr, flush=True)
            except (OSError, ValueError):
                return

    def _log(self, line: bytes, priority: int) -> bool:
        """Tell the daemon at /dev/log (RFC 3164, as syslog(3) does without a time: it knows that itself)."""
        head = b"<%d>%s[%d]: " % (DAEMON | priority, NAME, os.getpid())
        return self._send(head + line[:MOST_OF_A_MESSAGE], self._syslog)

    def _send(self, entry: bytes, path: str) -> bool:
        import errno
        import socket

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                try:
                    # A journal that does not read, because it is what crashed, fills its queue up: EAGAIN.
                    return sender.sendto(entry, path) == len(entry)
                except OSError as error:
                    if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS) or path != self._socket:
                        raise
                sender.connect(path)
                return _send_file(sender, entry)
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


def _send_file(sender: socket.socket, entry: bytes) -> bool:
    """Send an entry that no datagram holds as the journal takes it: a sealed file in memory."""
    import fcntl
    import socket

    fd = os.memfd_create("corefilt", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(entry)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        )
        sender.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))])
    finally:
        os.close(fd)
    return True


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
