"""What the payload itself shows: the first bytes of files, ELF images, and whether a page is all zero.

The few pieces that are worth a look are named before any byte is read (``wants``), so that the same facts come
from a file, where they are read beforehand, and from a pipe, where they are looked at as they pass.
"""

from __future__ import annotations

from bisect import bisect_right, insort

from corefilt import _fast
from corefilt.corefile import images
from corefilt.corefile.elf import ELFMAG, PF_R, PF_W, PF_X
from corefilt.corefile.mappings import NO_FILE, Mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from corefilt.corefile.images import Image
    from corefilt.io.sources import Source

# An ELF header and its program headers nearly always stand in the first page.
FIRST_BYTES = 4096
# How much of a mapping of /dev/zero is looked at for something else than zeros.
MOST_OF_DEV_ZERO = 1 << 16
# How many images can seem to lie in one another.
MOST_NESTED = 4
# Segments of images that are remembered in all; the most that a browser of 300 libraries has is some thousands.
MOST_SEGMENTS = 1 << 18
# How far into a mapping a pipe is read ahead for a program header table that stands behind the first page.
MOST_LOOK_AHEAD = 1 << 20
# How far behind an image's first page a pipe is read ahead for its dynamic section. Text waits for that: what lies
# farther is written first and taken out of the file again. Of 1,898 programs and libraries in Debian 12's /usr/bin and
# /usr/lib, 34 are larger than 8 MiB.
MOST_AHEAD_TO_DYNAMIC = 8 << 20


# Names of memory: nothing is loaded from there, and bit 4 depends on nothing that its pages say.
NO_IMAGES = (b"/dev/zero", b"/anon_hugepage", b"/[aio]", b"anon_inode:", b"socket:[")


