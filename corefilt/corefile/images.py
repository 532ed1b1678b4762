"""ELF images among the mapped files: their own program headers say which of their pages were written to."""

from __future__ import annotations

import struct

from corefilt.corefile.elf import ET_DYN, ET_EXEC, PF_W, PT_GNU_RELRO, PT_LOAD, Ehdr, Phdrs

# Linkers write some 15 program headers; what has more than this is no loadable object.
MOST_PHDRS = 256


class ImageHeaders:
    """The program headers of an ELF program or shared object, before it is known where it was loaded."""

    __slots__ = ("drifts", "high", "low", "segments", "writable")

    def __init__(self, table: Phdrs, page_size: int) -> None:
        """Take PT_LOADs with bytes in the file, and what is written to: writable ones and PT_GNU_RELRO.

        ``segments`` holds (first page's address, address behind the last page, first page's file offset),
        ``writable`` (first page's address, address behind), all before relocation; ``low`` and ``high`` bound
        them, ``drifts`` are their differences of address and file offset.
        """
        self.segments: list[tuple[int, int, int]] = []
        self.writable: list[tuple[int, int]] = []
        mask = ~(page_size - 1)
        for i, p_type in enumerate(table.p_type):
            start, size = table.p_vaddr[i], table.p_filesz[i]
            if p_type == PT_LOAD and size:
                end = (start + size + page_size - 1) & mask
                self.segments.append((start & mask, end, table.p_offset[i] & mask))
                if table.p_flags[i] & PF_W:
                    self.writable.append((start & mask, end))
            elif p_type == PT_GNU_RELRO and table.p_memsz[i]:
                self.writable.append((start & mask, (start + table.p_memsz[i] + page_size - 1) & mask))
        self.low = min((start for start, _, _ in self.segments), default=0)
        self.high = max((end for _, end, _ in self.segments), default=0)
        self.drifts = {start - offset for start, _, offset in self.segments}

    def unwritten(self, start: int, end: int) -> bool:
        """Whether file offsets ``[start, end)`` lie in one segment, and in no part of it that is written to."""
        return any(
            offset <= start
            and end <= offset + high - low
            and not any(s < low + end - offset and low + start - offset < e for s, e in self.writable)
            for low, high, offset in self.segments
        )


class Image:
    """An image where it was loaded: what belongs to it, and what of it was written to."""

    __slots__ = ("bias", "headers", "low")

    def __init__(self, headers: ImageHeaders, bias: int) -> None:
        """Place the headers at ``bias``, the difference of address and p_vaddr."""
        self.headers, self.bias = headers, bias
        self.low = headers.low + bias

    def holds(self, start: int, end: int, file_offset: int | None) -> bool:
        """Whether a mapping lies in one of the image's segments, or in the gap that its loader left behind one.

        The loader maps every segment so that address less file offset is fixed; a gap (PROT_NONE) keeps the
        difference of the segment before it.
        """
        if start < self.low or end > self.headers.high + self.bias:
            return False
        if file_offset is None:
            return any(s + self.bias <= start and end <= e + self.bias for s, e, _ in self.headers.segments)
        return start - file_offset - self.bias in self.headers.drifts

    def wrote(self, start: int, end: int) -> bool:
        """Whether the mapping overlaps what the loader or the program writes to."""
        return any(s + self.bias < end and start < e + self.bias for s, e in self.headers.writable)


def needs(first: bytes) -> tuple[int, int] | None:
    """Where the program headers of an ELF image stand, as file offset and length, or None for what is no image."""
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
    return ImageHeaders(Phdrs.decode(raw_table, Ehdr(first)), page_size)


def place(found: ImageHeaders, start: int, end: int, starts: set[int]) -> Image | None:
    """Place an image whose file offset 0 is mapped at ``[start, end)``.

    ``starts`` are where mappings begin that could belong to it. An image must fit its layout: two of its segments begin
    where mappings do, or its only segment is this mapping. A file that was merely mapped to be read does not.
    """
    first = next((segment for segment in found.segments if segment[2] == 0), None)
    if first is None:
        return None
    image = Image(found, start - first[0])
    if len(found.segments) == 1:
        return image if end - start == first[1] - first[0] else None
    fitting = sum(segment[0] + image.bias in starts for segment in found.segments)
    return image if fitting >= 2 else None
