"""The COREFILT note (``--annotate``): what was known of every mapping when the core was written.

Its layout stands in docs/annotation.md. Debuggers pass over it: they know neither its name nor its type.
"""

from __future__ import annotations

import struct

from corefilt.kinds import Kind, certainty_of
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corefilt.corefile.elf import Ehdr
    from corefilt.kinds import Classification

NAME = b"COREFILT\0"
# "KIND" in ASCII. BFD takes a note of any name that it does not know for one of Linux, so the type must be none
# of theirs (elfcore_grok_note in bfd/elf.c of binutils 2.40).
NT_COREFILT_KINDS = 0x4B494E44
# "FITS" in ASCII: mappings were cut to fit a size, so that what is missing tells nothing of the filter in force.
NT_COREFILT_FITS = 0x46495453
# "FDPC" in ASCII: what --format elf took out of an FDPIC core, so that --format fdpic can put it back.
NT_COREFILT_ORIGIN = 0x46445043
# "SHAR" in ASCII: blocks of shared memory were taken out that another core holds; corefilt restore puts them back.
NT_COREFILT_SHARED = 0x53484152
# "MADE" in ASCII: what a batch tells of how it made the core, where the file system keeps no attributes.
NT_COREFILT_MADE = 0x4D414445
# "SCRB" in ASCII: secrets were overwritten, and how; its text is padded with zeros.
NT_COREFILT_SCRUBBED = 0x53435242
# "SIGN" in ASCII: the signature of the crash, as it is noted on files too; its text is padded with zeros.
NT_COREFILT_SIGNATURE = 0x5349474E
VERSION = 1

CERTAINTIES = ("exact", "inferred", "assumed", "stated")

_MASK = (1 << 64) - 1
_NOTE_HEADER = 12 + (len(NAME) + 3 & ~3)
_HEADER = 16
_RECORD = 24


class Shared:
    """Which manifest says what was taken out and who holds it: its ``id``, and its path from the core's folder."""

    __slots__ = ("id", "manifest")

    def __init__(self, id: bytes, manifest: bytes) -> None:
        self.id, self.manifest = id, manifest


def encode_shared(ehdr: Ehdr, shared: Shared) -> bytes:
    """The note as bytes, header included."""
    name = shared.manifest + b"\0"
    desc = struct.pack(ehdr.order + "II", VERSION, 0) + shared.id + name.ljust(len(name) + 3 & ~3, b"\0")
    header = struct.pack(ehdr.order + "III", len(NAME), len(desc), NT_COREFILT_SHARED)
    return header + NAME.ljust(len(NAME) + 3 & ~3, b"\0") + desc


def decode_shared(desc: bytes, ehdr: Ehdr) -> Shared:
    """What a note's descriptor says. Raises ValueError with what is wrong."""
    if len(desc) < 28 or b"\0" not in desc[24:]:
        raise ValueError(f"{counted(len(desc), 'byte')} do not name a manifest")
    (version,) = struct.unpack_from(ehdr.order + "I", desc)
    if version != VERSION:
        raise ValueError(f"version {version} is unknown here")
    return Shared(desc[8:24], desc[24:].split(b"\0", 1)[0])


class Record:
    """What a note says of one mapping; ``possible``, ``proven`` and ``likely`` are bits of Kind."""

    __slots__ = ("certainty", "likely", "possible", "proven", "sources")

    def __init__(self, possible: int, proven: int, likely: int, certainty: str, sources: int) -> None:
        self.possible, self.proven, self.likely = possible, proven, likely
        self.certainty, self.sources = certainty, sources


class Origin:
    """What an FDPIC core had: ``e_flags``, and for every NT_PRSTATUS in order both loadmaps' addresses."""

    __slots__ = ("e_flags", "loadmaps")

    def __init__(self, e_flags: int, loadmaps: list[tuple[int, int]]) -> None:
        self.e_flags, self.loadmaps = e_flags, loadmaps


