"""Opens what is read and what is written: paths, URLs, descriptors and Python files."""

from __future__ import annotations

import os
import stat

from corefilt import _fast
from corefilt.errors import InputError, UsageError
from corefilt.io.sinks import NamedFile, at_end, descriptor_sink, named_sink, place_of, reported
from corefilt.io.sources import PIPE_SIZE, FileSource, PipeSource, called_as, descriptor_of, enlarge_pipe, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Place, Source

# What an ELF file begins with; whatever else does is worth the room that knows compressed formats.
_ELFMAG = b"\x7fELF"
_MAGIC_BYTES = 64


def open_source(
    path: Place,
    *,
    max_headers: int,
    spool: bool = False,
    seeks: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """Open CORE: a path or URL, ``-`` for standard input, or a descriptor or binary file that stays open.

    What is compressed is decompressed as it is read; where any of it may be asked for (``seeks``), seekable zstd as far
    as it is asked for. ``storage_options`` are fsspec's for a URL. Raises InputError, or UsageError for a terminal.
    """
    check_storage_options(storage_options)
    try:
        place = descriptor_of(path)
    except OSError as error:
        raise InputError(f"{name_of(path)}: cannot be read: {error.strerror or error}") from None
    name = called_as(place, path) if isinstance(place, int) else None
    source = _opened(place, name, max_headers=max_headers, storage_options=storage_options)
    return as_core(source, max_headers=max_headers, spool=spool, seeks=seeks)


def check_storage_options(given: object) -> None:
    """Raise UsageError for options of a store that are not named."""
    if given is not None and not hasattr(given, "items"):
        raise UsageError(f"storage_options is {given!r}", "it can be a dictionary, or None")


def _opened(
    place: str | bytes | os.PathLike[str] | int | BinaryIO,
    called: str | None,
    *,
    max_headers: int,
    storage_options: Mapping[str, Any] | None,
) -> Source:
    """Open a place, as it is; a descriptor has a name by which it is ``called``."""
    if isinstance(place, str) and "://" in place:
        from corefilt.io.remote.url import is_url, local_path

        place = local_path(place)
        if is_url(place):
            from corefilt.io.remote.download import open_remote

            return open_remote(place, max_headers=max_headers, storage_options=storage_options)
    if isinstance(place, int):
        fd, name, owned = place, called or f"descriptor {place}", False
    elif place in ("-", b"-"):
        fd, name, owned = 0, "standard input", False
    elif isinstance(place, str | bytes | os.PathLike):
        name, owned = os.fsdecode(place), True
        try:
            fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except (OSError, ValueError) as error:
            raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    else:
        from corefilt.io.objects import object_source

        return object_source(place, max_headers=max_headers)
    try:
        return _source_of(fd, name, owned=owned, max_headers=max_headers)
    except BaseException:
        if owned:
            os.close(fd)
        raise


def _source_of(fd: int, name: str, *, owned: bool, max_headers: int) -> Source:
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{name}: is a directory", "corefilt batch filters the cores in it")
    if os.isatty(fd):
        raise UsageError(f"{name} is a terminal", "name a core, or redirect one: < CORE")
    if stat.S_ISREG(status.st_mode):
        try:
            base = 0 if owned else os.lseek(fd, 0, os.SEEK_CUR)
        except OSError as error:
            # What was opened with O_PATH cannot be read.
            raise InputError(f"{name}: cannot be read: {error.strerror}") from None
        return FileSource(fd, name, base=base, size=max(0, status.st_size - base), owned=owned)
    if stat.S_ISFIFO(status.st_mode):
        enlarge_pipe(fd)
    return PipeSource(fd, name, most_ahead=max_headers, owned=owned)


def as_core(
    source: Source, *, max_headers: int, spool: bool = False, seeks: bool = False, folder: str | None = None
) -> Source:
    """A source decompressed where it is compressed, and a temporary copy of a pipe where that is wanted.

    With ``seeks`` a temporary copy of seekable zstd has what is asked for. Copies go to ``folder`` (None: to TMPDIR).

    Closing it closes the source; so does what is raised: InputError or MissingLibraryError.
    """
    try:
        head = source.peek(0, _MAGIC_BYTES)
        if head[:4] != _ELFMAG:
            from corefilt.io.decompress import unpacked

            seekable = (
                _seekable_zstd(source.file, max_headers, folder, seeks=seeks) if source.file is not None else None
            )
            source = seekable or unpacked(source, head, most_ahead=max_headers)
        return source if source.seekable or not spool else spooled(source, folder)
    except BaseException:
        source.close()
        raise


def _seekable_zstd(source: FileSource, max_headers: int, folder: str | None, *, seeks: bool) -> Source | None:
    """What a file of seekable zstd holds, of which anything may be asked for or what comes next; None for any other."""
    from corefilt.io.seekable import ends_with_table

    if not ends_with_table(source):
        return None
    from corefilt.io.sought import SkippedSource, SoughtSource, read_table

    table = read_table(source)
    if table is None:
        return None
    return SoughtSource(source, table, folder) if seeks else SkippedSource(source, table, most_ahead=max_headers)


class SpooledSource(FileSource):
    """A temporary copy of a pipe that vanishes with its descriptor; its holes are the pipe's zeros."""

    spooled = True

    def __init__(self, fd: int, size: int, pipe: Source, damage: str | None) -> None:
        """Take the copy's descriptor; ``damage`` is what was wrong with the pipe."""
        super().__init__(fd, pipe.name, size=size)
        self.origin, self.compression, self.whole = pipe.origin, pipe.compression, pipe.whole
        self._pipe, self._damage = pipe, damage

    def check(self) -> str | None:
        """What was wrong with the pipe."""
        return self._damage

    def close(self) -> None:
        """Close the copy and the pipe."""
        if self.owned:
            super().close()
            self._pipe.close()


def spooled(pipe: Source, folder: str | None = None) -> SpooledSource:
    """All of a source in a temporary file in ``folder``, else where temporary files go. Raises InputError."""
    from corefilt.io.tempfiles import nameless_in

    copy = -1
    try:
        copy = nameless_in(folder)
        size, scratch = 0, bytearray(PIPE_SIZE)
        while held := pipe.take(PIPE_SIZE):
            _fast.write_at(copy, size, held, granule=4096)
            size += len(held)
        while pipe.made and (pieces := pipe.pieces(PIPE_SIZE)):
            _fast.write_pieces(copy, size, pieces, granule=4096)
            size += sum(map(len, pieces))
        at, left = (-1, 1 << 62) if pipe.size is None else (pipe.base, pipe.size)
        while not pipe.made and (moved := _fast.move(
            _fast.READWRITE, pipe.fd, at, copy, size, min(left, 1 << 26), scratch, granule=4096
        )[0]):  # fmt: skip
            size, left, at = size + moved, left - moved, at + moved if at >= 0 else at
        os.ftruncate(copy, size)
        return SpooledSource(copy, size, pipe, pipe.check())
    except BaseException as error:
        if copy >= 0:
            os.close(copy)
        if not isinstance(error, OSError):
            raise
        raise InputError(
            f"{pipe.name}: cannot be copied to {folder or 'a temporary file'}: {error.strerror}",
            "set TMPDIR to a directory with enough space",
        ) from None


def open_sink(path: Place | NamedFile, *, force: bool, source: Source | None) -> Sink:
    """Open OUT: a path or URL, ``-`` for standard output, a file to be named, or a descriptor or file that stays open.

    Raises UsageError for a terminal, OutputError for the rest: a folder, a file that is there and no
    ``force``, the input itself, and what other users may have planted (``output_place``).
    """
    if isinstance(path, NamedFile):
        return path.open(source)
    place, path = path, place_of(path)
    if isinstance(path, int):
        return descriptor_sink(path, source, called_as(path, place))
    if not isinstance(path, str):
        from corefilt.io.objects import ObjectSink

        return ObjectSink(path)
    if "://" in path:
        from corefilt.io.remote.url import is_url

        if is_url(path):
            from corefilt.io.remote.upload import RemoteFile

            return RemoteFile(path, force=force).open(source)
    return named_sink(path, source, force=force)


def seekable_from(path: Place | NamedFile) -> bool:
    """Whether OUT would be written as a file; nothing is opened. Raises OutputError where that cannot be told."""
    if isinstance(path, NamedFile):
        return path.seekable
    path = place_of(path)
    if not isinstance(path, str | int):
        # It is handed what a temporary file holds.
        return True
    with reported(f"descriptor {path}" if isinstance(path, int) else path):
        try:
            status = os.fstat(path) if isinstance(path, int) else os.stat(path)
        except FileNotFoundError:
            return True
        return stat.S_ISREG(status.st_mode) and (not isinstance(path, int) or at_end(path, status))
