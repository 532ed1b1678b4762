"""What an output tells of how it came about, so that no job does it twice: an attribute that travels with the file.

It is set before a file gets its name. A job that was killed finds by it what is done, as does every later one; an index
would only repeat it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass

from corefilt import __version__
from corefilt.corefile.corefile import MAX_HEADERS, CoreFile
from corefilt.errors import CorefiltError
from corefilt.io.opening import as_core
from corefilt.io.sources import FileSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.batching.task import Task

ATTRIBUTE = "user.corefilt"
SCHEMA = 1
# Attributes of a file share one block on ext4, so they are short.
MOST_BYTES = 1024
# Options that change nothing of what is in the output.
_MOVERS = ("engine", "jobs", "cache", "sync", "sparse", "spool", "max_headers", "compress_threads")
# With size and time enough to tell one core from the next that gets its name.
_HEAD = 64 << 10
_UNKNOWN = (errno.EOPNOTSUPP, errno.ENOSYS)
_NO_ATTRIBUTES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.E2BIG, errno.ENOSPC)


def head_of(fd: int) -> bytes:
    """The beginning of an open file, as far as a fingerprint goes by it."""
    return os.pread(fd, _HEAD, 0)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one content of a file from another: its length, its time, and a digest of its beginning."""

    size: int
    mtime_ns: int
    head: str

    @classmethod
    def of(cls, fd: int) -> Fingerprint:
        """That of an open file."""
        return cls.made(os.fstat(fd), head_of(fd))

    @classmethod
    def made(cls, status: os.stat_result, head: bytes) -> Fingerprint:
        """That of a file of which this was seen."""
        digest = hashlib.blake2b(head, digest_size=16).hexdigest()
        return cls(status.st_size, status.st_mtime_ns, digest)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which work made an output (``version``, ``filter``, and a digest of the options), of which ``input``.

    ``output`` is the fingerprint of what was written, or None for a note within that; ``undecided`` are the bytes that
    hang on an assumption.
    """

    version: str
    filter: str
    options: str
    input: Fingerprint
    output: Fingerprint | None
    undecided: int

    def encode(self) -> bytes:
        """As JSON in ASCII."""
        sizes = {
            side: [print.size, print.mtime_ns, print.head]
            for side, print in (("input", self.input), ("output", self.output))
            if print is not None
        }
        told = {
            "schema": SCHEMA, "version": self.version, "filter": self.filter, "options": self.options,
            "undecided": self.undecided, **sizes,
        }  # fmt: skip
        return json.dumps(told, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Provenance | None:
        """What ``encode`` made; None for anything else, as anybody may have written it."""
        try:
            told = json.loads(raw)
            if told["schema"] != SCHEMA:
                return None
            before, after = (
                Fingerprint(int(side[0]), int(side[1]), str(side[2])) if side is not None else None
                for side in (told["input"], told.get("output"))
            )
            if before is None:
                return None
            work = str(told["version"]), str(told["filter"]), str(told["options"])
            return cls(*work, before, after, int(told["undecided"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def is_of(self, task: Task) -> bool:
        """Whether the same work is asked for."""
        return (self.filter, self.options) == work_of(task)

    def stands_for(self, fd: int) -> bool:
        """Whether an open file is what was written then."""
        return self.output is None or self.output == Fingerprint.of(fd)


def work_of(task: Task) -> tuple[str, str]:
    """The filter as text, and a digest of everything else that decides what comes out.

    With a policy it is what was asked for, whatever rule decides today.
    """
    if task.work is not None:
        return task.work
    deciding = {name: value for name, value in task.options.items() if name not in _MOVERS}
    text = json.dumps([deciding, task.member, task.compress], sort_keys=True, default=str)
    if task.policy is not None:
        text += repr(task.policy)
    if task.scrub is not None:
        from corefilt.scrub.rule import RULES_VERSION

        text += f"scrub {task.scrub} {RULES_VERSION}"
    if task.bundle:
        text += "bundle"
    return f"{task.filter:#x}", hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read(fd: int) -> Provenance | None:
    """What an open file tells, by its attribute, or by a note where it can have none; None where it tells nothing."""
    try:
        return Provenance.decode(os.getxattr(fd, ATTRIBUTE))
    except OSError as error:
        return _of_note(fd) if error.errno in _UNKNOWN else None


def _of_note(fd: int) -> Provenance | None:
    source = FileSource(fd, "the output", size=os.fstat(fd).st_size, owned=False)
    try:
        with CoreFile(as_core(source, max_headers=MAX_HEADERS)) as core:
            return Provenance.decode(core.notes.made)
    except CorefiltError:
        return None


def keeps_attributes(folder: int) -> bool:
    """Whether what is written into an open folder can have attributes."""
    try:
        os.getxattr(folder, ATTRIBUTE)
    except OSError as error:
        return error.errno not in _UNKNOWN
    return True


def stamp(task: Task, source: Fingerprint, undecided: int) -> bytes:
    """The text of a note within an output, where its file has no attributes."""
    return Provenance(__version__, *work_of(task), source, None, undecided).encode()


def write(fd: int, task: Task, source: Fingerprint, undecided: int) -> bool:
    """Mark an output that is whole, but for its name; False where its file system has no such attributes."""
    made = Provenance(__version__, *work_of(task), source, Fingerprint.of(fd), undecided)
    try:
        os.setxattr(fd, ATTRIBUTE, made.encode())
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        return False
    return True
