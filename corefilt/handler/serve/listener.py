"""The socket that the kernel connects to: made by the server, or taken from systemd, and root's alone either way."""

from __future__ import annotations

import os
import socket
import stat

from corefilt.errors import ServeError
from corefilt.handler.path_trust import Trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

# The first descriptor of socket activation (sd_listen_fds(3)).
FIRST_FD = 3
# include/linux/net.h: the flag of a listening socket in /proc/net/unix.
_SO_ACCEPTCON = 1 << 16
# The kernel takes no more than net.core.somaxconn; a crash that finds the queue full leaves no core.
BACKLOG = 4096


class Listening:
    """A listening ``socket`` and its ``path``; leaving it removes the path if this server made it."""

    def __init__(self, listener: socket.socket, path: str, *, made: bool) -> None:
        """Hold them. Raises ServeError where anybody but root could connect."""
        self.socket, self.path = listener, path
        status = _status(path)
        if status is None or not stat.S_ISSOCK(status.st_mode):
            raise ServeError(f"{path}: not a socket")
        if status.st_uid != 0 or status.st_mode & 0o077:
            raise ServeError(
                f"{path}: belongs to user {status.st_uid} and has mode {stat.S_IMODE(status.st_mode):04o}",
                "the kernel connects as root: SocketMode=0600 and SocketUser=root",
            )
        self._identity = (status.st_dev, status.st_ino) if made else None

    def close(self) -> None:
        """Hear nobody any more, and remove what was made, unless another has put his own in its place."""
        self.socket.close()
        status = _status(self.path) if self._identity is not None else None
        if status is not None and (status.st_dev, status.st_ino) == self._identity:
            os.unlink(self.path)


def listen(path: str | None, environment: MutableMapping[str, str]) -> Listening:
    """The socket that systemd hands over, or one that is made at ``path``. Raises ServeError."""
    taken = take(environment)
    if taken is None:
        if path is None:
            raise ServeError(
                "no socket: systemd passed none, and no path was given", "corefilt serve /run/corefilt.sock"
            )
        return make(path)
    where = os.fsdecode(taken.getsockname() or b"")
    if path is not None and path != where:
        raise ServeError(f"systemd gave the socket {where!r}, not {path!r}", "leave the path out")
    return Listening(taken, where, made=False)


def is_listened_at(path: str, table: str = "/proc/net/unix") -> bool | None:
    """Whether somebody listens at a path, without connecting; None where the kernel's table cannot be read."""
    try:
        with open(table, "rb") as file:
            rows = [line.split(None, 7) for line in file.read().splitlines()[1:]]
    except OSError:
        return None
    return any(len(row) == 8 and int(row[3], 16) & _SO_ACCEPTCON and row[7] == os.fsencode(path) for row in rows)


def take(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The one socket of sd_listen_fds(3), None if there is none; children are not told of it. Raises ServeError."""
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if told["LISTEN_PID"] != str(os.getpid()) or told["LISTEN_FDS"] in ("", "0"):
        return None
    if told["LISTEN_FDS"] != "1":
        raise ServeError(f"systemd gave {told['LISTEN_FDS']} sockets, not one")
    try:
        taken = socket.socket(fileno=FIRST_FD)
        good = taken.family == socket.AF_UNIX and taken.type == socket.SOCK_STREAM
        listens = bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError as error:
        raise ServeError(f"descriptor {FIRST_FD}, which systemd gave: {error.strerror}") from None
    if not (good and listens):
        raise ServeError(
            "the socket passed by systemd is not a listening stream socket", "ListenStream=/run/corefilt.sock"
        )
    taken.set_inheritable(False)
    return taken


def make(path: str) -> Listening:
    """A socket of mode 0600 at an absolute path, in the place of one that nobody listens at. Raises ServeError."""
    if not os.path.isabs(path):
        raise ServeError(f"{path!r} is not an absolute path", "/run/corefilt.sock")
    _check_folder(os.path.dirname(path))
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
        return Listening(listener, path, made=True)
    except OSError as error:
        listener.close()
        raise ServeError(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(before)


def _check_folder(folder: str) -> None:
    trust = Trust()
    if trust.path(folder, "the directory of the socket") is None:
        raise ServeError(f"{folder}: does not exist")
    if trust.faults:
        raise ServeError(str(trust.faults[0]), "/run belongs to root")


def _remove_stale(path: str) -> None:
    status = _status(path)
    if status is None:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ServeError(f"{path}: exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            # A full queue is that of somebody who listens.
            pass
    raise ServeError(f"{path}: another process already listens there")


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None
