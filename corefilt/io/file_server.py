"""The one opener of files that a core names: a child finds and reads them, as the core's owner, within a deadline.

A process of its own, because nothing else does all of this. A file system that does not answer (a FUSE or NFS server
that stopped) blocks whoever asks it, and a signal does not end that wait once the request is with the server: so
somebody else waits, who can be left behind. And what root may read is not the core's owner's to learn: the child gives
up root for good before it sees the first name, with its groups and capabilities. fsuid alone could be taken back, and
changing the ids of the whole process would take root from what is written later. The user that it becomes cannot trace
it.

Contents come through memory that both share, a window at a time, so that nothing is copied once more than by reading.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import time

from corefilt.children import become, die_with_parent, groups_of
from corefilt.io.named_files import MOST_OF_A_FILE, WINDOW, NotUsable, OpenFile, Root, why_no_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# One question may take that long, in seconds: a file system that answers needs milliseconds (a cold disk: 20 ms).
DEADLINE = 5.0
# All questions of one core together may take that much longer than an answer should: two that never come.
PATIENCE = 10.0
QUICK = 0.25

_FIND, _READ, _CLOSE = 1, 2, 3
_QUESTION = struct.Struct("=BIQQ")
# Permission bits, owner, size, major, minor, inode, mtime, ctime.
_FILE = struct.Struct("=IIQIIQqq")
_DONE, _REFUSED = b"+", b"-"
_MOST_OF_AN_ANSWER = 1 << 12

_left_behind: list[int] = []


class ServedFile:
    """A regular file that the child has open; what is known of it, and how it is read, as of ``OpenFile``."""

    __slots__ = ("_number", "_server", "ctime_ns", "device", "inode", "mode", "mtime_ns", "size", "uid")

    def __init__(self, server: _Child, number: int, about: bytes) -> None:
        self._server: _Child | None = server
        self._number = number
        self.mode, self.uid, self.size, major, minor, self.inode, self.mtime_ns, self.ctime_ns = _FILE.unpack(about)
        self.device = major, minor

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; fewer only where the file ends or was cut. Raises NotUsable."""
        server = self._server
        if server is None:
            raise NotUsable("cannot be read: it was closed")
        left = min(length, self.size - offset)
        pieces = []
        while left > 0:
            count = int.from_bytes(server.ask(_READ, self._number, offset, min(left, WINDOW)), "little")
            if not count:
                break
            pieces.append(server.window[:count])
            offset, left = offset + count, left - count
        return b"".join(pieces)

    def close(self) -> None:
        """Have the child close it."""
        server, self._server = self._server, None
        if server is not None and server.alive:
            try:
                server.ask(_CLOSE, self._number)
            except NotUsable:
                # It is closed when the child ends.
                return


class FileServer:
    """Finds files below a folder that is open, as ``user`` (None: as we are); a child is started when it is needed."""

    def __init__(self, root: Root, user: int | None = None) -> None:
        self._root, self._user = root, user
        self._child: _Child | None = None
        self._clock = _Clock()

    def find(self, path: bytes, *, most: int = MOST_OF_A_FILE) -> ServedFile:
        """The regular file of at most ``most`` bytes that an absolute path leads to. Raises NotUsable."""
        reason = why_no_file(path)
        if reason is not None:
            raise NotUsable(reason)
        if self._child is None or not self._child.alive:
            self._clock.check()
            try:
                self._child = _Child(self._root, self._user, self._clock)
            except OSError as error:
                raise NotUsable(f"cannot be opened: {error.strerror}") from None
        child = self._child
        about = child.ask(_FIND, 0, most, 0, path)
        return ServedFile(child, int.from_bytes(about[: -_FILE.size], "little"), about[-_FILE.size :])

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None


class _Clock:
    """How long answers were waited for: what is quick does not count."""

    def __init__(self) -> None:
        self.left = PATIENCE

    def check(self) -> float:
        """How long the next answer may take, in seconds. Raises NotUsable where there is no patience left."""
        if self.left <= 0:
            raise NotUsable(f"was skipped: file systems did not answer for {PATIENCE:.0f} s")
        return min(DEADLINE, self.left)


