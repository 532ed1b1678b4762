"""Moves the bytes: carries out steps with the movers that fit, keeps holes, counts."""

from __future__ import annotations

from corefilt import _fast
from corefilt.errors import EngineError
from corefilt.io.movers import (
    MOVERS,
    NOT_FOR_THESE,
    SCRATCH,
    SHARE,
    TURN,
    check_words,
    choose,
    encode,
    helpful_jobs,
)  # fmt: skip
from corefilt.io.sides import GRANULE, WINDOW, Sides
from corefilt.io.steps import TO_THE_END, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corefilt.io.copy_threads import Crew
    from corefilt.io.pace import Pace
    from corefilt.io.probe import Probe
    from corefilt.io.sinks import Sink
    from corefilt.io.skip import Skipper
    from corefilt.io.sources import Source

# As many bytes of a run are handed to other threads, piece by piece; fewer are copied at once.
WORTH_A_PIECE = 1 << 20
# Moved at a time while movers are compared.
PROBED = 4 << 20


class Engine(Sides):
    """One run from a source to a sink. ``zeros`` counts bytes left out as holes, ``moved`` all bytes put in place."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        *,
        demand: str = "auto",
        sparse: str = "auto",
        writeback: bool = False,
        jobs: int | None = None,
        cache: str = "auto",
        expected: int = 0,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Choose the movers to try.

        ``jobs`` is the count of threads that copy between files, or None for as many as help now; ``expected`` the
        most bytes that will be moved, if that is known. Raises EngineError when the mover demanded cannot be had.
        """
        check_words(demand, sparse, cache, jobs)
        super().__init__(source, sink, cache=cache, expected=expected, on_progress=on_progress)
        self.keeps_holes = self.seeks and sparse != "never"
        self.scans = sink.seekable and (sparse == "always" or (sparse == "auto" and not self.seeks))
        self.demanded = demand if demand not in ("auto", "probe") else None
        self.writeback = writeback and sink.seekable
        # Only offsets on both sides make the order free.
        self._jobs = (jobs or helpful_jobs(self._expected)) if self.seeks and sink.seekable else 1
        self._crew: Crew | None = None
        # Nobody has said how many threads.
        self._pace: Pace | None = None
        if self._jobs > 1 and jobs is None:
            from corefilt.io.pace import Pace

            self._pace = Pace(self._expected)
        self._under_way: set[int] = set()
        self._scratch = bytearray(SCRATCH)
        self.at_end: int | None = None
        self._reached = 0
        self.replaced: dict[int, bytes] = {}
        self.used: str | None = None
        self._movers, self._block = choose(
            source, sink, demand, sparse, scans=self.scans, copies_itself=self._copies_itself()
        )
        self.probe: Probe | None = None
        if demand == "probe":
            from corefilt.io.probe import Probe

            self.probe = Probe(self._movers)
        self._skipper: Skipper | None = None
        if not source.seekable and not source.made:
            from corefilt.io.skip import Skipper

            self._skipper = Skipper(source, self._scratch, by_reading=demand == "readwrite", told=self._told)

    @property
    def name(self) -> str:
        """The mover that did the most of it, or would be tried first."""
        return self.used or ("reflink" if self._block else self._movers[0])

    @property
    def holes(self) -> str:
        """How holes came about: kept, guessed or none."""
        if not self.sink.seekable:
            return "none"
        if self.scans and self._movers[0] == "readwrite":
            return "guessed"
        return "kept" if self.keeps_holes else "none"

    def _copies_itself(self) -> bool:
        """Whether READWRITE is the better copy: for several threads, and where it need not fill the page cache."""
        if not (self.seeks and self.sink.seekable):
            return False
        cache = self._cache_of()
        return self._jobs > 1 or (cache is not None and bool(cache.flags[1]))

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
            if self._crew is not None:
                self._gather(self._crew, wait=True)
            if self.source.is_cut():
                # What is behind the end looks like a hole.
                raise self._shorter()
            if self._cache is not None:
                self._cache.finish()
        finally:
            if self._crew is not None:
                self._crew.__exit__(None, None, None)
                self._crew = None
            if self._skipper is not None:
                self._skipper.close()

    def _put(self, step: Step) -> bool:
        if step.put is None:
            raise AssertionError("no bytes to put")
        if not self.source.seekable:
            if not self._skip_to(step.source):
                return False
            self.replaced[step.source] = self.source.peek(step.source, step.length) if step.length <= 64 else b""
            if not self._skip_to(step.source + step.length):
                self.write(step.target, step.put)
                return False
        self.write(step.target, step.put)
        return True

    def _copy(self, step: Step) -> bool:
        if not self.source.seekable:
            return self._copy_from_pipe(step)
        self.source.need(step.source, step.source + step.length)
        at = self.source.base + step.source
        if self._block:
            self._share(at, step.target, step.length)
        else:
            self._copy_data(at, step.target, step.length)
        return True

    def _share(self, at: int, target: int, length: int) -> None:
        """Share all whole blocks with the output; what is left at both edges is copied.

        The output's blocks must lie as the input's do. They do where all that was cut out before are whole
        blocks, as pages are; holes are shared as holes.
        """
        block, end, shift = self._block, at + length, target - at
        if (self.sink.base + shift) % block:
            if self.demanded:
                raise EngineError(
                    f"--engine reflink cannot share what is at byte {at} of {self.source.name}: its offset in "
                    f"{self.sink.name} differs by {shift + self.sink.base}, "
                    f"not a multiple of the block size ({block} bytes)"
                )
            self._copy_data(at, target, length)
            return
        first = min(-(-at // block) * block, end)
        last = max(first, end // block * block)
        self._copy_data(at, target, first - at)
        done = first
        while done < last:
            place = self.sink.base + done + shift
            try:
                moved, _ = _fast.move(
                    _fast.REFLINK, self.source.fd, done, self.sink.fd, place, min(last - done, TURN), self._scratch,
                )  # fmt: skip
            except OSError as error:
                if self.demanded or error.errno not in NOT_FOR_THESE:
                    raise self._explained(error) from None
                self._block = 0
                break
            self.used = "reflink"
            self.moved += moved
            done += self._told(moved)
        self._copy_data(done, done + shift, end - done)

    def _copy_data(self, at: int, target: int, length: int) -> None:
        """Copy what is no hole."""
        end = at + length
        while at < end:
            data, stop = self._data_extent(at, end)
            if data > at:
                self._hole(data - at)
                self._told(data - at)
                target += data - at
            if stop > data:
                if self._jobs > 1 and self._movers[0] == "readwrite" and stop - data >= WORTH_A_PIECE:
                    self._copy_together(data, target, stop - data)
                else:
                    moved = self._move(data, target, stop - data)
                    if moved < stop - data:
                        raise self._shorter()
                target += stop - data
            at = stop

    def _copy_together(self, start: int, target: int, length: int) -> None:
        """Hand pieces to the crew; they end where the output's pieces do, so that no two threads write one page.

        Only what is in the page cache gains by it. A disk is read by this thread alone, as one stream, unless more
        than two threads were asked for, as suits a disk that wants many requests at once.
        """
        cache, pace = self._cache_of(), self._pace
        place, end = self.sink.base + target, start + length
        while start < end:
            piece = min(end - start, SHARE - place % SHARE)
            if cache is not None:
                cache.before(start, piece, flagged=True)
            if self._crew is None and (pace is None or pace.together):
                self._hire()
            if pace is not None:
                pace.begin()
            alone = pace is not None and not pace.together
            if self._crew is None or alone or (self._jobs == 2 and self._was_absent(start, piece)):
                if self._move(start, place - self.sink.base, piece) < piece:
                    raise self._shorter()
            else:
                self._under_way.add(start)
                try:
                    self._crew.add((start, place, piece))
                except OSError as error:
                    raise self._explained(error) from None
            ends = pace is not None and pace.passed(piece)
            if self._crew is not None:
                self._gather(self._crew, wait=ends)
            if pace is not None and ends:
                pace.turn()
            start, place = start + piece, place + piece

    def _hire(self) -> None:
        """Start the other threads."""
        from corefilt.io.copy_threads import Crew

        cache = self._cache_of()
        self._crew = Crew(
            self.source.fd, self.sink.fd, self._jobs,
            granule=GRANULE if self.scans else 0,
            flags=(0, 0) if cache is None else cache.flags,
            writeback=self.writeback and cache is None,
        )  # fmt: skip
        self._crew.__enter__()

    def _gather(self, crew: Crew, *, wait: bool = False) -> None:
        """Count what the crew has copied."""
        try:
            for (start, place, length), moved, zeros in crew.results(wait=wait):
                if moved < length:
                    raise self._shorter()
                self.used = self.used or "readwrite"
                self.zeros += zeros
                self.moved += self._told(moved)
                self._under_way.discard(start)
                if self._cache is not None:
                    self._cache.after(min([start + moved, *self._under_way]), place, moved, flagged=True)
        except OSError as error:
            raise self._explained(error) from None

    def _copy_from_pipe(self, step: Step) -> bool:
        if not self._skip_to(step.source):
            return False
        source, target, left = self.source, step.target, step.length
        if source.made:
            self.used = "readwrite"
            while left:
                pieces = source.pieces(left)
                if not pieces:
                    self.at_end = source.position
                    return False
                length = sum(map(len, pieces))
                self.write_pieces(target, pieces, length)
                target, left = target + length, left - self._told(length)
            return True
        while left and (held := source.take(min(left, SCRATCH))):
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
        if source.made:
            while source.position < offset and (length := source.skip(offset - source.position)):
                self._told(length)
        elif self._skipper is None:
            raise AssertionError("a pipe is skipped by its skipper")
        else:
            self._skipper.skip_to(offset)
        if source.position < offset:
            self.at_end = source.position
            return False
        return True

    def _move(self, start: int, target: int, length: int) -> int:
        """Move bytes with the first mover that can; returns fewer than ``length`` only at the end of the input."""
        done = 0
        while done < length:
            probe = self.probe if len(self._movers) > 1 else None
            name = probe.mover if probe is not None else self._movers[0]
            at_in = -1 if start < 0 else start + done
            at_out = self.sink.base + target + done if self.sink.seekable else -1
            cache, reads = self._cache_of(), name == "readwrite"
            if cache is not None:
                cache.before(at_in, min(length - done, WINDOW), flagged=reads)
            flags = cache.flags if cache is not None and reads else (0, 0)
            turn = min(length - done, TURN if cache is None else WINDOW)
            if probe is not None:
                turn = min(turn, PROBED)
                probe.begin()
            if name == "copy_file_range":
                # Where extents are shared, so is what begins with a block.
                turn = min(turn, -at_in % GRANULE or turn)
            try:
                moved, zeros = encode(self.source.fd, at_in, turn, self.sink) if self.sink.encodes else _fast.move(
                    MOVERS[name], self.source.fd, at_in, self.sink.fd, at_out, turn, self._scratch,
                    granule=GRANULE if self.scans and reads else 0, flags_in=flags[0], flags_out=flags[1],
                )  # fmt: skip
            except OSError as error:
                if len(self._movers) > 1 and error.errno in NOT_FOR_THESE:
                    self._give_up(name)
                    continue
                raise self._explained(error) from None
            if not moved:
                if name in ("copy_file_range", "sendfile") and len(self._movers) > 1:
                    # Some file systems of the kernel's own making answer 0 instead of an error.
                    self._give_up(name)
                    continue
                break
            if probe is not None:
                probe.took(moved)
                if probe.best is not None:
                    self._movers = [probe.best]
            if self.used != "reflink":
                self.used = name
            if cache is not None:
                cache.after(min([at_in + moved, *self._under_way]), at_out, moved, flagged=reads)
            elif self.writeback:
                _fast.start_writeback(self.sink.fd, at_out, moved)
            self.zeros += zeros
            self.moved += moved
            done += self._told(moved)
        return done

    def _give_up(self, name: str) -> None:
        """Have another mover do what this one cannot."""
        self._movers.remove(name)
        if self.probe is not None:
            self.probe.drop()
