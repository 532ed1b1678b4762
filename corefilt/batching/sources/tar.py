"""Cores in tar archives, which are read once from their beginning, also where they are compressed."""

from __future__ import annotations

import tarfile

from corefilt.batching.sources.content import MOST_MEMBERS, TAR, Content, member_content, unsafe
from corefilt.corefile.formats import HEAD
from corefilt.errors import InputError
from corefilt.io.streams import pieces_of
from corefilt.io.tar import members, open_tar
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

# What a reader of them raises for what is damaged.
DAMAGES = (tarfile.TarError,)
# A member that is stored sparse is read with its holes as zeros, and so must end.
MOST_OF_SPARSE = 64 << 30


def contents(stream: BinaryIO, layers: tuple[str, ...]) -> Iterator[Content]:
    """What is in a tar that comes as a stream, decompressed by the layers."""
    wrapping = (*layers, TAR)
    try:
        with open_tar(stream) as tar:
            for number, info in enumerate(members(tar)):
                if number == MOST_MEMBERS:
                    yield Content(
                        wrapping,
                        reason=f"has more than {MOST_MEMBERS} members; the rest was ignored",
                        unreadable=True,
                    )
                    return
                if not info.isdir():
                    yield _content(tar, info, wrapping)
    except EOFError as error:
        yield Content(wrapping, reason=str(error) or "the tar is cut off", unreadable=True)
    except tarfile.TarError as error:
        yield Content(wrapping, reason=f"the tar is damaged: {error}", unreadable=True)


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo, wrapping: tuple[str, ...]) -> Content:
    why = unsafe(info.name)
    if why:
        return Content(wrapping, info.name, why)
    if not info.isreg():
        return Content(wrapping, info.name, "not a regular file")
    if info.issparse() and info.size > MOST_OF_SPARSE:
        return Content(
            wrapping, info.name, f"is stored sparse, and has {counted(info.size, 'byte')}: extract it with tar first"
        )
    file = tar.extractfile(info)
    return member_content(file.read(HEAD) if file is not None else b"", wrapping, info.name)


def member_of(stream: BinaryIO, member: str) -> Iterator[bytes]:
    """The bytes of a member. Raises InputError, TarError or EOFError."""
    with open_tar(stream) as tar:
        for info in members(tar):
            if info.name == member and info.isreg():
                file = tar.extractfile(info)
                if file is not None:
                    yield from pieces_of(file)  # type: ignore[arg-type]
                return
    raise InputError(f"has no member {member}")
