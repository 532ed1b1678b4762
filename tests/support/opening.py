"""Opens cores from memory and from pipes, and tells what is found in them and what is kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import corefilt
from corefilt.api import Core
from corefilt.plan.plan import Mapping


@contextmanager
def in_memory(content: bytes = b"") -> Iterator[int]:
    """Make a file without a name that holds the content, to be read from its start."""
    fd = os.memfd_create("core")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def in_pipe(content: bytes) -> Iterator[int]:
    """Make the reading end of a pipe that holds the content and ends behind it."""
    reader, writer = os.pipe()
    try:
        assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20) >= len(content)
        with open(writer, "wb") as file:
            file.write(content)
        yield reader
    finally:
        os.close(reader)


@contextmanager
def opened(core: bytes, *, piped: bool = False) -> Iterator[Core]:
    """Open a core from memory, or from a pipe, where the payload cannot be looked at beforehand."""
    with (in_pipe if piped else in_memory)(core) as fd, corefilt.open(fd) as it:
        yield it


def look(core: bytes, *, assume: tuple[str, ...] = (), piped: bool = False) -> dict[int, Mapping]:
    """Return every mapping by its address."""
    with opened(core, piped=piped) as it:
        return {mapping.start: mapping for mapping in it.plan("all", assume=assume).mappings}


def kept(
    core: bytes, wanted: int | str, unknown: str = "keep", assume: tuple[str, ...] = (), piped: bool = False
) -> dict[int, int]:
    """Return the bytes that a filter keeps of every mapping, by its address."""
    with opened(core, piped=piped) as it:
        plan = it.plan(wanted, unknown=unknown, assume=assume)
        return {mapping.start: plan.kept(m) for m, mapping in enumerate(plan.mappings)}
