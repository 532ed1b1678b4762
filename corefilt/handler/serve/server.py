"""The server of coredump sockets: asks the kernel who crashed, decides, and starts a handler for each core.

It reads no byte of a core: a connection is handed to a process of its own, which is the program behind core_pattern,
child without privileges and all, and which ends with its core.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct

from corefilt.errors import CorefiltError, ProtocolError
from corefilt.handler.log import ERROR, NOTICE, WARNING
from corefilt.handler.serve.peer import read_peer
from corefilt.handler.serve.protocol import (
    COREDUMP_REJECT,
    MARK_SIZE,
    REQUEST_SIZE,
    check_mark,
    decode_request,
    encode_ack,
)
from corefilt.handler.serve.rules import FILTER, QUEUE, WANTED
from corefilt.procfs.pidfd import dumping, peer_pidfd
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Protocol

    from corefilt.handler.crash_info import CrashInfo
    from corefilt.handler.log import Messages
    from corefilt.handler.serve.protocol import CoredumpRequest
    from corefilt.handler.serve.rules import ServeRules
    from corefilt.procfs.pidfd import Dumping

    class Handling(Protocol):
        """What starts handlers."""

        def fill(self) -> None:
            """Start those that are to wait for a core."""

        def start(self, crash: CrashInfo, connection: socket.socket) -> subprocess.Popen[bytes]:
            """Have a crash handled whose core comes by a connection."""


# Of descriptors: what the server itself has open, and what one connection takes (itself, a pidfd, a folder of /proc).
_OWN_DESCRIPTORS, _DESCRIPTORS_EACH = 64, 4
# linux/prctl.h
_PR_SET_DUMPABLE = 4
# How long to wait after the system had no descriptor or memory for a connection.
_PAUSE = 1.0


class Server:
    """Answers the kernel at a listening socket until it is told to stop, and then finishes what it has begun.

    ``handlers`` takes a crash whose core comes by a connection; ``most`` is how many connections may be open.
    """

    def __init__(
        self,
        listener: socket.socket,
        rules: ServeRules,
        handlers: Handling,
        messages: Messages,
        most: int,
    ) -> None:
        self._listener, self._rules, self._starter, self._messages = listener, rules, handlers, messages
        self._most = most
        self._slots = asyncio.Semaphore(rules.at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: set[int] = set()
        self._stopping = asyncio.Event()
        self._said_full = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; the second of them ends handlers too."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._listen()
        await self._stopping.wait()
        loop.remove_reader(self._listener)
        # Who is in the queue of the socket has been let in.
        self._accept()
        self._listener.close()
        if self._tasks:
            self._messages.say(f"stops when the cores that it began are saved ({len(self._tasks)})", NOTICE)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _stop(self) -> None:
        if self._stopping.is_set():
            for task in self._tasks:
                task.cancel()
        self._stopping.set()

    def _listen(self) -> None:
        if not self._stopping.is_set():
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take every connection that is there."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._messages.say(f"cannot take a connection: {error.strerror}", ERROR)
                loop.remove_reader(self._listener)
                loop.call_later(_PAUSE, self._listen)
                return
            task = loop.create_task(self._attend(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attend(self, connection: socket.socket) -> None:
        """See one connection through, whoever is at the other end."""
        with connection:
            try:
                await self._admit(connection)
            except TimeoutError:
                self._messages.say(f"{_peer(connection)} was silent for {self._rules.patience:g} s: dropped", WARNING)
            except (CorefiltError, OSError) as error:
                words = str(error) if isinstance(error, CorefiltError) else str(error.strerror or error)
                self._messages.say(f"{_peer(connection)}: no core is taken: {words}", WARNING)

    async def _admit(self, connection: socket.socket) -> None:
        """Drop who does not dump core, refuse who cannot be waited for, and let the others have a slot in turn."""
        connection.setblocking(False)
        pidfd = peer_pidfd(connection)
        try:
            who = dumping(pidfd)
            if who is None:
                raise ProtocolError("it connected, but does not dump core")
            if who.parent in {os.getpid(), *self._handlers}:
                await self._refuse(connection, "a handler itself crashed")
            elif self._slots.locked() and self._rules.beyond != QUEUE:
                await self._refuse(connection, f"at-once: {counted(self._rules.at_once, 'core')} being filtered")
            elif len(self._tasks) > self._most:
                await self._refuse(connection, f"{self._most} connections are open, which is the limit of descriptors")
            else:
                self._say_full()
                async with self._slots:
                    await self._take(connection, who, pidfd)
        finally:
            os.close(pidfd)

    async def _take(self, connection: socket.socket, who: Dumping, pidfd: int) -> None:
        """Ask, decide, answer, and have the core handled."""
        request = await self._request(connection)
        peer = read_peer(who, pidfd)
        action = self._rules.decide(peer)
        await self._answer(connection, request, WANTED[action])
        if action != FILTER:
            self._messages.say(f"process {who.pid} of user {who.uid}: no core is taken: by rule ({action})", NOTICE)
            return
        connection.setblocking(True)
        handler = self._starter.start(peer.crash, connection)
        self._handlers.add(handler.pid)
        # The crash waits until the last end of it is closed, and from here on that is the handler's.
        connection.close()
        try:
            await _ended(handler.pid)
        finally:
            handler.terminate()
            handler.wait()
            self._handlers.discard(handler.pid)
            self._say_killed(who, handler.returncode)
            # Not before: it would take the CPU from the core that is being saved.
            self.refill()

    def _say_killed(self, who: Dumping, code: int) -> None:
        """Say what a handler cannot, for it was killed; what else goes wrong it says itself."""
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            end = f"its handler was killed ({name}); its core is lost if it was not saved yet"
            self._messages.say(f"process {who.pid} of user {who.uid}: {end}", ERROR)

    def refill(self) -> None:
        """Have handlers wait for the next cores, as far as they can be started."""
        if self._stopping.is_set():
            return
        try:
            self._starter.fill()
        except OSError as error:
            self._messages.say(f"no handler waits for the next core: {error.strerror}", WARNING)

    async def _refuse(self, connection: socket.socket, why: str) -> None:
        await self._answer(connection, await self._request(connection), COREDUMP_REJECT)
        raise ProtocolError(why)

    async def _request(self, connection: socket.socket) -> CoredumpRequest:
        request = decode_request(await self._receive(connection, REQUEST_SIZE))
        await self._receive(connection, request.rest)
        return request

    async def _answer(self, connection: socket.socket, request: CoredumpRequest, wanted: int) -> None:
        async with asyncio.timeout(self._rules.patience):
            await asyncio.get_running_loop().sock_sendall(connection, encode_ack(request, wanted))
        check_mark(await self._receive(connection, MARK_SIZE))

    async def _receive(self, connection: socket.socket, count: int) -> bytes:
        """That many bytes, or fewer where the peer ends before."""
        loop = asyncio.get_running_loop()
        received = b""
        async with asyncio.timeout(self._rules.patience):
            while len(received) < count and (piece := await loop.sock_recv(connection, count - len(received))):
                received += piece
        return received

    def _say_full(self) -> None:
        """Say once that cores have to wait, until there was room again."""
        full = self._slots.locked()
        if full and not self._said_full:
            self._messages.say(
                f"at-once: {counted(self._rules.at_once, 'core')} being filtered, the next ones wait", WARNING
            )
        self._said_full = full


def leave_no_core() -> None:
    """Have this process not be dumped: its own crash would wait for its own answer, and RLIMIT_CORE is not asked."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def most_connections() -> int:
    """How many connections the limit of descriptors allows, once it is as high as it may be."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard - _OWN_DESCRIPTORS) // _DESCRIPTORS_EACH)


async def _ended(pid: int) -> None:
    """Wait for a child's end; it is not reaped yet."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)
    end = asyncio.Event()
    loop.add_reader(pidfd, end.set)
    try:
        await end.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _peer(connection: socket.socket) -> str:
    """Who made a connection, as far as it still tells."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError:
        return "a process"
    pid, uid, _ = struct.unpack("=iII", raw)
    return f"process {pid} of user {uid}"
