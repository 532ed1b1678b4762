"""The mapped files themselves, looked up beneath a folder, and whether they are the ones that were mapped.

Every file that a core names is opened here, by ``io.file_server``: in a child, as the core's owner, within a deadline.
The handler opens none.
"""

from __future__ import annotations

import os
import stat

from corefilt import _fast
from corefilt.corefile import images
from corefilt.corefile.elf import ELFMAG, PT_NOTE, Ehdr, Phdrs
from corefilt.errors import EvidenceError
from corefilt.io.file_server import FileServer
from corefilt.io.named_files import MOST_OF_A_FILE, WINDOW, NotUsable, Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from corefilt.io.file_server import ServedFile
    from corefilt.io.named_files import OpenFile

    # Gives the bytes at an offset, of a length; fewer where they end.
    ReadAt: TypeAlias = Callable[[int, int], bytes]

# An ELF header of ELFCLASS32; that of ELFCLASS64 is longer.
SMALLEST_EHDR = 52

NT_GNU_BUILD_ID = 3
# All notes of an image that are looked at, in bytes; those of a program are less than 1 KiB.
MOST_OF_NOTES = 1 << 16
# Linkers write 8 to 32 bytes; --build-id=0x... can be longer.
MOST_OF_A_BUILD_ID = 64

# Whose process a core is of, where root keeps it (systemd-coredump, and corefilt's handler).
_UID = "user.coredump.uid"


