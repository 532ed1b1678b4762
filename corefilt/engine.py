"""Moves the bytes: picks a mover for an input and an output, carries out steps, keeps holes, counts."""

from __future__ import annotations

import errno
import os
import stat

from . import _fast
from .errors import EngineError, InputError, OutputError, UsageError
from .plan import TO_THE_END, Step
from .sinks import Sink
from .sources import FileSource, PipeSource, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ENGINES = ("auto", "copy_file_range", "splice", "readwrite")
SPARSE = ("auto", "always", "never")
MOVERS = {"copy_file_range": _fast.COPY_FILE_RANGE, "splice": _fast.SPLICE, "readwrite": _fast.READWRITE}

# What a mover answers when these two descriptors are not for it.
_NOT_FOR_THESE = (errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY)
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Read and written at a time by READWRITE; as much as a pipe holds. From a pipe to ext4, 1 GiB took 0.35 s with
# it, 0.45 s with 256 KiB and 0.46 s with 128 KiB (medians of five, Linux 6.18, two cores).
SCRATCH = 1 << 20
# Between two looks at the progress bar.
TURN = 1 << 26
# Zeros become holes in pieces of this many bytes, the block of nearly every file system.
GRANULE = 4096
# Behind every offset.
NO_MORE = 1 << 63


class Extents:
    """Where a file has data, asked once for each piece of it.

    The question where the next hole is can cost a walk to the end of the file (tmpfs walks page by page), so a
    piece that was found is remembered until it has been passed.
    """

    def __init__(self, fd: int) -> None:
        """Take a descriptor that can be sought."""
        self._fd = fd
        self._start = self._end = 0
        self._asked = 0

    def first(self, at: int, end: int) -> tuple[int, int]:
        """The first data in ``[at, end)`` as (start, end); both are ``end`` if there is none."""
        if not self._asked <= at < self._end:
            self._asked = at
            try:
                self._start, self._end = _fast.data_extent(self._fd, at) or (NO_MORE, NO_MORE)
            except OSError:
                # This file system keeps no map of holes: everything is data.
                self._start, self._end = at, NO_MORE
        return min(max(at, self._start), end), min(self._end, end)


