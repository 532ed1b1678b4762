"""The manifest of --shared-once: which core holds the blocks that others gave up, and what each was before.

Offsets and sizes are in bytes, and offsets those of the core before anything was taken out, unless said otherwise. Its
form stands in docs/shared-once.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import zlib
from typing import NamedTuple

from corefilt.documents.fields import MOST_SIZE, a_list, a_number, a_table, a_text, decode_json
from corefilt.errors import InputError, UsageError
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
# What a manifest's literal bytes of one core may come to: headers of a million segments are 56 MiB.
MOST_LITERAL = 64 << 20
# A manifest is read as a whole.
MOST_OF_A_MANIFEST = 1 << 30
an_offset = a_number(0, MOST_SIZE)


class Block(NamedTuple):
    """A block that is held: by which of the cores, at which offset, and its xxh3_128."""

    core: int
    offset: int
    digest: bytes


class Entry:
    """One core: its path from the manifest's folder, its size, and where its bytes are once it has been reduced.

    ``kept`` are runs (offset, length, offset in the reduced core), ``literals`` (offset, bytes) that only the manifest
    has, ``taken`` runs (offset, number of the first block, count of blocks). What is in none of them is zeros.
    """

    __slots__ = ("kept", "literals", "name", "size", "taken")

    def __init__(
        self,
        name: str,
        size: int,
        kept: list[tuple[int, int, int]],
        literals: list[tuple[int, bytes]],
        taken: list[tuple[int, int, int]],
    ) -> None:
        self.name, self.size, self.kept, self.literals, self.taken = name, size, kept, literals, taken

    def as_dict(self) -> dict[str, object]:
        """The entry as JSON takes it; literal bytes are deflated, in base64."""
        literals = [[at, base64.b64encode(zlib.compress(raw)).decode()] for at, raw in self.literals]
        return {"name": self.name, "size": self.size, "kept": self.kept, "literals": literals, "taken": self.taken}


class Manifest:
    """The whole: ``id`` (16 bytes), length of a ``block``, the ``cores``, and the ``blocks`` that they hold."""

    __slots__ = ("block", "blocks", "cores", "id")

    def __init__(self, id: bytes, block: int, cores: list[Entry], blocks: list[Block]) -> None:
        self.id, self.block, self.cores, self.blocks = id, block, cores, blocks

    def encode(self) -> bytes:
        """The file's content."""
        whole = {
            "corefilt": "shared-once",
            "version": VERSION,
            "id": self.id.hex(),
            "block": self.block,
            "cores": [core.as_dict() for core in self.cores],
            "blocks": [[block.core, block.offset, block.digest.hex()] for block in self.blocks],
        }
        return json.dumps(whole, separators=(",", ":")).encode()


def read_manifest(path: str) -> Manifest:
    """Read and check one. Raises InputError with what is wrong."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MOST_OF_A_MANIFEST:
                raise InputError(f"{path}: has {counted(size, 'byte')}, more than any manifest")
            raw = file.read(size)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        return _decode(decode_json(raw, f"{path}: not a --shared-once manifest", InputError))
    except (ValueError, KeyError, TypeError, OverflowError, zlib.error, UsageError) as error:
        words = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a --shared-once manifest: {words}") from None


def _decode(found: object) -> Manifest:
    whole = a_table(found)
    if whole.get("corefilt") != "shared-once":
        raise ValueError("its format field is missing")
    if whole["version"] != VERSION:
        raise ValueError(f"version {whole['version']!r} is unknown here")
    block = an_offset(whole["block"])
    id = bytes.fromhex(a_text(whole["id"]))
    if block not in (1 << n for n in range(12, 25)) or len(id) != 16:
        raise ValueError("block or id is invalid")
    cores = [_entry(entry, block) for entry in a_list(whole["cores"])]
    blocks: list[Block] = []
    for row in a_list(whole["blocks"]):
        core, offset, digest = a_list(row)
        made = Block(an_offset(core), an_offset(offset), bytes.fromhex(a_text(digest)))
        if made.core >= len(cores) or made.offset + block > cores[made.core].size or len(made.digest) != 16:
            raise ValueError(f"block {len(blocks)} is outside its core")
        blocks.append(made)
    for entry in cores:
        if any(first + count > len(blocks) for _, first, count in entry.taken):
            raise ValueError(f"{entry.name} lacks blocks that no core holds")
    return Manifest(id, block, cores, blocks)


def _entry(entry: object, block: int) -> Entry:
    values = a_table(entry)
    name, size = a_text(values["name"]), an_offset(values["size"])
    if not name or os.path.isabs(name) or os.pardir in name.split(os.sep) or "\0" in name:
        raise ValueError(f"a core's name is {name!r}, which leads out of the directory")
    kept = list(_triples(values["kept"]))
    taken = list(_triples(values["taken"]))
    literals = []
    room = MOST_LITERAL
    for row in a_list(values["literals"]):
        at, text = a_list(row)
        inflate = zlib.decompressobj()
        try:
            raw = inflate.decompress(base64.b64decode(a_text(text), validate=True), room + 1)
        except binascii.Error as error:
            raise ValueError(f"literal bytes of {name}: {error}") from None
        room -= len(raw)
        if room < 0 or not inflate.eof:
            raise ValueError(f"literal bytes of {name} are too many, or cut off")
        literals.append((an_offset(at), raw))
    ends = [at + length for at, length, _ in kept] + [at + len(raw) for at, raw in literals]
    ends += [at + count * block for at, _, count in taken]
    if max(ends, default=0) > size:
        raise ValueError(f"{name} has bytes past its end")
    return Entry(name, size, kept, literals, taken)


def _triples(values: object) -> Iterator[tuple[int, int, int]]:
    for row in a_list(values):
        a, b, c = a_list(row)
        yield an_offset(a), an_offset(b), an_offset(c)
