"""What cores come wrapped in, told by content, and how a core is taken out of it.

Compressed formats are those of ``corefilt.compression``. Around or instead of them: tar and zip, as core-dump-handler
writes them, and reports of apport. systemd-coredump and abrt keep cores as files; what lies beside them is evidence.
"""

from __future__ import annotations

import binascii
import os
import re
import stat

from corefilt.batching.sources import apport
from corefilt.batching.sources.content import TAR, ZIP, Content, why_no_core
from corefilt.corefile.corefile import MAX_HEADERS
from corefilt.corefile.formats import HEAD, is_report, is_tar
from corefilt.errors import EvidenceError, InputError
from corefilt.io import compression, decoding
from corefilt.io.decompress import DerivedSource
from corefilt.io.opening import as_core
from corefilt.io.sources import FileSource, Source
from corefilt.io.streams import first_bytes, from_start, stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from corefilt.io.decompress import SourceReader

SYSTEMD, ABRT = "systemd-coredump", "abrt"
# What has to be taken out of something else, which then stays what it is.
CONTAINERS = (TAR, ZIP, apport.APPORT)

_SYSTEMD_XATTR = "user.coredump.pid"
# How systemd-coredump names them (make_filename in coredump.c).
_SYSTEMD_NAME = re.compile(r"core\..+\.[0-9a-f]{32}\.[0-9]+\.[0-9]+(?:\.zst|\.lz4|\.xz)?", re.DOTALL)
_ABRT_NAME = "coredump"
_BESIDE_ABRT = ("analyzer", "type", "maps", "executable")
# What the readers of all these raise for what is damaged, beside what is tar's or zip's own.
_DAMAGES: tuple[type[Exception], ...] = (binascii.Error, EvidenceError, RuntimeError, NotImplementedError)


def contents(source: FileSource, leaf: str, folder: int) -> Iterator[Content]:
    """What is in a file that is called ``leaf`` in an open folder. Raises InputError and OSError."""
    keeper = _keeper(source.fd, leaf, folder)
    head = source.peek(0, HEAD)
    name = compression.recognise(head)
    if head.startswith(b"PK\3\4"):
        from corefilt.batching.sources import zip as zips

        yield from zips.contents(source)
    elif is_tar(head):
        from corefilt.batching.sources import tar as tars

        yield from tars.contents(stream(from_start(source), ()), ())
    elif is_report(head):
        yield from apport.contents(stream(from_start(source), ()), source.name)
    elif name is None:
        yield Content(keeper, reason=why_no_core(head))
    else:
        faults: list[EOFError] = []
        inner = first_bytes(from_start(source), name, HEAD, faults.append)
        if is_tar(inner):
            from corefilt.batching.sources import tar as tars

            yield from tars.contents(stream(from_start(source), (name,)), (name,))
        elif faults and not inner:
            yield Content((*keeper, name), reason=f"{faults[0]} before any of the core came", unreadable=True)
        else:
            yield Content((*keeper, name), reason=why_no_core(inner, name))


def opened(
    source: FileSource,
    wrapping: tuple[str, ...],
    member: str | None,
    *,
    max_headers: int = MAX_HEADERS,
    seeks: bool = False,
    folder: str | None = None,
) -> Source:
    """The core in a file, in what ``contents`` said that it is wrapped; closing it closes the file.

    With ``seeks`` any of seekable zstd may be asked for, by a temporary copy in ``folder`` of what is.

    Raises InputError.
    """
    if TAR in wrapping:
        from corefilt.batching.sources import tar as tars

        layers = wrapping[: wrapping.index(TAR)]
        # A member can be read to its end before the stream around it says that it is damaged.
        faults: list[decoding.StreamFault] = []
        inner = _fed(
            source, lambda read: tars.member_of(stream(read, layers, faults.append), member or ""), max_headers,
            tars.DAMAGES, faults,
        )  # fmt: skip
    elif ZIP in wrapping:
        from corefilt.batching.sources import zip as zips

        inner = _fed(source, lambda read: zips.member_of(source, member or ""), max_headers, zips.DAMAGES)
    elif apport.APPORT in wrapping:
        inner = _fed(source, lambda read: apport.core_of(stream(read, ()), source.name), max_headers)
    else:
        return as_core(source, max_headers=max_headers, seeks=seeks, folder=folder)
    if member is not None:
        inner.name = f"{source.name}!{member}"
    return as_core(inner, max_headers=max_headers)


def own_compression(wrapping: tuple[str, ...]) -> str | None:
    """The format that the core itself is compressed in, as a file would be."""
    return wrapping[-1] if wrapping and wrapping[-1] in compression.SUFFIXES else None


def _fed(
    source: FileSource,
    make: Callable[[SourceReader], Iterator[bytes]],
    max_headers: int,
    damages: tuple[type[Exception], ...] = (),
    faults: Sequence[decoding.StreamFault] = (),
) -> DerivedSource:
    def mended(read: SourceReader) -> Iterator[bytes]:
        try:
            yield from make(read)
        except _DAMAGES + damages as error:
            raise InputError(f"{source.name}: is damaged: {error}") from None
        if faults:
            raise faults[0]

    return DerivedSource(source, mended, source.name, most_ahead=max_headers)


def _keeper(fd: int, leaf: str, folder: int) -> tuple[str, ...]:
    """Who kept the file, by what he leaves with it."""
    try:
        os.getxattr(fd, _SYSTEMD_XATTR)
        return (SYSTEMD,)
    except OSError:
        pass
    if _SYSTEMD_NAME.fullmatch(leaf):
        return (SYSTEMD,)
    if leaf.partition(".")[0] == _ABRT_NAME and any(_is_file(name, folder) for name in _BESIDE_ABRT):
        return (ABRT,)
    return ()


def _is_file(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
