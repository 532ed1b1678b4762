"""``--dedupe``: equal blocks of shared memory share their extents on the disk; every core stays whole.

FIDEDUPERANGE (ioctl_fideduperange(2)) has the kernel compare the bytes and share the extents in one step, on XFS, btrfs
and others that share extents.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from corefilt import __version__
from corefilt.batching.shared.blocks import BLOCK, find_equal
from corefilt.errors import OutputError
from corefilt.sizes import show_size
from corefilt.text import counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corefilt.batching.shared.blocks import SharedBlocks

# linux/fs.h: _IOWR(0x94, 54, struct file_dedupe_range), whose size is 24 bytes.
FIDEDUPERANGE = 0xC0189436
_RANGE, _INFO = struct.Struct("=QQHHI"), struct.Struct("=qQQiI")
_DIFFERS = 1
# File systems take no more at a time (btrfs: 16 MiB).
MOST_AT_ONCE = 16 << 20
_NOT_HERE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)


class Deduped:
    """What was done: ``shared_bytes`` have their extents in common now, ``skipped`` maps cores to the reason."""

    __slots__ = ("cores", "shared_bytes", "skipped")

    def __init__(self) -> None:
        self.cores: list[str] = []
        self.shared_bytes = 0
        self.skipped: dict[str, str] = {}

    def as_dict(self) -> dict[str, object]:
        """The attributes as JSON takes them."""
        return {"schema": 1, "version": __version__, **{name: getattr(self, name) for name in self.__slots__}}

    def __str__(self) -> str:
        return f"{show_size(self.shared_bytes)} of shared memory in {counted(len(self.cores), 'core')} are stored once"


def dedupe(paths: Iterable[str | os.PathLike[str]]) -> Deduped:
    """Have the file system share the extents of equal blocks of shared memory in a group of cores.

    Raises OutputError where it cannot; a core that cannot be opened for writing, or has changed, becomes a reason in
    ``skipped``.
    """
    done = Deduped()
    names = list(dict.fromkeys(os.path.realpath(path) for path in paths))
    group = find_equal(names)
    for member in group.members:
        if member.why_not:
            done.skipped[member.path] = member.why_not
    for k, member in enumerate(group.members):
        if member.offsets:
            _share(group, k, done)
    return done


def _share(group: SharedBlocks, k: int, done: Deduped) -> None:
    member = group.members[k]
    try:
        target = os.open(member.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        done.skipped[member.path] = f"cannot be opened for writing: {error.strerror}"
        return
    try:
        for holder, at, offset, length in _runs(group, k):
            source = os.open(group.members[holder].path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                done.shared_bytes += _dedupe(source, at, target, offset, length, member.path)
            finally:
                os.close(source)
    finally:
        os.close(target)
    done.cores.append(member.path)


def _runs(group: SharedBlocks, k: int) -> Iterator[tuple[int, int, int, int]]:
    """What a core has in common with others, in pieces: (holder, offset there, offset here, length)."""
    member = group.members[k]
    run: tuple[int, int, int, int] | None = None
    for offset, number in sorted(zip(member.offsets, member.numbers, strict=True)):
        holder, at = group.holders[number], group.places[number]
        if run is not None and run[3] < MOST_AT_ONCE:
            first, start, begin, length = run
            if (holder, at, offset) == (first, start + length, begin + length):
                run = first, start, begin, length + BLOCK
                continue
        if run is not None:
            yield run
        run = holder, at, offset, BLOCK
    if run is not None:
        yield run


def _dedupe(source: int, at: int, target: int, offset: int, length: int, name: str) -> int:
    """Share one range; how many bytes are shared now. Where the bytes differ, the kernel leaves them. OutputError."""
    shared = 0
    while shared < length:
        ask = bytearray(
            _RANGE.pack(at + shared, length - shared, 1, 0, 0) + _INFO.pack(target, offset + shared, 0, 0, 0)
        )
        try:
            fcntl.ioctl(source, FIDEDUPERANGE, ask)
        except OSError as error:
            raise _refused(name, error.errno or 0) from None
        _, _, count, status, _ = _INFO.unpack_from(ask, _RANGE.size)
        if status < 0:
            raise _refused(name, -status)
        if status == _DIFFERS or not count:
            return shared
        shared += count
    return shared


def _refused(name: str, number: int) -> OutputError:
    words = os.strerror(number)
    if number in _NOT_HERE:
        return OutputError(
            f"{name}: its file system shares no extents: {words}", "XFS and btrfs do; --shared-once works everywhere"
        )
    if number == errno.EXDEV:
        return OutputError(f"{name}: is on another file system than a core that shares blocks with it")
    return OutputError(f"{name}: its extents cannot be shared: {words}")
