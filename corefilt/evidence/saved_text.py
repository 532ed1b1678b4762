"""The text of a ``maps`` or ``smaps`` file that was saved: held together up to a bound, and known by how it begins."""

from __future__ import annotations

import io
import re
import sys

from corefilt.errors import EvidenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

# An smaps has about 1.1 KiB a mapping with the path of a file; a million mappings are the most that make sense.
MOST = 1 << 30
PIECE = 1 << 16

MAPPING = re.compile(rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} [r-][w-][x-][sp] [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ [0-9]+")
_ROLLUP = re.compile(rb"[^\n]* \[rollup\]\n")


class Sidecar:
    """The text of a maps or smaps file, and ``name``, where it came from, for messages."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: bytes) -> None:
        self.name, self.text = name, text


def checked(name: str, text: bytes) -> Sidecar:
    """The sidecar, if its text begins like maps or smaps."""
    if not text.strip():
        raise EvidenceError(f"{name}: is empty")
    if not MAPPING.match(text):
        # Apport writes why it could not read the file in its place.
        first = text[:80].partition(b"\n")[0].decode("utf-8", "replace")
        raise EvidenceError(f"{name}: holds no mappings, but {first!r}")
    if _ROLLUP.match(text):
        raise EvidenceError(f"{name}: is smaps_rollup, which has sums only", "save smaps or maps instead")
    return Sidecar(name, text)


def gather(pieces: Iterable[bytes], name: str) -> bytes:
    """The pieces as one, no more than MOST bytes."""
    held = io.BytesIO()
    for piece in pieces:
        if len(piece) > MOST - held.tell():
            raise EvidenceError(f"{name}: is longer than {MOST} bytes, more than any process has mappings for")
        held.write(piece)
    return held.getvalue()


def pieces_of(file: BinaryIO, count: int = sys.maxsize) -> Iterator[bytes]:
    """Up to ``count`` bytes of a file; fewer only where it ends."""
    while count > 0 and (piece := file.read(min(count, PIECE))):
        yield piece
        count -= len(piece)
