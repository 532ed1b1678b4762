"""Where crash handlers put the text of a ``maps`` or ``smaps`` file: it is found there, or read from what is named.

It stands in a file of its own (by hand, abrt, apport-unpack), in an apport report, or in systemd's journal. All of it
is untrusted: what is read is bounded, and nothing of it is run.
"""

from __future__ import annotations

import io
import os
import re
import stat
import time
from functools import lru_cache

from corefilt.errors import EvidenceError
from corefilt.evidence import journal
from corefilt.evidence.apport import from_report
from corefilt.evidence.saved_text import MAPPING, PIECE, Sidecar, checked, gather, pieces_of
from corefilt.io.compression import recognise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer

# Beside a core. A report begins with its texts, ProcMaps among them; the core in it can have gigabytes.
MOST_OF_REPORT = 256 << 20
MOST_REPORTS = 16
MOST_NAMES = 1 << 14
# A listing of a folder is kept that was changed so long ago, in nanoseconds: FAT tells times by two seconds.
SETTLED_NS = 3_000_000_000

_HEAD = 4096

_REPORT = re.compile(rb"^(?:ProblemType|ProcMaps):", re.MULTILINE)
_EXPORT = re.compile(rb"[A-Z0-9_]{1,64}=")
_JSON = re.compile(rb"[\s\x1e]*\{")


def read_sidecar(path: str | bytes | os.PathLike[str], core_path: str | None) -> Sidecar:
    """What a file holds, told by its content: maps or smaps (returned whole), or a report or journal with such.

    Of a journal that was saved with several entries, the one of ``core_path`` is taken. Pipes may be named,
    devices and folders not. Raises EvidenceError.
    """
    name = os.fsdecode(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise EvidenceError(f"{name}: is a directory", "name the file in it: maps, smaps, or a report")
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise EvidenceError(f"{name}: is a device", "name a file or a pipe with a saved maps or smaps")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with _MapInput(fd) as stream:
            return _sidecar_in(stream, name, core_path)
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise EvidenceError(f"{name}: needs more memory than is available") from None


def find_sidecars(core_path: str) -> Iterator[Sidecar]:
    """Everything that could be the map of the core at ``core_path``, best first; what cannot be read is passed over.

    First smaps, then maps, in files that carry the core's name before those that do not; then reports of apport, those
    nearest to the core in time first; then the journal, if the core is one of systemd's. None of them need be this
    core's: whether the addresses fit is for the caller to see.
    """
    try:
        real = os.path.realpath(core_path)
        folders = [os.path.dirname(core_path) or os.curdir]
        # A symlink's own folder comes first.
        if real != core_path and os.path.realpath(folders[0]) != os.path.dirname(real):
            folders.append(os.path.dirname(real))
    except (OSError, ValueError):
        return
    name = os.path.basename(core_path)
    stems = list(dict.fromkeys((name, journal.plain(name))))
    for kind, others in (("smaps", ["smaps"]), ("maps", ["maps", "ProcMaps"])):
        for folder in folders:
            for candidate in (*(f"{stem}.{kind}" for stem in stems), *others):
                yield from _if_usable(_file_beside, os.path.join(folder, candidate))
    for folder in folders:
        for path in _reports_in(folder, real):
            yield from _if_usable(_report_beside, path)
    matches = journal.names_of(real)
    if matches:
        yield from _if_usable(journal.ask, matches, real)


def _if_usable(read: Callable[..., Sidecar], *args: object) -> list[Sidecar]:
    try:
        return [read(*args)]
    except (EvidenceError, OSError, ValueError, MemoryError):
        return []


class _MapInput(io.RawIOBase):
    """A descriptor, closed with it, whose first bytes can be looked at before they are read."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd, self._ahead = fd, b""

    def head(self) -> bytes:
        """Up to _HEAD bytes; fewer only if there are no more."""
        while len(self._ahead) < _HEAD and (piece := os.read(self._fd, _HEAD - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """What was looked at, then what follows it."""
        room = memoryview(buffer).cast("B")
        if not self._ahead:
            return os.readv(self._fd, [room])
        taken, self._ahead = self._ahead[: len(room)], self._ahead[len(room) :]
        room[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        """Close the descriptor."""
        if not self.closed:
            super().close()
            os.close(self._fd)


def _sidecar_in(stream: _MapInput, name: str, core_path: str | None) -> Sidecar:
    head = stream.head()
    file = io.BufferedReader(stream, PIECE)
    if MAPPING.match(head):
        return checked(name, gather(pieces_of(file), name))
    if _JSON.match(head):
        return journal.chosen_from(journal.entries_of_json(file, name), name, core_path)
    if _EXPORT.match(head):
        return journal.chosen_from(journal.entries_of_export(file, name), name, core_path)
    if _REPORT.search(head):
        return from_report(file, name)
    raise _unknown(head, name)


def _unknown(head: bytes, name: str) -> EvidenceError:
    if not head:
        return EvidenceError(
            f"{name}: is empty", "a maps file read after its process has ended is empty; save it before that"
        )
    packer = recognise(head)
    if packer is not None:
        return EvidenceError(f"{name}: is compressed with {packer}", "decompress it first")
    if head.startswith(b"\x7fELF"):
        what = "a core" if head[16:18] in (b"\4\0", b"\0\4") else "an ELF file"
        return EvidenceError(f"{name}: is {what}, not a maps or smaps", "name the text that was saved beside the core")
    if head.startswith(b"LPKSHHRH"):
        return EvidenceError(f"{name}: is a journal's own file", "write it as text: journalctl --file FILE -o export")
    if head.lstrip().startswith(b"["):
        return EvidenceError(
            f"{name}: is a JSON array; what coredumpctl --json lists has no maps",
            journal.SAVE_ENTRY,
        )
    return EvidenceError(
        f"{name}: is neither maps nor smaps, nor a report or a journal that holds them",
        "save /proc/PID/smaps while the process exists, or leave the option out",
    )


def _file_beside(path: str) -> Sidecar:
    with _open_found(path) as stream:
        if not MAPPING.match(stream.head()):
            raise EvidenceError(f"{path}: is neither maps nor smaps")
        return checked(path, gather(pieces_of(io.BufferedReader(stream, PIECE)), path))


def _open_found(path: str) -> _MapInput:
    """A regular file that nobody has named; anything else could block, or do something when it is opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise EvidenceError(f"{path}: not a file")
    return _MapInput(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))