def encode_origin(ehdr: Ehdr, origin: Origin) -> bytes:
    """The note as bytes, header included."""
    desc = struct.pack(ehdr.order + "IIII", VERSION, origin.e_flags, len(origin.loadmaps), 0)
    desc += b"".join(struct.pack(ehdr.order + "QQ", *pair) for pair in origin.loadmaps)
    header = struct.pack(ehdr.order + "III", len(NAME), len(desc), NT_COREFILT_ORIGIN)
    return header + NAME.ljust(len(NAME) + 3 & ~3, b"\0") + desc


def decode_origin(desc: bytes, ehdr: Ehdr) -> Origin:
    """What a note's descriptor says. Raises ValueError with what is wrong."""
    if len(desc) < 16:
        raise ValueError(f"{counted(len(desc), 'byte')} cannot hold a count")
    version, e_flags, count, _ = struct.unpack_from(ehdr.order + "IIII", desc)
    if version != VERSION:
        raise ValueError(f"version {version} is unknown here")
    if not 0 < count <= (len(desc) - 16) // 16:
        raise ValueError(f"count is {count}, but {counted(len(desc), 'byte')} can hold only {(len(desc) - 16) // 16}")
    pairs = list(struct.iter_unpack(ehdr.order + "QQ", desc[16 : 16 + 16 * count]))
    if not ehdr.wide and any(address >> 32 for pair in pairs for address in pair):
        raise ValueError("an address in it has more than 32 bits")
    return Origin(e_flags, [(pair[0], pair[1]) for pair in pairs])


def text_size(page_size: int) -> int:
    """The length in bytes of a note that tells how a core was made: a page, so that payload stays aligned."""
    return max(page_size, 4096)


def encode_text(ehdr: Ehdr, n_type: int, text: bytes, size: int) -> bytes:
    """That note, or another one with a text, as bytes, header included and filled up to ``size`` with zeros."""
    out = bytearray(size)
    struct.pack_into(ehdr.order + "III", out, 0, len(NAME), size - _NOTE_HEADER, n_type)
    out[12 : 12 + len(NAME)] = NAME
    out[_NOTE_HEADER : _NOTE_HEADER + len(text)] = text[: size - _NOTE_HEADER]
    return bytes(out)


