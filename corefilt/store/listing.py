"""Lists the cores below directories: first what the file system tells, to bring them into order, then each core."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass

from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.corefile.owner import Owner
from corefilt.crash.recorded import RecordedSignature, parse_signature, read_signature, write_signature
from corefilt.crash.signature import find_crash
from corefilt.errors import CorefiltError, InputError, NotACoreError
from corefilt.evidence.when import written_at
from corefilt.io.opening import as_core
from corefilt.io.sources import FileSource
from corefilt.store.attributes import KEEP, fact, names, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# The order in which cores come, by what the file system alone tells.
TIME, SIZE, NAME = BY = ("time", "size", "name")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a core: its path, when it was written (seconds since the epoch), its size in bytes."""

    path: str
    time: float
    time_source: str
    size: int

    def rank(self, by: str) -> tuple[float, str]:
        """Its place in an order of BY."""
        return {TIME: self.time, SIZE: float(self.size), NAME: 0.0}[by], self.path


@dataclass(frozen=True, slots=True)
class StoredCore:
    """A core of a directory; None is what nothing tells.

    ``pid``, ``uid`` and ``signal`` are those that were noted on the file when it was stored, else those that the core
    tells. ``size`` is the file's length and ``allocated`` its disk use, in bytes. ``kept`` tells that its administrator
    marked it (``user.corefilt.keep``).
    """

    path: str
    time: float
    time_source: str
    size: int
    allocated: int
    pid: int | None
    uid: int | None
    gid: int | None
    signal: int | None
    executable: bytes | None
    comm: bytes | None
    compression: str | None
    signature: RecordedSignature | None
    kept: bool

    def as_dict(self) -> dict[str, object]:
        """The core as JSON."""
        found = self.signature
        return {
            "source": self.path,
            "time": self.time,
            "time_source": self.time_source,
            "size": self.size,
            "allocated_bytes": self.allocated,
            "pid": self.pid,
            "uid": self.uid,
            "gid": self.gid,
            "signal": self.signal,
            "executable": os.fsdecode(self.executable) if self.executable is not None else None,
            "comm": os.fsdecode(self.comm) if self.comm is not None else None,
            "compression": self.compression,
            "signature": found.signature if found is not None else None,
            "quality": found.quality if found is not None else None,
            "class": found.kind if found is not None else None,
            "kept": self.kept,
        }


def candidates(places: Sequence[str], *, by: str = TIME, reverse: bool = False) -> list[Candidate]:
    """The regular files below ``places`` in order; no link is followed but one that is named. Raises InputError."""
    found: dict[tuple[int, int], Candidate] = {}
    for place in places:
        try:
            named = os.stat(place)
            if stat.S_ISDIR(named.st_mode):
                for folder, _, files, at in os.fwalk(place, follow_symlinks=False):
                    for name in files:
                        _add(found, os.path.join(folder, name), name, at)
            else:
                _add(found, os.path.realpath(place), os.path.realpath(place), None)
        except OSError as error:
            raise InputError(f"{place}: {error.strerror}") from None
    return sorted(found.values(), key=lambda one: one.rank(by), reverse=reverse)


def _add(found: dict[tuple[int, int], Candidate], path: str, name: str, at: int | None) -> None:
    """Add what stands there, unless it is not a regular file, cannot be read, or has been found by another name."""
    try:
        fd = os.open(name, _OPEN, dir_fd=at)
    except OSError:
        return
    try:
        status = os.fstat(fd)
        when = written_at(fd, path)
        if when is not None:
            found.setdefault((status.st_dev, status.st_ino), Candidate(path, *when, status.st_size))
    finally:
        os.close(fd)


def look(candidate: Candidate, *, sysroot: str | None = None) -> StoredCore | None:
    """Look at a core, and note the signature of its crash on it; None for what is not a core.

    Files that a backtrace needs are looked for below ``sysroot``; for None in ``/``, where the core is the caller's
    own. Raises InputError, and EvidenceError for a ``sysroot`` that cannot be used.
    """
    try:
        with _opened(candidate.path) as (core, fd):
            status, owner, noted = os.fstat(fd), Owner(core.notes, core.ehdr), names(fd)
            numbers = {name: number(fact(fd, name)) for name in ("pid", "uid", "gid", "signal")}
            told = {"pid": owner.pid, "uid": owner.uid, "gid": owner.gid, "signal": owner.signal}
            pid, uid, gid, signal = (n if n is not None else told[name] for name, n in numbers.items())
            return StoredCore(
                candidate.path, candidate.time, candidate.time_source, status.st_size, status.st_blocks * 512,
                pid, uid, gid, signal,
                fact(fd, "exe") or owner.executable, fact(fd, "comm") or owner.comm,
                core.source.compression, signature_of(core, fd, sysroot), KEEP in noted,
            )  # fmt: skip
    except NotACoreError:
        return None


@contextmanager
def _opened(path: str) -> Iterator[tuple[CoreFile, int]]:
    """A core and its descriptor. Raises InputError, NotACoreError."""
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    try:
        source = FileSource(fd, path, size=os.fstat(fd).st_size, owned=False)
        with CoreFile(as_core(source, max_headers=MAX_HEADERS)) as core:
            yield core, fd
    finally:
        os.close(fd)


def signature_of(core: CoreFile, fd: int, sysroot: str | None = None) -> RecordedSignature | None:
    """What is noted on the file, else found out and noted there, else what an annotation tells.

    None where that is nothing, and the core would have to be decompressed. With a ``sysroot``, what is noted and not
    certain is found out again.
    """
    noted = _signature_beside(core, fd, sysroot, note=True)
    # What an annotation tells is shown, and not noted on the file: anybody can write a note.
    told = parse_signature(core.notes.signature) if noted is None or noted.certain is None else None
    return told or noted


def _signature_beside(core: CoreFile, fd: int, sysroot: str | None, *, note: bool) -> RecordedSignature | None:
    noted = read_signature(fd)
    if noted is None or (sysroot is not None and noted.certain is None):
        crash = find_crash(core, sysroot=sysroot)
        if crash is not None and (noted is None or crash.recorded.certain is not None):
            noted = crash.recorded
            if note:
                write_signature(fd, noted)
    return noted


def certain_signature(path: str, *, note: bool) -> str | None:
    """What is noted on a core, else found out and, with ``note``, noted there; None where it is not certain.

    Raises InputError, NotACoreError.
    """
    with _opened(path) as (core, fd):
        found = _signature_beside(core, fd, None, note=note)
    return found.certain if found is not None else None


def cores(found: Sequence[Candidate], *, sysroot: str | None = None) -> Iterator[StoredCore | CorefiltError]:
    """Every core of the candidates in their order, or why it cannot be read; what is no core is passed over."""
    for candidate in found:
        try:
            core = look(candidate, sysroot=sysroot)
        except InputError as error:
            yield error
            continue
        if core is not None:
            yield core
