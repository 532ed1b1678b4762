"""The mapped files themselves, looked up beneath a folder, and whether they are the ones that were mapped.

Names come from a core and are hostile, and so may be the tree: every component is opened by itself as O_PATH without
following it, links are read and resolved inside the folder, and only what turns out to be a regular file is opened
for reading.
"""

from __future__ import annotations

import os
import stat

from corefilt import _fast
from corefilt.corefile import images
from corefilt.corefile.elf import ELFMAG, PT_NOTE, Ehdr, Phdrs
from corefilt.errors import EvidenceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    # Gives the bytes at an offset, of a length; fewer where they end.
    Reader: TypeAlias = Callable[[int, int], bytes]

# How the kernel names memory that is mapped like a file; what does not begin with "/" is none either.
NO_FILES = (b"/memfd:", b"/SYSV", b"/dev/zero", b"/anon_hugepage", b"/[aio]")
DELETED = b" (deleted)"

# The kernel follows no more links for one name (MAXSYMLINKS in include/linux/namei.h).
MOST_LINKS = 40
# Names that one path may lead through, links included, and folders in one another with the root, each of them an open
# descriptor; paths of 10 names are common.
MOST_NAMES = 1 << 12
MOST_FOLDERS = 256

# Files are read and compared in windows of this size; a multiple of any page.
WINDOW = 1 << 20

# An ELF header of ELFCLASS32; that of ELFCLASS64 is longer.
SMALLEST_EHDR = 52

NT_GNU_BUILD_ID = 3
# All notes of an image that are looked at, in bytes; those of a program are less than 1 KiB.
MOST_OF_NOTES = 1 << 16
# Linkers write 8 to 32 bytes; --build-id=0x... can be longer.
MOST_OF_A_BUILD_ID = 64

_CLOSED = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_NO_FILE_TO_READ = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFIFO: "is a FIFO",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


class NotUsable(EvidenceError):
    """One file cannot serve as evidence; ``str()`` goes on where the file's name ends ("is not there")."""


