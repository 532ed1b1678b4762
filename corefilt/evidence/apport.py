"""The field ProcMaps, or another, of an apport report: the format of its problem_report.py, and as hostile as any."""

from __future__ import annotations

import binascii
import io
import sys
import zlib

from corefilt.errors import EvidenceError
from corefilt.evidence import saved_text as savedmaps
from corefilt.evidence.saved_text import PIECE, Sidecar, checked, gather

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


def from_report(file: BinaryIO, name: str, reach: int = sys.maxsize) -> Sidecar:
    """ProcMaps of a report; of its first ``reach`` bytes only, which a core in base64 may fill."""
    value = gather(field_of_report(file, b"ProcMaps", name, reach), f"{name} (ProcMaps)")
    if not value:
        raise EvidenceError(f"{name}: is a report without the field ProcMaps")
    name = f"{name} (ProcMaps)"
    first, _, rest = value.partition(b"\n")
    if first.strip() == b"base64":
        return checked(name, _unpacked(rest, name))
    return checked(name, (b"\n" + value).replace(b"\n ", b"\n").lstrip(b"\n"))


def field_of_report(file: BinaryIO, field: bytes, name: str, reach: int = sys.maxsize) -> Iterator[bytes]:
    """What follows ``field:`` in a report, with the lines after it that begin with a space, in bounded pieces.

    Raises EvidenceError where the report's first ``reach`` bytes end before the field does.
    """
    inside, fresh = False, True
    while piece := file.readline(PIECE):
        reach -= len(piece)
        if reach < 0:
            raise EvidenceError(f"{name}: has no {field.decode()} among its first fields")
        goes_on, fresh = not fresh or piece.startswith(b" "), piece.endswith(b"\n")
        if not goes_on:
            if inside:
                return
            key, _, piece = piece.partition(b":")
            inside = key == field
        if inside:
            yield piece


def _unpacked(lines: bytes, name: str) -> bytes:
    """A binary value: in gzip, or in zlib as the first versions wrote it, every line in a base64 of its own."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def pieces() -> Iterator[bytes]:
        for line in io.BytesIO(lines):
            yield inflate.decompress(binascii.a2b_base64(line), savedmaps.MOST + 1)
            if inflate.eof:
                return

    try:
        text = gather(pieces(), name)
    except (ValueError, zlib.error) as error:
        raise EvidenceError(f"{name}: cannot be decompressed: {error}") from None
    if not inflate.eof:
        raise EvidenceError(f"{name}: is cut off")
    return text
