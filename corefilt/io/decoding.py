"""Decodes compressed streams, up to where one is cut or damaged and what can be had of it then.

All decoders answer as those of the standard library do: ``decompress(data, max_length)``, ``eof``, ``needs_input`` and
``unused_data``, so that no input makes more bytes at a time than were asked for, and a stream that was cut is told from
one that ends.
"""

from __future__ import annotations

from functools import partial

from corefilt.io.compression import MAGICS, PIECE, SKIPPED, lz4_library, zstd_library
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    class Decoder(Protocol):
        """Decodes one frame, member or stream."""

        @property
        def eof(self) -> bool:
            """Whether it has ended."""

        @property
        def needs_input(self) -> bool:
            """Whether nothing more comes without more input."""

        @property
        def unused_data(self) -> bytes:
            """What came behind the end."""

        def decompress(self, data: bytes, max_length: int) -> bytes:
            """What comes of the data, at most so many bytes of it."""


# What an xz stream may take of the memory to be decoded: xz -9 takes 65 MiB.
XZ_MEMORY = 256 << 20
# The window of zstd up to which the zstd program itself decodes without being asked to (--long=27).
ZSTD_WINDOW_LOG = 27
# Decoded at a time by zstd, whose library makes more than this in several blocks that it joins: 256 MiB of heap-like
# memory took 0.13 s of CPU and 600 page faults in these, and 0.20 s and 30,000 in pieces of 256 KiB.
ZSTD_PIECE = 32 << 10
# Of a compressed stream from a pipe, what is held to decode it once more if it is damaged.
MOST_KEPT = 1 << 20


class StreamFault(EOFError):
    """What is wrong with a compressed stream, in words; all that came of it before has been given already.

    ``whole`` tells that nothing of the stream is missing: then it is only what stands behind it.
    """

    def __init__(self, words: str, *, whole: bool = False) -> None:
        super().__init__(words)
        self.whole = whole


class _Input:
    """The bytes of a compressed input, as far as they are read and not yet decoded.

    ``again`` reads the input from an offset, if it can; otherwise a stream is kept as long as it is short.
    """

    def __init__(self, read: Callable[[], bytes], again: Callable[[int], Callable[[], bytes] | None] | None) -> None:
        self._read, self._again = read, again
        self._held = b""
        self._at = self._start = self._last = 0
        self._kept: list[bytes] | None = None

    def peek(self, count: int) -> bytes:
        """The next bytes, or fewer at the end."""
        while len(self._held) < count:
            piece = self._read()
            if not piece:
                break
            self._held += piece
        return self._held[:count]

    def skip(self, count: int) -> int:
        """Pass over so many bytes, or fewer at the end; returns how many."""
        left = count
        while left and self.peek(1):
            passed = min(left, len(self._held))
            self._held, self._at, left = self._held[passed:], self._at + passed, left - passed
        return count - left

    def skip_zeros(self) -> None:
        """Pass over zeros."""
        while self.peek(1) == b"\0":
            self.skip(len(self._held) - len(self._held.lstrip(b"\0")))

    def begin(self) -> None:
        """A stream begins here."""
        self._start, self._kept = self._at, []

    def take(self) -> bytes:
        """The next bytes for the decoder; none at the end."""
        piece, self._held, self._last = self._held or self._read(), b"", self._at
        self._at += len(piece)
        if self._kept is not None:
            self._kept.append(piece)
            if self._at - self._start > MOST_KEPT:
                self._kept = None
        return piece

    def give_back(self, rest: bytes) -> None:
        """What the decoder did not want."""
        self._held, self._at = rest, self._at - len(rest)

    def once_more(self) -> Iterator[bytes]:
        """What was taken of this stream, the last piece byte by byte; nothing where it is not to be had any more."""
        read: Callable[[], bytes] | None = None
        if self._kept is not None:
            read = partial(next, iter(self._kept), b"")
        elif self._again is not None:
            read = self._again(self._start)
        at = self._start
        while read is not None and at < self._at and (piece := read()[: self._at - at]):
            whole = max(0, min(len(piece), self._last - at))
            if whole:
                yield piece[:whole]
            yield from (piece[i : i + 1] for i in range(whole, len(piece)))
            at += len(piece)


