"""The movers: which of them two descriptors allow, in which order they are tried, and what their errors mean."""

from __future__ import annotations

import errno
import os
import stat

from corefilt import _fast
from corefilt.errors import EngineError, OutputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Source

ENGINES = ("auto", "probe", "reflink", "copy_file_range", "sendfile", "splice", "readwrite")
SPARSE = ("auto", "always", "never")
CACHE = ("auto", "keep")
MOVERS = {
    "reflink": _fast.REFLINK,
    "copy_file_range": _fast.COPY_FILE_RANGE,
    "sendfile": _fast.SENDFILE,
    "splice": _fast.SPLICE,
    "readwrite": _fast.READWRITE,
}
_NEEDS = {
    "reflink": "two files",
    "copy_file_range": "two files",
    "sendfile": "a file to read from",
    "splice": "a pipe on one side",
}

# What a mover answers when these two descriptors are not for it; EPERM comes from filters of system calls.
NOT_FOR_THESE = (
    errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY, errno.ENOTTY, errno.EPERM,
)  # fmt: skip
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# File systems (f_type of statfs) on which copy_file_range, where it cannot share, does no more than the page
# cache's own copy: ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, overlayfs. Elsewhere a server may do the work.
_PLAIN = (0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0xF2F52010, 0x794C7630)
# File systems between which READWRITE, which writes 128 KiB at a time, takes less than copy_file_range, which goes page
# by page: 256 MiB from ext4 to ext4 took 0.078 s of CPU instead of 0.081 from the page cache and 0.061 instead of 0.075
# from the disk, and from tmpfs to tmpfs 0.110 s by either (medians of eleven and nine runs, Linux 6.18).
_BY_HAND = ((0xEF53, 0xEF53),)
# Read at a time by READWRITE: as much as stays in the processor's own cache. From a pipe to ext4, 2 GiB took 1.9 s
# with it as with 128 KiB, and 2.2 s with 1 MiB, beside other programs (medians of five, Linux 6.18, two cores).
SCRATCH = 256 << 10
# Moved by one call: between two looks at the progress bar.
TURN = 1 << 26
# What one of several threads takes on at a time. It bounds how long a signal waits for the threads.
SHARE = 4 << 20
MOST_THREADS = 8
# From this many bytes on two threads may be worth it. Fewer are copied sooner by one: 256 MiB from tmpfs to tmpfs took
# 0.18 s by copy_file_range, and 0.20 s by READWRITE, which two threads take (medians of nine, Linux 6.18).
WORTH_A_CREW = 512 << 20


def helpful_jobs(expected: int) -> int:
    """Two threads for a large copy where there are two processors, else one; ``pace`` watches what they are worth.

    1 GiB from ext4 to ext4 took 0.30 s with two, 0.38 s with one and 0.35 s with cp on an idle machine; beside other
    programs, 2 GiB took 3.9 s with two, 1.3 s with one and 2.8 s with cp (medians, Linux 6.18, two processors).
    """
    return 2 if expected >= WORTH_A_CREW and len(os.sched_getaffinity(0)) > 1 else 1


def check_words(engine: str, sparse: str, cache: str, jobs: int | None) -> None:
    """Raise UsageError for a word that an option does not have, or a count of threads that is out of range."""
    for name, value, known in (("engine", engine, ENGINES), ("sparse", sparse, SPARSE), ("cache", cache, CACHE)):
        if value not in known:
            raise UsageError(f"{name} is {value!r}", f"it can be {', '.join(known)}")
    if jobs is not None and not 1 <= jobs <= MOST_THREADS:
        raise UsageError(f"threads is {jobs}", f"it can be 1 to {MOST_THREADS}")


def choose(
    source: Source, sink: Sink, demand: str, sparse: str, *, scans: bool, copies_itself: bool
) -> tuple[list[str], int]:
    """Return the movers that copy, best first, and the block in bytes by which extents are shared before (0: not).

    ``scans`` tells that zeros are looked for, ``copies_itself`` that READWRITE is worth more than the kernel's own
    copy between files of one machine. Raises EngineError when the mover demanded cannot be had.
    """
    able = _able(source, sink)
    if demand in ("auto", "probe"):
        if scans or (sparse == "never" and sink.seekable):
            # Where extents are shared, copy_file_range would share holes too.
            return ["readwrite"], 0
        if able[0] != "reflink":
            return able, 0
        between = tuple(_fast.file_system(fd) for fd in (source.fd, sink.fd))
        by_hand = between in _BY_HAND or (copies_itself and all(each in _PLAIN for each in between))
        return ["readwrite"] if by_hand and demand == "auto" else able[1:], _block_size(sink)
    if demand not in able and (source.made or sink.encodes):
        raise EngineError(
            f"--engine {demand} does not see the bytes, and {source.name} to {sink.name} is decompressed or compressed",
            "use --engine readwrite",
        )
    if demand not in able:
        raise EngineError(f"--engine {demand} needs {_NEEDS[demand]}: {source.name} to {sink.name}")
    if sparse == "always" and demand != "readwrite":
        raise EngineError(
            f"--sparse always looks for zeros, which --engine {demand} does not see",
            "use --engine readwrite",
        )
    if demand != "reflink":
        return [demand], 0
    if sparse == "never":
        raise EngineError("--sparse never writes out holes, which --engine reflink shares", "choose one of them")
    return ["readwrite"], _block_size(sink)


def _able(source: Source, sink: Sink) -> list[str]:
    """What the kinds of both descriptors allow, best first."""
    if source.seekable and sink.seekable:
        return ["reflink", "copy_file_range", "sendfile", "readwrite"]
    if source.made or sink.encodes:
        # One side has no descriptor.
        return ["readwrite"]
    able = ["splice"] if any(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (source.fd, sink.fd)) else []
    if source.seekable:
        able.append("sendfile")
    return [*able, "readwrite"]


def _block_size(sink: Sink) -> int:
    return os.fstatvfs(sink.fd).f_bsize


def encode(fd: int, start: int, length: int, sink: Sink) -> tuple[int, int]:
    """Read up to ``length`` bytes from an offset of a descriptor, or its position, into an output that encodes.

    Answers as ``_fast.move`` does. Raises OSError.
    """
    done, got = 0, 1
    while done < length and got:
        room = sink.room()[: length - done]
        got = _fast.read_into(fd, start + done if start >= 0 else -1, room)
        sink.fill(got)
        done += got
    return done, 0


def explained(error: OSError, source: str, sink: str, demanded: str | None) -> Exception:
    """Return what a mover's error means for the names of an input and an output; a closed pipe stays what it is."""
    if isinstance(error, BrokenPipeError):
        return error
    what = f"{source} to {sink}"
    if demanded and error.errno in NOT_FOR_THESE:
        return EngineError(f"--engine {demanded} cannot move {what}: {error.strerror}")
    if error.errno in _OUTPUT_ERRORS:
        return OutputError(f"{sink}: cannot be written: {error.strerror}", "free some space, or choose another place")
    return OutputError(f"{what}: {error.strerror}")
