"""What a compressed core holds, decoded by code that nothing which writes cores shares.

Streams that follow each other are one core, as the standard tools take them; zeros behind a stream, which fill up a
tape's block, and frames that zstd and lz4 pass over mean nothing.
"""

from __future__ import annotations

from corefilt.errors import MissingLibraryError
from corefilt.sizes import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from corefilt.verify.files import MappedCore

    # Makes decoders with the attributes of bz2.BZ2Decompressor, and what they raise for a damaged stream.
    Codec: TypeAlias = tuple[Callable[[], Any], tuple[type[Exception], ...]]

# Read and decoded at a time, in bytes.
_PIECE = 256 << 10
# An xz stream may take this much memory (xz -9: 65 MiB), and zstd a window of 2^27, as the zstd program allows.
_XZ_MEMORY, _ZSTD_WINDOW_LOG = 256 << 20, 27
_MAGICS = (
    (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"), (b"\xfd7zXZ\0", "xz"), (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
)  # fmt: skip


class Damage(Exception):
    """What is wrong with a stream, in words; all that can be decoded before it has been given."""


def format_at(file: MappedCore, at: int) -> str | None:
    """The format of the stream that begins at an offset, or behind frames that are passed over; None for no stream."""
    head = file.read(_behind_skipped(file, at), 8)
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def decompressed(file: MappedCore, name: str) -> Iterator[bytes]:
    """Yield the bytes of all streams in a file, of the format ``name``, in order.

    Raises Damage, InputError and MissingLibraryError.
    """
    new, faults = _codec(name)
    at, ended = 0, False
    while True:
        at = _behind_skipped(file, _behind_zeros(file, at) if ended else at)
        if at >= file.size and ended:
            return
        if ended and format_at(file, at) != name:
            raise Damage(f"{show_size(file.size - at)} after the end of the {name} stream are not part of it")
        decoder, start, made = new(), at, 0
        while not decoder.eof:
            before, data = at, file.read(at, _PIECE) if decoder.needs_input else b""
            if decoder.needs_input and not data:
                raise Damage(f"the {name} stream that holds the core is cut off")
            at += len(data)
            try:
                piece = decoder.decompress(data, _PIECE)
            except faults as error:
                yield from _saved(file, new(), faults, (start, before, at), made)
                raise Damage(f"the {name} stream is damaged: {error}") from None
            made += len(piece)
            yield piece
        at, ended = at - len(decoder.unused_data or b""), True


def _saved(
    file: MappedCore, decoder: Any, faults: tuple[type[Exception], ...], span: tuple[int, int, int], made: int
) -> Iterator[bytes]:
    """What a damaged stream gives behind its first ``made`` bytes: its last piece is decoded again byte by byte.

    A decoder that finds the damage keeps back what it has decoded of the same piece.
    """
    start, last, end = span
    pieces = [(at, min(at + _PIECE, last)) for at in range(start, last, _PIECE)]
    pieces += [(at, at + 1) for at in range(last, end)]
    done = 0
    try:
        for low, high in pieces:
            data = file.read(low, high - low)
            while True:
                piece = decoder.decompress(data, _PIECE)
                done += len(piece)
                if done > made and piece:
                    yield piece[max(0, made - done + len(piece)) :]
                if decoder.eof or decoder.needs_input:
                    break
                data = b""
    except faults:
        return


def _behind_skipped(file: MappedCore, at: int) -> int:
    """The offset behind frames that zstd and lz4 pass over; pzstd writes one first."""
    while True:
        head = file.read(at, 8)
        if len(head) < 8 or head[1:4] != b"\x2a\x4d\x18" or head[0] >> 4 != 5:
            return at
        at += 8 + int.from_bytes(head[4:], "little")


def _behind_zeros(file: MappedCore, at: int) -> int:
    while piece := file.read(at, _PIECE):
        rest = piece.lstrip(b"\0")
        at += len(piece) - len(rest)
        if rest:
            break
    return at


def _codec(name: str) -> Codec:
    if name == "zstd":
        try:
            from compression import zstd
        except ImportError:
            try:
                from backports import zstd
            except ImportError:
                raise _missing("zstd", "backports.zstd") from None
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        return lambda: zstd.ZstdDecompressor(options=options), (zstd.ZstdError,)
    if name == "lz4":
        try:
            import lz4.frame
        except ImportError:
            raise _missing("lz4", "lz4") from None
        return lz4.frame.LZ4FrameDecompressor, (RuntimeError,)
    if name == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), (lzma.LZMAError,)
    if name == "gzip":
        import zlib

        return _Gzip, (zlib.error,)
    import bz2

    return bz2.BZ2Decompressor, (OSError,)


class _Gzip:
    """zlib's decoder with the attributes of the others."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _missing(name: str, package: str) -> MissingLibraryError:
    return MissingLibraryError(f"{name} needs the package {package}, which is not installed", f"pip install {package}")
