"""Finds everything that goes into a bundle beside the core, checks it, and says what is lacking."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, replace
from functools import partial

from corefilt.bundle.debuginfod import DEBUGINFO, EXECUTABLE
from corefilt.bundle.manifest import DEBUG, FOUND, SCRIPT, THREAD_DB, UNVERIFIED, BundledFile
from corefilt.bundle.names import Links, build_id_path, links_for
from corefilt.bundle.objects import LoadedObjects, look_up
from corefilt.bundle.packages import packages_of
from corefilt.bundle.tar import BundleMember
from corefilt.errors import BundleError
from corefilt.io.named_files import NotUsable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corefilt.bundle.debuginfod import Debuginfod
    from corefilt.evidence.sysroot import MappedFile, Sysroot

DEBUG_FOLDER = b"/usr/lib/debug"
THREAD_DB_NAME = b"libthread_db.so.1"
# The libraries that it belongs to: glibc's, where it has been one and before 2.34.
_OF_THREADS = (b"libc.so", b"libc-", b"libpthread")
# What gdb loads with an object ("objfile-gdbdotext file" of its manual), beside it or below its own directory.
AUTO_LOAD = b"/usr/share/gdb/auto-load"
SCRIPT_SUFFIXES = (b"-gdb.py", b"-gdb.gdb", b"-gdb.scm")
# What the script of libstdc++ imports, by its place relative to the library (GCC 12 to 14).
PRINTERS = tuple(
    b"/usr/share/gcc/python/libstdcxx/" + name
    for name in (b"__init__.py", b"v6/__init__.py", b"v6/printers.py", b"v6/xmethods.py")
)
MOST_OF_A_SCRIPT = 4 << 20


@dataclass(frozen=True, slots=True)
class Places:
    """Where files are looked for: below ``sysroot``, in ``debug`` directories, by ``debuginfod``.

    Without ``with_debug``, debug files are left out.
    """

    sysroot: Sysroot
    debug: Sequence[Sysroot] = ()
    debuginfod: Debuginfod | None = None
    with_debug: bool = True


@dataclass(frozen=True, slots=True)
class Collected:
    """What goes into a bundle beside the core: all files, those to be written, links, and libthread_db's directory."""

    files: tuple[BundledFile, ...]
    members: tuple[BundleMember, ...]
    links: Links
    thread_db: bytes | None


def collect(objects: LoadedObjects, places: Places) -> Collected:
    """Look everything up. Raises EvidenceError for a server of debuginfod that cannot be asked."""
    gathering = _Gathering(places)
    for path in objects.build_ids:
        gathering.add_object(objects, path)
    packages = packages_of((file.path for file in gathering.files if file.role != DEBUG), places.sysroot)
    files = [
        replace(file, package=packages[file.path][0], version=packages[file.path][1]) if file.path in packages else file
        for file in gathering.files
    ]
    return Collected(
        tuple(sorted(files, key=lambda file: (file.role != "object", file.path))),
        tuple(sorted(gathering.members.values(), key=lambda member: member.name)),
        links_for((name, path) for name, path in objects.names if b"root" + path in gathering.members),
        gathering.thread_db,
    )


class _Gathering:
    """Files as they are found, by their names in the bundle."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.files: list[BundledFile] = []
        self.members: dict[bytes, BundleMember] = {}
        self.thread_db: bytes | None = None

    def add_object(self, objects: LoadedObjects, path: bytes) -> None:
        places = self._places
        found, file = look_up(objects, path, places.sysroot)
        if found is None:
            return
        wanted = objects.build_ids[path]
        if file is None and wanted is not None and places.debuginfod is not None:
            file = places.debuginfod.find(wanted, EXECUTABLE)
            if file is not None:
                self._keep(b"root" + path, file)
                found = BundledFile(path, found.role, FOUND, wanted, size=file.size, reason="by debuginfod")
        elif file is not None:
            self._take(b"root" + path, file, partial(places.sysroot.find, path))
        self.files.append(found)
        if file is None:
            return
        if places.with_debug and found.build_id is not None:
            self._add_debug(found.build_id)
        if self.thread_db is None and posixpath.basename(path).startswith(_OF_THREADS):
            beside = posixpath.join(posixpath.dirname(path), THREAD_DB_NAME)
            if self._add_beside(THREAD_DB, beside, beside):
                self.thread_db = posixpath.dirname(path)
        for suffix in SCRIPT_SUFFIXES:
            for source in (path + suffix, AUTO_LOAD + path + suffix):
                if self._add_beside(SCRIPT, source, path + suffix):
                    break
        if posixpath.basename(path).startswith(b"libstdc++.so"):
            for script in PRINTERS:
                self._add_beside(SCRIPT, script, script)

    def _add_debug(self, build_id: bytes) -> None:
        places, name = self._places, build_id_path(build_id)
        for folder, path in ((places.sysroot, DEBUG_FOLDER + name), *((folder, name) for folder in places.debug)):
            try:
                file = folder.find(path, build_id=build_id)
            except NotUsable:
                # Most objects have no debug file, which is nothing to be told.
                continue
            self._take(b"debug" + name, file, partial(folder.find, path))
            self.files.append(BundledFile(path, DEBUG, FOUND, build_id, size=file.size))
            return
        file_or_none = places.debuginfod.find(build_id, DEBUGINFO) if places.debuginfod is not None else None
        if file_or_none is not None:
            self._keep(b"debug" + name, file_or_none)
            self.files.append(BundledFile(name, DEBUG, FOUND, build_id, size=file_or_none.size, reason="by debuginfod"))

    def _add_beside(self, role: str, source: bytes, name: bytes) -> bool:
        """Take a file that belongs to an object, to a name below root/; nothing in the core verifies it."""
        find = partial(self._places.sysroot.find, source)
        try:
            file = find(most=MOST_OF_A_SCRIPT)
            build_id = file.build_id() if role == THREAD_DB else None
        except NotUsable:
            return False
        if b"root" + name not in self.members:
            self._take(b"root" + name, file, find)
            self.files.append(BundledFile(source, role, UNVERIFIED, build_id, size=file.size))
        else:
            file.close()
        return True

    def _take(self, name: bytes, file: MappedFile, find: partial[MappedFile]) -> None:
        """Note a file, which is opened again when it is written: a process can have more of them than descriptors."""
        state = _state(file)
        file.close()
        self.members[name] = BundleMember(name, state[1], file.mtime_ns // 10**9, partial(_again, name, find, state))

    def _keep(self, name: bytes, file: MappedFile) -> None:
        """Note a file that has no name by which it could be opened again; no time of it means anything."""
        self.members[name] = BundleMember(name, file.size, 0, lambda: file)


def _state(file: MappedFile) -> tuple[int, int, int]:
    return file.inode, file.size, file.mtime_ns


def _again(name: bytes, find: partial[MappedFile], state: tuple[int, int, int]) -> MappedFile:
    shown = os.fsdecode(name)
    try:
        file = find()
    except NotUsable as error:
        raise BundleError(f"{shown}: {error} any more", "try again") from None
    if _state(file) != state:
        file.close()
        raise BundleError(f"{shown}: was changed while the bundle was made", "try again")
    return file
