"""What is behind a URL: a core alone, or compressed, or something else."""

from __future__ import annotations

from corefilt.batching.sources.content import Content, why_no_core
from corefilt.corefile.corefile import MAX_HEADERS
from corefilt.corefile.formats import HEAD
from corefilt.io.opening import open_source
from corefilt.io.remote.url import Remote


def content_of(url: str) -> tuple[Content, int]:
    """What is behind a URL, a core alone or compressed or something else, and how many bytes. Raises InputError."""
    remote = Remote(url)
    info = remote.info()
    source = open_source(url, max_headers=MAX_HEADERS)
    try:
        head = source.peek(0, HEAD)
        layers = (source.compression,) if source.compression is not None else ()
        return Content(layers, reason=why_no_core(head, source.compression)), int(info.get("size") or 0)
    finally:
        source.close()
