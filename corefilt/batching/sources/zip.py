"""Cores in zip archives, as core-dump-handler keeps them: the core beside files that tell of its container."""

from __future__ import annotations

import os
import zipfile
from contextlib import contextmanager
from itertools import islice

from corefilt.batching.sources.content import MOST_MEMBERS, ZIP, Content, member_content, unsafe
from corefilt.corefile.formats import HEAD
from corefilt.errors import InputError
from corefilt.io.streams import pieces_of
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corefilt.io.sources import FileSource

# What a reader of them raises for what is damaged.
DAMAGES = (zipfile.BadZipFile,)
# Of the directory of all members, which has 46 bytes and a name for each, and takes ten times that in memory.
MOST_OF_DIRECTORY = 16 << 20
# Where the record that ends a zip can begin: it has 22 bytes, and a comment that is no longer than 16 bits tell.
_END = 22 + (1 << 16)


@contextmanager
def _opened(source: FileSource) -> Iterator[zipfile.ZipFile]:
    """Raises BadZipFile, also for a directory that would take more memory than any job should."""
    tail = source.peek(max(0, source.size - _END), _END)
    at = tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if size > MOST_OF_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory of members claims {counted(size, 'byte')}")
    with os.fdopen(os.dup(source.fd), "rb") as file, zipfile.ZipFile(file) as archive:
        yield archive


def contents(source: FileSource) -> Iterator[Content]:
    """What is in a zip."""
    try:
        with _opened(source) as archive:
            for info in islice(archive.infolist(), MOST_MEMBERS):
                # is_dir() of Python before 3.12 raises IndexError where there is no name.
                if not info.filename.endswith("/"):
                    yield _content(archive, info)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield Content((ZIP,), reason=f"the zip is damaged: {error}", unreadable=True)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Content:
    why = unsafe(info.filename) or _unreadable(info)
    if why:
        return Content((ZIP,), info.filename, why)
    try:
        with archive.open(info) as file:
            return member_content(file.read(HEAD), (ZIP,), info.filename)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
        return Content((ZIP,), info.filename, f"cannot be read: {error}")


def _unreadable(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 1:
        return "is encrypted"
    # The other methods' decoders make as much at a time as the input says.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {info.compress_type} of zip; stored and deflated members are read"
    return ""


def member_of(source: FileSource, member: str) -> Iterator[bytes]:
    """The bytes of a member. Raises InputError, BadZipFile, EOFError or OSError."""
    with _opened(source) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise InputError(f"{source.name}: has no member {member}") from None
        why = _unreadable(info)
        if why:
            raise InputError(f"{source.name}!{member}: {why}")
        with archive.open(info) as file:
            yield from pieces_of(file)  # type: ignore[arg-type]