def decoded(
    name: str,
    read: Callable[[], bytes],
    *,
    again: Callable[[int], Callable[[], bytes] | None] | None = None,
    on_fault: Callable[[StreamFault], None] | None = None,
) -> Iterator[bytes]:
    """What a stream holds, in pieces of up to PIECE bytes; ``read`` gives its bytes and b"" at its end.

    Streams that follow each other are one, as the standard tools take them; frames to be skipped and zeros, which fill
    up a block of a tape, mean nothing. ``again`` reads from an offset in bytes, where that is possible: then all that
    can be decoded before a damage is given, as of a stream of up to MOST_KEPT bytes, and otherwise up to PIECE bytes
    less; ``on_fault`` hears of the damage before. Raises StreamFault for a stream that is cut or damaged, or has other
    bytes behind it, and MissingLibraryError.
    """
    new, damages = _decoders(name)
    most = ZSTD_PIECE if name == "zstd" else PIECE
    source, whole = _Input(read, again), False
    while _finds_stream(name, source, whole=whole):
        whole = True
        source.begin()
        decoder = new()
        stream = _Stream(decoder, damages, most)
        decode = stream.decode
        # Once for 32 KiB of zstd.
        while not decoder.eof:
            asked = decoder.needs_input
            data = source.take() if asked else b""
            piece = decode(data)
            if piece:
                yield piece
            elif stream.fault is not None:
                fault = StreamFault(f"the {name} stream is damaged: {stream.fault}")
                if on_fault is not None:
                    on_fault(fault)
                yield from _saved(_Stream(new(), damages, most), source.once_more(), stream.made)
                raise fault
            elif asked and not data and not decoder.eof:
                raise StreamFault(f"the {name} stream that holds the core is cut off")
        source.give_back(decoder.unused_data or b"")


class _Stream:
    """One frame, member or stream while it is decoded: ``made`` bytes so far, and a ``fault`` that ended it."""

    def __init__(self, decoder: Decoder, damages: tuple[type[Exception], ...], most: int) -> None:
        self._decoder, self._damages, self._most = decoder, damages, most
        self._decompress = decoder.decompress
        self.made = 0
        self.fault: Exception | None = None

    @property
    def ended(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return self._decoder.needs_input

    def decode(self, data: bytes) -> bytes:
        """What comes of the data, up to ``most`` bytes; none where it is damaged."""
        try:
            piece = self._decompress(data, self._most)
        except self._damages as error:
            self.fault = error
            return b""
        self.made += len(piece)
        return piece


def _finds_stream(name: str, source: _Input, *, whole: bool) -> bool:
    """Whether another stream follows, behind what means nothing; ``whole`` tells that one has been.

    Raises StreamFault for anything else that follows.
    """
    while True:
        if whole:
            source.skip_zeros()
        head = source.peek(8)
        if name not in ("zstd", "lz4") or head[1:4] != SKIPPED or head[0] >> 4 != 5 or len(head) < 8:
            break
        length = 8 + int.from_bytes(head[4:], "little")
        if source.skip(length) < length:
            raise StreamFault(f"a skippable frame of the {name} stream is cut off", whole=whole)
    if not head or not whole or any(head.startswith(magic) for magic in MAGICS if MAGICS[magic] == name):
        return bool(head) or not whole
    behind = 0
    while passed := source.skip(PIECE):
        behind += passed
    raise StreamFault(f"{show_size(behind)} after the end of the {name} stream are not part of it", whole=True)


def _saved(stream: _Stream, pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    """What a damaged stream still gives behind its first ``skip`` bytes, when it is decoded again in small steps.

    A decoder that finds the damage keeps back what it has decoded of the same piece.
    """
    for data in pieces:
        piece = stream.decode(data)
        while True:
            if stream.made > skip and piece:
                yield piece[max(0, skip - stream.made + len(piece)) :]
            if stream.fault is not None or stream.ended:
                return
            if stream.needs_input:
                break
            piece = stream.decode(b"")


def check_decoder(name: str) -> None:
    """Raise MissingLibraryError where a format cannot be read here."""
    _decoders(name)


def _decoders(name: str) -> tuple[Callable[[], Decoder], tuple[type[Exception], ...]]:
    """What makes decoders of a format, and what they raise for a stream that is damaged."""
    if name == "zstd":
        zstd = zstd_library()
        options = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
        return lambda: zstd.ZstdDecompressor(options=options), (zstd.ZstdError,)
    if name == "lz4":
        return lz4_library().LZ4FrameDecompressor, (RuntimeError,)
    if name == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY), (lzma.LZMAError,)
    if name == "gzip":
        import zlib

        return _GzipDecoder, (zlib.error,)
    import bz2

    return bz2.BZ2Decompressor, (OSError,)


class _GzipDecoder:
    """zlib's decoder with the manners of the others."""

    def __init__(self) -> None:
        import zlib

        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
