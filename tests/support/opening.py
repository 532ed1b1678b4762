"""Opens cores from memory and from pipes, and tells what is found in them and what is kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO

from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.io.opening import open_source
from corefilt.plan.plan import KeepPlan, Mapping


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


class OpenCore(CoreFile):
    """A core with all that its file says, and the plans of it."""

    def plan(self, filter: int | str, **options: Any) -> KeepPlan:
        """Return what the filter leaves; the options are those of ``corefilt.Core.plan``."""
        return KeepPlan.of(self, filter, **options)

    @cached_property
    def mappings(self) -> Sequence[Mapping]:
        """Return the mappings without evidence."""
        return self.plan("all").mappings


@contextmanager
def opened(core: bytes, *, piped: bool = False) -> Iterator[OpenCore]:
    """Open a core from memory, or from a pipe, where the payload cannot be looked at beforehand."""
    with (in_pipe if piped else in_memory)(core) as fd, open_file(fd) as it:
        yield it


def open_file(place: str | os.PathLike[str] | int | BinaryIO, *, spool: bool = False) -> OpenCore:
    """Open a core as ``corefilt.open`` does."""
    return OpenCore.of(open_source(place, max_headers=MAX_HEADERS, spool=spool))


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