def note_size(count: int, page_size: int) -> int:
    """The length in bytes of the note for ``count`` mappings: whole pages, so that payload stays aligned."""
    page = max(page_size, 4096)
    return -(-(_NOTE_HEADER + _HEADER + _RECORD * count) // page) * page


def fit_mark_size(count: int, extents: int = 0) -> int:
    """The length in bytes of the note that tells that mappings were cut to fit a size.

    It has room for ``count`` parts that continue a mapping, and for so many ``extents``.
    """
    return _NOTE_HEADER + 8 + 8 * count + (8 + 16 * extents if extents else 0)


def fit_mark(ehdr: Ehdr, starts: Sequence[int], extents: Mapping[int, int], size: int = 0) -> bytes:
    """The note that tells that mappings were cut to fit a size, filled up to ``size`` bytes with zeros.

    ``starts`` are the addresses of PT_LOADs that continue the mapping of the one before. ``extents`` have, by address,
    how many bytes of memory a PT_LOAD stands for whose p_memsz says less.
    """
    order = ehdr.order
    desc = struct.pack(f"{order}II{len(starts)}Q", VERSION, len(starts), *starts)
    if extents:
        pairs = [number for pair in extents.items() for number in pair]
        desc += struct.pack(f"{order}{1 + len(pairs)}Q", len(extents), *pairs)
    desc = desc.ljust(size - _NOTE_HEADER, b"\0")
    header = struct.pack(order + "III", len(NAME), len(desc), NT_COREFILT_FITS)
    return header + NAME.ljust(len(NAME) + 3 & ~3, b"\0") + desc


def decode_fits(desc: bytes, ehdr: Ehdr) -> tuple[set[int], dict[int, int]]:
    """Where parts of mappings begin that continue another, and extents by address, by such a note.

    Raises ValueError with what is wrong.
    """
    if len(desc) < 8:
        raise ValueError(f"{counted(len(desc), 'byte')} cannot hold a count")
    version, count = struct.unpack_from(ehdr.order + "II", desc)
    if version != VERSION:
        raise ValueError(f"version {version} is unknown here")
    if count > (len(desc) - 8) // 8:
        raise ValueError(f"count is {count}, but {counted(len(desc), 'byte')} can hold only {(len(desc) - 8) // 8}")
    starts, rest = set(struct.unpack_from(f"{ehdr.order}{count}Q", desc, 8)), desc[8 + 8 * count :]
    (extents,) = struct.unpack_from(ehdr.order + "Q", rest) if len(rest) >= 8 else (0,)
    if extents > max(0, len(rest) - 8) // 16:
        raise ValueError(f"it counts {extents} extents, but can hold only {max(0, len(rest) - 8) // 16}")
    return starts, dict(struct.iter_unpack(ehdr.order + "QQ", rest[8 : 8 + 16 * extents]))


def encode(ehdr: Ehdr, records: Sequence[tuple[int, int, Classification]], size: int) -> bytes:
    """The note as bytes, header included and filled up to ``size`` with zeros; a record has start, end and finding."""
    out = bytearray(size)
    order = ehdr.order
    struct.pack_into(order + "III", out, 0, len(NAME), size - _NOTE_HEADER, NT_COREFILT_KINDS)
    out[12 : 12 + len(NAME)] = NAME
    struct.pack_into(order + "IIII", out, _NOTE_HEADER, VERSION, _RECORD, len(records), 0)
    record = struct.Struct(order + "QQHHBBH")
    at = _NOTE_HEADER + _HEADER
    for start, end, finding in records:
        record.pack_into(
            out, at, start, end & _MASK, finding.possible, finding.proven,
            finding.likely.bit_length() - 1, CERTAINTIES.index(finding.certainty), finding.sources,
        )  # fmt: skip
        at += _RECORD
    return bytes(out)


def decode(desc: bytes, ehdr: Ehdr) -> dict[tuple[int, int], Record]:
    """The records of a note's descriptor by address range. Raises ValueError with what is wrong."""
    if len(desc) < _HEADER:
        raise ValueError(f"{counted(len(desc), 'byte')} cannot hold a count")
    version, size, count, _ = struct.unpack_from(ehdr.order + "IIII", desc)
    if version != VERSION or size != _RECORD:
        raise ValueError(f"version {version} with records of {size} bytes is unknown here")
    if count > (len(desc) - _HEADER) // _RECORD:
        raise ValueError(
            f"count is {count}, but {counted(len(desc), 'byte')} can hold only {(len(desc) - _HEADER) // size}"
        )
    records: dict[tuple[int, int], Record] = {}
    interned: dict[tuple[int, ...], Record] = {}
    layout = struct.Struct(ehdr.order + "QQHHBBH")
    for start, end, *values in layout.iter_unpack(desc[_HEADER : _HEADER + _RECORD * count]):
        if (start, end) in records:
            raise ValueError(f"two records for {start:#x}-{end:#x}")
        key = tuple(values)
        if key not in interned:
            interned[key] = _record(start, *values)
        records[start, end] = interned[key]
    return records


def _record(start: int, possible: int, proven: int, likely: int, certainty: int, sources: int) -> Record:
    if not 0 < possible <= Kind.ALL or proven & possible != possible or proven > Kind.ALL:
        raise ValueError(f"the record for {start:#x} has impossible kinds ({possible:#x}, {proven:#x})")
    if likely >= 16 or not possible >> likely & 1 or certainty >= len(CERTAINTIES):
        raise ValueError(f"the record for {start:#x} has an impossible kind or certainty ({likely}, {certainty})")
    name = CERTAINTIES[certainty]
    fitting = certainty_of(possible, proven)
    if name not in (fitting, "stated"):
        raise ValueError(f"the record for {start:#x} claims to be {name}, but its kinds are {fitting}")
    return Record(possible, proven, 1 << likely, name, sources)
