"""A process that still exists: its smaps, and the files that it has mapped.

The process is opened once, as a folder of /proc; everything is read relative to that, so a pid that is given to
another process meanwhile answers ESRCH, not with the other's mappings.
"""

from __future__ import annotations

import errno
import os
import threading
import time

from corefilt import _fast
from corefilt.errors import EvidenceError
from corefilt.procfs.maps import Areas, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# In all, for the files of one process; each takes some 20 microseconds unless its server does not answer.
DEADLINE = 5.0
# smaps has 700 bytes a mapping without names; a million mappings are the most that were tried.
MOST_OF_SMAPS = 4 << 30

STATX_ATTR_DAX = 0x00200000
HUGETLBFS_MAGIC = 0x958458F6


class FileFacts:
    """What is known of a mapped file.

    ``linked`` tells whether it still has a name, ``executable`` whether its mode has an x bit, ``dax`` and ``huge``
    whether its file system is of that sort, or None if that cannot be told.
    """

    __slots__ = ("dax", "executable", "huge", "linked")

    def __init__(self, *, linked: bool, executable: bool, dax: bool | None, huge: bool | None) -> None:
        self.linked, self.executable, self.dax, self.huge = linked, executable, dax, huge


class Seen:
    """What is known of a process: ``areas``, the ``facts`` of their files by index, and ``notices`` for people."""

    __slots__ = ("areas", "facts", "name", "notices")

    areas: Areas

    def __init__(self, name: str) -> None:
        self.name = name
        self.notices: list[str] = []
        self.facts: dict[int, FileFacts] = {}

    def ask_files(
        self, ask: Callable[[int], FileFacts | None], found: dict[int, FileFacts], refused: list[int]
    ) -> bool:
        """Ask for the file of every mapping, each inode once, within DEADLINE; tells whether that was enough.

        ``refused`` are the mappings of files that gave no answer.
        """
        areas = self.areas
        known: dict[tuple[tuple[int, int], int], FileFacts | None] = {}
        until = time.monotonic() + DEADLINE
        for i, nature in enumerate(areas.nature):
            if nature.what != "file":
                continue
            if time.monotonic() > until:
                return False
            inode = areas.device[i], areas.inode[i]
            if inode not in known:
                known[inode] = ask(i)
                if known[inode] is None:
                    refused.append(i)
            facts = known[inode]
            if facts is not None:
                found[i] = facts
        return True


class Process(Seen):
    """A process by its number."""

    __slots__ = ("_sizes",)

    def __init__(self, pid: int, folder: int | None = None, *, sizes: bool = False) -> None:
        """Read all of it, from an open folder of /proc where one is given; with ``sizes``, what is resident, too.

        Raises EvidenceError.
        """
        super().__init__(f"process {pid}")
        self._sizes = sizes
        if folder is not None:
            self.areas = self._read_map(folder)
            self._look_at_files(folder)
            return
        try:
            folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise EvidenceError(f"{self.name} does not exist") from None
        except OSError as error:
            raise EvidenceError(f"{self.name}: {error.strerror}") from None
        try:
            self.areas = self._read_map(folder)
            self._look_at_files(folder)
        finally:
            os.close(folder)

    def _read_map(self, folder: int) -> Areas:
        for file in ("smaps", "maps"):
            try:
                text = _read(folder, file)
            except FileNotFoundError:
                # smaps is left out of kernels without CONFIG_PROC_PAGE_MONITOR.
                continue
            except ProcessLookupError:
                raise EvidenceError(f"{self.name} ended while it was examined") from None
            except PermissionError:
                raise EvidenceError(
                    f"{self.name}: you may not read its {file}", "run as root, or as a user who may trace it"
                ) from None
            except OSError as error:
                raise EvidenceError(f"{self.name}: its {file} cannot be read: {error.strerror}") from None
            if not text:
                raise EvidenceError(f"{self.name} has no memory: it ended, or it is a kernel thread")
            return parse(text, f"{self.name}: {file}", sizes=self._sizes)
        raise EvidenceError(f"{self.name} ended while it was examined, or /proc has neither smaps nor maps of it")

    def _look_at_files(self, folder: int) -> None:
        """Ask for every mapped file, on a thread that is left behind where a server does not answer."""
        found: dict[int, FileFacts] = {}
        refused: list[int] = []
        # Daemons do not hold up the end of the interpreter, whatever they wait for.
        done = threading.Event()
        worker = threading.Thread(target=self._ask, args=(os.dup(folder), found, refused, done), daemon=True)
        worker.start()
        worker.join(DEADLINE)
        self.facts = dict(found)
        if not done.is_set():
            self.notices.append(f"{self.name}: its files did not all answer within {DEADLINE:g} s")
        if refused:
            self.notices.append(
                f"{self.name}: {len(refused)} of its files could not be examined for links and modes "
                "(that takes CAP_CHECKPOINT_RESTORE)"
            )

    def _ask(self, folder: int, found: dict[int, FileFacts], refused: list[int], done: threading.Event) -> None:
        try:
            names = _names_of_files(folder)
            areas = self.areas

            def ask(i: int) -> FileFacts | None:
                name = names.get((areas.start[i], areas.end[i]))
                return _facts(folder, name, areas.path[i], (areas.device[i], areas.inode[i]))

            if self.ask_files(ask, found, refused):
                done.set()
        finally:
            os.close(folder)


def _names_of_files(folder: int) -> dict[tuple[int, int], str]:
    """The names in map_files by address: they are not padded as those in maps are."""
    try:
        files = os.open("map_files", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return {}
    try:
        return {
            (int(start, 16), int(end, 16)): name
            for name in os.listdir(files)
            for start, _, end in (name.partition("-"),)
        }
    except OSError:
        return {}
    finally:
        os.close(files)


def _facts(folder: int, name: str | None, path: bytes | None, inode: tuple[tuple[int, int], int]) -> FileFacts | None:
    for place in _places(name, path):
        try:
            fd = os.open(place, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
        except (OSError, ValueError):
            continue
        try:
            facts, found = facts_of(fd)
        except OSError:
            continue
        finally:
            os.close(fd)
        # map_files leads to the file itself; a name may by now be that of another one.
        if not place.startswith(b"root/") or found == inode:
            return facts
    return None


def facts_of(fd: int) -> tuple[FileFacts, tuple[tuple[int, int], int]]:
    """What an open file is, with its device and inode; O_PATH is enough. Raises OSError."""
    mode, nlink, device, number, attributes, known = _fast.file_status(fd)
    facts = FileFacts(
        linked=nlink > 0,
        executable=bool(mode & 0o111),
        dax=bool(attributes & STATX_ATTR_DAX) if known & STATX_ATTR_DAX else None,
        huge=_is_hugetlbfs(fd) if device[0] == 0 else False,
    )
    return facts, (device, number)


def _places(name: str | None, path: bytes | None) -> Iterator[bytes]:
    if name is not None:
        yield b"map_files/" + name.encode()
    if path is not None and path.startswith(b"/"):
        yield b"root/" + path.lstrip(b"/")


def _is_hugetlbfs(fd: int) -> bool | None:
    kind = _fast.file_system(fd)
    return kind == HUGETLBFS_MAGIC if kind else None


def _read(folder: int, file: str) -> bytes:
    """A file of /proc, whole. Raises OSError; EFBIG for one without an end."""
    text = bytearray()
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        while piece := os.read(fd, 1 << 20):
            text += piece
            if len(text) > MOST_OF_SMAPS:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    finally:
        os.close(fd)
    return bytes(text)
