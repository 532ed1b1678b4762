"""The compressed formats that cores are kept in, told by their first bytes, and the encoders of each.

zstd is the standard library's from Python 3.14 on, its backport before; lz4 is the lz4 package's.
"""

from __future__ import annotations

import os

from corefilt.errors import MissingLibraryError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Encoder(Protocol):
        """Encodes one stream."""

        def compress(self, data: bytes | memoryview, /) -> bytes:
            """What can be said by now."""

        def flush(self) -> bytes:
            """The end of it."""


# Read and decoded at a time, in bytes.
PIECE = 256 << 10
# Read and encoded at a time; of 256 KiB each, zstd's threads were waited for more often (1.5 and 1.3 s of CPU).
ENCODED = 1 << 20
# What a thread of zstd compresses at a time, up to the level whose window is larger. zstd's own choice, four windows,
# comes out in one piece, for which memory is asked for anew each time: 256 MiB of random memory took 0.71 s of system
# time and 87 MiB of memory, and takes 0.10 s and 35 MiB (two threads, Linux 6.18). The output is no larger.
ZSTD_JOB, MOST_LEVEL_OF_JOB = 2 << 20, 9
MOST_THREADS = 64
MAGICS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\0": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
}
# A frame that zstd and lz4 pass over, as pzstd writes one first.
SKIPPED = b"\x2a\x4d\x18"
# What follows zstd, or its level, for frames that can be read one by one.
SEEKABLE = ":seekable"
SUFFIXES = {"zstd": ".zst", "lz4": ".lz4", "xz": ".xz", "gzip": ".gz", "bzip2": ".bz2"}
# The lowest and the highest level, and the one that is taken, which is the standard tool's own.
LEVELS = {"zstd": (1, 22, 3), "lz4": (0, 12, 0), "xz": (0, 9, 6), "gzip": (1, 9, 6), "bzip2": (1, 9, 9)}


class Compression:
    """How an output is compressed; ``threads`` serve zstd only, and so does a table to seek by (``seekable``)."""

    __slots__ = ("level", "name", "seekable", "threads")

    def __init__(self, name: str, level: int | None = None, threads: int = 1, *, seekable: bool = False) -> None:
        self.name, self.threads, self.seekable = name, threads, seekable
        self.level = LEVELS[name][2] if level is None else level


def parse_compress(text: str, threads: int = 1) -> Compression | str:
    """``same`` or ``none`` as they are, anything else as a Compression. Raises UsageError."""
    if text in ("same", "none"):
        return text
    seekable = text.startswith("zstd:") and text.endswith(SEEKABLE)
    name, colon, level = (text.removesuffix(SEEKABLE) if seekable else text).partition(":")
    if name not in SUFFIXES:
        raise UsageError(f"--compress {text!r} is unknown", f"it can be {', '.join(SUFFIXES)}, same or none")
    if not colon:
        return Compression(name, threads=threads, seekable=seekable)
    least, most, usual = LEVELS[name]
    if not (level.isascii() and level.isdigit() and len(level) <= 2 and least <= int(level) <= most):
        hint = f"write it like {name}:{usual}{SEEKABLE if name == 'zstd' and SEEKABLE in text else ''}"
        raise UsageError(f"--compress {text!r}: the level is not a number from {least} to {most}", hint)
    return Compression(name, int(level), threads, seekable=seekable)


def parse_threads(text: str) -> int:
    """Threads of an encoder, one or more. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST_THREADS):
        raise UsageError(f"--compress-threads is {text!r}", f"it can be 1 to {MOST_THREADS}")
    return int(text)


def by_suffix(path: str) -> str | None:
    """The format that a file's name stands for."""
    return next((name for name, suffix in SUFFIXES.items() if path.endswith(suffix)), None)


def recognise(head: bytes) -> str | None:
    """The format that begins with these bytes, or None."""
    while head[1:4] == SKIPPED and head[0] >> 4 == 5 and len(head) > 8:
        head = head[8 + int.from_bytes(head[4:8], "little") :]
    return next((name for magic, name in MAGICS.items() if head.startswith(magic)), None)


def encoder(compression: Compression) -> Encoder:
    """What compresses one stream. Raises MissingLibraryError."""
    name, level = compression.name, compression.level
    if name == "zstd":
        zstd = zstd_library()
        options = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
            zstd.CompressionParameter.nb_workers: compression.threads if compression.threads > 1 else 0,
        }
        if compression.threads > 1 and level <= MOST_LEVEL_OF_JOB:
            options[zstd.CompressionParameter.job_size] = ZSTD_JOB
        made: Encoder = zstd.ZstdCompressor(options=options)
        if compression.seekable:
            from corefilt.io.seekable import SeekableEncoder

            return SeekableEncoder(made)
        return made
    if name == "lz4":
        return _Lz4Encoder(level)
    if name == "xz":
        import lzma

        return lzma.LZMACompressor(preset=level)
    if name == "gzip":
        import zlib

        return zlib.compressobj(level, wbits=zlib.MAX_WBITS | 16)
    import bz2

    return bz2.BZ2Compressor(level)


def default_threads() -> int:
    """As many threads as there are processors for us."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


class _Lz4Encoder:
    """lz4's encoder, which begins a frame by a call of its own."""

    def __init__(self, level: int) -> None:
        self._encoder = lz4_library().LZ4FrameCompressor(compression_level=level, content_checksum=True)
        self._begun = False

    def compress(self, data: bytes | memoryview, /) -> bytes:
        return self._begin() + bytes(self._encoder.compress(data))

    def flush(self) -> bytes:
        return self._begin() + bytes(self._encoder.flush())

    def _begin(self) -> bytes:
        begin, self._begun = not self._begun, True
        return bytes(self._encoder.begin()) if begin else b""


def zstd_library() -> Any:
    """The module of zstd. Raises MissingLibraryError."""
    try:
        from compression import zstd
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise _missing("zstd", "backports.zstd") from None
    return zstd


def lz4_library() -> Any:
    """The module of lz4. Raises MissingLibraryError."""
    try:
        import lz4.frame
    except ImportError:
        raise _missing("lz4", "lz4") from None
    return lz4.frame


def _missing(name: str, package: str) -> MissingLibraryError:
    return MissingLibraryError(f"{name} needs the package {package}, which is not installed", f"pip install {package}")
