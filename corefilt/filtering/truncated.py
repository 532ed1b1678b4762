"""Carries out a plan from a pipe to a stream, up to where a limit of RLIMIT_CORE would have ended it."""

from __future__ import annotations

from corefilt import _fast
from corefilt.errors import EngineError, InputError
from corefilt.io.engine import Engine
from corefilt.io.movers import SCRATCH, TURN
from corefilt.plan.rlimit import NOTE_HEADER, PRESENT, DumpBudget, PieceRun, runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corefilt.corefile.corefile import CoreFile
    from corefilt.io.sinks import Sink
    from corefilt.io.sources import Chunk, Source
    from corefilt.plan.layout import Layout


class CuttingEngine(Engine):
    """From a pipe to a stream: counts what passes, and stops writing where the kernel would have.

    Pages of zeros are held back, as a number, until something follows them: they count as holes.
    """

    def __init__(
        self,
        core: CoreFile,
        layout: Layout,
        limit: int,
        source: Source,
        sink: Sink,
        *,
        demand: str,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        """Begin at the output's first byte. Raises EngineError for a demand that does not see the bytes."""
        if demand not in ("auto", "probe", "readwrite"):
            raise EngineError(
                f"--truncate from a pipe reads the bytes, which --engine {demand} cannot do",
                "use --engine readwrite",
            )
        super().__init__(source, sink, demand="readwrite", on_progress=on_progress)
        self.account = DumpBudget(limit)
        self._runs = runs(core, layout)
        self._run: PieceRun | None = next(self._runs)
        self._at = 0
        self._held = bytearray()
        self._zeros = 0
        self._out = bytearray()

    def write(self, target: int, data: bytes | memoryview, *, over: bool = False) -> None:
        """Count the next bytes of the output, and write those that are within the limit."""
        view = memoryview(data)
        while len(view) and not self.account.refused:
            run = self._run
            if run is None or self._at < run.start:
                taken = len(view) if run is None else min(len(view), run.start - self._at)
                self._pad(view[:taken])
            elif run.kind == PRESENT:
                taken = self._page(view, run)
            else:
                taken = self._counted(view, run)
            self._at, view = self._at + taken, view[taken:]
        self._send()

    def write_pieces(self, target: int, pieces: list[Chunk], length: int) -> None:
        """Count them as ``write`` does."""
        for piece in pieces:
            self.write(target, piece)

    def finish(self) -> None:
        """Settle what was held back: the input has ended."""
        if self._held and self._run is not None:
            self._settle(bytes(self._held))
            self._held.clear()
        if not self.account.refused and self._zeros and self.account.emit(self._at - 1, self._at, 1):
            self._release()
        self._send()

    def _pad(self, piece: memoryview) -> None:
        """What is no piece of the kernel's costs nothing."""
        if _fast.is_zero(piece):
            self._zeros += len(piece)
        else:
            self._release()
            self._out += piece

    def _counted(self, view: memoryview, run: PieceRun) -> int:
        """Pass what counts whatever it holds; whether a piece fits is decided where it begins."""
        begun = (self._at - run.start) % run.unit
        end = min(self._at - begun + run.unit, run.end)
        if not begun and not self.account.emit(self._at, end, run.unit):
            return len(view)
        self._release()
        piece = view[: end - self._at]
        self._out += piece
        if run.kind == NOTE_HEADER:
            self._held += piece
        if self._at + len(piece) == run.end:
            self._next(bytes(self._held) if run.kind == NOTE_HEADER else None)
        return len(piece)

    def _page(self, view: memoryview, run: PieceRun) -> int:
        """Gather a page, or another piece that may be a hole, and settle it when it is whole."""
        begun = len(self._held)
        length = min(run.unit, run.end - (self._at - begun))
        piece = view[: length - begun]
        if begun or len(piece) < length:
            self._held += piece
            if len(self._held) < length:
                return len(piece)
        self._settle(bytes(self._held) if begun else piece)
        self._held.clear()
        if self._at + len(piece) == run.end:
            self._next(None)
        return len(piece)

    def _settle(self, piece: bytes | memoryview) -> None:
        if _fast.is_zero(piece):
            self._zeros += len(piece)
        elif self.account.emit(0, len(piece), len(piece)):
            self._release()
            self._out += piece

    def _next(self, raw: bytes | None) -> None:
        self._held.clear()
        try:
            self._run = self._runs.send(raw)
        except StopIteration:
            self._run = None

    def _release(self) -> None:
        """Write the zeros that were held back."""
        while self._zeros:
            piece = min(self._zeros, SCRATCH)
            self._out += bytes(piece)
            self._zeros -= piece
            if len(self._out) >= SCRATCH:
                self._send()

    def _send(self) -> None:
        if self._out:
            super().write(0, bytes(self._out))
            self._out.clear()

    def _move(self, start: int, target: int, length: int) -> int:
        if self.account.refused:
            return self._skipper.discard(length) if self._skipper is not None else 0
        room = memoryview(self._scratch)[: min(length, SCRATCH, TURN)]
        try:
            got = _fast.read_into(self.source.fd, -1, room)
        except OSError as error:
            raise InputError(f"{self.source.name}: cannot be read: {error.strerror}") from None
        self.used = "readwrite"
        self.write(target, room[:got])
        return self._told(got)
