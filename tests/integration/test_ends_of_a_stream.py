"""Streams between other programs: pipes and sockets that block or not, on either side, lose no byte."""

from __future__ import annotations

import os
import socket
import threading
from itertools import product

import pytest
from support.builder import Load, kernel_notes, make_core
from support.run import MIB
from support.samples import PAGE, noise

import corefilt

# More than any pipe or socket holds, so that either side waits for the other.
CORE = make_core([Load(0x10000000, noise(MIB // PAGE) * 3), Load(0x40000000, noise(50, 1))], kernel_notes())
ENDS = {"pipe": os.pipe, "socket": lambda: [one.detach() for one in socket.socketpair()]}


def passed(source: str, sink: str, *, blocks: bool, wanted: str, engine: str = "auto") -> tuple[bytes, str | None]:
    """What comes out, and by which engine, where others write the core to one end and read at the other."""
    reader, feed = ENDS[source]()
    drain, writer = ENDS[sink]()
    came = bytearray()

    def write() -> None:
        with open(feed, "wb", buffering=0) as file:
            left = memoryview(CORE)
            while left:
                left = left[file.write(left[:70_001]) :]

    def read() -> None:
        with open(drain, "rb", buffering=0) as file:
            while piece := file.read(50_001):
                came.extend(piece)

    threads = [threading.Thread(target=each, daemon=True) for each in (write, read)]
    try:
        for fd in (reader, writer):
            os.set_blocking(fd, blocks)
        for thread in threads:
            thread.start()
        report = corefilt.filter(reader, writer, filter=wanted, engine=engine)
    finally:
        os.close(writer)
        os.close(reader)
        for thread in threads:
            if thread.ident is not None:
                thread.join(60)
    return bytes(came), report.engine


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize(("source", "sink"), sorted(product(ENDS, repeat=2)))
def test_all_of_a_core_passes(source: str, sink: str, blocks: bool) -> None:
    came, engine = passed(source, sink, blocks=blocks, wanted="all")
    assert came == CORE
    assert engine == ("splice" if "pipe" in (source, sink) else "readwrite")


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("source", sorted(ENDS))
def test_what_is_dropped_is_passed_over(source: str, blocks: bool) -> None:
    """From a pipe by splice to /dev/null, from a socket by reading; what is behind it, the notes, is whole."""
    came, _ = passed(source, "pipe", blocks=blocks, wanted="none")
    expected, _ = passed("pipe", "pipe", blocks=True, wanted="none", engine="readwrite")
    assert came == expected
    assert len(came) < len(CORE) - 3 * MIB
