"""What the payload itself shows: the first bytes of files, ELF images, and whether a page is all zero.

The few pieces that are worth a look are named before any byte is read (``wants``), so that the same facts come
from a file, where they are read beforehand, and from a pipe, where they are looked at as they pass.
"""

from __future__ import annotations

from . import _fast, images
from .elf import PF_R, PF_W, PF_X
from .mappings import NO_FILE, Mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .sources import Source

# An ELF header and its program headers nearly always stand in the first page.
FIRST_BYTES = 4096
# How much of a mapping of /dev/zero is looked at for something else than zeros.
MOST_OF_DEV_ZERO = 1 << 16
# How far into a mapping a pipe is read ahead for a program header table that stands behind the first page.
MOST_LOOK_AHEAD = 1 << 20


# Names of memory: nothing is loaded from there, and bit 4 depends on nothing that its pages say.
NO_IMAGES = (b"/dev/zero", b"/anon_hugepage", b"/[aio]", b"anon_inode:", b"socket:[")


class Payload:
    """Facts from the payload, by mapping index.

    ``first`` holds the first four bytes of a mapping, ``zero`` whether all that was looked at is zero (all of
    it for a mapping that could be [vvar]), ``images`` the images that start in it; ``pe`` the names of PE files.
    """

    __slots__ = (
        "_first_bytes",
        "_images_of",
        "_mappings",
        "_peers",
        "_starts",
        "_waiting",
        "first",
        "images",
        "pe",
        "wants",
        "zero",
    )

    def __init__(self, mappings: Mappings, vvar: Iterable[int]) -> None:
        """Name what is worth looking at; ``vvar`` are the mappings that could be [vvar]."""
        self._mappings = mappings
        self.first: dict[int, bytes] = {}
        self.zero: dict[int, bool] = {}
        self.images: dict[int, images.Image] = {}
        self.pe: set[bytes | None] = set()
        self.wants: dict[int, list[tuple[int, int]]] = {}
        self._first_bytes: dict[int, bytes] = {}
        self._peers: dict[bytes | None, list[int]] = {}
        self._starts: dict[bytes | None, set[int]] = {}
        self._images_of: dict[bytes | None, list[int]] = {}
        named = mappings.notes.files is not None
        for m in range(len(mappings)):
            present, path = mappings.present(m), mappings.path(m)
            if path is not None:
                self._peers.setdefault(path, []).append(m)
                worth_it = mappings.file_offset(m) == 0 and not path.startswith(NO_IMAGES)
            else:
                # Without NT_FILE any mapping may be an image's first, which no loader leaves writable; with
                # it, only [vdso] is one.
                worth_it = not mappings.flags(m) & PF_W and (not named or bool(mappings.flags(m) & PF_X))
            if present and worth_it and mappings.flags(m) & PF_R:
                self.wants.setdefault(m, []).append((0, min(present, FIRST_BYTES)))
        for m in vvar:
            if mappings.present(m):
                self.wants[m] = [(0, mappings.present(m))]
        for m in self._peers.get(b"/dev/zero", ()):
            if mappings.present(m):
                self.wants[m] = [(0, min(mappings.present(m), MOST_OF_DEV_ZERO))]
        self._waiting: dict[bytes | None, int] = {}
        for m in self.wants:
            self._waiting[mappings.path(m)] = self._waiting.get(mappings.path(m), 0) + 1

    def peers(self, m: int) -> list[int]:
        """All mappings of the same file, in order; with no name, all that have none."""
        if self._mappings.file[m] != NO_FILE:
            return self._peers[self._mappings.path(m)]
        if None not in self._peers:
            self._peers[None] = [i for i in range(len(self._mappings)) if self._mappings.file[i] == NO_FILE]
        return self._peers[None]

    def image_starts(self, m: int) -> list[int]:
        """The mappings of the same file in which an image starts."""
        return self._images_of.get(self._mappings.path(m), [])

    def _starts_of(self, m: int) -> set[int]:
        path = self._mappings.path(m)
        if path not in self._starts:
            self._starts[path] = {self._mappings.start(i) for i in self.peers(m)}
        return self._starts[path]

    def take(self, m: int, offset: int, piece: bytes) -> None:
        """Look at a piece that was wanted; what it shows may be worth another."""
        mappings = self._mappings
        if offset == 0 and m not in self.zero:
            self.zero[m] = _fast.is_zero(piece)
        if offset == 0 and m not in self.first:
            self.first[m] = piece[:4]
            if piece[:2] == b"MZ" and mappings.file[m] != NO_FILE:
                self.pe.add(mappings.path(m))
            where = images.needs(piece) if piece[:4] == b"\x7fELF" else None
            if where is None:
                return
            table_at, length = where
            self._first_bytes[m] = piece[:64]
            if table_at + length <= len(piece):
                self._place(m, piece[table_at : table_at + length])
            else:
                self._want_table(m, table_at, length)
        elif m in self._first_bytes:
            self._place(m, piece)

    def _want_table(self, m: int, table_at: int, length: int) -> None:
        # Tools that rewrite programs (BOLT, patchelf) move the table behind everything else; it is looked for
        # in the same mapping only when that is in the core.
        if table_at + length <= min(self._mappings.present(m), MOST_LOOK_AHEAD):
            self.wants.setdefault(m, []).append((table_at, length))

    def _place(self, m: int, raw_table: bytes) -> None:
        mappings = self._mappings
        found = images.headers(self._first_bytes.pop(m), raw_table, mappings.page_size)
        image = images.place(found, mappings.start(m), mappings.end(m), self._starts_of(m))
        if image is not None:
            self.images[m] = image
            self._images_of.setdefault(mappings.path(m), []).append(m)

    def pending(self, m: int) -> bool:
        """Whether another mapping of the same file has yet to be looked at."""
        return self._waiting.get(self._mappings.path(m), 0) > 0

    def wants_of(self, m: int) -> bool:
        """Whether any piece of the mapping is worth a look."""
        return m in self.wants

    def look(self, m: int, source: Source) -> None:
        """Look at all that is wanted of one mapping."""
        offset = self._mappings.table.p_offset[self._mappings.phdr[m]]
        if m in self.wants:
            self._waiting[self._mappings.path(m)] -= 1
        while m in self.wants:
            for start, length in self.wants.pop(m):
                piece = source.peek(offset + start, length)
                if len(piece) == length:
                    self.take(m, start, piece)

    def read_from(self, source: Source) -> None:
        """Look at everything that is wanted, in a source that can be sought."""
        for m in sorted(self.wants):
            self.look(m, source)