def _reports_in(folder: str, core: str) -> list[str]:
    """The reports of apport in a folder, those nearest to the core in time first."""
    found = []
    try:
        moment = os.stat(core).st_mtime
        for path in _report_names(folder):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found.append((abs(status.st_mtime - moment), path))
    except (OSError, ValueError):
        pass
    return [path for _, path in sorted(found)[:MOST_REPORTS]]


def _report_names(folder: str) -> list[str]:
    """The paths in a folder that are named as reports are. Raises OSError."""
    status = os.stat(folder)
    # What changes within a tick of the file system's clock after it was listed would not be seen.
    settled = time.time_ns() - status.st_mtime_ns > SETTLED_NS
    return (_listed if settled else _listed.__wrapped__)(folder, status.st_dev, status.st_ino, status.st_mtime_ns)


@lru_cache(maxsize=2)
def _listed(folder: str, device: int, inode: int, changed_ns: int) -> list[str]:
    """Those of a folder as it was then: thousands of cores of a batch lie in one."""
    with os.scandir(folder) as names:
        return [entry.path for _, entry in zip(range(MOST_NAMES), names, strict=False) if entry.name.endswith(".crash")]


def _report_beside(path: str) -> Sidecar:
    with _open_found(path) as stream:
        if not _REPORT.search(stream.head()):
            raise EvidenceError(f"{path}: not an apport report")
        return from_report(io.BufferedReader(stream, PIECE), path, MOST_OF_REPORT)