class Payload:
    """Facts from the payload, by mapping index.

    ``first`` holds the first four bytes of a mapping, ``zero`` whether all that was looked at is zero (all of
    it for a mapping that could be [vvar]), ``images`` the images that start in it; ``pe`` the names of PE files.
    ``held`` are the pieces that were asked for by their addresses. Of a file whose first page a run in place dropped,
    but did not take yet, that page is looked at: the next run decides by what the first one saw.
    """

    __slots__ = (
        "_dropped",
        "_dynamics",
        "_first_bytes",
        "_headers",
        "_held_at",
        "_images_of",
        "_mappings",
        "_segments",
        "_starts",
        "_waiting",
        "first",
        "held",
        "images",
        "pe",
        "seen",
        "wants",
        "zero",
    )

    def __init__(self, mappings: Mappings, vvar: Iterable[int], pieces: Iterable[tuple[int, int]] = ()) -> None:
        """Name what is worth looking at.

        ``vvar`` are the mappings that could be [vvar], ``pieces`` are addresses with the most bytes to hold from there.
        """
        self.held: dict[int, bytes] = {}
        self._held_at: dict[tuple[int, int], int] = {}
        self._mappings = mappings
        self.first: dict[int, bytes] = {}
        self.zero: dict[int, bool] = {}
        self.images: dict[int, images.Image] = {}
        self.pe: set[bytes | None] = set()
        self.wants: dict[int, list[tuple[int, int]]] = {}
        self._first_bytes: dict[int, bytes] = {}
        self._starts: dict[bytes | None, dict[int, tuple[int | None, int]]] = {}
        # Images whose dynamic section has yet to be seen, by the mapping that holds it.
        self._dynamics: dict[int, list[Image]] = {}
        self._images_of: dict[bytes | None, list[Image]] = {}
        self._headers: dict[tuple[bytes, bytes], images.ImageHeaders] = {}
        self._segments = 0
        self._dropped: set[int] = set()
        named, p_filesz, dropped = mappings.notes.files is not None, mappings.table.p_filesz, mappings.dropped
        image = [not path.startswith(NO_IMAGES) for path in mappings.names]
        first = [
            m for m in mappings.matching(named=True, mask=PF_R, flags=PF_R, sizes=p_filesz, least=1)
            if not mappings.offset[m] and image[mappings.name[m]]
        ]  # fmt: skip
        # Without NT_FILE any mapping may be an image's first, which no loader leaves writable; with it, only [vdso] is
        # one.
        flags = PF_R | PF_X if named else PF_R
        first += mappings.matching(named=False, mask=flags | PF_W, flags=flags, sizes=p_filesz, least=1)
        self.wants = {m: [(0, min(mappings.present(m), FIRST_BYTES))] for m in sorted(first)}
        if dropped:
            for m in (mappings.of_row(i) for i, size in dropped.items() if size >= FIRST_BYTES):
                if m is None or m in self.wants or not mappings.flags(m) & PF_R:
                    continue
                k = mappings.name[m]
                if k != NO_FILE and image[k] and not mappings.offset[m]:
                    self.wants[m] = [(0, FIRST_BYTES)]
                    self._dropped.add(m)
        for m in vvar:
            if mappings.present(m):
                self.wants[m] = [(0, mappings.present(m))]
        for m in mappings.of_name(mappings.names.index(b"/dev/zero")) if b"/dev/zero" in mappings.names else ():
            if mappings.present(m):
                self.wants[m] = [(0, min(mappings.present(m), MOST_OF_DEV_ZERO))]
        for address, most in pieces:
            self._want_held(address, most)
        self.seen: set[bytes | None] = set()
        self._waiting: dict[bytes | None, int] = {}
        for m in self.wants:
            self._waiting[mappings.path(m)] = self._waiting.get(mappings.path(m), 0) + 1

    def _want_held(self, address: int, most: int) -> None:
        mappings = self._mappings
        for m in range(len(mappings)):
            at = address - mappings.start(m)
            if 0 <= at < min(mappings.present(m), MOST_LOOK_AHEAD):
                self.wants.setdefault(m, []).append((at, min(most, mappings.present(m) - at)))
                self._held_at[m, at] = address
                return

    def peers(self, m: int) -> Sequence[int]:
        """All mappings of the same file, in order; with no name, all that have none."""
        if self._mappings.file[m] != NO_FILE:
            return self._mappings.of_name(self._mappings.name[m])
        return self._mappings.matching(named=False)

    def undecided(self, path: bytes | None) -> bool:
        """Whether mappings of a file differ by what was seen of it, or may when more is: images are, and may be."""
        return path in self._images_of or self._waiting.get(path, 0) > 0

    def image_of(self, m: int) -> Image | None:
        """The image that the mapping belongs to; of several that could hold it, the lowest."""
        mappings = self._mappings
        placed = self._images_of.get(mappings.path(m), [])
        start, end, offset = mappings.start(m), mappings.end(m), mappings.file_offset(m)
        at = bisect_right(placed, start, key=lambda image: image.low)
        holding = [image for image in placed[max(at - MOST_NESTED, 0) : at] if image.holds(start, end, offset)]
        return holding[0] if holding else None

    def holds_unwritten(self, m: int) -> bool:
        """Whether the mapping's part of the file lies in a segment of one of its images that nobody writes to."""
        mappings = self._mappings
        offset = mappings.file_offset(m)
        if offset is None:
            return False
        end = offset + mappings.end(m) - mappings.start(m)
        return any(image.headers.unwritten(offset, end) for image in self._images_of.get(mappings.path(m), ()))

    def _starts_of(self, m: int) -> dict[int, tuple[int | None, int]]:
        mappings = self._mappings
        path = mappings.path(m)
        if path not in self._starts:
            self._starts[path] = {
                mappings.start(i): (mappings.file_offset(i), mappings.flags(i)) for i in self.peers(m)
            }
        return self._starts[path]

    def take(self, m: int, offset: int, piece: bytes) -> None:
        """Look at a piece that was wanted; what it shows may be worth another."""
        mappings = self._mappings
        if (m, offset) in self._held_at:
            self.held[self._held_at.pop((m, offset))] = piece
            return
        if m in self._dropped:
            self._take_dropped(m, piece)
            return
        if offset == 0 and m not in self.zero:
            self.zero[m] = _fast.is_zero(piece)
        if offset == 0 and m not in self.first:
            self.first[m] = piece[:4]
            self.seen.add(mappings.path(m))
            if piece[:2] == b"MZ" and mappings.file[m] != NO_FILE:
                self.pe.add(mappings.path(m))
            where = images.needs(piece) if piece[:4] == ELFMAG else None
            if where is None:
                return
            table_at, length = where
            self._first_bytes[m] = piece[:64]
            if table_at + length <= len(piece):
                self._place(m, piece[table_at : table_at + length])
            else:
                self._want_table(m, table_at, length)
        elif m in self._first_bytes and images.needs(self._first_bytes[m]) == (offset, len(piece)):
            self._place(m, piece)

    def _take_dropped(self, m: int, piece: bytes) -> None:
        """Look at a first page that no header claims; of one that is a hole in part, nothing is believed."""
        path = self._mappings.path(m)
        if piece[:2] == b"MZ":
            self.pe.add(path)
        where = images.needs(piece) if piece[:4] == ELFMAG else None
        # A hole takes the end of a page, and p_align is the last field of a program header.
        word = 8 if where and piece[4] == 2 else 4
        if where is None or sum(where) > len(piece) or not any(piece[sum(where) - word : sum(where)]):
            return
        self.seen.add(path)
        self._first_bytes[m] = piece[:64]
        self._place(m, piece[where[0] : sum(where)])

    def _want_table(self, m: int, table_at: int, length: int) -> None:
        # Tools that rewrite programs (BOLT, patchelf) move the table behind everything else; it is looked for
        # in the same mapping only when that is in the core.
        if table_at + length <= min(self._mappings.present(m), MOST_LOOK_AHEAD):
            self.wants.setdefault(m, []).append((table_at, length))

    def _place(self, m: int, raw_table: bytes) -> None:
        mappings = self._mappings
        first = self._first_bytes.pop(m)
        if (first, raw_table) not in self._headers:
            if self._segments > MOST_SEGMENTS:
                return
            found = images.headers(first, raw_table, mappings.page_size)
            self._headers[first, raw_table] = found
            self._segments += len(found.segments)
        found = self._headers[first, raw_table]
        image = images.place(found, mappings.start(m), mappings.end(m), self._starts_of(m))
        if image is None:
            return
        placed = self._images_of.setdefault(mappings.path(m), [])
        same = next((one for one in placed if one.headers is found and one.bias == image.bias), None)
        self.images[m] = same or image
        if same is None:
            insort(placed, image, key=lambda image: image.low)
            self._want_dynamic(m, image)

    def _want_dynamic(self, m: int, image: Image) -> None:
        if image.headers.dynamic is None:
            return
        address = image.headers.dynamic[0] + image.bias
        for i in self.peers(m):
            if 0 <= address - self._mappings.start(i) < self._mappings.present(i):
                self._dynamics.setdefault(i, []).append(image)
                return

    def look_for_textrel(self, peek: Callable[[int, int], bytes], low: int = 0, high: int = 1 << 64) -> None:
        """Read the dynamic sections that tell of relocated text, those within ``[low, high)`` of the core.

        ``peek`` reads a length at an offset of the core.
        """
        mappings = self._mappings
        for m, found in list(self._dynamics.items()):
            left = []
            for image in found:
                address, size = image.headers.dynamic or (0, 0)
                at = address + image.bias - mappings.start(m)
                offset = mappings.table.p_offset[mappings.phdr[m]] + at
                length = min(size, images.MOST_OF_DYNAMIC, mappings.present(m) - at)
                if low <= offset and offset + length <= high:
                    image.textrel = image.headers.has_textrel(peek(offset, length))
                else:
                    left.append(image)
            del self._dynamics[m]
            if left:
                self._dynamics[m] = left

    def pending(self, m: int) -> bool:
        """Whether another mapping of the same file has yet to be looked at."""
        if self._mappings.file[m] == NO_FILE and self._mappings.notes.files is not None:
            # With NT_FILE no image is nameless, so these do not speak for each other.
            return m in self.wants
        return self._waiting.get(self._mappings.path(m), 0) > 0

    def wants_of(self, m: int) -> bool:
        """Whether any piece of the mapping is worth a look."""
        return m in self.wants or m in self._dynamics

    @property
    def wanted(self) -> set[int]:
        """The mappings of which any piece is worth a look."""
        return {*self.wants, *self._dynamics}

    def look(self, m: int, source: Source) -> None:
        """Look at all that is wanted of one mapping."""
        offset = self._mappings.table.p_offset[self._mappings.phdr[m]]
        if m in self.wants:
            self._waiting[self._mappings.path(m)] -= 1
        while m in self.wants:
            for start, length in self.wants.pop(m):
                # Of a segment that is cut, as much as a core claims that is filtered from it.
                piece = source.peek(offset + start, length)
                if piece:
                    self.take(m, start, piece)
        if not self._dynamics:
            return
        self.look_for_textrel(source.peek, *source.reachable(MOST_AHEAD_TO_DYNAMIC))

    def read_from(self, source: Source) -> None:
        """Look at everything that is wanted, in a source that can be sought."""
        for m in sorted(self.wants):
            self.look(m, source)
