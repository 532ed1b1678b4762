"""Cores in reports of apport: the field CoreDump, compressed, in lines that are each a base64 of their own."""

from __future__ import annotations

import binascii
from functools import partial
from itertools import chain

from corefilt.batching.sources.content import Content, why_no_core
from corefilt.corefile.formats import HEAD
from corefilt.errors import EvidenceError
from corefilt.evidence.apport import field_of_report
from corefilt.io import compression
from corefilt.io.streams import first_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

APPORT = "apport"


def contents(stream: BinaryIO, name: str) -> Iterator[Content]:
    """What is in a report. Raises InputError."""
    pieces = core_of(stream, name)
    try:
        first = next(pieces, b"")
        packed = compression.recognise(first)
        read = partial(next, chain((first,), pieces), b"")
        head = first_bytes(read, packed, HEAD) if packed is not None else first
    except (binascii.Error, EvidenceError) as error:
        yield Content((APPORT,), reason=f"a report whose CoreDump cannot be read: {error}", unreadable=True)
        return
    yield Content((APPORT,), reason=why_no_core(head) if first else "an apport report without a CoreDump")


def core_of(file: BinaryIO, name: str) -> Iterator[bytes]:
    """What CoreDump holds, still compressed. Raises EvidenceError or binascii.Error."""
    pieces = field_of_report(file, b"CoreDump", name)
    kind = next(pieces, b"")
    if kind and kind.strip() != b"base64":
        raise EvidenceError(f"{name}: CoreDump is {kind[:40]!r}, not base64")
    held = b""
    for piece in pieces:
        ended = piece.endswith(b"\n")
        text = held + piece.strip()
        whole = len(text) if ended else len(text) // 4 * 4
        held = text[whole:]
        data = binascii.a2b_base64(text[:whole])
        if data:
            yield data
