"""Runs the command line from a program that has imported it already: ten times as many runs in the same time.

What is to be seen of a real start (its time, memory, imports, closed descriptors) is run by support.run.start.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from corefilt.cli.commands import COMMANDS

LIGHT = ("filter", "inspect")
"""The commands that import only what a core's way through the package takes; their memory is what it would be."""
FILTERING = tuple(
    f"corefilt.{name}" for name in ("classify", "corefile", "evidence", "filtering", "io", "plan", "procfs")
)
PACKAGES = {True: FILTERING, False: ("corefilt",)}
LARGEST = 1 << 20
PIECE = 1 << 18
CONNECTIONS: set[str] = set()
"""Their descriptors."""


@cache
def _server(light: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the program; it ends with the connection, when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = Path(__file__).with_name("readied.py")
    with theirs:
        process = subprocess.Popen([sys.executable, program, *PACKAGES[light]], stdin=theirs, stdout=subprocess.DEVNULL)
    CONNECTIONS.add(str(ours.fileno()))
    return process, ours


def descriptors() -> set[str]:
    """Return what this process has open, but for the connections to these programs: the first run makes them."""
    numbers = os.listdir("/proc/self/fd")
    # One of them was that of the listing itself.
    return {number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")} - CONNECTIONS


def run(
    argv: Sequence[str], env: Mapping[str, str], *, cwd: Path | None, stdin: int | bytes | None, stdout: int | None,
    memory: int | None, file_size: int | None, timeout: float,
) -> tuple[int, bytes, bytes]:  # fmt: skip
    """Run once; returns the exit code (negative for a signal), standard output, unless that is given, and error.

    ``stdin`` is a descriptor, or the bytes to send through a pipe, or None for the null device.
    """
    light = memory is not None and (not argv or argv[0] not in COMMANDS or argv[0] in LIGHT)
    _, connection = _server(light)
    request = {
        "argv": list(argv), "env": dict(env), "cwd": os.fspath(cwd or os.getcwd()), "RLIMIT_AS": memory,
        "RLIMIT_FSIZE": file_size,
    }  # fmt: skip
    raw = json.dumps(request).encode()
    assert len(raw) < LARGEST
    error, its_error = os.pipe()
    theirs, readers, writer = [its_error], [error], -1
    if isinstance(stdin, int):
        its_input = stdin
    elif stdin is None:
        theirs.append(its_input := os.open(os.devnull, os.O_RDONLY))
    else:
        its_input, writer = os.pipe()
        theirs.append(its_input)
    if stdout is None:
        output, its_output = os.pipe()
        theirs.append(its_output)
        readers.append(output)
    else:
        its_output = stdout
    socket.send_fds(connection, [raw], [its_input, its_output, its_error])
    for fd in theirs:
        os.close(fd)
    child = int(connection.recv(LARGEST) or 0)
    assert child, "the program that forks has ended"
    try:
        texts = _communicate(readers, writer, stdin if isinstance(stdin, bytes) else b"", time.monotonic() + timeout)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        connection.recv(LARGEST)
        raise
    return int(connection.recv(LARGEST)), texts.get(readers[-1], b"") if stdout is None else b"", texts[error]


def _communicate(readers: Sequence[int], writer: int, data: bytes, until: float) -> dict[int, bytes]:
    """Read all descriptors to their ends while the writer is fed, and close them."""
    texts = {fd: bytearray() for fd in readers}
    rest = memoryview(data)
    with selectors.DefaultSelector() as selector:
        for fd in readers:
            selector.register(fd, selectors.EVENT_READ)
        if writer >= 0:
            os.set_blocking(writer, False)
            selector.register(writer, selectors.EVENT_WRITE)
        try:
            while selector.get_map():
                if (left := until - time.monotonic()) <= 0:
                    raise TimeoutError("a run took too long")
                for key, _ in selector.select(left):
                    if key.fd == writer:
                        try:
                            rest = rest[os.write(writer, rest[:PIECE]) if rest else 0 :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            rest = rest[:0]
                        if rest:
                            continue
                    elif piece := os.read(key.fd, PIECE):
                        texts[key.fd] += piece
                        continue
                    selector.unregister(key.fd)
                    os.close(key.fd)
        finally:
            for fd in list(selector.get_map()):
                os.close(fd)
    return {fd: bytes(text) for fd, text in texts.items()}
