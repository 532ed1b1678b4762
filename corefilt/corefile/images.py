"""ELF images among the mapped files: their own program headers say which of their pages were written to."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import (
    DT_FLAGS,
    DT_NULL,
    DT_TEXTREL,
    ET_DYN,
    ET_EXEC,
    PF_W,
    PT_DYNAMIC,
    PT_GNU_RELRO,
    PT_LOAD,
    Ehdr,
    Phdrs,
)

# Linkers write some 15 program headers; what has more than this is not a loadable object.
MOST_PHDRS = 256

DF_TEXTREL = 4
# A dynamic section has some 30 entries of 16 bytes, and one for every library that is needed.
MOST_OF_DYNAMIC = 1 << 14


class ImageHeaders:
    """The program headers of an ELF program or shared object, before it is known where it was loaded."""

    __slots__ = ("drifts", "dynamic", "form", "high", "low", "segments", "touched", "writable")

    def __init__(self, table: Phdrs, ehdr: Ehdr, page_size: int) -> None:
        """Take PT_LOADs with bytes in the file, and what is written to: writable ones and PT_GNU_RELRO.

        ``segments`` holds (first page's address, address behind the last page, first page's file offset, p_flags),
        ``writable`` (first page's address, address behind), ``touched`` those of the writable ones that the loader
        itself writes to, ``dynamic`` PT_DYNAMIC's address and length, all before relocation; ``low`` and ``high`` bound
        the segments, ``drifts`` are their differences of address and file offset.
        """
        self.segments: list[tuple[int, int, int, int]] = []
        self.writable: list[tuple[int, int]] = []
        self.touched: list[tuple[int, int]] = []
        self.dynamic: tuple[int, int] | None = None
        self.form = struct.Struct(ehdr.order + ("qQ" if ehdr.wide else "iI"))
        mask = ~(page_size - 1)
        # The loader writes where it relocates (PT_GNU_RELRO is made unwritable afterwards), and into PT_DYNAMIC.
        known: list[tuple[int, int]] = []
        cleared: set[tuple[int, int]] = set()
        for i, p_type in enumerate(table.p_type):
            start, size = table.p_vaddr[i], table.p_filesz[i]
            if p_type == PT_LOAD and size:
                span = start & mask, (start + size + page_size - 1) & mask
                self.segments.append((*span, table.p_offset[i] & mask, table.p_flags[i] & 7))
                if table.p_flags[i] & PF_W:
                    self.writable.append(span)
                    # The rest of the last page is cleared for .bss (padzero in fs/binfmt_elf.c, and ld.so).
                    if table.p_memsz[i] > size and (start + size) & ~mask:
                        cleared.add(span)
            elif p_type == PT_GNU_RELRO and table.p_memsz[i]:
                span = start & mask, (start + table.p_memsz[i] + page_size - 1) & mask
                self.writable.append(span)
                known.append(span)
            elif p_type == PT_DYNAMIC and size:
                self.dynamic = start, size
                known.append((start, start + size))
        for low, high in self.writable:
            if (low, high) in cleared or any(a < high and low < b for a, b in known):
                self.touched.append((low, high))
        self.low = min((segment[0] for segment in self.segments), default=0)
        self.high = max((segment[1] for segment in self.segments), default=0)
        self.drifts = {start - offset for start, _, offset, _ in self.segments}

    def unwritten(self, start: int, end: int) -> bool:
        """Whether file offsets ``[start, end)`` lie in one segment, and in no part of it that is written to."""
        return any(
            offset <= start
            and end <= offset + high - low
            and not any(s < low + end - offset and low + start - offset < e for s, e in self.writable)
            for low, high, offset, _ in self.segments
        )

    def has_textrel(self, piece: bytes) -> bool | None:
        """Whether a dynamic section says that text is relocated; None where the section does not end in ``piece``."""
        entries = list(self.form.iter_unpack(piece[: len(piece) // self.form.size * self.form.size]))
        tags = [tag for tag, _ in entries]
        # A section that begins with its end is one that was not dumped: pages of zeros stand in its place.
        if DT_NULL not in tags[1:] or tags[0] == DT_NULL:
            return None
        used = entries[: tags.index(DT_NULL)]
        return any(tag == DT_TEXTREL or (tag == DT_FLAGS and value & DF_TEXTREL) for tag, value in used)


class Image:
    """An image where it was loaded: what belongs to it, and what of it was written to.

    ``textrel`` tells whether its text was relocated (DT_TEXTREL), None where its dynamic section has not been seen.
    """

    __slots__ = ("bias", "headers", "low", "textrel")

    def __init__(self, headers: ImageHeaders, bias: int) -> None:
        """Place the headers at ``bias``, the difference of address and p_vaddr."""
        self.headers, self.bias = headers, bias
        self.low = headers.low + bias
        self.textrel: bool | None = False if headers.dynamic is None else None

    def holds(self, start: int, end: int, file_offset: int | None) -> bool:
        """Whether a mapping lies in one of the image's segments, or in the gap that its loader left behind one.

        The loader maps every segment so that address less file offset is fixed; a gap (PROT_NONE) keeps the
        difference of the segment before it.
        """
        if start < self.low or end > self.headers.high + self.bias:
            return False
        if file_offset is None:
            return any(s + self.bias <= start and end <= e + self.bias for s, e, _, _ in self.headers.segments)
        return start - file_offset - self.bias in self.headers.drifts

    def wrote(self, start: int, end: int) -> bool:
        """Whether the mapping overlaps what the loader or the program may write to."""
        return any(s + self.bias < end and start < e + self.bias for s, e in self.headers.writable)

    def loader_wrote(self, start: int, end: int) -> bool:
        """Whether the mapping is of a writable segment that the loader itself writes to, be it elsewhere in it.

        What mprotect splits afterwards was one mapping when it was written to, and both halves count as written.
        """
        return any(s + self.bias < end and start < e + self.bias for s, e in self.headers.touched)

    def flags_within(self, start: int, end: int) -> set[int]:
        """The p_flags of the segments that a mapping overlaps; none for a gap between them."""
        at, to = start - self.bias, end - self.bias
        return {flags for s, e, _, flags in self.headers.segments if s < to and at < e}

    def in_one_segment(self, start: int, end: int) -> bool:
        """Whether addresses ``[start, end)`` lie in one segment."""
        return any(s + self.bias <= start and end <= e + self.bias for s, e, _, _ in self.headers.segments)


def needs(first: bytes) -> tuple[int, int] | None:
    """Where the program headers of an ELF image stand, as file offset and length, or None for what is not an image."""
    try:
        ehdr = Ehdr(first)
    except (ValueError, struct.error):
        return None
    if ehdr.e_type not in (ET_EXEC, ET_DYN) or ehdr.e_phentsize != ehdr.phdr_size:
        return None
    if not 0 < ehdr.e_phnum <= MOST_PHDRS:
        return None
    return ehdr.e_phoff, ehdr.e_phnum * ehdr.phdr_size


def headers(first: bytes, raw_table: bytes, page_size: int) -> ImageHeaders:
    """The image's headers from its first bytes and the bytes that ``needs`` asked for."""
    ehdr = Ehdr(first)
    return ImageHeaders(Phdrs.decode(raw_table, ehdr), ehdr, page_size)


def place(found: ImageHeaders, start: int, end: int, starts: dict[int, tuple[int | None, int]]) -> Image | None:
    """Place an image whose file offset 0 is mapped at ``[start, end)``.

    ``starts`` has, by address, file offset (None if unknown) and flags of the mappings that could belong to it. An
    image must fit its layout: two of its segments begin where mappings of their file offsets do, or its only segment
    is this mapping. A file that was merely mapped to be read does not. Where code and data share a page of the file,
    more than one segment begins with file offset 0, and the place that more mappings fit is the image's.
    """
    first = [segment for segment in found.segments if segment[2] == 0]
    if not first:
        return None
    if len(found.segments) == 1:
        low, high, _, _ = first[0]
        return Image(found, start - low) if end - start == high - low else None
    (fitting, _), bias = max((_fit(found, start - segment[0], starts), segment[0] - start) for segment in first)
    return Image(found, -bias) if fitting >= 2 else None


def _fit(found: ImageHeaders, bias: int, starts: dict[int, tuple[int | None, int]]) -> tuple[int, int]:
    """How many segments begin where a mapping of their file offset does, and how many of those have its flags."""
    fitting = alike = 0
    for low, _, offset, flags in found.segments:
        there = starts.get(low + bias)
        if there is not None and there[0] in (None, offset):
            fitting += 1
            # What the loader relocates it makes unwritable.
            alike += there[1] in (flags, flags & ~PF_W)
    return fitting, alike
