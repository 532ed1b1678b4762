"""Python files that have no descriptor: io.BytesIO, fsspec's files, archive members.

They are read once, in order, as a pipe is, whether or not they can be sought; an io.BytesIO, in memory already,
becomes a file in memory. What is written to them is made in a temporary file, and handed to them when it is whole.
"""

from __future__ import annotations

import os
from io import BytesIO

from corefilt import _fast
from corefilt.errors import InputError, OutputError
from corefilt.io.compression import PIECE
from corefilt.io.fetched import FedSource
from corefilt.io.handover import HandoverSink
from corefilt.io.sides import GRANULE
from corefilt.io.sources import FileSource, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from corefilt.io.sources import Source


def object_source(file: BinaryIO, *, max_headers: int) -> Source:
    """Read a file from where it stands. Raises InputError where it cannot be read, and says why."""
    name = name_of(file)
    why = _why_not(file, "read", "readable")
    if why is not None:
        raise InputError(f"{name}: cannot be read: {why}")
    try:
        if isinstance(file, BytesIO):
            return _in_memory(file, name)
        return FedSource(lambda: _pieces(file, name), name, most_ahead=max_headers)
    except OSError as error:
        # The limits of a process end a file in memory, too.
        raise InputError(f"{name}: cannot be read: {error.strerror}", "save the core to a file, and name it") from None


class MemorySource(FileSource):
    """A copy of an io.BytesIO; pages of zeros are its holes, as those of a pipe are."""

    spooled = True


def _in_memory(file: BytesIO, name: str) -> MemorySource:
    fd = os.memfd_create("corefilt")
    try:
        with file.getbuffer() as whole, whole[file.tell() :] as view:
            size = len(view)
            _fast.write_at(fd, 0, view, granule=GRANULE)
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return MemorySource(fd, name, size=size)


def _pieces(file: BinaryIO, name: str) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
    # What does not block says None where there is nothing yet.
    if piece is None:
        raise InputError(f"{name}: cannot be read: it is non-blocking, and no data has arrived")


class ObjectSink(HandoverSink):
    """A temporary file whose content is written to a Python file when it is whole."""

    def __init__(self, file: BinaryIO) -> None:
        """Open it in TMPDIR. Raises OutputError where the Python file cannot be written, and says why."""
        name = name_of(file)
        why = _why_not(file, "write", "writable")
        if why is not None:
            raise OutputError(f"{name}: cannot be written: {why}")
        self._file = file
        super().__init__(name)

    def hand_over(self, size: int) -> None:
        """Write it, from where the Python file stands on. Raises OutputError."""
        at = 0
        try:
            while piece := os.pread(self.fd, min(PIECE, size - at), at):
                view = memoryview(piece)
                while view:
                    done = self._file.write(view)
                    if not done:
                        raise BlockingIOError("it is non-blocking, and accepts no data now")
                    view = view[done:]
                at += len(piece)
            self._file.flush()
        except Exception as error:
            told = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OutputError(f"{self.name}: cannot be written: {told}", "discard what is in it") from None


def _why_not(file: BinaryIO, method: str, question: str) -> str | None:
    """Why a file does not do what is wanted of it, or None."""
    if not hasattr(file, method):
        return f"it has no {method}()"
    try:
        answer = getattr(file, question, bool)
        return None if answer is bool or answer() else "it is not open for this"
    except ValueError as error:
        return str(error)
