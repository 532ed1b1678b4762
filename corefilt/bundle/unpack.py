"""Unpacks a bundle that somebody else made into a directory of ours; what could lead out of it is refused.

Names are judged by ``names.why_unsafe``. Every directory is opened from the one above it without following links, every
file is new, and links are made when all files are there: so no file is written through one.
"""

from __future__ import annotations

import os
import tarfile
from math import isfinite

from corefilt import _fast
from corefilt.bundle.manifest import MOST_OF_MANIFEST, BundleManifest, decode_manifest
from corefilt.bundle.names import CORE, DEBUG, MANIFEST, ROOT, why_unsafe
from corefilt.errors import BundleError
from corefilt.io.openat import walk
from corefilt.io.sinks import reported
from corefilt.io.tar import members, open_tar
from corefilt.sizes import show_size
from corefilt.text import counted, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

# A browser's bundle has 700 members in 300 directories, most of those of build-ids.
MOST_MEMBERS = 1 << 14
MOST_FOLDERS_MADE = 1 << 12
# zstd makes 1:10,000 of zeros, and a bundle has holes for those; cores and libraries give 1:3 to 1:60.
MOST_OF_A_BYTE = 256
ALWAYS_ALLOWED = 4 << 30
# What is left free where it is unpacked, as a part of the file system.
LEFT_FREE = 20
# tar fills its last record with zeros, of 10 KiB or as --blocking-factor says.
MOST_BEHIND = 1 << 20
# No file is larger than what corefilt reads of it.
MOST_OF_A_FILE = 1 << 50
# Every file system has times up to 2038.
MOST_SECONDS = (1 << 31) - 1
PIECE = 1 << 20


def unpack(stream: BinaryIO, name: str, folder: int, packed_size: int) -> BundleManifest:
    """Unpack a tar that comes as a stream, ``packed_size`` bytes before it was decompressed, into an open directory.

    Returns what its manifest says. Raises BundleError for what is refused, cut or damaged, and OutputError.
    """
    unpacking = _Unpacking(name, folder, packed_size)
    try:
        with open_tar(stream) as tar, reported(name):
            for info in members(tar):
                unpacking.add(tar, info)
        # The end of the stream has its checksum.
        if len(stream.read(MOST_BEHIND)) == MOST_BEHIND:
            raise BundleError(
                f"{name}: continues past the end of its tar", "corefilt bundle does not make such bundles"
            )
        unpacking.finish()
    except EOFError as error:
        raise BundleError(f"{name}: {str(error) or 'the tar is cut off'}") from None
    except tarfile.TarError as error:
        raise BundleError(f"{name}: the tar is damaged: {error}") from None
    if unpacking.manifest is None or not unpacking.has_core:
        raise BundleError(f"{name}: has no {CORE if unpacking.manifest is not None else MANIFEST}: it is not a bundle")
    return unpacking.manifest


class _Unpacking:
    def __init__(self, name: str, folder: int, packed_size: int) -> None:
        self._name, self._folder = name, folder
        space = os.fstatvfs(folder)
        free = space.f_bavail * space.f_frsize - space.f_blocks * space.f_frsize // LEFT_FREE
        self._most = self._left = min(ALWAYS_ALLOWED + packed_size * MOST_OF_A_BYTE, max(free, 0))
        self._links: list[tuple[list[str], str]] = []
        self._folders: set[str] = set()
        self._count = 0
        self.manifest: BundleManifest | None = None
        self.has_core = False

    def _refuse(self, name: str, reason: str) -> BundleError:
        return BundleError(f"{self._name}: {printable(name)}: {reason}", "corefilt bundle does not make such bundles")

    def add(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Unpack one member; a link waits for the end."""
        self._count += 1
        if self._count > MOST_MEMBERS:
            raise self._refuse(info.name, f"is one of more than {MOST_MEMBERS} members")
        kind = _kind(info)
        reason = why_unsafe(info.name, kind, info.linkname)
        if reason is not None:
            raise self._refuse(info.name, reason)
        steps = info.name.rstrip("/").split("/")
        self._folders.update("/".join(steps[:n]) for n in range(1, len(steps) + (kind == "folder")))
        if len(self._folders) > MOST_FOLDERS_MADE:
            raise self._refuse(info.name, f"is in one of more than {MOST_FOLDERS_MADE} directories")
        if kind == "link":
            self._links.append((steps, info.linkname))
        elif kind == "folder":
            os.close(self._enter(steps))
        else:
            self._write(tar, info, steps)

    def _enter(self, steps: list[str]) -> int:
        try:
            return walk(os.dup(self._folder), steps, make=True)
        except NotADirectoryError:
            raise self._refuse("/".join(steps), "is a file and a directory") from None

    def _write(self, tar: tarfile.TarFile, info: tarfile.TarInfo, steps: list[str]) -> None:
        extents = _extents(info)
        end = 0
        for offset, length in extents:
            if not end <= offset <= offset + length <= info.size <= MOST_OF_A_FILE:
                raise self._refuse(info.name, f"claims {length} bytes at {offset} of {info.size}")
            end = offset + length
            self._left -= length
        if self._left < 0:
            raise self._refuse(info.name, f"is larger than the {show_size(self._most)} that are allowed")
        above = self._enter(steps[:-1])
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(steps[-1], flags, 0o600, dir_fd=above)
        except FileExistsError:
            raise self._refuse(info.name, "is in it twice") from None
        finally:
            os.close(above)
        try:
            _copy(tar, info, extents, fd)
            if info.name == MANIFEST:
                if info.size > MOST_OF_MANIFEST:
                    raise self._refuse(info.name, f"has {counted(info.size, 'byte')}")
                self.manifest = decode_manifest(os.pread(fd, info.size, 0), f"{self._name}: {MANIFEST}")
            self.has_core = self.has_core or info.name == CORE
            # An extended header can say inf or nan.
            seconds = int(min(max(info.mtime, 0), MOST_SECONDS)) if isfinite(info.mtime) else 0
            os.utime(fd, (seconds, seconds))
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Make the links."""
        for top in (ROOT, DEBUG):
            os.close(self._enter([top]))
        for steps, target in self._links:
            above = self._enter(steps[:-1])
            try:
                os.symlink(target, steps[-1], dir_fd=above)
            except FileExistsError:
                raise self._refuse("/".join(steps), "is in it twice") from None
            finally:
                os.close(above)


def _extents(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    """The pieces of a member that are in the archive, as (offset, length)."""
    # The type stubs take the map for bytes.
    sparse: Any = info.sparse
    return [(0, info.size)] if sparse is None else sparse


def _kind(info: tarfile.TarInfo) -> str:
    if info.isreg():
        return "file"
    if info.isdir():
        return "folder"
    if info.issym():
        return "link"
    kinds = ((info.islnk(), "hard link"), (info.isfifo(), "FIFO"), (info.isdev(), "device"))
    return next((word for holds, word in kinds if holds), f"member of type {info.type!r}")


def _copy(tar: tarfile.TarFile, info: tarfile.TarInfo, extents: list[tuple[int, int]], fd: int) -> None:
    """A member's bytes to where they belong; what lies between them becomes holes."""
    stream = tar.fileobj
    if stream is None:
        raise AssertionError("the tar is open")
    stream.seek(info.offset_data)
    for offset, length in extents:
        while length:
            piece = stream.read(min(length, PIECE))
            if not piece:
                raise tarfile.ReadError(f"{info.name} is cut off")
            _fast.write_at(fd, offset, piece, granule=4096)
            offset, length = offset + len(piece), length - len(piece)
    os.ftruncate(fd, info.size)
