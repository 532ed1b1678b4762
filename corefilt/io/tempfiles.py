"""Temporary files beside the output: how they are called, whose they are, and which ones a killed run left behind.

Whoever writes one holds a lock on it (flock(2)), which the kernel gives back however a run ends. So a file of such a
name that can be locked is nobody's any more, and the next run that needs one removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from corefilt.io.sources import shut

# What O_TMPFILE answers on file systems and kernels that do not know it.
NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
# What link(2) answers on file systems without hard links, and renameat2(2) on those that know no flags.
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
NO_FLAGS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# include/uapi/linux/fs.h.
_RENAME_NOREPLACE = 1
_ANYONES = ".corefilt-"
# The host is a part of the name: where a file system keeps locks to itself (FUSE, CIFS), they say nothing of others.
# By the remainder of the largest prime below 2^32, which takes no module as a checksum does.
_PREFIX = f"{_ANYONES}{int.from_bytes(os.fsencode(os.uname().nodename), 'big') % 4294967291:08x}"
_LENGTH = len(_PREFIX) + 8
# Names that are looked through; a folder of so many is no place for a lost file to be noticed.
MOST_NAMES = 1 << 14
_ATTEMPTS = 16


def new_name() -> str:
    """A name that nothing has."""
    return _PREFIX + os.urandom(4).hex()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is no output yet, of whatever run on whatever host."""
    return name.startswith(_ANYONES)


def hold(fd: int) -> bool:
    """Lock a file while its descriptor is open; False where somebody else has it.

    True, too, where its file system has no locks: nobody can take such a file for a lost one.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def create(folder: int) -> tuple[str, int]:
    """A new file in a folder, and its descriptor; mode 0600. Raises OSError."""
    remove_leftovers(folder)
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_ATTEMPTS):
        name = new_name()
        fd = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            # Between the two, another run may have taken it for a lost one.
            if hold(fd) and _is_named(fd, name, folder):
                return name, fd
        except BaseException:
            os.close(fd)
            os.unlink(name, dir_fd=folder)
            raise
        os.close(fd)
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            continue
    raise BlockingIOError(errno.EAGAIN, f"{_ATTEMPTS} new files were removed")


def rename_to_new(temporary: str, name: str, folder: int) -> None:
    """Give a whole file its final name in its folder, over no file that is there. Raises FileExistsError and OSError.

    A second link does that everywhere but on file systems without hard links (vfat, exfat, much of FUSE); there
    renameat2 with RENAME_NOREPLACE does it. Where that is missing too (FUSE servers that know no flags), the name is
    taken by an empty file that must be new, and the whole file is renamed over that: nobody else's file can be, but
    who is killed between the two calls leaves the empty file behind.
    """
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    else:
        os.unlink(temporary, dir_fd=folder)
        return
    try:
        _rename_noreplace(temporary, name, folder)
        return
    except OSError as error:
        if error.errno not in NO_FLAGS:
            raise
    reserved = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        if not _is_named(reserved, name, folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        try:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
    finally:
        os.close(reserved)


def _rename_noreplace(old: str, new: str, folder: int) -> None:
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        # This C library has no such function (glibc before 2.28).
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if renameat2(folder, os.fsencode(old), folder, os.fsencode(new), ctypes.c_uint(_RENAME_NOREPLACE)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def nameless_in(folder: str | None = None) -> int:
    """A new file, in a directory or where temporary files go, that vanishes with its descriptor; mode 0600.

    Raises OSError.
    """
    if folder is None:
        import tempfile

        folder = tempfile.gettempdir()
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _nameless(place)
    finally:
        shut(place)


def _nameless(folder: int) -> int:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno not in NO_TMPFILE:
            raise
    name, fd = create(folder)
    os.unlink(name, dir_fd=folder)
    return fd


def remove_leftovers(folder: int) -> None:
    """Remove what runs of this user on this host left in a folder when they were killed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for _, entry in zip(range(MOST_NAMES), entries, strict=False)]
    except OSError:
        return
    for name in names:
        if name.startswith(_PREFIX) and len(name) == _LENGTH:
            try:
                _remove_if_lost(name, folder)
            except OSError:
                continue


def _remove_if_lost(name: str, folder: int) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or os.geteuid() not in (0, status.st_uid):
        return
    fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_named(fd, name, folder):
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(fd)


def _is_named(fd: int, name: str, folder: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False