class _Child:
    """The child as its parent sees it; ``window`` is what it reads into."""

    def __init__(self, root: Root, user: int | None, clock: _Clock) -> None:
        self.window = mmap.mmap(-1, WINDOW)
        self._clock, self.alive = clock, True
        groups = groups_of(user) if user is not None else (0, [])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if self._pid == 0:
            _serve(theirs.fileno(), root.fd, user, groups, self.window, parent)
        theirs.close()
        self._socket = ours
        self._answers = select.poll()
        self._answers.register(ours, select.POLLIN)

    def ask(self, what: int, number: int = 0, offset: int = 0, length: int = 0, name: bytes = b"") -> bytes:
        """What the child answers. Raises NotUsable: what it refuses, or that it does not answer."""
        if not self.alive:
            raise NotUsable("cannot be read: its file system did not answer")
        limit, began = self._clock.check(), time.monotonic()
        try:
            self._socket.send(_QUESTION.pack(what, number, offset, length) + name)
            if not self._answers.poll(limit * 1000):
                raise NotUsable(f"cannot be read: its file system did not answer within {limit:.0f} s")
            answer = self._socket.recv(_MOST_OF_AN_ANSWER)
        except OSError as error:
            self.end()
            raise NotUsable(f"cannot be read: {error.strerror}") from None
        except BaseException:
            # An answer that comes later would be taken for that to another question.
            self.end()
            raise
        finally:
            self._clock.left -= max(0.0, time.monotonic() - began - QUICK)
        if answer[:1] == _REFUSED:
            raise NotUsable(answer[1:].decode())
        if answer[:1] != _DONE:
            self.end()
            raise NotUsable("cannot be read: the process that reads files has ended")
        return answer[1:]

    def end(self) -> None:
        """End the child; one that a file system holds is left to end when that answers."""
        if not self.alive:
            return
        self.alive = False
        self._socket.close()
        os.kill(self._pid, signal.SIGKILL)
        _left_behind.append(self._pid)
        for _ in range(20):
            _reap()
            if self._pid not in _left_behind:
                return
            time.sleep(0.005)


def _reap() -> None:
    for pid in list(_left_behind):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:
            ended = pid
        if ended:
            _left_behind.remove(pid)


# --- in the child -----------------------------------------------------------------------------------------


def _serve(
    socket_fd: int, root_fd: int, user: int | None, groups: tuple[int, list[int]], window: mmap.mmap, parent: int
) -> NoReturn:
    """Answer questions until there are no more; never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _keep_only(socket_fd, root_fd)
        if user is not None:
            become(user, groups)
        die_with_parent(parent)
        _answer(socket.socket(fileno=socket_fd), Root.of(root_fd), window)
    finally:
        os._exit(0)


def _keep_only(*kept: int) -> None:
    """Close all other descriptors, the standard ones too: a child that is stuck must hold no pipe open."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                # That of the listing itself.
                continue


def _answer(questions: socket.socket, root: Root, window: mmap.mmap) -> None:
    files: dict[int, OpenFile] = {}
    count = 0
    view = memoryview(window)
    while question := questions.recv(_QUESTION.size + (1 << 17)):
        what, number, offset, length = _QUESTION.unpack_from(question)
        try:
            answer = b""
            if what == _FIND:
                file = root.find(question[_QUESTION.size :], most=offset)
                count += 1
                files[count] = file
                about = file.mode, file.uid, file.size, *file.device, file.inode, file.mtime_ns, file.ctime_ns
                answer = count.to_bytes(4, "little") + _FILE.pack(*about)
            elif what == _READ:
                answer = files[number].read_into(offset, view[:length]).to_bytes(4, "little")
            else:
                files.pop(number).close()
            questions.send(_DONE + answer)
        except NotUsable as error:
            questions.send(_REFUSED + str(error).encode(errors="backslashreplace")[: _MOST_OF_AN_ANSWER - 1])