class Engine:
    """One run from a source to a sink. ``zeros`` counts bytes left out as holes, ``moved`` all bytes put in place."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        *,
        demand: str = "auto",
        sparse: str = "auto",
        writeback: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Choose the movers to try. Raises EngineError when the one demanded cannot be had."""
        for name, value, known in (("engine", demand, ENGINES), ("sparse", sparse, SPARSE)):
            if value not in known:
                raise UsageError(f"{name} is {value!r}", f"it can be {', '.join(known)}")
        self.source, self.sink, self.on_progress = source, sink, on_progress
        self.seeks = isinstance(source, FileSource)
        self.scans = sink.seekable and (sparse == "always" or (sparse == "auto" and not self.seeks))
        self.keeps_holes = self.seeks and sparse == "auto"
        self.demanded = demand != "auto"
        self.writeback = writeback and sink.seekable
        self._movers = self._choose(demand, sparse)
        self._scratch = bytearray(SCRATCH)
        self._devnull = -1
        self._data: Extents | None = None
        self.moved = self.zeros = 0
        self.at_end: int | None = None
        self._reached = 0
        self.replaced: dict[int, bytes] = {}
        self.used: str | None = None

    @property
    def name(self) -> str:
        """The mover that was used last, or would be tried first."""
        return self.used or self._movers[0]

    @property
    def holes(self) -> str:
        """How holes came about: kept, guessed or none."""
        if not self.sink.seekable:
            return "none"
        if self.keeps_holes:
            return "kept"
        return "guessed" if self.scans and self._movers[0] == "readwrite" else "none"

    def _choose(self, demand: str, sparse: str) -> list[str]:
        pipes = [fd for fd in (self.source.fd, self.sink.fd) if stat.S_ISFIFO(os.fstat(fd).st_mode)]
        able = ["readwrite"]
        if self.seeks and self.sink.seekable:
            able.insert(0, "copy_file_range")
        elif pipes:
            able.insert(0, "splice")
        if demand == "auto":
            # Where extents are shared, copy_file_range would share holes too.
            return ["readwrite"] if self.scans or (sparse == "never" and self.sink.seekable) else able
        if demand not in able:
            need = "two files" if demand == "copy_file_range" else "a pipe on one side"
            raise EngineError(f"--engine {demand} needs {need}: {self.source.name} to {self.sink.name}")
        if sparse == "always" and demand != "readwrite":
            raise EngineError(
                f"--sparse always looks for zeros, which --engine {demand} does not see",
                "use --engine readwrite",
            )
        return [demand]

    def run(self, steps: Iterable[Step]) -> None:
        """Carry out the steps in order; stops early, with ``at_end`` set, where the input ends.

        Raises InputError, OutputError or EngineError; BrokenPipeError when nobody reads the output any more.
        """
        try:
            for step in steps:
                if self.seeks:
                    # What is left out has been dealt with too.
                    if step.source > self._reached:
                        self._told(step.source - self._reached)
                    self._reached = step.source + step.length
                if not (self._put(step) if step.put is not None else self._copy(step)):
                    break
        finally:
            if self._devnull >= 0:
                os.close(self._devnull)
                self._devnull = -1

    def write(self, target: int, data: bytes, *, over: bool = False) -> None:
        """Write bytes at an offset of the output (in order, if it cannot be sought); ``over`` what is there already."""
        offset = self.sink.base + target if self.sink.seekable else -1
        granule = GRANULE if self.scans and not over else 0
        try:
            self.zeros += _fast.write_at(self.sink.fd, offset, data, granule=granule)
        except OSError as error:
            raise self._explained(error) from None
        self.moved += len(data)

    def _put(self, step: Step) -> bool:
        if step.put is None:
            raise AssertionError("no bytes to put")
        if isinstance(self.source, PipeSource):
            if not self._skip_to(step.source):
                return False
            self.replaced[step.source] = self.source.peek(step.source, step.length) if step.length <= 64 else b""
            if not self._skip_to(step.source + step.length):
                self.write(step.target, step.put)
                return False
        self.write(step.target, step.put)
        return True

    def _copy(self, step: Step) -> bool:
        if isinstance(self.source, PipeSource):
            return self._copy_from_pipe(self.source, step)
        end = self.source.base + step.source + step.length
        at, target = self.source.base + step.source, step.target
        while at < end:
            data, stop = self._data_extent(at, end)
            if data > at:
                self._hole(data - at)
                self._told(data - at)
                target += data - at
            if stop > data:
                moved = self._move(data, target, stop - data)
                if moved < stop - data:
                    raise InputError(f"{self.source.name}: became shorter while it was read")
                target += moved
            at = stop
        return True

    def _data_extent(self, at: int, end: int) -> tuple[int, int]:
        if not self.keeps_holes:
            return at, end
        if self._data is None:
            self._data = Extents(self.source.fd)
        return self._data.first(at, end)

    def _hole(self, length: int) -> None:
        if self.sink.seekable:
            self.zeros += length
            self.moved += length
            return
        zeros = bytes(min(length, SCRATCH))
        while length:
            self.write(0, zeros[:length])
            length -= min(length, SCRATCH)

    def _copy_from_pipe(self, source: PipeSource, step: Step) -> bool:
        if not self._skip_to(step.source):
            return False
        target, left = step.target, step.length
        while left and source.ahead:
            held = source.take(min(left, SCRATCH))
            self.write(target, held)
            target, left = target + len(held), left - len(held)
        while left:
            moved = self._move(-1, target, left)
            source.position += moved
            if not moved:
                self.at_end = source.position
                return False
            target, left = target + moved, left if step.length == TO_THE_END else left - moved
        return True

    def _skip_to(self, offset: int) -> bool:
        """Consume the pipe up to an offset; False when it ends before."""
        source = self.source
        if not isinstance(source, PipeSource):
            raise AssertionError("only a pipe is skipped")
        source.take(offset - source.position)
        while source.position < offset:
            gone = self._discard(offset - source.position)
            if not gone:
                self.at_end = source.position
                return False
            source.position += gone
        return True

    def _discard(self, length: int) -> int:
        length = min(length, TURN)
        if not (self.demanded and self._movers[0] == "readwrite"):
            try:
                if self._devnull < 0:
                    self._devnull = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                return self._told(
                    _fast.move(_fast.SPLICE, self.source.fd, -1, self._devnull, -1, length, self._scratch)[0]
                )
            except OSError:
                # No pipe, or no /dev/null: read it.
                pass
        try:
            return self._told(_fast.discard(self.source.fd, length, self._scratch))
        except OSError as error:
            raise InputError(f"{self.source.name}: cannot be read: {error.strerror}") from None

    def _move(self, start: int, target: int, length: int) -> int:
        """Move bytes with the first mover that can; returns fewer than ``length`` only at the end of the input."""
        done = 0
        while done < length:
            name = self._movers[0]
            at_in = -1 if start < 0 else start + done
            at_out = self.sink.base + target + done if self.sink.seekable else -1
            try:
                moved, zeros = _fast.move(
                    MOVERS[name], self.source.fd, at_in, self.sink.fd, at_out, min(length - done, TURN),
                    self._scratch, granule=GRANULE if self.scans and name == "readwrite" else 0,
                )  # fmt: skip
            except OSError as error:
                if len(self._movers) > 1 and error.errno in _NOT_FOR_THESE:
                    del self._movers[0]
                    continue
                raise self._explained(error) from None
            if not moved:
                if name == "copy_file_range" and len(self._movers) > 1:
                    # Some file systems of the kernel's own making answer 0 instead of an error.
                    del self._movers[0]
                    continue
                break
            self.used = name
            if self.writeback:
                _fast.start_writeback(self.sink.fd, at_out, moved)
            self.zeros += zeros
            self.moved += moved
            done += self._told(moved)
        return done

    def _told(self, count: int) -> int:
        if self.on_progress is not None:
            self.on_progress(count)
        return count

    def _explained(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        what = f"{self.source.name} to {self.sink.name}"
        if self.demanded and error.errno in _NOT_FOR_THESE:
            return EngineError(f"--engine {self.name} cannot move {what}: {error.strerror}")
        if error.errno in _OUTPUT_ERRORS:
            return OutputError(
                f"{self.sink.name}: cannot be written: {error.strerror}",
                "free some space, or choose another place",
            )
        return OutputError(f"{what}: {error.strerror}")

    def relocate(self, moves: Iterable[tuple[int, int, int]]) -> None:
        """Move ``(from, to, length)`` ranges of the output to lower offsets, in ascending order. Raises OutputError."""
        reader, base = self.sink.reader, self.sink.base
        extents = Extents(reader)
        try:
            for start, target, length in moves:
                at, end = base + start, base + start + length
                shift = target - start
                while at < end:
                    data, stop = extents.first(at, end)
                    if data > at:
                        self._empty(at + shift, data - at)
                    while data < stop:
                        moved, _ = _fast.move(
                            _fast.READWRITE,
                            reader,
                            data,
                            self.sink.fd,
                            data + shift,
                            min(stop - data, TURN),
                            self._scratch,
                        )
                        data += moved
                    at = stop
        except OSError as error:
            raise self._explained(error) from None

    def _empty(self, offset: int, length: int) -> None:
        try:
            _fast.punch(self.sink.fd, offset, length)
        except OSError as error:
            if error.errno not in _NOT_FOR_THESE:
                raise
            while length:
                piece = min(length, SCRATCH)
                _fast.write_at(self.sink.fd, offset, bytes(piece))
                offset, length = offset + piece, length - piece