class MappedFile:
    """A regular file, open for reading.

    ``mode`` are the permission bits, ``uid`` is its owner, ``size`` is in bytes, ``device`` is (major, minor),
    ``mtime_ns`` and ``ctime_ns`` are in nanoseconds since the epoch; all as they were when it was opened.
    """

    __slots__ = ("_file", "ctime_ns", "device", "inode", "mode", "mtime_ns", "size", "uid")

    def __init__(self, file: OpenFile | ServedFile) -> None:
        """Take a file, which ``close`` closes."""
        self._file = file
        self.mode, self.uid, self.size = file.mode, file.uid, file.size
        self.device, self.inode = file.device, file.inode
        self.mtime_ns, self.ctime_ns = file.mtime_ns, file.ctime_ns

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; fewer only where the file ends or was cut. Raises NotUsable."""
        return self._file.read(offset, length)

    def build_id(self) -> bytes | None:
        """NT_GNU_BUILD_ID of an ELF program or shared object; None where there is none. Raises NotUsable."""
        return _build_id(self.read)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


class Sysroot:
    """A folder beneath which the files lie that a process had mapped; its name stands for ``/``."""

    def __init__(self, folder: str | bytes | os.PathLike[str], user: int | None = None) -> None:
        """Open the folder; ``user`` is as whom what is below is read (None: as we are). Raises EvidenceError."""
        self._root = Root(folder)
        self._server = FileServer(self._root, user)

    def is_root(self) -> bool:
        """Whether it is the root folder of the running system."""
        return self._root.is_root()

    def find(self, path: bytes, *, build_id: bytes | None = None, most: int = MOST_OF_A_FILE) -> MappedFile:
        """The regular file that an absolute path, as NT_FILE has it, leads to.

        ``build_id`` is the one that it must have, ``most`` its largest size in bytes. Raises NotUsable.
        """
        file = MappedFile(self._server.find(path, most=most))
        try:
            found = file.build_id() if build_id is not None else None
        except BaseException:
            file.close()
            raise
        if build_id is not None and found != build_id:
            file.close()
            raise NotUsable(f"has build-id {found.hex()}" if found is not None else "has no build-id")
        return file

    def close(self) -> None:
        """Give the folder back, and the files that were found."""
        self._server.close()
        self._root.close()


def sysroot_for(folder: str | None, core: int) -> Sysroot:
    """Where the files that a core names are looked for, by the core's open file: below ``folder``, or ``/`` for None.

    As root they are read as the owner of the core. ``/`` is for the caller's own cores only: a regular file that
    belongs to him and that nobody else can write. Raises EvidenceError.
    """
    owner = owner_of(core)
    if folder is None:
        status = os.fstat(core)
        own = stat.S_ISREG(status.st_mode) and owner == os.geteuid() == status.st_uid and not status.st_mode & 0o022
        if not own:
            raise EvidenceError(
                "files named by a core that another user owns or can write to are not looked for in /",
                "--sysroot DIR names a directory",
            )
        folder = "/"
    return Sysroot(folder, owner if os.geteuid() == 0 and owner != 0 else None)


def owner_of(core: int) -> int:
    """Whose a core is, by its open file: the process's user where root keeps it for him, or else the file's owner.

    A pipe belongs to who made it.
    """
    uid = os.fstat(core).st_uid
    if uid == 0:
        try:
            told = os.getxattr(core, _UID)
        except OSError:
            return uid
        if told.isdigit() and len(told) <= 10 and int(told) < (1 << 32) - 1:
            return int(told)
    return uid


# --- comparing --------------------------------------------------------------------------------------------


def build_id_in(first: bytes) -> bytes | None:
    """NT_GNU_BUILD_ID of an ELF image by its first bytes in memory, from file offset 0 on.

    None where it has none, or where its headers or notes reach past ``first``. Linkers put the notes into the first
    page, so that this finds what is in the core even where only the header page was dumped.
    """
    return _build_id(_reader(first))


def objection(
    file: MappedFile,
    *,
    first: bytes = b"",
    begins: int = 0,
    page_size: int = 4096,
    expected: tuple[int, int, int] | None = None,
    dumped_ns: int | None = None,
) -> str | None:
    """Why a file is not the one that was mapped, in words that follow its name; None where nothing speaks against it.

    ``first`` are the bytes that the core has of the file's offset 0, as many as there are up to MOST_OF_NOTES, or
    none; ``begins`` is the highest file offset (bytes) at which a mapping of it begins; ``expected`` is device
    (major, minor) and inode by a map of the process, to be given only if the root is the same system; ``dumped_ns``
    is when the dump was over, in nanoseconds since the epoch. Raises NotUsable where the file cannot be read.
    """
    if expected is not None and not _same_inode(file, *expected):
        return "is not the file that was mapped (its inode differs)"
    if begins >= file.size + page_size - 1 & -page_size:
        return f"is too small for what was mapped of it (at byte {begins})"
    if first and not _fast.is_zero(first):
        reason = _other_image(file, first)
        if reason is not None:
            return reason
    # A copy of the file keeps its mtime at best; ctime says something of the very inode only.
    if dumped_ns is not None and (file.mtime_ns > dumped_ns or (expected is not None and file.ctime_ns > dumped_ns)):
        return "was changed after the dump"
    return None


def first_difference(
    peek: ReadAt, at: int, file: MappedFile, file_offset: int, length: int, page_size: int
) -> int | None:
    """Where the first page of a mapping begins that differs from the file, in bytes from the mapping's begin.

    The core holds ``length`` bytes of the mapping at its offset ``at``, read by ``peek``; the file's begin at
    ``file_offset``. A page that is all zero in the core proves nothing, for that is how a page looks that could not
    be read; nor does what lies behind the file's end. None where no page differs. Raises NotUsable where the file
    cannot be read, and what ``peek`` raises.
    """
    for start in range(0, length, WINDOW):
        dumped = peek(at + start, min(WINDOW, length - start))
        if not dumped:
            return None
        if _fast.is_zero(dumped):
            continue
        stored = file.read(file_offset + start, len(dumped))
        if dumped == stored:
            continue
        for page in range(0, len(stored), page_size):
            ours, theirs = dumped[page : page + page_size], stored[page : page + page_size]
            if ours[: len(theirs)] != theirs[: len(ours)] and not _fast.is_zero(ours):
                return start + page
    return None


def _same_inode(file: MappedFile, major: int, minor: int, inode: int) -> bool:
    """Whether a map can mean this file.

    Devices of major 0 are numbered as they are mounted, and btrfs and overlayfs show another one in a map than in
    stat (Linux 6.18); there the inode has to do.
    """
    return file.inode == inode and (not major or not file.device[0] or file.device == (major, minor))


def _other_image(file: MappedFile, first: bytes) -> str | None:
    """Why the file is not the one that begins with ``first`` in memory, by build-ids or else by the ELF headers."""
    if (first[:4] == ELFMAG) != (file.read(0, 4) == ELFMAG):
        return "begins differently from what was mapped: only one of the two is ELF"
    if first[:4] != ELFMAG:
        return None
    mapped, stored = build_id_in(first), file.build_id()
    if mapped is not None and stored is not None:
        return None if mapped == stored else f"has build-id {stored.hex()}, what was mapped had {mapped.hex()}"
    return "has other ELF headers than what was mapped" if _other_headers(file, first) else None


def _other_headers(file: MappedFile, first: bytes) -> bool:
    """Whether the ELF header or the program headers differ, as far as ``first`` holds them."""
    where = images.needs(first)
    spans = [(0, SMALLEST_EHDR)] if where is None else [(0, Ehdr(first).size), where]
    for offset, length in spans:
        mapped = first[offset : offset + length]
        if file.read(offset, length)[: len(mapped)] != mapped:
            return True
    return False


def _reader(first: bytes) -> ReadAt:
    return lambda offset, length: first[offset : offset + length]


def _build_id(read: ReadAt) -> bytes | None:
    first = read(0, 64)
    where = images.needs(first)
    if where is None:
        return None
    raw, ehdr = read(*where), Ehdr(first)
    if len(raw) < where[1]:
        return None
    table = Phdrs.decode(raw, ehdr)
    left = MOST_OF_NOTES
    for i, p_type in enumerate(table.p_type):
        if p_type != PT_NOTE:
            continue
        notes = read(table.p_offset[i], min(table.p_filesz[i], left))
        left -= len(notes)
        # Notes of 8-byte alignment come in multiples of 8, so a walk by fours fits both (lib/buildid.c walks so too).
        for n_type, name, n_namesz, desc, n_descsz in _fast.walk_notes(notes, big=ehdr.big)[0]:
            named = n_type == NT_GNU_BUILD_ID and notes[name : name + n_namesz] == b"GNU\0"
            if named and 0 < n_descsz <= MOST_OF_A_BUILD_ID:
                return notes[desc : desc + n_descsz]
    return None