class MappedFile:
    """A regular file, open for reading.

    ``mode`` are the permission bits, ``size`` is in bytes, ``device`` is (major, minor), ``mtime_ns`` and
    ``ctime_ns`` are in nanoseconds since the epoch; all as they were when it was opened.
    """

    __slots__ = ("_fd", "ctime_ns", "device", "inode", "mode", "mtime_ns", "size")

    def __init__(self, fd: int) -> None:
        """Take a descriptor, which ``close`` closes."""
        status = os.fstat(fd)
        self._fd = fd
        self.mode, self.size = stat.S_IMODE(status.st_mode), status.st_size
        self.device, self.inode = (os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino
        self.mtime_ns, self.ctime_ns = status.st_mtime_ns, status.st_ctime_ns

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes at ``offset``; fewer only where the file ends or was cut. Raises NotUsable."""
        left = min(length, self.size - offset)
        pieces = []
        while left > 0:
            try:
                piece = os.pread(self._fd, min(left, WINDOW), offset)
            except OSError as error:
                raise NotUsable(f"cannot be read at byte {offset}: {error.strerror}") from None
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            left -= len(piece)
        return b"".join(pieces)

    def build_id(self) -> bytes | None:
        """NT_GNU_BUILD_ID of an ELF program or shared object; None where there is none. Raises NotUsable."""
        return _build_id(self.read)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Sysroot:
    """A folder beneath which the files lie that a process had mapped; its name stands for ``/``."""

    def __init__(self, folder: str | bytes | os.PathLike[str]) -> None:
        """Open the folder. Raises EvidenceError."""
        self._root = -1
        name = os.fsdecode(folder)
        if not os.path.isdir("/proc/self/fd"):
            raise EvidenceError(f"{name}: cannot be looked through without /proc", "mount /proc")
        try:
            self._root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise EvidenceError(f"{name}: {getattr(error, 'strerror', None) or error}") from None

    def is_root(self) -> bool:
        """Whether it is the root folder of the running system."""
        return os.path.samestat(os.fstat(self._root), os.stat("/"))

    def find(self, path: bytes) -> MappedFile:
        """The regular file that an absolute path, as NT_FILE has it, leads to. Raises NotUsable."""
        reason = why_no_file(path)
        if reason is not None:
            raise NotUsable(reason)
        try:
            place = self._walk(path)
            try:
                return _reopened(place)
            finally:
                os.close(place)
        except OSError as error:
            raise NotUsable(f"cannot be opened: {error.strerror}") from None

    def _walk(self, path: bytes) -> int:
        """The O_PATH descriptor of what a path leads to, which is no folder and no link. Raises NotUsable, OSError.

        ``..`` goes back to the folder that was come from, never through the file system: so no move of a folder
        while it is walked through leads out of the root.
        """
        folders = [self._root]
        ahead = _names(path)
        links = opened = 0
        try:
            while ahead:
                name = ahead.pop()
                opened += 1
                if opened + len(ahead) > MOST_NAMES:
                    raise NotUsable("leads through too many folders")
                if name == b".":
                    continue
                if name == b"..":
                    _leave(folders, 1)
                    continue
                # From here on it is closed with the folders.
                folders.append(_step(name, folders[-1]))
                kind = stat.S_IFMT(os.fstat(folders[-1]).st_mode)
                if kind == stat.S_IFLNK:
                    links += 1
                    if links > MOST_LINKS:
                        raise NotUsable(f"leads through more than {MOST_LINKS} links")
                    _refuse_made_up(folders[-1])
                    target = os.readlink(b"", dir_fd=folders[-1])
                    _leave(folders, len(folders) if target.startswith(b"/") else 1)
                    ahead += _names(target)
                elif kind != stat.S_IFDIR:
                    if ahead:
                        raise NotUsable("leads through what is no folder")
                    return folders.pop()
                elif len(folders) > MOST_FOLDERS:
                    raise NotUsable("leads through too many folders")
            raise NotUsable(_NO_FILE_TO_READ[stat.S_IFDIR])
        finally:
            _leave(folders, len(folders))

    def close(self) -> None:
        """Give the descriptor back; files that were found stay open."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def why_no_file(path: bytes) -> str | None:
    """Why a name cannot be that of a file on a disk, by its wording alone; None where it can."""
    if path.startswith(NO_FILES) or not path.startswith(b"/"):
        return "is no file"
    if path.endswith(DELETED):
        return "was deleted"
    return "is no name of a file" if b"\0" in path else None


def _names(path: bytes) -> list[bytes]:
    """The components of a path, the last first; a ``.`` stands for the folder that a slash at the end demands."""
    names = [name for name in path.split(b"/") if name]
    if path.endswith(b"/"):
        names.append(b".")
    return names[::-1]


def _step(name: bytes, folder: int) -> int:
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise NotUsable("is not there") from None


def _leave(folders: list[int], count: int) -> None:
    """Close the last ``count`` folders, but never the first, which is the root."""
    for _ in range(min(count, len(folders) - 1)):
        os.close(folders.pop())


def _refuse_made_up(place: int) -> None:
    """Refuse what the kernel makes up when it is read: reading it waits, takes it away from others or does worse.

    Such file systems (proc, sysfs, tracefs and their kin) use ``simple_statfs`` of fs/libfs.c, which counts no
    blocks; so do ramfs and hugetlbfs. Their links, magic ones among them, are not followed either.
    """
    if os.fstatvfs(place).f_blocks == 0:
        raise NotUsable("lies in a file system that has no blocks, as /proc and /sys")


def _reopened(place: int) -> MappedFile:
    """What an O_PATH descriptor stands for, opened for reading if it is regular. Raises NotUsable or OSError."""
    status = os.fstat(place)
    if not stat.S_ISREG(status.st_mode):
        raise NotUsable(_NO_FILE_TO_READ.get(stat.S_IFMT(status.st_mode), "is no regular file"))
    _refuse_made_up(place)
    again = f"/proc/self/fd/{place}"
    try:
        # Only the owner may read without leaving a trace.
        fd = os.open(again, os.O_RDONLY | _CLOSED | os.O_NOATIME)
    except PermissionError:
        fd = os.open(again, os.O_RDONLY | _CLOSED)
    try:
        if not os.path.samestat(status, os.fstat(fd)):
            raise NotUsable("is not what /proc/self/fd shows")
        return MappedFile(fd)
    except BaseException:
        os.close(fd)
        raise


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
        return "is another file (inode) than was mapped"
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
    peek: Reader, at: int, file: MappedFile, file_offset: int, length: int, page_size: int
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
        return "begins otherwise than what was mapped: one of the two is ELF"
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


def _reader(first: bytes) -> Reader:
    return lambda offset, length: first[offset : offset + length]


def _build_id(read: Reader) -> bytes | None:
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
