"""Files whose names somebody else chose, a core above all: found below a directory, and opened without harm.

Names come from a core and are hostile, and so may be the tree. openat2(2) resolves a name inside the root
(RESOLVE_IN_ROOT) and follows no magic link (RESOLVE_NO_MAGICLINKS). It gives an O_PATH descriptor, which touches
nothing, and only what turns out to be a regular file is opened for reading. Where openat2 is missing (before Linux 5.6,
behind older seccomp filters), for names longer than it takes, and for words about what it refused, the same is done
name by name.

None of this bounds the time that a file system takes to answer, nor does it change whose rights are used: for that,
``file_server`` does it in a child.
"""

from __future__ import annotations

import errno
import os
import stat

from corefilt.errors import EvidenceError

# How the kernel names memory that is mapped like a file; what does not begin with "/" is none either.
NO_FILES = (b"/memfd:", b"/SYSV", b"/dev/zero", b"/anon_hugepage", b"/[aio]")
DELETED = b" (deleted)"

# The kernel follows no more links for one name (MAXSYMLINKS in include/linux/namei.h).
MOST_LINKS = 40
# Names that one path may lead through, links included, and folders in one another with the root, each of them an open
# descriptor; paths of 10 names are common.
MOST_NAMES = 1 << 12
MOST_FOLDERS = 256
# A name of the kernel's has PATH_MAX (4096) bytes at most; deeper trees can be walked, so 16 times that.
MOST_OF_A_NAME = 1 << 16
# No file is larger than what corefilt reads of it; this only keeps sums of offsets far from 2^63.
MOST_OF_A_FILE = 1 << 50

# Files are read in windows of this size; a multiple of any page.
WINDOW = 1 << 20

# openat2(2) has this number on all machines that number system calls anew since Linux 5.1: not alpha, not mips.
_SYS_OPENAT2 = 437
_NUMBERED_OTHERWISE = ("alpha", "mips")
# include/uapi/linux/openat2.h.
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
# A directory that is renamed meanwhile makes a step back uncertain (EAGAIN); that often it is tried again.
_TRIES = 8

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


class OpenFile:
    """A regular file, open for reading.

    ``mode`` are the permission bits, ``uid`` is its owner, ``size`` is in bytes, ``device`` is (major, minor),
    ``mtime_ns`` and ``ctime_ns`` are in nanoseconds since the epoch; all as they were when it was opened.
    """

    __slots__ = ("_fd", "ctime_ns", "device", "inode", "mode", "mtime_ns", "size", "uid")

    def __init__(self, fd: int) -> None:
        """Take a descriptor, which ``close`` closes."""
        status = os.fstat(fd)
        self._fd = fd
        self.mode, self.uid, self.size = stat.S_IMODE(status.st_mode), status.st_uid, status.st_size
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

    def read_into(self, offset: int, room: memoryview) -> int:
        """How many bytes one read at ``offset`` gave, up to the room and the size at first. Raises NotUsable."""
        left = min(len(room), self.size - offset)
        try:
            return os.preadv(self._fd, [room[:left]], offset) if left > 0 else 0
        except OSError as error:
            raise NotUsable(f"cannot be read at byte {offset}: {error.strerror}") from None

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Root:
    """A folder beneath which files are found; its name stands for ``/``."""

    def __init__(self, folder: str | bytes | os.PathLike[str]) -> None:
        """Open the folder. Raises EvidenceError."""
        self._root = -1
        name = os.fsdecode(folder)
        if not os.path.isdir("/proc/self/fd"):
            raise EvidenceError(f"{name}: cannot be searched without /proc", "mount /proc")
        try:
            self._root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise EvidenceError(f"{name}: {why}", "name an existing directory") from None

    @classmethod
    def of(cls, fd: int) -> Root:
        """The folder that an O_PATH descriptor stands for, which is closed with it."""
        root = cls.__new__(cls)
        root._root = fd
        return root

    def is_root(self) -> bool:
        """Whether it is the root folder of the running system."""
        return os.path.samestat(os.fstat(self._root), os.stat("/"))

    @property
    def fd(self) -> int:
        """Its O_PATH descriptor."""
        return self._root

    def find(self, path: bytes, *, most: int = MOST_OF_A_FILE) -> OpenFile:
        """The regular file of at most ``most`` bytes that an absolute path leads to. Raises NotUsable."""
        reason = why_no_file(path)
        if reason is not None:
            raise NotUsable(reason)
        try:
            place = self._resolved(path)
            try:
                file = _reopened(place)
            finally:
                os.close(place)
        except OSError as error:
            raise NotUsable(f"cannot be opened: {error.strerror}") from None
        if file.size > most:
            file.close()
            raise NotUsable(f"has {file.size} bytes, more than {most}")
        return file

    def _resolved(self, path: bytes) -> int:
        """The O_PATH descriptor of what a path leads to, which is not a folder. Raises NotUsable and OSError."""
        for _ in range(_TRIES):
            try:
                place = openat2(self._root, path, os.O_PATH | os.O_CLOEXEC, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
            except FileNotFoundError:
                raise NotUsable("does not exist") from None
            except BlockingIOError:
                continue
            except OSError:
                break
            if stat.S_ISDIR(os.fstat(place).st_mode):
                os.close(place)
                raise NotUsable(_NO_FILE_TO_READ[stat.S_IFDIR])
            return place
        return self._walk(path)

    def _walk(self, path: bytes) -> int:
        """The O_PATH descriptor of what a path leads to, neither a folder nor a link. Raises NotUsable, OSError.

        ``..`` goes back to the folder that led here, never through the file system: so no move of a folder
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
                    raise NotUsable("leads through too many directories")
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
                        raise NotUsable("leads through a file instead of a directory")
                    return folders.pop()
                elif len(folders) > MOST_FOLDERS:
                    raise NotUsable("leads through too many directories")
            raise NotUsable(_NO_FILE_TO_READ[stat.S_IFDIR])
        finally:
            _leave(folders, len(folders))

    def close(self) -> None:
        """Give the descriptor back; files that were found stay open."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1


def openat2(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """Open a path from a folder by rules of ``resolve``. Raises OSError; ENOSYS where it is not known."""
    if os.uname().machine.startswith(_NUMBERED_OTHERWISE):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    # It takes 3 ms to load, and many commands open no file that a core names.
    import ctypes

    # struct open_how: flags, mode, resolve.
    how = (ctypes.c_uint64 * 3)(flags, 0, resolve)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    fd = syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(folder), ctypes.c_char_p(path), ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )  # fmt: skip
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(fd)


def why_no_file(path: bytes) -> str | None:
    """Why a name cannot be that of a file on a disk, by its wording alone; None where it can."""
    if path.startswith(NO_FILES) or not path.startswith(b"/"):
        return "is not a file"
    if path.endswith(DELETED):
        return "was deleted"
    if len(path) > MOST_OF_A_NAME:
        return f"has a name of {len(path)} bytes"
    return "is not a file name" if b"\0" in path else None


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
        raise NotUsable("does not exist") from None


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
        raise NotUsable("is in a file system without blocks, such as /proc or /sys")


def _reopened(place: int) -> OpenFile:
    """What an O_PATH descriptor stands for, opened for reading if it is regular. Raises NotUsable or OSError."""
    status = os.fstat(place)
    if not stat.S_ISREG(status.st_mode):
        raise NotUsable(_NO_FILE_TO_READ.get(stat.S_IFMT(status.st_mode), "is not a regular file"))
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
        return OpenFile(fd)
    except BaseException:
        os.close(fd)
        raise
