"""What is behind a URL: a core alone, or compressed, or something else."""

from __future__ import annotations

from itertools import chain

from corefilt.batching.sources.content import Content, why_no_core
from corefilt.corefile.formats import HEAD
from corefilt.io.compression import recognise
from corefilt.io.decoding import check_decoder
from corefilt.io.remote.download import fetched
from corefilt.io.remote.url import Remote
from corefilt.io.streams import first_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.remote.url import ObjectInfo

# Fetched to see what it is: of a compressed core zstd's largest block and its header. Where that does not tell it, as
# with blocks of bzip2 and lz4, more is fetched.
LOOK = 136 << 10


def content_of(url: str, info: ObjectInfo) -> Content:
    """What is behind a URL of which ``info`` was told: a core alone or compressed, or something else.

    Raises InputError and MissingLibraryError.
    """
    pieces = fetched(Remote(url), info, first=LOOK)
    try:
        first = next(pieces, b"")
        name = recognise(first)
        if name is None:
            return Content((), reason=why_no_core(first))
        check_decoder(name)
        rest = chain([first], pieces)
        return Content((name,), reason=why_no_core(first_bytes(lambda: next(rest, b""), name, HEAD), name))
    finally:
        pieces.close()
